"""The loops over pixels and triangles, compiled by numba.

Each loop does in one pass what would be a dozen passes of array operations.

Coordinates are px, with a pixel's centre at +0.5. Photos are read bilinearly at coordinates rounded to 1/32 px, and
their edge is replicated beyond the border, both as OpenCV's remap does it. All arrays are C-contiguous. `first` is the
(row, column) of the larger arrays at which the smaller ones begin. The last arguments are those that are written.
Numba keeps the machine code beside this file or in the user's cache folder.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

ONE = np.float32(1)  # with the integer 1 numba would compute in float64, which takes longer


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a function at its first call, or load it from numba's cache.

    This is not done earlier because numba takes a third of a second to import. The compiled function frees the GIL, so
    that frames can be made in several threads at once.
    """

    @cache
    def machine_code():
        import numba

        options: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no folder for the cache can be written to: every process compiles anew
            return numba.njit(**options)(function)

    return lambda *arguments: machine_code()(*arguments)


@_compiled
def rasterise(corners, order, ids):
    """Paint triangles over each other in the given order, each as its own number.

    A triangle covers the pixels whose centres lie in it or on its sides. A side is computed in the same way for both
    triangles that share it, so that no pixel between them is missed.

    corners: (F, 3, 2) float64, where a pixel's centre is at whole numbers. order: numbers of triangles. ids: (H, W)
    int32.
    """
    height, width = ids.shape
    for index in order:
        top = min(corners[index, 0, 1], corners[index, 1, 1], corners[index, 2, 1])
        bottom = max(corners[index, 0, 1], corners[index, 1, 1], corners[index, 2, 1])
        for row in range(max(int(np.ceil(top)), 0), min(int(np.floor(bottom)) + 1, height)):
            left, right = np.inf, -np.inf
            for k in range(3):
                upper, lower = k, (k + 1) % 3
                if corners[index, upper, 1] > corners[index, lower, 1]:
                    upper, lower = lower, upper
                a, b = corners[index, upper, 1], corners[index, lower, 1]
                if a <= row <= b and a < b:  # a level side's ends are those of the others
                    begin, end = corners[index, upper, 0], corners[index, lower, 0]
                    crossing = begin + (end - begin) * ((row - a) / (b - a))
                    left, right = min(left, crossing), max(right, crossing)
            if left <= right:
                for column in range(max(int(np.ceil(left)), 0), min(int(np.floor(right)) + 1, width)):
                    ids[row, column] = index


@_compiled
def areas(shape, triangles, turn, area):
    """Compute twice the area of each triangle as seen from the front, for `anatomy`.

    shape: (478, 3). triangles: (F, 3) landmark numbers. turn: (F,) -1 for triangles that are listed clockwise, else 1.
    area: (F,) float64.
    """
    for n in range(len(triangles)):
        a, b, c = triangles[n]
        one = (shape[b, 0] - shape[a, 0]) * (shape[c, 1] - shape[a, 1])
        area[n] = (one - (shape[b, 1] - shape[a, 1]) * (shape[c, 0] - shape[a, 0])) * turn[n]


@_compiled
def fitting_share(shape, offsets, area, triangles, turn, least, share):
    """Compute for each triangle the share of the offsets, up to 1, that leaves it `least` of its area, for `anatomy`.

    With a share f of the offsets (478, 3) the triangle has the area area + linear f + square f^2. The other arguments
    are those of `areas`. share: (F,).
    """
    small = 0.1 * area.mean()
    for n in range(len(triangles)):
        a, b, c = triangles[n]
        share[n] = 1
        ux, uy = shape[b, 0] - shape[a, 0], shape[b, 1] - shape[a, 1]
        vx, vy = shape[c, 0] - shape[a, 0], shape[c, 1] - shape[a, 1]
        dux, duy = offsets[b, 0] - offsets[a, 0], offsets[b, 1] - offsets[a, 1]
        dvx, dvy = offsets[c, 0] - offsets[a, 0], offsets[c, 1] - offsets[a, 1]
        linear = (ux * dvy - uy * dvx + dux * vy - duy * vx) * turn[n]
        square, spare = (dux * dvy - duy * dvx) * turn[n], area[n] * (1 - least)
        within = linear * linear - 4 * square * spare
        if area[n] > small and within >= 0 and np.sqrt(within) > linear:
            share[n] = min(1.0, 2 * spare / max(np.sqrt(within) - linear, 1e-12))


