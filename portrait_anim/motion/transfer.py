"""Put the motion of a driver on one portrait: its head's motion on the portrait's head, its expression on the face.

Both are told as changes from a reference, the driver's face that stands for the portrait as it is. `Retargeter` knows
the whole track and `CausalRetargeter` only the past; both use what is here.
"""

from functools import lru_cache

import numpy as np

from ..geometry.anatomy import (
    CONTROLS,
    EYES,
    EYES_AND_BROWS,
    JAW,
    LIDS,
    LIPS,
    SPREAD,
    gaze_of,
    lid_gaps,
    lip_gap,
    mouth_width,
    shrink_folds,
    smooth_folds,
)  # fmt: skip
from ..geometry.mesh import LEFT_EYE, N_LANDMARKS, NECK, OUTER_LIPS, OVAL, RIGHT_EYE, proximity
from ..geometry.pose import Pose, euler_angles, from_euler
from ..geometry.smoothing import soft_limit
from .options import MotionOptions

# Limits for `soft_limit`.
MAX_SHIFT = 0.08  # face heights that the neck may leave its place, on a body that stays
MAX_ZOOM = 1.1  # factor by which the head may become larger or smaller
MAX_OFFSET = 0.16  # face heights that an expression may move a landmark
MAX_LIPS = 1.0  # gap of the lips over the mouth's width

ZOOM_NOISE = 0.008  # relative changes of the head's size that are smaller come from the tracker, and fade

# Lids are shut if their gap is below this share of their usual gap, or of the eye's width. A smaller gap is only the
# tracker's guess.
_SHUT_LIDS, _SHUT_GAP = 0.33, 0.085
_SHUTTING = 0.2  # lids whose gap is larger than that by so much of the usual gap are as open as the driver's
_MIN_LIDS, _MAX_LIDS = 0.03, 1.35  # of the portrait's own gap
_CLOSED_LIPS = 0.02  # gap over the mouth's width below which lips are touching
_LIP_GAIN = 2.0  # how much faster than the driver's a mouth that is open further may close


def neck(pose: Pose) -> np.ndarray:
    """Return where each head turns on its neck, (T, 3) px."""
    return pose.scale[:, None] * (pose.rotation @ NECK) + pose.shift


class HeadTransfer:
    """The portrait's head, moved by the changes of the driver's pose.

    own: the portrait's pose, of one head. The turn of the driver's head itself is meant, not its change, if the
    options ask for absolute motion.
    """

    def __init__(self, own: Pose, options: MotionOptions):
        self._own = own
        self._strength = options.strength * options.head_strength if options.moves_head else 0.0
        self._max_turn = np.radians(options.max_turn)
        own_turn = euler_angles(own.rotation)[0]
        self._base = own_turn * 0 if options.motion == "absolute" and options.moves_head else own_turn

    def __call__(self, turns: np.ndarray, shift: np.ndarray, zoom: np.ndarray) -> Pose:
        """Return the portrait's poses in T frames.

        turns: (T, 3) `euler_angles` from those of the reference. shift: (T, 3), how far the driver's neck has moved,
        in its face heights. zoom: (T,), the logarithm of how much larger it has become.
        """
        own_scale = self._own.scale[0]
        zoom = zoom**3 / (zoom**2 + ZOOM_NOISE**2)
        angle = np.linalg.norm(turns, axis=1, keepdims=True) * self._strength
        bent = soft_limit(angle, self._max_turn) / np.maximum(angle, 1e-9) * self._strength
        rotation = from_euler(self._base + (turns * bent).astype(np.float64))
        scale = own_scale * np.exp(soft_limit(zoom * self._strength, np.log(MAX_ZOOM)))
        place = neck(self._own) + own_scale * soft_limit(shift * self._strength, MAX_SHIFT)
        return Pose(scale, rotation, place - scale[:, None] * (rotation @ NECK))


