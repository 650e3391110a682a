"""The loops over pixels that make a picture of a warp and a painting, compiled by numba.

Units are px with a pixel's centre at +0.5. Photos are read by cv2.remap, between these loops. Arrays are C-contiguous.
What is written comes last.
"""

from typing import NamedTuple

import numpy as np

from ..geometry.kernels import compiled

ONE = np.float32(1)  # an integer and a float32 are computed in float64, which takes longer and is not needed everywhere


@compiled
def add_view(pixels, weight, first, moved):
    """Add a view's share of the picture: pixels (p, q, 4) uint8 by weight (h, w) float32 to moved (h, w, 4) float32.

    first: row and column in the larger arrays at which the pixels begin. moved has colours in 0..255 and the matte in
    0..1.
    """
    for p in range(pixels.shape[0]):
        for q in range(pixels.shape[1]):
            i, j = first[0] + p, first[1] + q
            share = weight[i, j]
            if share != 0:
                for k in range(3):
                    moved[i, j, k] += share * np.float32(pixels[p, q, k])
                moved[i, j, 3] += share * np.float32(1 / 255) * np.float32(pixels[p, q, 3])


@compiled
def gather_features(features, scale, flow, weight, moved):
    """Add a view's share of the features: features (s, s, C) float32 at flow, by weight.

    scale: cells of the features per px of the crop. flow: (h, w, 2) px, weight: (h, w) float32. moved: (h, w, C).
    """
    height, width, channels = features.shape
    for i in range(moved.shape[0]):
        for j in range(moved.shape[1]):
            share = weight[i, j]
            if share == 0:
                continue
            x, y = flow[i, j, 0] * scale - np.float32(0.5), flow[i, j, 1] * scale - np.float32(0.5)
            left, top = int(np.floor(x)), int(np.floor(y))
            right, lower = x - np.float32(left), y - np.float32(top)
            x0, x1 = min(max(left, 0), width - 1), min(max(left + 1, 0), width - 1)
            y0, y1 = min(max(top, 0), height - 1), min(max(top + 1, 0), height - 1)
            a, b = (ONE - right) * (ONE - lower) * share, right * (ONE - lower) * share
            c, d = (ONE - right) * lower * share, right * lower * share
            for k in range(channels):
                moved[i, j, k] += (
                    a * features[y0, x0, k]
                    + b * features[y0, x1, k]
                    + c * features[y1, x0, k]
                    + d * features[y1, x1, k]
                )


@compiled
def assemble(moved, face, plate, drawing, ids, table, place, warped, cells):
    """The picture of moved (h, w, 4) over the plate, and the generator's input, see `conditioning.Condition`.

    face: (h, w) float32. table: (F+1, 6) uint8, maps of each triangle. plate, drawing: (S, S, 3) uint8, in which the
    box begins at place (row, column). ids: (h, w) int32. warped: (h, w, 3) float32 in 0..255. cells: (h/4, w/4, 4, 4,
    13) uint8.
    """
    half = np.float32(0.5)
    for i in range(ids.shape[0]):
        for j in range(ids.shape[1]):
            below, beside = place[0] + i, place[1] + j
            cell = cells[i >> 2, j >> 2, i & 3, j & 3]
            matte = moved[i, j, 3] + face[i, j] * (ONE - moved[i, j, 3])
            for k in range(3):
                under = np.float32(plate[below, beside, k])
                colour = under + matte * (moved[i, j, k] - under)
                warped[i, j, k] = colour
                cell[k] = np.uint8(colour + half)
                cell[3 + k] = drawing[below, beside, k]
            for k in range(6):
                cell[6 + k] = table[ids[i, j], k]
            cell[12] = np.uint8((matte + ONE) * np.float32(127.5) + half)


@compiled
def add_flow(flow, painting, window, out):
    """Write flow (h, w, 2) plus the residual flow times window (h, w) to out (h, w, 2).

    painting: (h, w, 7) float32, whose channels 1 and 2 are the residual flow.
    """
    for i in range(window.shape[0]):
        for j in range(window.shape[1]):
            for k in range(2):
                out[i, j, k] = flow[i, j, k] + painting[i, j, 1 + k] * window[i, j]