@_compiled
def affine_maps(target, source, triangles, maps, area):
    """Compute the affine map from each target triangle to the source triangle, for `mesh.triangle_maps`.

    target, source: vertices (V, 2 or 3) float64. triangles: (F, 3). maps: (F, 6) float32. area: (F,) float64.
    """
    for n in range(len(triangles)):
        a, b, c = triangles[n]
        t1x, t1y = target[b, 0] - target[a, 0], target[b, 1] - target[a, 1]
        t2x, t2y = target[c, 0] - target[a, 0], target[c, 1] - target[a, 1]
        det = t1x * t2y - t1y * t2x
        if abs(det) < 0.02:  # edge-on: a single pixel of it may be seen
            for k in range(2):
                maps[n, 2 * k], maps[n, 2 * k + 1] = 0, 0
                maps[n, 4 + k] = (source[a, k] + source[b, k] + source[c, k]) / 3
            area[n] = 1
            continue
        for k in range(2):
            s1, s2 = source[b, k] - source[a, k], source[c, k] - source[a, k]
            by_x, by_y = (s1 * t2y - s2 * t1y) / det, (s2 * t1x - s1 * t2x) / det
            maps[n, 2 * k], maps[n, 2 * k + 1] = by_x, by_y
            maps[n, 4 + k] = source[a, k] - by_x * target[a, 0] - by_y * target[a, 1]
        s1x, s1y = source[b, 0] - source[a, 0], source[b, 1] - source[a, 1]
        s2x, s2y = source[c, 0] - source[a, 0], source[c, 1] - source[a, 1]
        area[n] = (s1x * s2y - s1y * s2x) / det


@_compiled
def triangle_flow(ids, maps, is_face, first, corner, flow, shell):
    """Compute the backward flow of each pixel from its triangle, and its displacement in the shell around the face.

    The shell is all that is not the face: the rings, and what is outside the mesh.

    ids: (H, W) int32, the triangle of each pixel, -1 outside the mesh. maps: (F+1, 6) float32, the last row for -1.
    is_face: (F+1,) bool. corner: (x, y) px of the first pixel of ids. flow: (H, W, 2) float32. shell: (h, w, 2)
    float32, the displacement, 0 in the face.
    """
    for i in range(shell.shape[0]):
        y = np.float32(corner[1] + first[0] + i) + np.float32(0.5)
        for j in range(shell.shape[1]):
            x = np.float32(corner[0] + first[1] + j) + np.float32(0.5)
            t = ids[first[0] + i, first[1] + j]
            u = maps[t, 0] * x + maps[t, 1] * y + maps[t, 4]
            v = maps[t, 2] * x + maps[t, 3] * y + maps[t, 5]
            flow[first[0] + i, first[1] + j, 0] = u
            flow[first[0] + i, first[1] + j, 1] = v
            shell[i, j, 0] = 0 if is_face[t] else u - x
            shell[i, j, 1] = 0 if is_face[t] else v - y


@_compiled
def smooth_shell(ids, is_face, blurred, weight, first, corner, flow):
    """Replace the flow in the shell around the face by its blurred displacement.

    blurred: (h, w, 2) float32, the blurred displacement. weight: (H, W) float32, the shell's mask after the same blur,
    by which the displacement is divided. The other arguments are those of `triangle_flow`.
    """
    for i in range(blurred.shape[0]):
        y = np.float32(corner[1] + first[0] + i) + np.float32(0.5)
        for j in range(blurred.shape[1]):
            row, column = first[0] + i, first[1] + j
            if not is_face[ids[row, column]]:
                factor = 1 / max(weight[row, column], np.float32(1e-3))
                x = np.float32(corner[0] + column) + np.float32(0.5)
                flow[row, column, 0] = x + blurred[i, j, 0] * factor
                flow[row, column, 1] = y + blurred[i, j, 1] * factor


@_compiled
def add_flow(residual, window, first, flow):
    """Add a residual flow (2, h, w) float32, times a window (h, w), to a flow (H, W, 2)."""
    for i in range(window.shape[0]):
        for j in range(window.shape[1]):
            for k in range(2):
                flow[first[0] + i, first[1] + j, k] += residual[k, i, j] * window[i, j]


