"""Motion transfer: the driver's landmarks over time -> target landmarks on the portrait.

Every face is split into pose (scale, rotation, translation of a rigid head) and shape in a canonical frame, where
heads look straight ahead. What the driver's shape changes there is added to the portrait's own shape, scaled to the
portrait's own parts; lids and lips are then set by ratios, so that they close when the driver's close. What the
driver's pose changes is applied to the portrait's own pose.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import UsageError, unknown
from ..geometry.anatomy import (
    CONTROLS,
    EYES,
    EYES_AND_BROWS,
    JAW,
    LIDS,
    LIPS,
    SPREAD,
    fit,
    gaze_of,
    lid_gaps,
    lip_gap,
    mouth_width,
    unfold,
)  # fmt: skip
from ..geometry.mesh import LEFT_EYE, MEAN_FACE, N_LANDMARKS, OUTER_LIPS, OVAL, RIGHT_EYE, RIGID, near, openness
from ..geometry.pose import Pose, canonical, estimate_poses, euler_angles, from_euler
from ..geometry.smoothing import one_euro, shots, soft_limit
from ..landmarks.following import MotionTrack

MOTIONS = ("relative", "absolute")
PARTS = ("head", "face", "eyes", "lips")

MAX_SHIFT = 0.35  # face heights; how far the head may leave its place on a body that stays, see soft_limit
MAX_ZOOM = 1.1  # factor; the same way
ZOOM_NOISE = 0.008  # relative: smaller changes of the head's size are the tracker's, and fade
MAX_OFFSET = 0.16  # face heights an expression moves a landmark; the same way
MAX_LIPS = 1.0  # gap over the mouth's width; the same way

# Lids whose gap is below this share of the usual, or of the eye's width, are shut: the rest is the tracker's guess.
_SHUT_LIDS, _SHUT_GAP = 0.33, 0.085
_SHUTTING = 0.2  # so much more of the usual gap, and lids are open as far as the driver's
_MIN_LIDS, _MAX_LIDS = 0.03, 1.35  # of the portrait's own gap
_CLOSED_LIPS = 0.02  # gap over the mouth's width below which lips are touching
_LIP_GAIN = 2.0  # how much faster than the driver's a mouth that is open further may close


@dataclass(frozen=True)
class MotionOptions:
    """How the driver's motion is taken over; names and defaults are those of `Animator.animate`.

    motion: "relative" (changes from the reference frame, the one most like the portrait unless given) or "absolute"
    (the driver's own turn of the head, expression from its most neutral frame). strength scales all motion; head,
    eyes (with lids and brows) and lips (with the jaw) have factors of their own. only: any of PARTS, empty for all.
    mirror: the portrait moves as the driver's mirror image. max_turn: degrees, see `soft_limit`.
    """

    motion: str = "relative"
    strength: float = 1.0
    head_strength: float = 1.0
    eyes_strength: float = 1.0
    lips_strength: float = 1.0
    only: tuple[str, ...] = ()
    mirror: bool = False
    max_turn: float = 40.0
    smooth: bool = True
    reference_frame: int | None = None

    def check(self) -> None:
        """Raises UsageError for values that are not known or out of range."""
        if self.motion not in MOTIONS:
            raise unknown("--motion", self.motion, MOTIONS)
        if odd := [part for part in self.only if part not in PARTS]:
            raise unknown("--only", odd[0], PARTS)
        for name in ("strength", "head_strength", "eyes_strength", "lips_strength"):
            if not 0 <= (value := getattr(self, name)) <= 3:
                option = "--" + name.replace("_", "-")
                raise UsageError(
                    f"{option} {value:g} is out of range; choose 0 (no motion) to 3, 1 is the driver's own."
                )
        if not 1 <= self.max_turn <= 90:
            raise UsageError(f"--max-turn {self.max_turn:g} is out of range; choose 1 to 90 degrees.")
        if self.reference_frame is not None and self.reference_frame < 0:
            raise UsageError(f"--reference-frame {self.reference_frame} is impossible; frames are counted from 0.")

    @property
    def moves_head(self) -> bool:
        return not self.only or "head" in self.only


class Retargeter:
    """Target landmarks for every frame of a track, on one portrait.

    portrait: landmarks (478, 3) px, of whichever frame the targets are wanted in. Raises UsageError for impossible
    options. reference_frame: the driver's frame that stands for the portrait as it is, None when the track brings
    its own face at rest.
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
        rest = (track.rest if frame is None else track.landmarks[frame])[None]
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
        """Target landmarks (478, 3) of frame t."""
        return self._scale[t] * self.shape(t) @ self._rotation[t].T + self._shift[t]

    def shape(self, t: int) -> np.ndarray:
        """The portrait's canonical shape (478, 3) with the driver's expression of frame t."""
        return self._expression(self._shapes[t].astype(np.float64), self._lips[t], self._lids[t])

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
        brows = shapes[:, EYES_AND_BROWS]
        calm += 10 * np.abs(brows - np.median(brows, 0)).mean((1, 2))
        own = self._own_pose.rotation[0]
        angle = np.arccos(np.clip((np.einsum("tij,ij->t", pose.rotation, own) - 1) / 2, -1, 1))
        return int(np.argmin(np.where(track.found, 1.5 * (mouth + calm) + angle, np.inf)))

    def _neutral_frame(self, track: MotionTrack, shapes: np.ndarray, pose: Pose) -> int:
        opening = openness(shapes)
        score = opening[:, 0] + np.abs(opening[:, 1:] - np.median(opening[:, 1:], 0)).sum(1)
        return int(np.argmin(np.where(track.found, score, np.inf)))

    # ---------------------------------------------------------------- pose

    def _set_pose(self, pose: Pose, rest: Pose, track: MotionTrack, options: MotionOptions) -> None:
        own_scale, own_rotation = self._own_pose.scale[0], self._own_pose.rotation[0]
        start = 0.0 if self._absolute else euler_angles(rest.rotation)
        turns = np.unwrap(euler_angles(pose.rotation), axis=0) - start
        middle = MEAN_FACE[RIGID].mean(0)
        centre = lambda p: p.scale[:, None] * (p.rotation @ middle) + p.shift
        zoom = np.log(pose.scale / rest.scale)
        shift = (centre(pose) - centre(rest)) / rest.scale  # face heights
        for a, b in shots(len(turns), track.cuts):
            if self.reference_frame is not None and not a <= self.reference_frame < b:
                # Another shot has another camera: where and how large it shows the head says nothing.
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
        place = own_scale * (own_rotation @ middle) + self._own_pose.shift[0]
        place = place + own_scale * soft_limit(shift * strength, MAX_SHIFT)
        self._shift = place - self._scale[:, None] * (self._rotation @ middle)

    # ---------------------------------------------------------------- expression

    def _part_strengths(self, options: MotionOptions) -> np.ndarray:
        """How much of the driver's expression each landmark takes, (478,)."""
        eyes, lips = near(EYES_AND_BROWS, 0.06), near(OUTER_LIPS, 0.12)
        taken = np.ones(N_LANDMARKS)
        if options.only and "face" not in options.only:
            taken = np.maximum(eyes * ("eyes" in options.only), lips * ("lips" in options.only))
        for part, strength in ((eyes, options.eyes_strength), (lips, options.lips_strength)):
            taken = taken * (1 + part * (strength - 1))
        return taken * options.strength

    def _part_ratios(self) -> np.ndarray:
        """Size of the portrait's parts over the driver's, smoothly over the face (478,)."""
        width = lambda shape, a, b: np.linalg.norm(shape[a] - shape[b])
        ratio = np.ones(N_LANDMARKS)
        part = lambda *ends: np.clip(width(self._own, *ends) / width(self._reference, *ends), 0.6, 1.6)
        lips, right_eye, left_eye = part(61, 291), part(33, 133), part(362, 263)
        for points, size, reach in ((OUTER_LIPS, lips, 0.1), (RIGHT_EYE, right_eye, 0.05), (LEFT_EYE, left_eye, 0.05)):
            ratio += near(points, reach) * (size - 1)
        return ratio

    def _set_lids_and_lips(self, shapes: np.ndarray, track: MotionTrack, smooth: bool) -> None:
        """The driver's lids (T, 2) and lips (T,) as gaps of the portrait's: lids as a share of its own, lips over the
        mouth's width. They are taken before the shapes are smoothed: a blink is over in three frames."""
        reference = np.maximum(lid_gaps(self._reference), 0.05)
        lids, lips = lid_gaps(shapes) / reference, lip_gap(shapes)
        if smooth:
            lids, lips = (one_euro(x, float(track.fps), 2.5, 12.0, track.cuts) for x in (lids, lips))
        shut = np.clip(_SHUT_GAP / reference, _SHUT_LIDS, 0.6)
        self._lids = np.where(lids < shut + _SHUTTING, (lids - shut) * (1 + shut / _SHUTTING), lids)
        self._lids = np.clip(self._lids, _MIN_LIDS, _MAX_LIDS)
        own, rest = lip_gap(self._own), lip_gap(self._reference)
        if track.rest is not None and not self._absolute:
            self._lips = np.maximum(own + lips - rest, 0)  # only what changes: a smile stays one
            return
        # Closed when the driver's are, the portrait's own at the reference; from there a mouth that is open further
        # closes faster than the driver's, and one that is open less opens faster until it is open as far.
        slope = np.clip(own / np.maximum(rest - _CLOSED_LIPS, 1e-6), 0, _LIP_GAIN)
        knee = np.maximum(rest, _CLOSED_LIPS + own / _LIP_GAIN)
        below = slope * (np.clip(lips, _CLOSED_LIPS, knee) - _CLOSED_LIPS)
        over = np.maximum(lips - knee, 0)
        self._lips = np.maximum(below + over, np.where(lips > knee, np.minimum(lips, own + _LIP_GAIN * over), 0))

    def _expression(self, driver: np.ndarray, lips: float, lids: np.ndarray) -> np.ndarray:
        """The portrait's canonical shape with the driver's expression, (478, 3)."""
        offsets = (driver - self._reference) * self._ratio * self._strength
        size = np.linalg.norm(offsets, axis=1, keepdims=True)
        offsets *= soft_limit(size, MAX_OFFSET) / np.maximum(size, 1e-9)
        shape = self._own + fit(self._own, unfold(self._own, offsets))
        lips = self._own_lips + (lips - self._own_lips) * self._strength[13, 0]
        lips = float(soft_limit(max(lips, 0), MAX_LIPS))
        shape += (lips - lip_gap(shape)) * mouth_width(shape) * JAW * (self._strength > 0)
        corrections = np.zeros_like(shape)
        for (upper, lower), opening in zip(LIDS, lids):
            opening = 1 + (opening - 1) * self._strength[upper[3], 0]
            wanted = (self._own[upper] - self._own[lower]) * np.clip(opening, _MIN_LIDS, _MAX_LIDS)
            corrections[upper] += shape[lower] + wanted - shape[upper]
        upper, lower = LIPS  # they never cross, and touch where the whole mouth is closed
        gap = shape[lower] - shape[upper]
        wanted = gap * np.clip(lips / max(min(self._own_lips, _CLOSED_LIPS), 1e-6), 0, 1)
        wanted[:, 1] = np.maximum(wanted[:, 1], 0)
        corrections[upper] -= (wanted - gap) / 2
        corrections[lower] += (wanted - gap) / 2
        moved = np.flatnonzero(corrections.any(1))
        if len(moved):  # what lies around lids and lips comes along
            shape[:468] += SPREAD[:, moved] @ corrections[moved]
        shape = self._own + fit(self._own, unfold(self._own, shape - self._own, held=CONTROLS), least=0.02)
        self._look(shape, driver)
        return shape

    def _look(self, shape: np.ndarray, driver: np.ndarray) -> None:
        """Turn both eyes as the driver's turn: irises keep their form and move by shares of the eye's width."""
        turn = np.mean([gaze_of(driver, *eye) - gaze_of(self._reference, *eye) for eye in EYES], 0)
        for corners, iris in EYES:
            width = np.linalg.norm(self._own[corners[0]] - self._own[corners[1]])
            moved = shape[corners].mean(0) - self._own[corners].mean(0)
            shape[iris] = self._own[iris] + moved + turn * width * self._strength[iris[0], 0]
