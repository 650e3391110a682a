"""Transfer the driver's motion: from its landmarks in each frame to target landmarks on the portrait.

Every face is split into a pose (scale, rotation and translation of the rigid head) and a canonical shape, which looks
straight ahead. The changes of the driver's shape are scaled to the parts of the portrait's face and added to the
portrait's shape. Then lids and lips are set by ratios, so that they close when the driver's close. The changes of the
driver's pose are applied to the portrait's pose.
"""

import numpy as np

from ..errors import UsageError
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
from ..geometry.mesh import LEFT_EYE, MEAN_FACE, N_LANDMARKS, OUTER_LIPS, OVAL, RIGHT_EYE, RIGID, openness, proximity
from ..geometry.pose import Pose, canonical, estimate_poses, euler_angles, from_euler
from ..geometry.smoothing import one_euro, soft_limit, split_at_cuts
from ..landmarks.following import MotionTrack
from .blinks import alike
from .options import MotionOptions

# Limits for `soft_limit`.
MAX_SHIFT = 0.08  # face heights that the neck may leave its place, on a body that stays
MAX_ZOOM = 1.1  # factor by which the head may become larger or smaller
MAX_OFFSET = 0.16  # face heights that an expression may move a landmark
MAX_LIPS = 1.0  # gap of the lips over the mouth's width

# Where the head turns on the neck, in a canonical shape: behind and below the middle of the eyes. About this point the
# heads of people in clips move least; about the middle of the face, a nod and a turn would count as a walk.
NECK = MEAN_FACE[RIGID].mean(0) + (0, 0.6, 0.45)

ZOOM_NOISE = 0.008  # relative changes of the head's size that are smaller come from the tracker, and fade

# Lids are shut if their gap is below this share of their usual gap, or of the eye's width. A smaller gap is only the
# tracker's guess.
_SHUT_LIDS, _SHUT_GAP = 0.33, 0.085
_SHUTTING = 0.2  # lids whose gap is larger than that by so much of the usual gap are as open as the driver's
_MIN_LIDS, _MAX_LIDS = 0.03, 1.35  # of the portrait's own gap
_CLOSED_LIPS = 0.02  # gap over the mouth's width below which lips are touching
_LIP_GAIN = 2.0  # how much faster than the driver's a mouth that is open further may close