@_compiled
def gather(image, matte, flow, weight, first, moved):
    """Add a view's share to the warped picture: its image and matte, read at its flow, times its weight.

    image: (S, S, 3) uint8. matte: (S, S) float32. flow: (H, W, 2), weight: (H, W), float32. moved: (h, w, 4) float32,
    colours 0 to 255 and the matte 0 to 1.
    """
    height, width = matte.shape
    for i in range(moved.shape[0]):
        for j in range(moved.shape[1]):
            share = weight[first[0] + i, first[1] + j]
            if share == 0:
                continue
            x = int(np.floor(flow[first[0] + i, first[1] + j, 0] * 32 - np.float32(15.5)))
            y = int(np.floor(flow[first[0] + i, first[1] + j, 1] * 32 - np.float32(15.5)))
            right, lower = np.float32(x & 31) / 32, np.float32(y & 31) / 32
            x0, x1 = min(max(x >> 5, 0), width - 1), min(max((x >> 5) + 1, 0), width - 1)
            y0, y1 = min(max(y >> 5, 0), height - 1), min(max((y >> 5) + 1, 0), height - 1)
            a, b = (1 - right) * (1 - lower) * share, right * (1 - lower) * share
            c, d = (1 - right) * lower * share, right * lower * share
            for k in range(3):
                moved[i, j, k] += (
                    a * image[y0, x0, k] + b * image[y0, x1, k] + c * image[y1, x0, k] + d * image[y1, x1, k]
                )
            moved[i, j, 3] += a * matte[y0, x0] + b * matte[y0, x1] + c * matte[y1, x0] + d * matte[y1, x1]


@_compiled
def assemble(moved, face, plate, drawing, ids, table, first, crop_first, x):
    """Assemble the generator's input from the warped views over the plate, for `warp.condition`.

    moved: (h, w, 4) float32, of `gather`. face, ids, table: of a Warp. plate, drawing: (S, S, 3) uint8, whose own
    `first` is crop_first. x: (h, w, 13) float32.
    """
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            row, column = first[0] + i, first[1] + j
            below, beside = crop_first[0] + i, crop_first[1] + j
            matte = moved[i, j, 3] + face[row, column] * (1 - moved[i, j, 3])
            for k in range(3):
                under = np.float32(plate[below, beside, k])
                x[i, j, k] = (under + matte * (moved[i, j, k] - under)) / np.float32(127.5) - 1
                x[i, j, 3 + k] = drawing[below, beside, k] / np.float32(127.5) - 1
            for k in range(6):
                x[i, j, 6 + k] = table[ids[row, column], k]
            x[i, j, 12] = matte


@_compiled
def paint(moved, x, plate, mask, delta, window, crop_first, refined, added):
    """Compute the refined warp and what the painting adds to it, for `compose.paint_box`.

    moved: (h, w, 4) float32, gathered with the residual flow. x: (h, w, 13) the generator's input. plate: (S, S, 3)
    uint8. mask: (h, w) and delta: (3, h, w), what the generator gave. window: (h, w). refined, added: (h, w, 3), in
    units of -1 to 1.
    """
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            for k in range(3):
                under = np.float32(plate[crop_first[0] + i, crop_first[1] + j, k])
                warped = (under + x[i, j, 12] * (moved[i, j, k] - under)) / np.float32(127.5) - ONE
                painted = x[i, j, k] + delta[k, i, j]
                image = min(max(painted + mask[i, j] * (warped - painted), np.float32(-1)), np.float32(1))
                refined[i, j, k] = warped
                added[i, j, k] = (image - warped) * window[i, j]


class Grid(NamedTuple):
    """Where the pixels of an enlarged picture lie in the small one, for linear interpolation.

    rows: (P,) int32, for each row of the enlarged picture the row before it in the small one. row_parts: (P,) float32,
    the share of the row after that. columns, column_parts: the same for the columns, (Q,).
    """

    rows: np.ndarray
    row_parts: np.ndarray
    columns: np.ndarray
    column_parts: np.ndarray


@_compiled
def points(flow, grid, scale, shift, xy):
    """Enlarge a flow (H, W, 2) and convert it to places in a photo for cv2.remap: flow * scale + shift, both (2,).

    xy: (P, Q, 2) float32.
    """
    begin, end = grid.columns[0], grid.columns[-1] + 2
    line = np.empty((flow.shape[1], 2), np.float32)
    for p in range(xy.shape[0]):
        i, a = grid.rows[p], grid.row_parts[p]
        for j in range(begin, end):
            for k in range(2):
                line[j, k] = (flow[i, j, k] + a * (flow[i + 1, j, k] - flow[i, j, k])) * scale[k] + shift[k]
        for q in range(xy.shape[1]):
            j, b = grid.columns[q], grid.column_parts[q]
            xy[p, q, 0] = line[j, 0] + b * (line[j + 1, 0] - line[j, 0])
            xy[p, q, 1] = line[j, 1] + b * (line[j + 1, 1] - line[j, 1])


