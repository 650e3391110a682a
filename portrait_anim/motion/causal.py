"""Transfer the driver's motion while it happens: frame by frame, with only the past known.

`Retargeter` looks for the frame that suits the portrait best and smooths in both directions of time. A camera gives
neither, so the reference is learned from the first second and then follows softly, and the filters are causal.
"""

from collections import deque

import numpy as np

from ..geometry.anatomy import lid_gaps, lip_gap
from ..geometry.expressions import at_rest
from ..geometry.mesh import MEAN_FACE, mirrored_landmarks, openness
from ..geometry.pose import Pose, canonical, estimate_poses, euler_angles
from ..geometry.smoothing import FADE_SECONDS, CausalOneEuro, smoothstep
from .blinks import WINK_SECONDS, alike_unless
from .options import MotionOptions
from .transfer import ExpressionTransfer, HeadTransfer, neck, oval_extent

LEARN_SECONDS = 1.0  # for so long the reference is the mean of what was seen
# After that it follows with these time constants, s. Who has moved on their chair sits there from now on; the turn and
# the expression count only as far as they are like the reference, so that looking aside or talking does not become it.
PLACE_SECONDS, TURN_SECONDS, SHAPE_SECONDS = 10.0, 30.0, 60.0
TURN_TOLERANCE, SHAPE_TOLERANCE = 0.12, 0.03  # radians, and face heights of mouth and lids
_MAX_STEP = 0.5  # s: after a longer pause the filters begin anew


class CausalRetargeter:
    """The target landmarks on one portrait for each frame of a camera, one after the other.

    portrait: its landmarks (478, 3), px of the frame in which the targets are wanted. options: motion "relative" only.
    Whatever would make the portrait jump, such as a new reference, is faded in within FADE_SECONDS.

    It has these attributes. target: the last one, (478, 3); the portrait's own landmarks before the first. options: how
    motion is transferred; `change` sets others.
    """

    def __init__(self, portrait: np.ndarray, options: MotionOptions = MotionOptions()):
        options.check()
        self.options = options
        self._own_pose = estimate_poses(portrait[None], MEAN_FACE)
        self._own = canonical(portrait[None], self._own_pose)[0].astype(np.float64)
        self._head = HeadTransfer(self._own_pose, options)
        self._filters = _Filters()
        self._reference: _Reference | None = None
        self._is_relaxed = False  # whether the driver is, while the reference is learned, because they were asked to
        self._pose = self._own_pose
        self._last: float | None = None  # the time of the last frame with a face, s
        self._offset = np.zeros_like(portrait, np.float64)  # what fades
        self._fade = 1.0  # how much of it has faded, in FADE_SECONDS
        self.target = portrait.astype(np.float64)

    def see(self, landmarks: np.ndarray, seconds: float) -> np.ndarray:
        """Return the target landmarks (478, 3) for a frame that shows the driver's face.

        landmarks: (478, 3) px of the camera's picture. seconds: when it was taken; frames that are not later than the
        one before change nothing.
        """
        step = LEARN_SECONDS if self._last is None else seconds - self._last
        if step <= 0:
            return self.target
        if step > _MAX_STEP:  # the face was away, or the computer was: what was before says nothing about speeds
            self._filters.reset()
            self._begin_fade()
        self._last = seconds
        if self.options.mirror:
            landmarks = mirrored_landmarks(landmarks, 0.0)
        pose = estimate_poses(landmarks[None], MEAN_FACE)
        shape = canonical(landmarks[None], pose)[0].astype(np.float64)
        if self._reference is None:
            self._reference = _Reference(pose, shape if self._is_relaxed else _rest(shape))
        elif self._reference.is_learning and not self._is_relaxed:
            self._reference.follow(pose, _rest(shape), min(step, _MAX_STEP))
        else:
            self._reference.follow(pose, shape, min(step, _MAX_STEP))
        made = self._transferred(pose, shape, min(step, _MAX_STEP))
        if np.isinf(self._fade):  # begun just now: the offset is what the jump would be
            self._offset, self._fade = self.target - made, 0.0
        else:
            self._fade = min(1.0, self._fade + min(step, _MAX_STEP) / FADE_SECONDS)
        self.target = made + (1 - smoothstep(self._fade)) * self._offset
        return self.target

    def calibrate(self) -> None:
        """Learn the reference anew: the next second shows the driver looking straight ahead, relaxed.

        Without having been called, the rest is estimated from whatever the driver does in the first second.
        """
        self._is_relaxed = True
        self._begin_anew()

    def meet(self) -> None:
        """Learn the reference anew from another driver, who has not been asked to be relaxed."""
        self._is_relaxed = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._reference = None
        self._filters.reset()
        self._begin_fade()

    def change(self, options: MotionOptions) -> None:
        """Go on with other options. Raises UsageError for impossible ones."""
        options.check()
        if options.mirror != self.options.mirror and self._reference is not None:
            self._reference.mirror()
        self.options, self._head = options, HeadTransfer(self._own_pose, options)
        self._filters.reset()
        self._begin_fade()

    def extent(self, margin: float, below: float) -> tuple[float, float, float, float]:
        """Return the box (x0, y0, x1, y1) px that holds the face's enlarged oval of the last target.

        margin, below: as of `Retargeter.extent`.
        """
        return oval_extent(self._own, self._pose, margin, below)

    def _begin_fade(self) -> None:
        self._fade = np.inf

    def _transferred(self, pose: Pose, shape: np.ndarray, step: float) -> np.ndarray:
        """Return the target landmarks for the driver's pose and canonical shape."""
        reference, smooth = self._reference, self._filters
        assert reference is not None
        turns = euler_angles(pose.rotation)[0] - reference.angles
        turns = (turns + np.pi) % (2 * np.pi) - np.pi
        shift = (neck(pose)[0] - reference.centre) / reference.scale
        zoom = np.log(pose.scale[0] / reference.scale)
        expression = ExpressionTransfer(self._own, reference.shape, self.options, changes_only=True)
        lids, lips = lid_gaps(shape) / expression.usual_lids, np.array(lip_gap(shape))
        if self.options.smooth:
            turns, shift, zoom = smooth.turns(turns, step), smooth.shift(shift, step), smooth.zoom(zoom, step)
            lids, lips, shape = smooth.lids(lids, step), smooth.lips(lips, step), smooth.shape(shape, step)
        self._pose = placed = self._head(turns[None], shift[None], np.atleast_1d(zoom))
        shares = expression.lid_shares(lids)[None]
        lids = alike_unless(shares, np.array([smooth.lasting(float(shares[0, 0] - shares[0, 1]), step)]))[0]
        made = expression(shape, float(expression.lip_gaps(lips)), lids)
        return placed.scale[0] * made @ placed.rotation[0].T + placed.shift[0]


