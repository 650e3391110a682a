"""From warp and painting to the picture: in the crop, and at the photo's own resolution."""

from functools import lru_cache

import cv2
import numpy as np

from .networks import Painting
from .portrait import Portrait
from .warp import CROP, UNSEEN, View, Warp, over, sample

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in px of the crop
WHOLE: Box = (0, 0, CROP, CROP)
_BORDER = 16  # px over which the painting's say goes to nothing, so that its box has no edge


@lru_cache(maxsize=8)
def window(box: Box = WHOLE) -> np.ndarray:
    """Weight (h, w) float32 of the painting in its box: 0 at the border, 1 inside."""
    x0, y0, x1, y1 = box
    ramps = []
    for side in (y1 - y0, x1 - x0):
        ramp = np.clip((np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5) / _BORDER, 0, 1)
        ramps.append(ramp * ramp * (3 - 2 * ramp))
    return (ramps[0][:, None] * ramps[1][None]).astype(np.float32)


def paint_box(
    warp: Warp, views: list[View], plate: np.ndarray, x: np.ndarray, painting: Painting | None, box: Box = WHOLE
) -> tuple[np.ndarray, np.ndarray]:
    """The picture in a box of the crop: the refined warp, and what the painting adds; (h, w, 3) float32, -1..1.

    x: (256, 256, 13) as `condition` made it. painting: of the box, numpy arrays mask (h, w), flow (h, w, 2) and
    delta (h, w, 3); None for the warp alone. Adds the residual flow to warp.flows, in place.
        image = m * refined + (1 - m) * (warped + delta)     (refined: the warp with the residual flow)
    """
    x0, y0, x1, y1 = box
    x = x[y0:y1, x0:x1]
    if painting is None:
        return x[..., :3], np.zeros_like(x[..., :3])
    part = np.s_[y0 - warp.frame[1] : y1 - warp.frame[1], x0 - warp.frame[0] : x1 - warp.frame[0]]
    share = window(box)[..., None]
    residual = painting.flow * share
    refined = np.zeros((y1 - y0, x1 - x0, 3), np.float32)
    for n, view in enumerate(views):
        if warp.used(n):
            warp.flows[n][part] += residual
            refined += warp.weights[n][part][..., None] * sample(view.image, warp.flows[n][part])
    refined = over(refined, x[..., 12], plate[y0:y1, x0:x1]) * np.float32(1 / 127.5) - 1
    painted = x[..., :3] + painting.delta
    image = painting.mask[..., None] * (refined - painted) + painted
    return refined, (np.clip(image, -1, 1) - refined) * share


def compose_frame(
    portrait: Portrait, warp: Warp, refined: np.ndarray, added: np.ndarray, box: Box = WHOLE
) -> np.ndarray:
    """The whole photo with the moved head, (H, W, 3) uint8. warp: with its residual flow; refined, added: of paint_box.

    The photo is sampled once at its own resolution; only what the painting adds comes from the crop's 256 px. Where
    it adds much, the photo's finer detail (the line of closed lips in an opened mouth) goes.
    """
    region, scale = portrait.region, portrait.scale
    x0, y0, x1, y1 = region.box
    everywhere = (0, 0, x1 - x0, y1 - y0)
    origin = (portrait.corner - (x0, y0)).astype(np.float32)  # of the crop in the region

    def in_region(part: Box) -> Box:
        """Pixels of the region that a box of the crop covers."""
        low = np.floor(np.array(part[:2]) / scale + origin).astype(int)
        high = np.ceil(np.array(part[2:]) / scale + origin).astype(int)
        return (*np.clip(low, 0, everywhere[2:]).tolist(), *np.clip(high, 0, everywhere[2:]).tolist())

    def grow(small: np.ndarray, corner: tuple = warp.frame[:2], to: Box = everywhere, mode=cv2.BORDER_REPLICATE):
        """A map of the crop's resolution, its upper left pixel at `corner` of the crop, over a part of the region."""
        offset = (np.array(to[:2]) - origin) * scale - corner + (scale - 1) / 2
        matrix = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
        size = (to[2] - to[0], to[3] - to[1])
        return cv2.warpAffine(small, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=mode)

    def fetch(view: int, corner: tuple = warp.frame[:2], to: Box = everywhere) -> np.ndarray:
        """The pixels of a view's photo moved to a part of the region, (h, w, 4)."""
        i, j = corner[1] - warp.frame[1], corner[0] - warp.frame[0]
        source = portrait.sources[view]
        flow = warp.flows[view][i:, j:] * np.float32(1 / source.scale)
        if source.is_mirror:  # the same pixels, read from the other side of the crop
            flow[..., 0] = CROP / source.scale - flow[..., 0]
        points = grow(flow + (source.origin - np.float32(0.5)), corner, to)
        return cv2.remap(source.rgba, points, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    picture, so_far = fetch(0), warp.weights[0].copy()
    for n in range(1, len(warp.flows)):
        if warp.used(n):
            so_far += warp.weights[n]
            among = warp.weights[n] / np.maximum(so_far, 1e-6)  # its share among the views so far
            x, y, width, height = cv2.boundingRect((among > UNSEEN).astype(np.uint8))
            corner = (x + warp.frame[0], y + warp.frame[1])
            to = in_region((*corner, corner[0] + width, corner[1] + height))
            if to[0] < to[2] and to[1] < to[3]:
                share = grow(among[y:, x:], corner, to)
                part = picture[to[1] : to[3], to[0] : to[2]]
                part[:] = cv2.blendLinear(part.copy(), fetch(n, corner, to), 1 - share, share)
    background = (1 - grow(warp.face)) * (1 - region.hold)
    background -= cv2.multiply(picture[..., 3], background, scale=1 / 255, dtype=cv2.CV_32F)
    picture = cv2.blendLinear(cv2.cvtColor(picture, cv2.COLOR_RGBA2RGB), region.plate, 1 - background, background)
    to = in_region(box)
    if added.any() and to[0] < to[2] and to[1] < to[3]:
        part = picture[to[1] : to[3], to[0] : to[2]]
        much = np.clip(np.abs(added).max(-1) * 8 - 0.6, 0, 1)
        if much.any():
            share = grow(cv2.GaussianBlur(much, (0, 0), 1.0), box[:2], to, cv2.BORDER_CONSTANT)
            smooth = grow(np.clip((refined + 1) * 127.5, 0, 255).astype(np.uint8), box[:2], to)
            part[:] = cv2.blendLinear(part.copy(), smooth, 1 - share, share)
        part[:] = cv2.add(part, grow(added * np.float32(127.5), box[:2], to, cv2.BORDER_CONSTANT), dtype=cv2.CV_8U)
    if region.hold.any():
        photo = np.ascontiguousarray(portrait.photo[y0:y1, x0:x1])
        picture = cv2.blendLinear(picture, photo, 1 - region.hold, region.hold)
    frame = portrait.photo.copy()
    frame[y0:y1, x0:x1] = picture
    return frame
