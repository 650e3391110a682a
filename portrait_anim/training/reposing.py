"""Draw random poses and expressions of one face, for a person of whom there is a single photo.

The head turns, the jaw opens and closes, lids close, lips widen, brows rise, and the eyes look elsewhere.
"""

import cv2
import numpy as np

from ..geometry.mesh import (
    EDGES,
    INNER_LIPS,
    LEFT_EYE,
    LEFT_IRIS,
    MEAN_FACE,
    OUTER_LIPS,
    RIGHT_EYE,
    RIGHT_IRIS,
    RIGID,
    similarity,
)

_TURN = np.radians([7.0, 11.0, 5.0])  # standard deviations about x (nod), y (shake), z (tilt); doubled at most
_SHIFT = 0.03  # face heights
_JAW_AXIS = MEAN_FACE[[234, 454]].mean(0)  # the hinge runs from ear to ear
_JAW_LEVER = 0.45  # face heights from the hinge to the lower lip
_MAX_JAW = np.radians(14.0)
_CORNERS = MEAN_FACE[[78, 308], 1].mean()
_BROWS = np.unique(np.concatenate([EDGES["right_brow"].ravel(), EDGES["left_brow"].ravel()]))
_UPPER_LIDS = np.concatenate([RIGHT_EYE[9:], LEFT_EYE[1:8]])
_LOWER_LIDS = np.concatenate([RIGHT_EYE[7:0:-1], LEFT_EYE[:8:-1]])  # each below its upper one


def _near(points: np.ndarray, reach: float) -> np.ndarray:
    """Return weights (478, 1) that are 1 at the given landmarks and fall to 0 away from them.

    reach: the distance at which they have fallen to 0.6, in face heights.
    """
    distance = np.linalg.norm(MEAN_FACE[:, None] - MEAN_FACE[None, points], axis=-1).min(1)
    return np.exp(-((distance / reach) ** 2) / 2)[:, None]


def _jaw_share() -> np.ndarray:
    """Return how much of the jaw's turn each landmark follows, (478,): lower lip and chin all, upper lip nothing."""
    share = np.clip((MEAN_FACE[:, 1] - _CORNERS) / 0.06 + 0.3, 0, 1)
    for lips in (INNER_LIPS, OUTER_LIPS):  # the upper half comes first, from corner to corner
        share[lips[:11]], share[lips[11:]], share[lips[[0, 10]]] = 0.0, 1.0, 0.35
    return share


_JAW = _jaw_share()
_LIPS_NEAR, _BROWS_NEAR = _near(OUTER_LIPS, 0.08), _near(_BROWS, 0.05)
_TO_LID = np.linalg.norm(MEAN_FACE[:, None] - MEAN_FACE[None, _UPPER_LIDS], axis=-1)
_NEXT_LID, _LIDS_NEAR = _TO_LID.argmin(1), np.exp(-((_TO_LID.min(1) / 0.02) ** 2) / 2)[:, None]
_LIDS_NEAR[_LOWER_LIDS] = _LIDS_NEAR[[33, 133, 263, 362]] = 0


def repose(landmarks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return landmarks (478, 3) turned a little and with another expression, in the same px."""
    scale, rotation, shift = similarity(MEAN_FACE[RIGID], landmarks[RIGID])
    shape = _expression((landmarks - shift) @ rotation / scale, rng)
    turn = cv2.Rodrigues(_TURN * np.clip(rng.normal(0, 1, 3), -2, 2))[0]
    middle = scale * rotation @ MEAN_FACE[RIGID].mean(0)
    place = middle + shift + scale * np.array([*rng.normal(0, _SHIFT, 2), 0])
    return (scale * shape @ rotation.T - middle) @ turn.T + place


def _expression(shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a canonical shape (478, 3) with its expression changed."""
    shape = shape.copy()
    closing = (shape[14, 1] - shape[13, 1]) / _JAW_LEVER  # what brings the lips together
    angle = rng.uniform(-max(closing, 0.0), _MAX_JAW) if rng.random() < 0.8 else 0.0
    axis = _JAW_AXIS[1:]
    y, z = (shape[:, 1:] - axis).T
    sin, cos = np.sin(angle * _JAW), np.cos(angle * _JAW)
    shape[:, 1:] = axis + np.stack([y * cos - z * sin, y * sin + z * cos], 1)
    shape[:, 0] *= 1 + _LIPS_NEAR[:, 0] * rng.uniform(-0.12, 0.12)
    lids = (shape[_LOWER_LIDS] - shape[_UPPER_LIDS])[_NEXT_LID] * _LIDS_NEAR
    shape += lids * (rng.uniform(0.4, 1.0) if rng.random() < 0.35 else rng.uniform(-0.15, 0.3))
    shape[:, 1:2] += _BROWS_NEAR * rng.uniform(-0.02, 0.012)
    gaze = np.array([rng.uniform(-0.018, 0.018), rng.uniform(-0.008, 0.008), 0])
    shape[np.concatenate([RIGHT_IRIS, LEFT_IRIS])] += gaze
    return shape