@_compiled
def blend(pixels, share, grid, first, picture):
    """Blend pixels (P, Q, 4) into a picture, both uint8, by a share (H, W) float32 that is enlarged."""
    for p in range(pixels.shape[0]):
        i, a = grid.rows[p], grid.row_parts[p]
        for q in range(pixels.shape[1]):
            j, b = grid.columns[q], grid.column_parts[q]
            left = share[i, j] + a * (share[i + 1, j] - share[i, j])
            right = share[i, j + 1] + a * (share[i + 1, j + 1] - share[i, j + 1])
            weight = left + b * (right - left)
            if weight > 0:
                for k in range(4):
                    under = np.float32(picture[first[0] + p, first[1] + q, k])
                    value = under + weight * (np.float32(pixels[p, q, k]) - under)
                    picture[first[0] + p, first[1] + q, k] = value + np.float32(0.5)


@_compiled
def strength(added, shading, much):
    """Compute how much of the smooth picture shows where the painting adds more than shading.

    added, shading: (h, w, 3) float32. much: (h, w) float32, 1 where they differ by 0.2 or more.
    """
    for i in range(much.shape[0]):
        for j in range(much.shape[1]):
            largest = np.float32(0)
            for k in range(3):
                largest = max(largest, abs(added[i, j, k] - shading[i, j, k]))
            much[i, j] = min(max(largest * np.float32(8) - np.float32(0.6), np.float32(0)), ONE)


@_compiled
def pack(refined, added, much, painting):
    """Put what `finish` enlarges side by side into one array, with a border of zeros.

    refined, added: (h, w, 3) float32, -1 to 1. much: (h, w), the share of the smooth picture. painting: (h+2, w+2, 8)
    float32.
    """
    painting[:] = 0
    for i in range(much.shape[0]):
        for j in range(much.shape[1]):
            for k in range(3):
                value = (refined[i, j, k] + ONE) * np.float32(127.5)
                painting[i + 1, j + 1, k] = min(max(value, np.float32(0)), np.float32(255))
                painting[i + 1, j + 1, 3 + k] = added[i, j, k] * np.float32(127.5)
            painting[i + 1, j + 1, 6] = much[i, j]


@_compiled
def finish(picture, face, grid, hold, plate, painting, painting_grid, painting_box, first, frame):
    """Write the finished region into the frame: the person over the plate, and the painting on top.

    picture: (P, Q, 4) uint8, the warped person with matte. plate: (P, Q, 3) uint8. hold: (P, Q) float32, 1 where the
    frame must stay as it is because the region ends. face: (H, W) float32, enlarged by grid. painting: made by `pack`,
    enlarged by painting_grid over painting_box, (row, column, end row, end column) of the picture. frame: (.., .., 3)
    uint8, the whole photo.
    """
    line, strip = np.empty(face.shape[1], np.float32), np.empty((painting.shape[1], 8), np.float32)
    here = np.zeros(8, np.float32)
    full, half = np.float32(255), np.float32(0.5)
    for p in range(hold.shape[0]):
        i, a = grid.rows[p], grid.row_parts[p]
        for j in range(face.shape[1]):
            line[j] = face[i, j] + a * (face[i + 1, j] - face[i, j])
        is_painted = painting_box[0] <= p < painting_box[2]
        if is_painted:
            i, a = painting_grid.rows[p - painting_box[0]], painting_grid.row_parts[p - painting_box[0]]
            for j in range(painting.shape[1]):
                for k in range(8):
                    strip[j, k] = painting[i, j, k] + a * (painting[i + 1, j, k] - painting[i, j, k])
        for q in range(hold.shape[1]):
            keep = ONE - hold[p, q]
            if keep == 0:
                continue
            red, green, blue = np.float32(picture[p, q, 0]), np.float32(picture[p, q, 1]), np.float32(picture[p, q, 2])
            if picture[p, q, 3] < 255:
                j = grid.columns[q]
                behind = ONE - (line[j] + grid.column_parts[q] * (line[j + 1] - line[j]))
                behind *= keep * (full - np.float32(picture[p, q, 3])) * np.float32(1 / 255)
                red += behind * (np.float32(plate[p, q, 0]) - red)
                green += behind * (np.float32(plate[p, q, 1]) - green)
                blue += behind * (np.float32(plate[p, q, 2]) - blue)
            if is_painted and painting_box[1] <= q < painting_box[3]:
                j, b = painting_grid.columns[q - painting_box[1]], painting_grid.column_parts[q - painting_box[1]]
                for k in range(8):
                    here[k] = strip[j, k] + b * (strip[j + 1, k] - strip[j, k])
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
