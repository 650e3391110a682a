"""From warp and painting to the picture: in the crop, and at the photo's own resolution."""

from functools import lru_cache

import cv2
import numpy as np

from ..geometry import kernels
from ..geometry.smoothing import smoothstep
from ..geometry.warp import CROP, UNSEEN, WHOLE, Box, View, Warp, moved_views
from ..networks.networks import Painting
from ..portrait.portrait import Portrait

_SHADING = 31  # px: what the painting adds evenly over so much is light, which changes no detail
_AROUND = np.ones((3, 3), np.uint8)
_BORDER = 16  # px over which the painting's say goes to nothing, so that its box has no edge


@lru_cache(maxsize=8)
def window(box: Box = WHOLE) -> np.ndarray:
    """Weight (h, w) float32 of the painting in its box: 0 at the border, 1 inside."""
    x0, y0, x1, y1 = box
    ramps = []
    for side in (y1 - y0, x1 - x0):
        ramps.append(smoothstep((np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5) / _BORDER))
    return (ramps[0][:, None] * ramps[1][None]).astype(np.float32)


def paint_box(
    warp: Warp, views: list[View], plate: np.ndarray, x: np.ndarray, painting: Painting | None, box: Box = WHOLE
) -> tuple[np.ndarray, np.ndarray]:
    """The picture in a box of the crop: the refined warp, and what the painting adds; (h, w, 3) float32, -1..1.

    x: (h, w, 13) as `condition` made it. painting: of the box, numpy arrays mask (h, w), flow (h, w, 2) and
    delta (h, w, 3); None for the warp alone. Adds the residual flow to warp.flows, in place.
        image = m * refined + (1 - m) * (warped + delta)     (refined: the warp with the residual flow)
    """
    if painting is None:
        warped = np.ascontiguousarray(x[..., :3])
        return warped, np.zeros_like(warped)
    planes = lambda a: np.ascontiguousarray(np.moveaxis(a, -1, 0), np.float32)  # as the network's output is
    residual, delta, share = planes(painting.flow), planes(painting.delta), window(box)
    for n in range(len(views)):
        if warp.used(n):
            kernels.add_flow(residual, share, warp.first(box), warp.flows[n])
    moved = moved_views(warp, views, box)
    refined, added = (np.empty((*x.shape[:2], 3), np.float32) for _ in range(2))
    mask = np.ascontiguousarray(painting.mask, np.float32)
    kernels.paint(moved, x, plate, mask, delta, share, (box[1], box[0]), refined, added)
    return refined, added


def compose_frame(
    portrait: Portrait, warp: Warp, refined: np.ndarray, added: np.ndarray, box: Box = WHOLE
) -> np.ndarray:
    """The whole photo with the moved head, (H, W, 3) uint8. warp: with its residual flow; refined, added: of paint_box.

    The photo is sampled once at its own resolution; only what the painting adds comes from the crop's 256 px. Where
    it adds much, the photo's finer detail (the line of closed lips in an opened mouth) goes; not where it only makes
    skin lighter or darker.
    """
    region = portrait.region
    left, top, right, bottom = region.box
    place = (*portrait.sources[0].origin.tolist(), portrait.scale)
    everywhere = (0, 0, right - left, bottom - top)
    grid = _grid(*place, everywhere, warp.frame)

    def fetch(view: int, part: kernels.Grid) -> np.ndarray:
        """The pixels of a view's photo moved to where part of the region is, (h, w, 4)."""
        source = portrait.sources[view]
        scale, shift = np.full(2, 1 / source.scale, np.float32), source.origin - np.float32(0.5)
        if source.is_mirror:  # the same pixels, read from the other side of the crop
            scale[0], shift[0] = -scale[0], shift[0] + CROP / source.scale
        xy = np.empty((len(part.rows), len(part.columns), 2), np.float32)
        kernels.points(warp.flows[view], part, scale, shift, xy)
        return cv2.remap(source.rgba, xy, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    picture, so_far = fetch(0, grid), warp.weights[0]
    for n in range(1, len(warp.flows)):
        if warp.used(n):
            so_far = so_far + warp.weights[n]
            among = warp.weights[n] / np.maximum(so_far, 1e-6)  # its share among the views so far
            x, y, width, height = cv2.boundingRect((among > UNSEEN).astype(np.uint8))
            x, y = x + warp.frame[0], y + warp.frame[1]
            x0, y0, x1, y1 = to = _in_region(portrait, (x, y, x + width, y + height))
            if x0 < x1 and y0 < y1:
                part = _grid(*place, to, warp.frame)
                kernels.blend(fetch(n, part), among, part, (y0, x0), picture)
    much = np.empty(added.shape[:2], np.float32)
    kernels.strength(added, cv2.blur(added, (_SHADING, _SHADING)), much)
    much = cv2.GaussianBlur(cv2.dilate(much, _AROUND), (0, 0), 1.0)  # the lip's line lies beside the opened mouth
    painting = np.empty((much.shape[0] + 2, much.shape[1] + 2, 8), np.float32)
    kernels.pack(refined, added, much, painting)
    x0, y0, x1, y1 = to = _in_region(portrait, box)
    painting_grid = _grid(*place, to, (box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1))
    frame = portrait.photo.copy()
    kernels.finish(
        picture,
        warp.face,
        grid,
        region.hold,
        region.plate,
        painting,
        painting_grid,
        (y0, x0, y1, x1),
        (top, left),
        frame,
    )
    return frame


def _in_region(portrait: Portrait, box: Box) -> Box:
    """Pixels of the region that a box of the crop covers."""
    origin, scale, size = portrait.sources[0].origin, portrait.scale, portrait.region.hold.shape[::-1]
    low = np.floor(np.array(box[:2]) / scale + origin).astype(int)
    high = np.ceil(np.array(box[2:]) / scale + origin).astype(int)
    return (*np.clip(low, 0, size).tolist(), *np.clip(high, 0, size).tolist())


@lru_cache(maxsize=16)
def _grid(x: float, y: float, scale: float, part: Box, frame: Box) -> kernels.Grid:
    """Where the pixels of a part of the region lie in arrays over `frame` of the crop, to 1/32 px of it. x, y: px of
    the region where the crop begins, scale: of the crop's px. Most parts are the same in every frame."""
    axes = []
    for low, high, origin, first, last in zip(part[:2], part[2:], (x, y), frame[:2], frame[2:]):
        at = (np.arange(low, high) + 0.5 - origin) * scale - first - 0.5
        at = np.round(at * 32) / 32
        before = np.clip(np.floor(at), 0, last - first - 2)
        axes.append((before.astype(np.int32), np.clip(at - before, 0, 1).astype(np.float32)))
    (columns, column_parts), (rows, row_parts) = axes
    return kernels.Grid(rows, row_parts, columns, column_parts)
