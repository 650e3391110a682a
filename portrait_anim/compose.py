"""From warp and painting to the picture: in the crop, and at the photo's own resolution."""

import cv2
import numpy as np

from .networks import Painting
from .portrait import Portrait
from .warp import CROP, View, Warp, over, sample

_BORDER = 20  # px of the crop over which the painting's say goes to nothing, so that the crop has no edge


def _window() -> np.ndarray:
    ramp = np.clip((np.minimum(np.arange(CROP), np.arange(CROP)[::-1]) + 0.5) / _BORDER, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return (ramp[:, None] * ramp[None]).astype(np.float32)


WINDOW = _window()  # (256, 256), 0 at the crop's border, 1 inside


def crop_slice(warp: Warp) -> tuple[slice, slice]:
    """Where the crop lies in the warp's arrays."""
    x0, y0 = warp.frame[:2]
    return np.s_[-y0 : CROP - y0, -x0 : CROP - x0]


def paint_crop(
    warp: Warp, views: list[View], plate: np.ndarray, x: np.ndarray, painting: Painting | None
) -> tuple[np.ndarray, np.ndarray]:
    """The picture in the crop: the refined warp, and what the painting adds to it; (256, 256, 3) float32, -1..1.

    x: (256, 256, 13) as `condition` made it. painting: numpy arrays mask (256, 256), flow (256, 256, 2) and
    delta (256, 256, 3), or None for the warp alone. Adds the residual flow to warp.flows, in place.
        image = m * refined + (1 - m) * (warped + delta)     (refined: the warp with the residual flow)
    """
    if painting is None:
        return x[..., :3], np.zeros_like(x[..., :3])
    crop = crop_slice(warp)
    residual = painting.flow * WINDOW[..., None]
    refined = np.zeros((CROP, CROP, 3), np.float32)
    for n, view in enumerate(views):
        if warp.used(n):
            warp.flows[n][crop] += residual
            refined += warp.weights[n][crop][..., None] * sample(view.image, warp.flows[n][crop])
    refined = over(refined, x[..., 12], plate) * np.float32(1 / 127.5) - 1
    image = painting.mask[..., None] * (refined - x[..., :3] - painting.delta) + x[..., :3] + painting.delta
    return refined, (np.clip(image, -1, 1) - refined) * WINDOW[..., None]


def compose_frame(portrait: Portrait, warp: Warp, added: np.ndarray) -> np.ndarray:
    """The whole photo with the moved head, (H, W, 3) uint8. warp: with its residual flow; added: of paint_crop.

    The photo is sampled once at its own resolution; only what the painting adds comes from the crop's 256 px.
    """
    region = portrait.region
    x0, y0, x1, y1 = region.box
    size = (x1 - x0, y1 - y0)
    to_region = portrait.corner - (x0, y0)
    # Frame px of a region px: the small maps are enlarged with it.
    scale = portrait.scale
    offset = (np.array([x0, y0]) - portrait.corner) * scale - warp.frame[:2] + (scale - 1) / 2
    enlarge = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    grow = lambda a: cv2.warpAffine(
        a, enlarge, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )

    picture = None
    for n in range(len(warp.flows)):
        if not warp.used(n):
            continue
        flow = warp.flows[n]
        if n == 1:  # the mirrored photo: the same pixels, read from the other side of the crop
            flow = np.stack([CROP - flow[..., 0], flow[..., 1]], -1)
        points = grow(flow * np.float32(1 / scale) + (to_region - 0.5).astype(np.float32))
        moved = cv2.remap(region.rgba[n], points, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if picture is None:
            picture = moved
        else:
            share = grow(warp.weights[n])
            picture = cv2.blendLinear(picture, moved, 1 - share, share)
    alpha = picture[..., 3].astype(np.float32) * np.float32(1 / 255)
    background = (1 - alpha) * (1 - grow(warp.face))
    picture = cv2.blendLinear(cv2.cvtColor(picture, cv2.COLOR_RGBA2RGB), region.plate, 1 - background, background)
    if added.any():
        padded = np.zeros((*warp.face.shape, 3), np.float32)
        padded[crop_slice(warp)] = added * np.float32(127.5)
        picture = cv2.add(picture, grow(padded), dtype=cv2.CV_8U)
    picture = cv2.blendLinear(picture, np.ascontiguousarray(portrait.photo[y0:y1, x0:x1]), 1 - region.hold, region.hold)
    frame = portrait.photo.copy()
    frame[y0:y1, x0:x1] = picture
    return frame
