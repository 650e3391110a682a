"""Measure the eyes and the mouth of canonical shapes, and keep a moving face from folding over itself."""

import numpy as np

from . import kernels
from .expressions import FEATURES, expressions
from .mesh import (
    EDGES,
    FACE,
    INNER_LIPS,
    LABELS,
    LEFT_EYE,
    LEFT_IRIS,
    MEAN_FACE,
    ORIENTATION,
    RIGHT_EYE,
    RIGHT_IRIS,
    TRIANGLES,
)  # fmt: skip
from .smoothing import smoothstep

# Pairs of opposite points of the lids and of the inner lips: (upper, lower), from corner to corner.
LIDS = [
    (RIGHT_EYE[:8:-1], RIGHT_EYE[1:8]),
    (LEFT_EYE[1:8], LEFT_EYE[:8:-1]),
]
LIPS = (INNER_LIPS[1:10], INNER_LIPS[:10:-1])
_CLOSED, _PARTED = 0.04, 0.07  # gap of the lips: up to the first nothing is seen between them, from the second on all
_LEAST_AREA = 0.15  # of a triangle's own, seen from the front: less would soon turn it over


def lid_gaps(shapes: np.ndarray) -> np.ndarray:
    """Return the mean gap of the right and the left lids, in widths of the eye: (..., 2) for shapes (..., 478, 3)."""
    length = lambda v: np.linalg.norm(v, axis=-1)
    gaps = [length((shapes[..., u, :] - shapes[..., d, :])[..., :2]).mean(-1) for u, d in LIDS]
    return np.stack([g / length(shapes[..., c[0], :] - shapes[..., c[1], :]) for g, (c, _) in zip(gaps, EYES)], -1)


def lip_gap(shapes: np.ndarray) -> np.ndarray:
    """Return the mean gap of the lips in widths of the mouth, 0 or more: (...) for shapes (..., 478, 3)."""
    return np.maximum(0, (shapes[..., LIPS[1], 1] - shapes[..., LIPS[0], 1]).mean(-1) / mouth_width(shapes))


def inside_shown(shapes: np.ndarray) -> np.ndarray:
    """Return how far the lips of shapes (..., 478, 3) let one see what is between them: (...), 0 closed, 1 open."""
    return smoothstep((lip_gap(shapes) - _CLOSED) / (_PARTED - _CLOSED))


def mouth_width(shapes: np.ndarray) -> np.ndarray:
    """Return the distance between the corners of the inner lips: (...) for shapes (..., 478, 3)."""
    return np.linalg.norm(shapes[..., 78, :] - shapes[..., 308, :], axis=-1)


def gaze_of(shape: np.ndarray, corners: np.ndarray, iris: np.ndarray) -> np.ndarray:
    """Return where an iris is, as an offset (3,) from the middle of the eye in widths of the eye.

    shape: (478, 3). corners, iris: landmark numbers, as in EYES.
    """
    return (shape[iris].mean(0) - shape[corners].mean(0)) / np.linalg.norm(shape[corners[0]] - shape[corners[1]])


def _spread() -> np.ndarray:
    """Return which share of a correction at each landmark every face point takes along, (468, 478); 1 on itself."""
    distance = np.linalg.norm(MEAN_FACE[:468, None] - MEAN_FACE[None], axis=-1)
    share = np.exp(-((distance / 0.02) ** 2) / 2)
    share[CONTROLS] = 0  # a control point takes its own correction only
    share /= np.maximum(share[:, CONTROLS].sum(1, keepdims=True), 1)
    share[CONTROLS, CONTROLS] = 1
    return share


def smooth_folds(shape: np.ndarray, offsets: np.ndarray, held: np.ndarray | tuple = ()) -> np.ndarray:
    """Smooth offsets (478, 3) where they would turn a triangle of the face over.

    A few rounds of averaging with the neighbours are enough, because a neighbourhood that moves alike folds nowhere.

    shape: (478, 3), to which the offsets are to be added. held: numbers of landmarks that keep their offsets.
    """
    before = _areas(shape)
    facing = before > 0.1 * before.mean()
    offsets = offsets.copy()
    for _ in range(12):
        folded = facing & (_areas(shape + offsets) < _LEAST_AREA * before)
        if not folded.any():
            break
        uneven = np.setdiff1d(_FACE_TRIANGLES[folded], held)
        offsets[uneven] = (_NEIGHBOURS[uneven] @ offsets[:468] + offsets[uneven]) / 2
    return offsets


def shrink_folds(shape: np.ndarray, offsets: np.ndarray, least: float = _LEAST_AREA) -> np.ndarray:
    """Make offsets (478, 3) smaller until they turn no triangle of the face over.

    The offsets of the upper face get one common factor, and so do those of the lower face.

    shape: (478, 3), to which the offsets are to be added. least: the share of its area that every triangle keeps.
    """
    share = _fitting_share(shape, offsets, least)
    upper, lower = (share[part].min() for part in (_IS_UPPER, _IS_LOWER))
    offsets = offsets * (upper + (lower - upper) * _LOWER)[:, None]
    return offsets * _fitting_share(shape, offsets, least / 2).min()  # 1, unless the parts pull at their border


def _fitting_share(shape: np.ndarray, offsets: np.ndarray, least: float) -> np.ndarray:
    """Return for each triangle of the face the share of the offsets, up to 1, that leaves it `least` of its area."""
    share = np.empty(len(_FACE_TRIANGLES))
    kernels.fitting_share(shape, offsets, _areas(shape), _FACE_TRIANGLES, _TURN, least, share)
    return share


def _areas(shape: np.ndarray) -> np.ndarray:
    """Return twice the area of each triangle of the face as seen from the front; negative if it is turned over."""
    area = np.empty(len(_FACE_TRIANGLES))
    kernels.areas(shape, _FACE_TRIANGLES, _TURN, area)
    return area


def _neighbours() -> np.ndarray:
    """Return the matrix (468, 468) that averages, for each landmark, over those that share a triangle with it."""
    beside = np.zeros((468, 468))
    for i, j in ((0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)):
        beside[_FACE_TRIANGLES[:, i], _FACE_TRIANGLES[:, j]] = 1
    return beside / np.maximum(beside.sum(1, keepdims=True), 1)


EYES_AND_BROWS = np.unique(
    np.concatenate(
        [RIGHT_EYE, LEFT_EYE, EDGES["right_brow"].ravel(), EDGES["left_brow"].ravel(), RIGHT_IRIS, LEFT_IRIS]
    )
)
CONTROLS = np.concatenate([np.concatenate(pair) for pair in (*LIDS, LIPS)])
SPREAD = _spread()
_FACE_TRIANGLES = TRIANGLES[LABELS == FACE]
_TURN = ORIENTATION[LABELS == FACE]  # -1 for triangles that are listed clockwise
_NEIGHBOURS = _neighbours()
_LOWER = smoothstep((MEAN_FACE[:, 1] - MEAN_FACE[4, 1]) / (MEAN_FACE[0, 1] - MEAN_FACE[4, 1]))  # nose tip to upper lip
_IS_UPPER, _IS_LOWER = _LOWER[_FACE_TRIANGLES].min(1) < 1, _LOWER[_FACE_TRIANGLES].max(1) > 0  # both at the nose
EYES = ((np.array([33, 133]), RIGHT_IRIS), (np.array([362, 263]), LEFT_IRIS))  # corners, iris
JAW = expressions()[1][FEATURES.index("open")]  # offsets (478, 3) that open the lips ...
JAW = JAW / (JAW[LIPS[1]] - JAW[LIPS[0]])[:, 1].mean()  # ... by one face height, on the mean of their pairs
