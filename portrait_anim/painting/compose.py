"""From a warp and a painting to the picture: in the crop, and at the photo's own resolution."""

from functools import lru_cache

import cv2
import numpy as np

from ..geometry import mesh
from ..geometry.smoothing import smoothstep
from ..geometry.view import CROP, View
from ..geometry.warp import IS_FACE, STEP, UNSEEN, WHOLE, Box, Warp
from ..portrait.portrait import Portrait
from . import kernels
from .conditioning import Condition, moved_views

TOLERANCE, TRUST_BLUR = 20.0, 1.5  # of 255 and px: how far flow and matte may change the picture, see `paint_box`
_SHADING = 31  # double px: what the painting adds evenly over so much is light, which changes no detail
_AROUND = np.ones((3, 3), np.uint8)
_BORDER = 32  # px over which the painting's say goes to nothing, so that its box has no edge
# Channels of what is painted: refined picture 3, what the painting adds to it 3, how much of the smooth picture is to
# show instead of the photo's own pixels 1, change of the matte 1, residual flow 2.
N_RESULT = 10


@lru_cache(maxsize=64)
def window(box: Box = WHOLE) -> np.ndarray:
    """Return the weight (h, w) float32 of the painting in its box: 0 at the border, 1 inside."""
    x0, y0, x1, y1 = box
    ramps = []
    for side in (y1 - y0, x1 - x0):
        ramps.append(smoothstep((np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5) / _BORDER))
    return (ramps[0][:, None] * ramps[1][None]).astype(np.float32)


def paint_box(seen: Condition, views: list[View], plate: np.ndarray, painting: np.ndarray | None) -> np.ndarray:
    """Return the picture in a box of the crop and what it is made of: (h+2, w+2, N_RESULT) float32, 0 at its border.

    painting: (h, w, 7) float32: mask, residual flow 2, colour 3 and change of the matte; None for the warp alone. With
    the warp of the views by the flow and the residual flow,
        matte = clamp(warped matte + change), refined = the warp over the plate by this matte,
        painted = (face * warped + (1 - face) * refined) + trust * colour, where face is the face's soft coverage,
        picture = mask * refined + (1 - mask) * painted = refined + added.

    In the face the colour is added to the warp as it is. Beside it flow and matte move outlines far, and the outline of
    the warp would shine through: there the colour is added to the refined picture, and it counts less (trust falls from
    1) where that differs from the warp, or it would draw hair and shoulders twice. Colours are in 0..255 here.
    """
    height, width = seen.face.shape
    out = np.empty((height + 2, width + 2, N_RESULT), np.float32)
    out[[0, -1]], out[:, [0, -1]] = 0, 0
    if painting is None:
        out[1:-1, 1:-1, :3] = seen.warped
        out[1:-1, 1:-1, 3:] = 0
        return out
    share = window(seen.box)
    flows = [None if flow is None else np.empty_like(flow) for flow in seen.flows]
    for flow, corrected in zip(seen.flows, flows):
        if flow is not None:
            kernels.add_flow(flow, painting, share, corrected)
    moved = moved_views(views, flows, seen.weights, seen.shown, seen.cavity)
    apart = np.empty((height, width), np.float32)
    kernels.refine(moved, seen.warped, seen.face, plate, painting, share, (seen.box[1], seen.box[0]), out, apart)
    apart = cv2.GaussianBlur(apart, (0, 0), TRUST_BLUR)
    kernels.add_colour(seen.warped, painting, share, seen.face, apart, np.float32(TOLERANCE), out)
    out[1:-1, 1:-1, 6] = _strength(out)
    return out


