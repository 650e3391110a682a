"""Separate a photo into two layers: the person, by a matte, and the background behind them, called the plate."""

from functools import lru_cache
from threading import Lock

import cv2
import numpy as np

from ..geometry.fill import push_pull
from ..geometry.view import View
from ..landmarks.tracking import solution
from ..system.quiet import quiet_stderr

_ALONE = Lock()  # a graph of MediaPipe takes one picture at a time


@lru_cache(maxsize=1)
def _segmenter():
    with quiet_stderr():
        segmenter = solution("selfie_segmentation").SelfieSegmentation(model_selection=0)
        segmenter.process(np.zeros((64, 64, 3), np.uint8))  # the graph starts, and logs, at its first image
    return segmenter


def guided_filter(guide: np.ndarray, image: np.ndarray, radius: int, eps: float) -> np.ndarray:
    """Return an image (H, W) smoothed along the edges of a guide (H, W), float32.

    The filter is that of He, Sun and Tang, Guided Image Filtering (ECCV 2010). radius: that of the window, px. eps: the
    variance of the guide, in its squared units, below which it counts as flat.
    """
    window = (2 * radius + 1, 2 * radius + 1)
    mean = lambda a: cv2.blur(a, window)
    mean_g, mean_i = mean(guide), mean(image)
    a = (mean(guide * image) - mean_g * mean_i) / (mean(guide * guide) - mean_g * mean_g + eps)
    return mean(a) * guide + mean(mean_i - a * mean_g)


def matte(image: np.ndarray) -> np.ndarray:
    """Return the matte of the person in a crop (H, W, 3) uint8 RGB: (H, W) float32 in 0 to 1.

    Its edges are drawn to those of the picture.
    """
    with _ALONE:
        raw = _segmenter().process(np.ascontiguousarray(image)).segmentation_mask.astype(np.float32)
    guide = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    refined = guided_filter(guide, raw, max(4, image.shape[0] // 48), 50.0)
    return np.clip((refined - 0.25) / 0.5, 0, 1)  # decide undecided areas, which would become a double picture


def plate(image: np.ndarray, matte: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Return the background behind the person: a photo (H, W, 3) uint8 with the person filled in.

    matte: (H, W) float32, 1 on the person. ring: (N, 2) px, a polygon around the head that is filled in as well,
    because the matte may miss ears and stray hair, which must not stay behind when the head moves.

    Only a band along the person's outline is ever uncovered. There the background is continued by its own reflection in
    the outline, which keeps its texture. Deeper inside it fades to a smooth filling.
    """
    height, width = matte.shape
    unit = max(height, width) / 256
    spread = round(4 * unit) | 1
    matte = cv2.fillPoly(matte.copy(), [np.round(ring - 0.5).astype(np.int32)], 1.0)
    hole = cv2.dilate(matte, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (spread, spread))) > 0.1
    if not hole.any():
        return image.copy()
    if hole.all():  # nothing is known of the background, so any colour of the photo will do
        return cv2.GaussianBlur(image, (0, 0), 32 * unit)
    small = cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA).astype(np.float32)
    known = 1 - cv2.resize(hole.astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA)
    known[known < 0.9] = 0
    filled = cv2.resize(push_pull(small, known), (width, height), interpolation=cv2.INTER_LINEAR)

    # Find the nearest known pixel of every pixel, then the point as far behind it: 2 * nearest - here.
    distance, label = cv2.distanceTransformWithLabels(
        hole.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    y, x = np.nonzero(~hole)
    nearest = np.zeros((label.max() + 1, 2), np.float32)
    nearest[label[y, x]] = np.stack([x, y], 1)
    here = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    offset = cv2.GaussianBlur(2 * (nearest[label] - here), (0, 0), 2.5 * unit)
    reflected = cv2.remap(image, here + offset, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    clean = cv2.remap(
        (~hole).astype(np.float32), here + offset, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    share = cv2.GaussianBlur(clean * np.clip(2 - distance / (16 * unit), 0, 1), (0, 0), 1.5 * unit)
    share = np.minimum(share, clean)[..., None]
    filled = filled * (1 - share) + reflected * share
    soft = np.clip(cv2.GaussianBlur(hole.astype(np.float32), (0, 0), unit), 0, 1)
    soft = np.maximum(soft, hole)[..., None]
    return np.clip(filled * soft + image * (1 - soft), 0, 255).astype(np.uint8)


def plate_behind(view: View) -> np.ndarray:
    """Return the background behind the person of a view, (512, 512, 3) uint8, see `plate`."""
    return plate(view.image, view.matte, view.mesh.rings[0, :, :2])