class Retargeter:
    """The target landmarks on one portrait for each frame of a driver's track.

    portrait: its landmarks (478, 3), px of the frame in which the targets are wanted. reference_frame: the frame of the
    driver that stands for the portrait as it is, None if the track has a face at rest.

    Raises UsageError for impossible options.
    """

    def __init__(self, track: MotionTrack, portrait: np.ndarray, options: MotionOptions = MotionOptions()):
        options.check()
        frame = options.reference_frame
        if frame is not None and frame >= len(track):
            raise UsageError(f"--reference-frame {frame} is not in the driver; choose 0 to {len(track) - 1}.")
        if options.mirror:
            track = track.mirrored()
        self._own_pose = estimate_poses(portrait[None], MEAN_FACE)
        self._own = canonical(portrait[None], self._own_pose)[0].astype(np.float64)

        pose = estimate_poses(track.landmarks, MEAN_FACE)
        shapes = canonical(track.landmarks, pose)
        if frame is None and track.rest is None:
            frame = (self._best_frame if options.motion == "relative" else self._neutral_frame)(track, shapes, pose)
        self.reference_frame = frame
        known_rest = track.rest if frame is None else track.landmarks[frame]
        assert known_rest is not None  # otherwise there is a frame
        rest = known_rest[None]
        rest_pose = estimate_poses(rest, MEAN_FACE)
        self._reference = canonical(rest, rest_pose)[0].astype(np.float64)
        self._absolute = options.motion == "absolute"
        self._set_pose(pose, rest_pose, track, options)
        fps = float(track.fps)
        self._shapes = one_euro(shapes, fps, 3.5, 60.0, track.cuts) if options.smooth else shapes
        self._own_lips = float(lip_gap(self._own))
        self._set_lids_and_lips(shapes, track, options.smooth)
        self._strength = self._part_strengths(options)[:, None]
        self._ratio = self._part_ratios()[:, None]

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, t: int) -> np.ndarray:
        """Return the target landmarks (478, 3) of frame t, px."""
        return self._scale[t] * self.shape(t) @ self._rotation[t].T + self._shift[t]

    def shape(self, t: int) -> np.ndarray:
        """Return the portrait's canonical shape (478, 3) with the driver's expression of frame t."""
        return self._expression(self._shapes[t].astype(np.float64), self._lips[t], self._lids[t])

    def extent(self, margin: float, below: float) -> tuple[float, float, float, float]:
        """Return the box (x0, y0, x1, y1) px that holds the face's enlarged oval in every frame.

        margin: by how much the oval is enlarged to the sides and upwards. below: the same, downwards.
        """
        middle, oval = self._own[OVAL].mean(0), self._own[OVAL] - self._own[OVAL].mean(0)
        oval = middle + oval * np.where(np.arange(3) == 1, np.where(oval[:, 1:2] > 0, below, margin), margin)
        low, high = np.full(2, np.inf), np.full(2, -np.inf)
        for scale, rotation, shift in zip(self._scale, self._rotation, self._shift):
            points = (scale * oval @ rotation.T + shift)[:, :2]
            low, high = np.minimum(low, points.min(0)), np.maximum(high, points.max(0))
        return (*low.tolist(), *high.tolist())

    # ---------------------------------------------------------------- choice of the reference

    def _best_frame(self, track: MotionTrack, shapes: np.ndarray, pose: Pose) -> int:
        """Return the frame that is most like the portrait in its mouth and the turn of its head.

        Its eyes and brows are compared with the driver's own median. People's eyes differ more between faces than in
        expression, and a reference with raised brows would make the portrait frown whenever the driver is at rest.
        """
        opening = openness(shapes)
        mouth = np.abs(opening - openness(self._own))[:, :2].sum(-1)
        calm = np.abs(opening - np.median(opening, 0))[:, 2:].sum(-1)
        brows = shapes[:, EYES_AND_BROWS]
        calm += 10 * np.abs(brows - np.median(brows, 0)).mean((1, 2))
        own = self._own_pose.rotation[0]
        angle = np.arccos(np.clip((np.einsum("tij,ij->t", pose.rotation, own) - 1) / 2, -1, 1))
        return int(np.argmin(np.where(track.found, 1.5 * (mouth + calm) + angle, np.inf)))

    def _neutral_frame(self, track: MotionTrack, shapes: np.ndarray, pose: Pose) -> int:
        """Return the frame with the mouth most closed and everything else most like the driver's median."""
        opening = openness(shapes)
        score = opening[:, 0] + np.abs(opening[:, 1:] - np.median(opening[:, 1:], 0)).sum(1)
        return int(np.argmin(np.where(track.found, score, np.inf)))

    # ---------------------------------------------------------------- pose

    def _set_pose(self, pose: Pose, rest: Pose, track: MotionTrack, options: MotionOptions) -> None:
        """Compute the portrait's pose in each frame from the driver's poses and its pose at rest."""
        own_scale, own_rotation = self._own_pose.scale[0], self._own_pose.rotation[0]
        start = 0.0 if self._absolute else euler_angles(rest.rotation)
        turns = np.unwrap(euler_angles(pose.rotation), axis=0) - start
        neck = lambda p: p.scale[:, None] * (p.rotation @ NECK) + p.shift
        zoom = np.log(pose.scale / rest.scale)
        shift = (neck(pose) - neck(rest)) / rest.scale  # face heights
        for a, b in split_at_cuts(len(turns), track.cuts):
            if self.reference_frame is not None and not a <= self.reference_frame < b:
                # Another shot has another camera, so its place and size of the head mean nothing for this one.
                zoom[a:b] -= np.median(zoom[a:b])
                shift[a:b] -= np.median(shift[a:b], 0)
        if options.smooth:
            fps = float(track.fps)
            turns, shift = (one_euro(x, fps, 2.5, 6.0, track.cuts) for x in (turns, shift))
            zoom = one_euro(zoom, fps, 0.3, 0.6, track.cuts)
        zoom = zoom**3 / (zoom**2 + ZOOM_NOISE**2)
        strength = options.strength * options.head_strength if options.moves_head else 0.0
        angle = np.linalg.norm(turns, axis=1, keepdims=True) * strength
        bent = soft_limit(angle, np.radians(options.max_turn)) / np.maximum(angle, 1e-9) * strength
        base = 0.0 if self._absolute and options.moves_head else euler_angles(own_rotation[None])
        self._rotation = from_euler(base + (turns * bent).astype(np.float64))
        self._scale = own_scale * np.exp(soft_limit(zoom * strength, np.log(MAX_ZOOM)))
        place = neck(self._own_pose) + own_scale * soft_limit(shift * strength, MAX_SHIFT)
        self._shift = place - self._scale[:, None] * (self._rotation @ NECK)

    # ---------------------------------------------------------------- expression

    def _part_strengths(self, options: MotionOptions) -> np.ndarray:
        """Return which share of the driver's expression each landmark takes, (478,)."""
        eyes, lips = proximity(EYES_AND_BROWS, 0.06), proximity(OUTER_LIPS, 0.12)
        taken = np.ones(N_LANDMARKS)
        if options.only and "face" not in options.only:
            taken = np.maximum(eyes * ("eyes" in options.only), lips * ("lips" in options.only))
        for part, strength in ((eyes, options.eyes_strength), (lips, options.lips_strength)):
            taken = taken * (1 + part * (strength - 1))
        return taken * options.strength

    def _part_ratios(self) -> np.ndarray:
        """Return the size of the portrait's parts over that of the driver's, smooth over the face: (478,)."""
        width = lambda shape, a, b: np.linalg.norm(shape[a] - shape[b])
        ratio = np.ones(N_LANDMARKS)
        part = lambda *ends: np.clip(width(self._own, *ends) / width(self._reference, *ends), 0.6, 1.6)
        lips, right_eye, left_eye = part(61, 291), part(33, 133), part(362, 263)
        for points, size, reach in ((OUTER_LIPS, lips, 0.1), (RIGHT_EYE, right_eye, 0.05), (LEFT_EYE, left_eye, 0.05)):
            ratio += proximity(points, reach) * (size - 1)
        return ratio

    def _set_lids_and_lips(self, shapes: np.ndarray, track: MotionTrack, smooth: bool) -> None:
        """Compute the gaps of the portrait's lids and lips in each frame from the driver's.

        The gaps of the lids, (T, 2), are shares of the portrait's own; those of the lips, (T,), are in widths of the
        mouth. The driver's gaps are measured before the shapes are smoothed, because a blink is over in three frames.
        """
        reference = np.maximum(lid_gaps(self._reference), 0.05)
        lids, lips = lid_gaps(shapes) / reference, lip_gap(shapes)
        if smooth:
            lids, lips = (one_euro(x, float(track.fps), 2.5, 12.0, track.cuts) for x in (lids, lips))
        shut = np.clip(_SHUT_GAP / reference, _SHUT_LIDS, 0.6)
        self._lids = np.where(lids < shut + _SHUTTING, (lids - shut) * (1 + shut / _SHUTTING), lids)
        self._lids = alike(np.clip(self._lids, _MIN_LIDS, _MAX_LIDS), float(track.fps), track.cuts)
        own, rest = lip_gap(self._own), lip_gap(self._reference)
        if track.rest is not None and not self._absolute:
            self._lips = np.maximum(own + lips - rest, 0)  # only the changes, so that a smile with open lips stays one
            return
        # The lips are closed when the driver's are, and have the portrait's own gap at the reference. A mouth that is
        # open further than the driver's closes faster; one that is less open opens faster until it is open as far.
        slope = np.clip(own / np.maximum(rest - _CLOSED_LIPS, 1e-6), 0, _LIP_GAIN)
        knee = np.maximum(rest, _CLOSED_LIPS + own / _LIP_GAIN)
        below = slope * (np.clip(lips, _CLOSED_LIPS, knee) - _CLOSED_LIPS)
        over = np.maximum(lips - knee, 0)
        self._lips = np.maximum(below + over, np.where(lips > knee, np.minimum(lips, own + _LIP_GAIN * over), 0))

    def _expression(self, driver: np.ndarray, lips: float, lids: np.ndarray) -> np.ndarray:
        """Return the portrait's canonical shape (478, 3) with the driver's expression.

        driver: canonical shape (478, 3). lips: gap over the mouth's width. lids: (2,) gaps as shares of the portrait's.
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