@compiled
def refine(moved, warped, face, plate, painting, window, place, out, apart):
    """Write the refined warp, and how far it is from the warp, see `compose.paint_box`.

    moved: (h, w, 4) with the residual flow. warped: (h, w, 3) in 0..255. face, window: (h, w) float32. plate: (S, S, 3)
    uint8, in which the box begins at place (row, column). painting: (h, w, 7) float32: mask, flow 2, colour 3 and
    change of the matte. out: (h+2, w+2, 10) float32 with a border that is left as it is: refined 3 in 0..255, four
    that are left as they are, change of the matte, flow 2 in px. apart: (h, w), the largest difference of a colour.
    """
    for i in range(window.shape[0]):
        for j in range(window.shape[1]):
            share = window[i, j]
            change = painting[i, j, 6] * share
            matte = moved[i, j, 3] + face[i, j] * (ONE - moved[i, j, 3]) + change
            matte = min(max(matte, np.float32(0)), ONE)
            most = np.float32(0)
            for k in range(3):
                under = np.float32(plate[place[0] + i, place[1] + j, k])
                refined = under + matte * (moved[i, j, k] - under)
                out[i + 1, j + 1, k] = refined
                most = max(most, abs(refined - warped[i, j, k]))
            apart[i, j] = most
            out[i + 1, j + 1, 7] = change
            out[i + 1, j + 1, 8] = painting[i, j, 1] * share
            out[i + 1, j + 1, 9] = painting[i, j, 2] * share


@compiled
def add_colour(warped, painting, window, face, apart, tolerance, out):
    """Write what the painting adds to the refined warp, channels 3 to 5 of `refine`'s out, see `compose.paint_box`.

    warped, painting, window, face: as of `refine`. apart: (h, w), of `refine`, blurred. tolerance: the difference, of
    255, at which a quarter of the colour is left.
    """
    full = np.float32(255)
    for i in range(window.shape[0]):
        for j in range(window.shape[1]):
            ratio = apart[i, j] / tolerance
            trust = ONE / (ONE + ratio * ratio)
            trust = max(trust * trust, face[i, j])
            share = ONE - painting[i, j, 0]
            for k in range(3):
                refined = out[i + 1, j + 1, k]
                painted = face[i, j] * (warped[i, j, k] - refined) + trust * painting[i, j, 3 + k] * np.float32(127.5)
                image = min(max(refined + share * painted, np.float32(0)), full)
                out[i + 1, j + 1, 3 + k] = (image - refined) * window[i, j]


class Grid(NamedTuple):
    """Where the pixels of an enlargement lie in the array that is enlarged, from the crop's to the photo's resolution.

    rows: (P,) int32, the row before each of them. row_parts: (P,) float32, the share of the row after that. columns,
    column_parts: (Q,), the same for the columns.
    """

    rows: np.ndarray
    row_parts: np.ndarray
    columns: np.ndarray
    column_parts: np.ndarray


@compiled
def points(ids, maps, is_face, xs, ys, shift, grid, extra, extra_grid, extra_box, scale, offset, xy):
    """Where in a photo each pixel comes from, for cv2.remap.

    ids: (P, Q) int32, the triangle of each pixel; maps, is_face: as of `geometry.kernels.triangle_flow`. xs: (Q,) and
    ys: (P,) float32, where the pixels lie in the crop, px. shift: (H, W, 2), the shell's displacement, enlarged by
    grid. extra: (h, w, C), whose last two channels are the residual flow, enlarged by extra_grid over the rows and
    columns extra_box (begin, begin, end, end). The photo's px are scale (2,) times the view's plus offset (2,).
    xy: (P, Q, 2) float32.
    """
    line = np.empty((shift.shape[1], 2), np.float32)
    strip = np.empty((extra.shape[1], 2), np.float32)
    begin, end = grid.columns[0], grid.columns[-1] + 2
    last = extra.shape[2] - 2
    for p in range(xy.shape[0]):
        i, a = grid.rows[p], grid.row_parts[p]
        for j in range(begin, end):
            for k in range(2):
                line[j, k] = shift[i, j, k] + a * (shift[i + 1, j, k] - shift[i, j, k])
        has_extra = extra_box[0] <= p < extra_box[2]
        if has_extra:
            i, a = extra_grid.rows[p - extra_box[0]], extra_grid.row_parts[p - extra_box[0]]
            for j in range(extra.shape[1]):
                for k in range(2):
                    strip[j, k] = extra[i, j, last + k] + a * (extra[i + 1, j, last + k] - extra[i, j, last + k])
        for q in range(xy.shape[1]):
            t = ids[p, q]
            if is_face[t]:
                u = maps[t, 0] * xs[q] + maps[t, 1] * ys[p] + maps[t, 4]
                v = maps[t, 2] * xs[q] + maps[t, 3] * ys[p] + maps[t, 5]
            else:
                j, b = grid.columns[q], grid.column_parts[q]
                u = xs[q] + line[j, 0] + b * (line[j + 1, 0] - line[j, 0])
                v = ys[p] + line[j, 1] + b * (line[j + 1, 1] - line[j, 1])
            if has_extra and extra_box[1] <= q < extra_box[3]:
                j, b = extra_grid.columns[q - extra_box[1]], extra_grid.column_parts[q - extra_box[1]]
                u += strip[j, 0] + b * (strip[j + 1, 0] - strip[j, 0])
                v += strip[j, 1] + b * (strip[j + 1, 1] - strip[j, 1])
            xy[p, q, 0] = u * scale[0] + offset[0]
            xy[p, q, 1] = v * scale[1] + offset[1]