def _strength(painted: np.ndarray) -> np.ndarray:
    """Return how much of the smooth picture shows, (h, w): all of it where the painting adds detail."""
    height, width = painted.shape[0] - 2, painted.shape[1] - 2
    half = np.empty((height // 2, width // 2, 3), np.float32)
    kernels.halve(painted, half)
    much = np.empty(half.shape[:2], np.float32)
    kernels.strength(half, cv2.blur(half, (_SHADING, _SHADING)), much)
    much = cv2.GaussianBlur(cv2.dilate(much, _AROUND), (0, 0), 1.0)  # the lip's line lies beside the opened mouth
    return cv2.resize(much, (width, height), interpolation=cv2.INTER_LINEAR)


def compose_frame(portrait: Portrait, warp: Warp, painted: np.ndarray, box: Box = WHOLE) -> np.ndarray:
    """Return the whole photo with the moved head, (H, W, 3) uint8. painted: of `paint_box` in a box.

    The photo is sampled once at its own resolution, at the flow and the residual flow. Only what the painting adds
    comes from the crop's resolution. Where it adds much, the photo's finer detail goes, like the line of closed lips
    in a mouth that opens; where it only makes skin lighter or darker, the detail stays.
    """
    region = portrait.region
    left, top, right, bottom = region.box
    origin, scale = portrait.sources[0].origin, portrait.scale
    place = (*origin.tolist(), scale)
    everywhere = (0, 0, right - left, bottom - top)
    grid = enlarging_grid(*place, everywhere, warp.frame, STEP)
    x0, y0, x1, y1 = to = _in_region(portrait, box)
    painted_grid = enlarging_grid(*place, to, (box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), 1)
    painted_box = (y0, x0, y1, x1)
    in_region = warp.vertices[:, :3] / scale
    in_region[:, :2] += origin
    ids = mesh.rasterise(in_region, everywhere, face_only=True)

    def fetch(view: int, part: Box) -> np.ndarray:
        """Return the pixels of a view's photo moved to where part of the region is, (h, w, 4)."""
        source = portrait.sources[view]
        factor, offset = np.full(2, 1 / source.scale, np.float32), source.origin - np.float32(0.5)
        if source.is_mirror:  # the same pixels, read from the other side of the crop
            factor[0], offset[0] = -factor[0], offset[0] + CROP / source.scale
        x0, y0, x1, y1 = part
        xs, ys = (
            ((np.arange(a, b) + 0.5 - o) * scale).astype(np.float32) for a, b, o in zip((x0, y0), (x1, y1), origin)
        )
        xy = np.empty((y1 - y0, x1 - x0, 2), np.float32)
        partly = kernels.Grid(grid.rows[y0:y1], grid.row_parts[y0:y1], grid.columns[x0:x1], grid.column_parts[x0:x1])
        # The painting's grid is of its own box: what lies before it has negative numbers here.
        inner = (painted_box[0] - y0, painted_box[1] - x0, painted_box[2] - y0, painted_box[3] - x0)
        kernels.points(
            np.ascontiguousarray(ids[y0:y1, x0:x1]), warp.maps[view], IS_FACE, xs, ys, warp.shifts[view], partly,
            painted, painted_grid, inner, factor, offset, xy,
        )  # fmt: skip
        return cv2.remap(source.rgba, xy, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    picture, so_far = np.empty_like(region.rgba), warp.weights[0]
    for part in region.bands:
        picture[part[1] : part[3], part[0] : part[2]] = fetch(0, part)
    for n in range(1, len(warp.used)):
        if warp.used[n]:
            so_far = so_far + warp.weights[n]
            among = warp.weights[n] / np.maximum(so_far, 1e-6)  # its share among the views so far
            x, y, width, height = (STEP * side for side in cv2.boundingRect((among > UNSEEN).astype(np.uint8)))
            x, y = x + warp.frame[0], y + warp.frame[1]
            a0, b0, a1, b1 = part = _in_region(portrait, (x, y, x + width, y + height))
            if a0 < a1 and b0 < b1:
                kernels.blend(fetch(n, part), among, enlarging_grid(*place, part, warp.frame, STEP), (b0, a0), picture)
    low = np.clip(in_region[mesh.OVAL, :2].min(0).astype(int) - 2, 0, everywhere[2:])
    high = np.clip(in_region[mesh.OVAL, :2].max(0).astype(int) + 3, 0, everywhere[2:])
    before = picture[low[1] : high[1], low[0] : high[0]].copy()
    kernels.soften_edge(ids, IS_FACE, before, (low[1], low[0]), picture)
    frame = portrait.photo.copy()
    kernels.finish(
        picture,
        warp.face,
        warp.shown,
        warp.cavity,
        portrait.views[0].cavity,
        grid,
        region.hold,
        region.plate,
        painted,
        painted_grid,
        painted_box,
        (top, left),
        frame,
    )
    return frame


def _in_region(portrait: Portrait, box: Box) -> Box:
    """Return the pixels of the region that a box of the crop covers."""
    origin, scale, size = portrait.sources[0].origin, portrait.scale, portrait.region.hold.shape[::-1]
    low = np.floor(np.array(box[:2]) / scale + origin).astype(int)
    high = np.ceil(np.array(box[2:]) / scale + origin).astype(int)
    return (*np.clip(low, 0, size).tolist(), *np.clip(high, 0, size).tolist())


@lru_cache(maxsize=64)
def enlarging_grid(x: float, y: float, scale: float, part: Box, frame: Box, step: int) -> kernels.Grid:
    """Return where the pixels of a part of the region lie in arrays over `frame` of the crop, to 1/32 cell.

    x, y: px of the region where the crop begins. scale: px of the crop per px of the region. step: px of the crop per
    cell of the arrays. Most parts are the same in every frame.
    """
    axes = []
    for low, high, origin, first, last in zip(part[:2], part[2:], (x, y), frame[:2], frame[2:]):
        at = ((np.arange(low, high) + 0.5 - origin) * scale - first) / step - 0.5
        at = np.round(at * 32) / 32
        before = np.clip(np.floor(at), 0, (last - first) // step - 2)
        axes.append((before.astype(np.int32), np.clip(at - before, 0, 1).astype(np.float32)))
    (columns, column_parts), (rows, row_parts) = axes
    return kernels.Grid(rows, row_parts, columns, column_parts)