class ExpressionTransfer:
    """The portrait's face with the changes of the driver's expression.

    own: the portrait's canonical shape (478, 3). reference: the driver's, when the portrait is as it is. changes_only:
    whether the lips open by the changes of the driver's, so that a smile with open lips stays one. Otherwise they are
    closed whenever the driver's are.
    """

    def __init__(self, own: np.ndarray, reference: np.ndarray, options: MotionOptions, changes_only: bool):
        self._own, self._reference, self._changes_only = own, reference, changes_only
        self._own_lips, self._rest_lips = float(lip_gap(own)), float(lip_gap(reference))
        self.usual_lids = np.maximum(lid_gaps(reference), 0.05)  # (2,) gaps of the driver's lids
        self._strength = _part_strengths(options)[:, None]
        self._ratio = self._part_ratios()[:, None]

    def _part_ratios(self) -> np.ndarray:
        """Return the size of the portrait's parts over that of the driver's, smooth over the face: (478,)."""
        width = lambda shape, a, b: np.linalg.norm(shape[a] - shape[b])
        part = lambda *ends: np.clip(width(self._own, *ends) / width(self._reference, *ends), 0.6, 1.6)
        sizes = part(61, 291), part(33, 133), part(362, 263)
        return 1 + sum(near * (size - 1) for near, size in zip(_near_parts()[2:], sizes))

    def lid_shares(self, lids: np.ndarray) -> np.ndarray:
        """Return the gaps of the portrait's lids, (T, 2), as shares of its own.

        lids: (T, 2) gaps of the driver's, as shares of its `usual_lids`.
        """
        shut = np.clip(_SHUT_GAP / self.usual_lids, _SHUT_LIDS, 0.6)
        shares = np.where(lids < shut + _SHUTTING, (lids - shut) * (1 + shut / _SHUTTING), lids)
        return np.clip(shares, _MIN_LIDS, _MAX_LIDS)

    def lip_gaps(self, lips: np.ndarray) -> np.ndarray:
        """Return the gaps of the portrait's lips, (T,), from those of the driver's (T,): both in widths of the mouth.

        Unless only the changes count, the lips are closed when the driver's are, and have the portrait's own gap at the
        reference. A mouth that is open further than the driver's closes faster; one that is less open opens faster
        until it is open as far.
        """
        own, rest = self._own_lips, self._rest_lips
        if self._changes_only:
            return np.maximum(own + lips - rest, 0)
        slope = np.clip(own / np.maximum(rest - _CLOSED_LIPS, 1e-6), 0, _LIP_GAIN)
        knee = np.maximum(rest, _CLOSED_LIPS + own / _LIP_GAIN)
        below = slope * (np.clip(lips, _CLOSED_LIPS, knee) - _CLOSED_LIPS)
        over = np.maximum(lips - knee, 0)
        return np.maximum(below + over, np.where(lips > knee, np.minimum(lips, own + _LIP_GAIN * over), 0))

    def __call__(self, driver: np.ndarray, lips: float, lids: np.ndarray) -> np.ndarray:
        """Return the portrait's canonical shape (478, 3) with the driver's expression.

        driver: canonical shape (478, 3). lips: of `lip_gaps`. lids: (2,), of `lid_shares`.
        """
        offsets = (driver - self._reference) * self._ratio * self._strength
        size = np.linalg.norm(offsets, axis=1, keepdims=True)
        offsets *= soft_limit(size, MAX_OFFSET) / np.maximum(size, 1e-9)
        shape = self._own + shrink_folds(self._own, smooth_folds(self._own, offsets))
        lips = self._own_lips + (lips - self._own_lips) * self._strength[13, 0]
        lips = float(soft_limit(max(lips, 0), MAX_LIPS))
        shape += (lips - lip_gap(shape)) * mouth_width(shape) * JAW * (self._strength > 0)
        corrections = np.zeros_like(shape)
        for (upper, lower), opening in zip(LIDS, lids):
            opening = 1 + (opening - 1) * self._strength[upper[3], 0]
            wanted = (self._own[upper] - self._own[lower]) * np.clip(opening, _MIN_LIDS, _MAX_LIDS)
            corrections[upper] += shape[lower] + wanted - shape[upper]
        upper, lower = LIPS  # they never cross, and they touch where the whole mouth is closed
        gap = shape[lower] - shape[upper]
        wanted = gap * np.clip(lips / max(min(self._own_lips, _CLOSED_LIPS), 1e-6), 0, 1)
        wanted[:, 1] = np.maximum(wanted[:, 1], 0)
        corrections[upper] -= (wanted - gap) / 2
        corrections[lower] += (wanted - gap) / 2
        moved = np.flatnonzero(corrections.any(1))
        if len(moved):  # the skin around lids and lips comes along
            shape[:468] += SPREAD[:, moved] @ corrections[moved]
        offsets = smooth_folds(self._own, shape - self._own, held=CONTROLS)
        shape = self._own + shrink_folds(self._own, offsets, least=0.02)
        self._turn_eyes(shape, driver)
        return shape

    def _turn_eyes(self, shape: np.ndarray, driver: np.ndarray) -> None:
        """Turn both eyes of a shape as the driver's turn.

        The irises keep the form of the portrait's own, and move by the same shares of the eye's width.
        """
        turn = np.mean([gaze_of(driver, *eye) - gaze_of(self._reference, *eye) for eye in EYES], 0)
        for corners, iris in EYES:
            width = np.linalg.norm(self._own[corners[0]] - self._own[corners[1]])
            moved = shape[corners].mean(0) - self._own[corners].mean(0)
            shape[iris] = self._own[iris] + moved + turn * width * self._strength[iris[0], 0]


@lru_cache(maxsize=1)
def _near_parts() -> tuple[np.ndarray, ...]:
    """Return how near each landmark is to the eyes and brows and to the lips, then closely to the lips and each eye."""
    parts = (EYES_AND_BROWS, 0.06), (OUTER_LIPS, 0.12), (OUTER_LIPS, 0.1), (RIGHT_EYE, 0.05), (LEFT_EYE, 0.05)
    return tuple(proximity(points, reach) for points, reach in parts)


def _part_strengths(options: MotionOptions) -> np.ndarray:
    """Return which share of the driver's expression each landmark takes, (478,)."""
    eyes, lips = _near_parts()[:2]
    taken = np.ones(N_LANDMARKS)
    if options.only and "face" not in options.only:
        taken = np.maximum(eyes * ("eyes" in options.only), lips * ("lips" in options.only))
    for part, strength in ((eyes, options.eyes_strength), (lips, options.lips_strength)):
        taken = taken * (1 + part * (strength - 1))
    return taken * options.strength


def oval_extent(own: np.ndarray, poses: Pose, margin: float, below: float) -> tuple[float, float, float, float]:
    """Return the box (x0, y0, x1, y1) px that holds the enlarged oval of a canonical shape (478, 3) in every pose.

    margin: by how much the oval is enlarged to the sides and upwards. below: the same, downwards.
    """
    middle, oval = own[OVAL].mean(0), own[OVAL] - own[OVAL].mean(0)
    oval = middle + oval * np.where(np.arange(3) == 1, np.where(oval[:, 1:2] > 0, below, margin), margin)
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for scale, rotation, shift in zip(poses.scale, poses.rotation, poses.shift):
        points = (scale * oval @ rotation.T + shift)[:, :2]
        low, high = np.minimum(low, points.min(0)), np.maximum(high, points.max(0))
    return (*low.tolist(), *high.tolist())