@compiled
def blend(pixels, share, grid, first, picture):
    """Blend pixels (P, Q, 4) into picture, both uint8, by share (H, W) float32 enlarged."""
    for p in range(pixels.shape[0]):
        i, a = grid.rows[p], grid.row_parts[p]
        for q in range(pixels.shape[1]):
            j, b = grid.columns[q], grid.column_parts[q]
            left = share[i, j] + a * (share[i + 1, j] - share[i, j])
            right = share[i, j + 1] + a * (share[i + 1, j + 1] - share[i, j + 1])
            weight = min(left + b * (right - left), ONE)
            if weight > 0:
                for k in range(4):
                    under = np.float32(picture[first[0] + p, first[1] + q, k])
                    value = under + weight * (np.float32(pixels[p, q, k]) - under)
                    picture[first[0] + p, first[1] + q, k] = value + np.float32(0.5)


@compiled
def soften_edge(ids, is_face, before, first, picture):
    """Smooth picture (P, Q, 4) uint8 (3x3 binomial) where the face's triangles end: no staircase there.

    ids: (P, Q) int32, the triangle of each pixel. is_face: (F+1,) bool. before: (p, q, 4), a copy of the part of the
    picture that holds the face, which begins at first (row, column).
    """
    for i in range(1, before.shape[0] - 1):
        for j in range(1, before.shape[1] - 1):
            p, q = first[0] + i, first[1] + j
            here = is_face[ids[p, q]]
            if (
                is_face[ids[p, q - 1]] == here
                and is_face[ids[p, q + 1]] == here
                and is_face[ids[p - 1, q]] == here
                and is_face[ids[p + 1, q]] == here
            ):
                continue
            for k in range(4):
                total = 4 * np.int32(before[i, j, k])
                total += 2 * (np.int32(before[i, j - 1, k]) + np.int32(before[i, j + 1, k]))
                total += 2 * (np.int32(before[i - 1, j, k]) + np.int32(before[i + 1, j, k]))
                total += np.int32(before[i - 1, j - 1, k]) + np.int32(before[i - 1, j + 1, k])
                total += np.int32(before[i + 1, j - 1, k]) + np.int32(before[i + 1, j + 1, k])
                picture[p, q, k] = (total + 8) >> 4


@compiled
def halve(painted, half):
    """Write what is added, channels 3 to 5 of `refine`'s out (h+2, w+2, 10), at half its size: half (h/2, w/2, 3)."""
    for i in range(half.shape[0]):
        for j in range(half.shape[1]):
            y, x = 2 * i + 1, 2 * j + 1
            for k in range(3, 6):
                total = painted[y, x, k] + painted[y, x + 1, k] + painted[y + 1, x, k] + painted[y + 1, x + 1, k]
                half[i, j, k - 3] = total * np.float32(0.25)


@compiled
def strength(added, shading, much):
    """How much of the smooth picture shows, (h, w), where the painting adds more than shading: all from 26 on.

    added: (h, w, 3) in 0..255. shading: the same, blurred.
    """
    for i in range(much.shape[0]):
        for j in range(much.shape[1]):
            largest = np.float32(0)
            for k in range(3):
                largest = max(largest, abs(added[i, j, k] - shading[i, j, k]))
            much[i, j] = min(max(largest * np.float32(8 / 127.5) - np.float32(0.6), np.float32(0)), ONE)


