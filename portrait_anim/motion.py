"""Motion transfer: the driver's landmarks over time -> target landmarks on the portrait.

Every face is split into pose (scale, rotation, translation of a rigid head) and shape in a canonical frame, where
heads look straight ahead. What the driver's shape changes there is added to the portrait's own shape, scaled to the
portrait's own parts; lids and lips are then set by ratios, so that they close when the driver's close. What the
driver's pose changes is applied to the portrait's own pose.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from .errors import UsageError, unknown
from .mesh import (
    EDGES,
    INNER_LIPS,
    LEFT_EYE,
    LEFT_IRIS,
    MEAN_FACE,
    N_LANDMARKS,
    OUTER_LIPS,
    OVAL,
    RIGHT_EYE,
    RIGHT_IRIS,
    RIGID,
    near,
    openness,
    similarity,
)
from .tracking import MotionTrack

MOTIONS = ("relative", "absolute")
PARTS = ("head", "face", "eyes", "lips")

MAX_TURN = 40.0  # degrees; turns are compressed softly towards it, from 60 % of it on
MAX_SHIFT = 0.6  # face heights; how far the head may leave its place, the same way
MAX_ZOOM = 1.2  # factor; the same way

# Facing points of the lids and of the inner lips: (upper, lower), from corner to corner.
_LIDS = [
    (RIGHT_EYE[:8:-1], RIGHT_EYE[1:8]),
    (LEFT_EYE[1:8], LEFT_EYE[:8:-1]),
]
_LIPS = (INNER_LIPS[1:10], INNER_LIPS[:10:-1])
_CLOSED_LIDS = 0.10  # gap over eye width that MediaPipe still sees in a closed eye
_CLOSED_LIPS = 0.03  # gap over mouth width below which lips count as touching


@dataclass
class Pose:
    """Rigid poses of T heads: p = scale * shape @ rotation^T + shift. (T,), (T, 3, 3), (T, 3)."""

    scale: np.ndarray
    rotation: np.ndarray
    shift: np.ndarray


def estimate_poses(landmarks: np.ndarray, shape: np.ndarray) -> Pose:
    """Pose of each face (T, 478, 3) relative to a canonical shape (478, 3), from the rigid points."""
    poses = [similarity(shape[RIGID], face[RIGID].astype(np.float64)) for face in landmarks]
    return Pose(*(np.array(values) for values in zip(*poses)))


def canonical(landmarks: np.ndarray, pose: Pose) -> np.ndarray:
    """Shapes (T, 478, 3) with the pose taken out, float32."""
    shapes = np.empty(landmarks.shape, np.float32)
    for t in range(len(landmarks)):  # one by one: a long clip must not be in memory several times
        shapes[t] = (landmarks[t] - pose.shift[t]) @ pose.rotation[t] / pose.scale[t]
    return shapes


def soft_limit(value: np.ndarray, limit: float) -> np.ndarray:
    """value (..., ) unchanged up to 60 % of limit, then bent towards it."""
    start = 0.6 * limit
    over = np.maximum(np.abs(value) - start, 0)
    return np.sign(value) * (np.minimum(np.abs(value), start) + (limit - start) * np.tanh(over / (limit - start)))


def one_euro(values: np.ndarray, fps: float, min_cutoff: float, beta: float) -> np.ndarray:
    """Smooth values (T, ...) in time: the One-Euro filter (Casiez et al., CHI 2012), forwards and backwards.

    Still values are smoothed at min_cutoff Hz, moving ones less, by beta Hz per unit/s. Both directions together
    leave no delay.
    """
    out = np.zeros(values.shape, np.float32)
    for x, result in ((values, out), (values[::-1], out[::-1])):
        previous, speed = x[0], np.zeros_like(x[0])
        result[0] += previous / 2
        for t in range(1, len(x)):
            speed = speed + _blend(1.0, fps) * ((x[t] - x[t - 1]) * fps - speed)
            previous = previous + _blend(min_cutoff + beta * np.abs(speed), fps) * (x[t] - previous)
            result[t] += previous / 2
    return out


def _blend(cutoff, fps: float):
    r = 2 * np.pi * cutoff / fps
    return r / (r + 1)


def check_motion(motion: str, strength: float, only: tuple[str, ...]) -> None:
    """Raises UsageError for values that are not known or out of range."""
    if motion not in MOTIONS:
        raise unknown("--motion", motion, MOTIONS)
    if odd := [part for part in only if part not in PARTS]:
        raise unknown("--only", odd[0], PARTS)
    if not 0 <= strength <= 3:
        raise UsageError(f"--strength {strength:g} is out of range; choose 0 (no motion) to 3, 1 is the driver's own.")


class Retargeter:
    """Target landmarks for every frame of a track, on one portrait.

    portrait: landmarks (478, 3) px, of whichever frame the targets are wanted in. motion: "relative" (changes from
    the reference frame, the one most like the portrait unless given) or "absolute" (the driver's own turn of the
    head, expression from its most neutral frame). strength scales all motion. only: any of PARTS, empty for all.
    Raises UsageError for values outside that.
    """

    def __init__(
        self,
        track: MotionTrack,
        portrait: np.ndarray,
        motion: str = "relative",
        strength: float = 1.0,
        only: tuple[str, ...] = (),
        reference_frame: int | None = None,
        smooth: bool = True,
    ):
        check_motion(motion, strength, only)
        if reference_frame is not None and not 0 <= reference_frame < len(track):
            raise UsageError(f"--reference-frame {reference_frame} is not in the driver; choose 0 to {len(track) - 1}.")
        self._own_pose = estimate_poses(portrait[None], MEAN_FACE)
        self._own = canonical(portrait[None], self._own_pose)[0].astype(np.float64)

        pose = estimate_poses(track.landmarks, MEAN_FACE)
        shapes = canonical(track.landmarks, pose)
        if reference_frame is None:
            choose = self._best_frame if motion == "relative" else self._neutral_frame
            reference_frame = choose(track, shapes, pose)
        self.reference_frame = reference_frame
        fps = float(track.fps)
        self._set_pose(pose, motion, strength, only, fps, smooth)
        self._reference = shapes[self.reference_frame].astype(np.float64)
        self._shapes = one_euro(shapes, fps, min_cutoff=3.0, beta=40.0) if smooth else shapes
        self._strength = strength * self._part_weights(only)[:, None]
        self._ratio = self._part_ratios()[:, None]

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, t: int) -> np.ndarray:
        """Target landmarks (478, 3) of frame t."""
        shape = self._expression(self._shapes[t].astype(np.float64))
        return self._scale[t] * shape @ self._rotation[t].T + self._shift[t]

    def extent(self, margin: float) -> tuple[float, float, float, float]:
        """Box (x0, y0, x1, y1) that holds the face's oval, enlarged by `margin`, in every frame."""
        oval = self._own[OVAL]
        oval = oval.mean(0) + (oval - oval.mean(0)) * margin
        low, high = np.full(2, np.inf), np.full(2, -np.inf)
        for scale, rotation, shift in zip(self._scale, self._rotation, self._shift):
            points = (scale * oval @ rotation.T + shift)[:, :2]
            low, high = np.minimum(low, points.min(0)), np.maximum(high, points.max(0))
        return (*low.tolist(), *high.tolist())

    # ---------------------------------------------------------------- choice of the reference

    def _best_frame(self, track: MotionTrack, shapes: np.ndarray, pose: Pose) -> int:
        """The frame most like the portrait: its mouth and turn of the head, with eyes and brows at the driver's usual.

        Eyes are compared with the driver's own median: people's eyes differ more between faces than in expression,
        and a reference with raised brows would make the portrait frown whenever the driver is at rest.
        """
        opening = openness(shapes)
        mouth = np.abs(opening - openness(self._own))[:, :2].sum(-1)
        calm = np.abs(opening - np.median(opening, 0))[:, 2:].sum(-1)
        brows = shapes[:, _EYES_AND_BROWS]
        calm += 10 * np.abs(brows - np.median(brows, 0)).mean((1, 2))
        own = self._own_pose.rotation[0]
        angle = np.arccos(np.clip((np.einsum("tij,ij->t", pose.rotation, own) - 1) / 2, -1, 1))
        return int(np.argmin(np.where(track.found, 1.5 * (mouth + calm) + angle, np.inf)))

    def _neutral_frame(self, track: MotionTrack, shapes: np.ndarray, pose: Pose) -> int:
        opening = openness(shapes)
        score = opening[:, 0] + np.abs(opening[:, 1:] - np.median(opening[:, 1:], 0)).sum(1)
        return int(np.argmin(np.where(track.found, score, np.inf)))

    # ---------------------------------------------------------------- pose

    def _set_pose(
        self, pose: Pose, motion: str, strength: float, only: tuple[str, ...], fps: float, smooth: bool
    ) -> None:
        zero = self.reference_frame
        still = bool(only) and "head" not in only
        own_scale, own_rotation = self._own_pose.scale[0], self._own_pose.rotation[0]
        start = np.eye(3) if motion == "absolute" else pose.rotation[zero]
        turns = np.stack([cv2.Rodrigues(r @ start.T)[0][:, 0] for r in pose.rotation])
        zoom = np.log(pose.scale / pose.scale[zero])
        centre = pose.scale[:, None] * (pose.rotation @ MEAN_FACE[RIGID].mean(0)) + pose.shift
        shift = (centre - centre[zero]) / pose.scale[zero]  # face heights
        if smooth:
            turns, shift = one_euro(turns, fps, 1.5, 4.0), one_euro(shift, fps, 1.5, 4.0)
            zoom = one_euro(zoom, fps, 0.3, 0.6)
        if still:
            turns, zoom, shift = turns * 0, zoom * 0, shift * 0
        angle = np.linalg.norm(turns, axis=1, keepdims=True) * strength
        bent = soft_limit(angle, np.radians(MAX_TURN)) / np.maximum(angle, 1e-9) * strength
        base = np.eye(3) if motion == "absolute" and not still else own_rotation
        self._rotation = np.stack([cv2.Rodrigues(v)[0] @ base for v in (turns * bent).astype(np.float64)])
        self._scale = own_scale * np.exp(soft_limit(zoom * strength, np.log(MAX_ZOOM)))
        middle = MEAN_FACE[RIGID].mean(0)
        place = own_scale * (own_rotation @ middle) + self._own_pose.shift[0]
        place = place + own_scale * soft_limit(shift * strength, MAX_SHIFT)
        self._shift = place - self._scale[:, None] * (self._rotation @ middle)

    # ---------------------------------------------------------------- expression

    def _part_weights(self, only: tuple[str, ...]) -> np.ndarray:
        """How much of the driver's expression each landmark takes (478,), 0..1."""
        if not only or "face" in only:
            return np.ones(N_LANDMARKS)
        weight = np.zeros(N_LANDMARKS)
        if "eyes" in only:
            weight = np.maximum(weight, near(_EYES_AND_BROWS, 0.06))
        if "lips" in only:
            weight = np.maximum(weight, near(OUTER_LIPS, 0.12))
        return weight

    def _part_ratios(self) -> np.ndarray:
        """Size of the portrait's parts over the driver's, smoothly over the face (478,)."""
        width = lambda shape, a, b: np.linalg.norm(shape[a] - shape[b])
        ratio = np.ones(N_LANDMARKS)
        part = lambda *ends: np.clip(width(self._own, *ends) / width(self._reference, *ends), 0.6, 1.6)
        lips, right_eye, left_eye = part(61, 291), part(33, 133), part(362, 263)
        for points, size, reach in ((OUTER_LIPS, lips, 0.1), (RIGHT_EYE, right_eye, 0.05), (LEFT_EYE, left_eye, 0.05)):
            ratio += near(points, reach) * (size - 1)
        ratio[RIGHT_IRIS], ratio[LEFT_IRIS] = right_eye, left_eye
        return ratio

    def _expression(self, driver: np.ndarray) -> np.ndarray:
        """The portrait's canonical shape with the driver's expression, (478, 3)."""
        shape = self._own + (driver - self._reference) * self._ratio * self._strength
        corrections = np.zeros_like(shape)
        for upper, lower in _LIDS:
            self._close_lids(shape, corrections, driver, upper, lower)
        self._meet_lips(shape, corrections, driver)
        moved = np.flatnonzero(corrections.any(1))
        if len(moved):  # what lies around lids and lips comes along
            shape[:468] += _SPREAD[:, moved] @ corrections[moved]
        return shape

    def _close_lids(self, shape, corrections, driver, upper, lower) -> None:
        """Set the gap of the lids as a share of the portrait's own: shut when the driver's eye is shut."""
        eye_width = lambda face: np.linalg.norm(face[upper[0]] - face[upper[-1]])
        gap = lambda face: np.linalg.norm((face[upper] - face[lower])[:, :2], axis=1).mean() / eye_width(face)
        opening = (gap(driver) - _CLOSED_LIDS) / max(gap(self._reference) - _CLOSED_LIDS, 0.05)
        opening = 1 + (np.clip(opening, 0, 1.35) - 1) * self._strength[upper[3], 0]
        wanted = (self._own[upper] - self._own[lower]) * np.clip(opening, 0.03, 1.35)
        corrections[upper] += shape[lower] + wanted - shape[upper]

    def _meet_lips(self, shape, corrections, driver) -> None:
        """Lips never cross, and touch when the driver's touch."""
        upper, lower = _LIPS
        mouth = np.linalg.norm(driver[78] - driver[308])
        contact = np.clip((driver[lower] - driver[upper])[:, 1].mean() / (mouth * _CLOSED_LIPS), 0, 1)
        contact = 1 + (contact - 1) * min(1.0, self._strength[13, 0])
        gap = shape[lower] - shape[upper]
        wanted = gap * contact
        wanted[:, 1] = np.maximum(wanted[:, 1], 0)
        corrections[upper] -= (wanted - gap) / 2
        corrections[lower] += (wanted - gap) / 2


def _spread() -> np.ndarray:
    """(468, 478): share of a correction at one landmark that each face point takes, 1 on itself."""
    distance = np.linalg.norm(MEAN_FACE[:468, None] - MEAN_FACE[None], axis=-1)
    share = np.exp(-((distance / 0.02) ** 2) / 2)
    controls = np.concatenate([np.concatenate(pair) for pair in (*_LIDS, _LIPS)])
    share[controls] = 0  # a control point takes its own correction only
    share /= np.maximum(share[:, controls].sum(1, keepdims=True), 1)
    share[controls, controls] = 1
    return share


_EYES_AND_BROWS = np.unique(
    np.concatenate(
        [RIGHT_EYE, LEFT_EYE, EDGES["right_brow"].ravel(), EDGES["left_brow"].ravel(), RIGHT_IRIS, LEFT_IRIS]
    )
)
_SPREAD = _spread()