class _Filters:
    """The causal filters. They let faster motion pass more than those of `Retargeter`, because delay is visible."""

    def __init__(self) -> None:
        self.turns, self.shift = CausalOneEuro(2.0, 12.0), CausalOneEuro(2.0, 12.0)
        self.zoom = CausalOneEuro(0.3, 0.6)
        self.shape = CausalOneEuro(3.0, 90.0)
        self.lids, self.lips = CausalOneEuro(3.0, 20.0), CausalOneEuro(3.0, 20.0)
        self._differences: deque[tuple[float, float]] = deque()  # of the lids, and when

    def lasting(self, difference: float, step: float) -> float:
        """Return the median difference of the lids over WINK_SECONDS. step: seconds since the one before."""
        now = self._differences[-1][1] + step if self._differences else 0.0
        self._differences.append((difference, now))
        while self._differences[0][1] < now - WINK_SECONDS:
            self._differences.popleft()
        return float(np.median([value for value, _ in self._differences]))

    def reset(self) -> None:
        self._differences.clear()
        for smooth in (self.turns, self.shift, self.zoom, self.shape, self.lids, self.lips):
            smooth.reset()


class _Reference:
    """The driver at rest: the mean of its first second, which then follows the driver softly.

    shape: canonical (478, 3). angles: `euler_angles` (3,). centre: (3,) px. scale: px per face height.
    """

    def __init__(self, pose: Pose, shape: np.ndarray):
        self.shape, self.angles = shape, euler_angles(pose.rotation)[0]
        self.centre, self.scale = neck(pose)[0], float(pose.scale[0])
        self._age = 1 / 30  # s that the first frame counts for

    @property
    def is_learning(self) -> bool:
        """Whether it is still the mean of what was seen."""
        return self._age < LEARN_SECONDS

    def follow(self, pose: Pose, shape: np.ndarray, step: float) -> None:
        """Move towards the driver as it is now. step: seconds since it was seen last."""
        self._age += step
        learning = self.is_learning
        share = lambda constant: step / (self._age if learning else constant)
        turn = (euler_angles(pose.rotation)[0] - self.angles + np.pi) % (2 * np.pi) - np.pi
        change = np.abs(openness(shape) - openness(self.shape)).max()
        alike = lambda distance, tolerance: 1.0 if learning else float(np.exp(-((distance / tolerance) ** 2)))
        straight = alike(np.linalg.norm(turn), TURN_TOLERANCE)
        self.angles = self.angles + share(TURN_SECONDS) * straight * turn
        calm = straight * alike(change, SHAPE_TOLERANCE)
        self.shape = self.shape + share(SHAPE_SECONDS) * calm * (shape - self.shape)
        self.centre = self.centre + share(PLACE_SECONDS) * (neck(pose)[0] - self.centre)
        self.scale *= (float(pose.scale[0]) / self.scale) ** share(PLACE_SECONDS)

    def mirror(self) -> None:
        """Become the reference of the driver's mirror image, in pictures that are mirrored about x = 0."""
        self.shape = mirrored_landmarks(self.shape, 0.0)
        self.angles, self.centre = self.angles * [-1, 1, -1], self.centre * [-1, 1, 1]


def _rest(shape: np.ndarray) -> np.ndarray:
    """Return a canonical shape (478, 3) without its expression, as far as one picture tells what that is."""
    rest = at_rest(shape)[None]
    return canonical(rest, estimate_poses(rest, MEAN_FACE))[0].astype(np.float64)