@compiled
def finish(picture, face, shown, cavity, dark, grid, hold, plate, painted, painted_grid, painted_box, first, frame):
    """The person over the plate, the painting on it, all held to the frame as it was where the region ends.

    picture: (P, Q, 4), plate: (P, Q, 3) uint8, hold: (P, Q) float32. face, shown, cavity: (H, W) float32 of the warp,
    enlarged by grid. dark: (3,) float32, the colour of the cavity. painted: of `compose.paint_box`, enlarged by
    painted_grid over the rows and columns painted_box (begin, begin, end, end) of the picture. first: row and column of
    the picture in frame. frame: (.., .., 3) uint8, the whole photo.
    """
    line, strip = np.empty((face.shape[1], 3), np.float32), np.empty((painted.shape[1], 8), np.float32)
    here = np.zeros(8, np.float32)
    full, half = np.float32(255), np.float32(0.5)
    for p in range(hold.shape[0]):
        i, a = grid.rows[p], grid.row_parts[p]
        for j in range(face.shape[1]):
            line[j, 0] = face[i, j] + a * (face[i + 1, j] - face[i, j])
            line[j, 1] = shown[i, j] + a * (shown[i + 1, j] - shown[i, j])
            line[j, 2] = cavity[i, j] + a * (cavity[i + 1, j] - cavity[i, j])
        is_painted = painted_box[0] <= p < painted_box[2]
        if is_painted:
            i, a = painted_grid.rows[p - painted_box[0]], painted_grid.row_parts[p - painted_box[0]]
            for j in range(painted.shape[1]):
                for k in range(8):
                    strip[j, k] = painted[i, j, k] + a * (painted[i + 1, j, k] - painted[i, j, k])
        for q in range(hold.shape[1]):
            keep = ONE - hold[p, q]
            if keep == 0:
                continue
            red, green, blue = np.float32(picture[p, q, 0]), np.float32(picture[p, q, 1]), np.float32(picture[p, q, 2])
            painted_here = is_painted and painted_box[1] <= q < painted_box[3]
            if painted_here:
                j, b = painted_grid.columns[q - painted_box[1]], painted_grid.column_parts[q - painted_box[1]]
                for k in range(8):
                    here[k] = strip[j, k] + b * (strip[j + 1, k] - strip[j, k])
            j, b = grid.columns[q], grid.column_parts[q]
            share = line[j, 1] + b * (line[j + 1, 1] - line[j, 1])
            covered = line[j, 2] + b * (line[j + 1, 2] - line[j, 2])
            if covered > 0:
                red += covered * (dark[0] - red)
                green += covered * (dark[1] - green)
                blue += covered * (dark[2] - blue)
            if picture[p, q, 3] < 255 or share < 1 or (painted_here and here[7] < 0):
                behind = ONE - (line[j, 0] + b * (line[j + 1, 0] - line[j, 0]))
                behind *= ONE - share * np.float32(picture[p, q, 3]) * np.float32(1 / 255)
                if painted_here:
                    behind = min(max(behind - here[7], np.float32(0)), ONE)
                red += behind * (np.float32(plate[p, q, 0]) - red)
                green += behind * (np.float32(plate[p, q, 1]) - green)
                blue += behind * (np.float32(plate[p, q, 2]) - blue)
            if painted_here:
                red = min(max(red + here[6] * (here[0] - red) + here[3], np.float32(0)), full)
                green = min(max(green + here[6] * (here[1] - green) + here[4], np.float32(0)), full)
                blue = min(max(blue + here[6] * (here[2] - blue) + here[5], np.float32(0)), full)
            y, x = first[0] + p, first[1] + q
            if keep < 1:
                under = np.float32(frame[y, x, 0]), np.float32(frame[y, x, 1]), np.float32(frame[y, x, 2])
                red = under[0] + keep * (red - under[0])
                green = under[1] + keep * (green - under[1])
                blue = under[2] + keep * (blue - under[2])
            frame[y, x, 0], frame[y, x, 1], frame[y, x, 2] = red + half, green + half, blue + half
