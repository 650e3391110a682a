"""Motion transfer frame by frame: like the one that knows the whole track, without jumps, without growing."""

import pickle

import numpy as np
import pytest
from reference import PORTRAIT

from portrait_anim.errors import UsageError
from portrait_anim.geometry.mesh import MEAN_FACE, face_height, openness
from portrait_anim.geometry.pose import estimate_poses, euler_angles, from_euler
from portrait_anim.motion.causal import CausalRetargeter
from portrait_anim.motion.options import MotionOptions
from portrait_anim.motion.retarget import Retargeter

FPS = 25
STEP = 0.03 * face_height(PORTRAIT)  # px that the landmarks may move on the mean from one frame to the next


def turns(landmarks: np.ndarray) -> np.ndarray:
    return np.degrees(euler_angles(estimate_poses(np.atleast_3d(landmarks).reshape(-1, 478, 3), MEAN_FACE).rotation))


def moved(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm((a - b)[:, :2], axis=1).mean())


def face(yaw: float = 0.0, x: float = 200.0) -> np.ndarray:
    """A driver's face at rest, turned by degrees, at a place in its picture."""
    return MEAN_FACE @ from_euler(np.radians([[yaw, 0, 0]]))[0].T * 150 + [x, 150, 0]


def hold(motion: CausalRetargeter, landmarks: np.ndarray, begin: float, seconds: float) -> np.ndarray:
    """The target after the driver has been so for some seconds."""
    for t in range(round(seconds * FPS)):
        motion.see(landmarks, begin + t / FPS)
    return motion.target


@pytest.fixture(scope="module")
def made(driver) -> np.ndarray:
    motion = CausalRetargeter(PORTRAIT)
    return np.stack([motion.see(landmarks, t / FPS) for t, landmarks in enumerate(driver.landmarks)])


def test_it_moves_like_the_one_that_knows_the_future(made, driver):
    known = Retargeter(driver, PORTRAIT, MotionOptions(reference_frame=0))
    known = np.stack([known[t] for t in range(len(known))])
    for measure in (lambda x: turns(x)[:, 0], lambda x: openness(x)[:, 0], lambda x: openness(x)[:, 2]):
        late = [np.corrcoef(measure(made)[k:], measure(known)[: len(known) - k])[0, 1] for k in range(3)]
        assert late[0] > 0.98 and late[0] == max(late), late  # the delay is below a frame


def test_smoothing_takes_the_jitter(made, driver):
    rough = CausalRetargeter(PORTRAIT, MotionOptions(smooth=False))
    rough = np.stack([rough.see(landmarks, t / FPS) for t, landmarks in enumerate(driver.landmarks[:100])])
    jitter = lambda x: np.abs(np.diff(x, 2, axis=0)).mean()
    assert jitter(made[:100]) < 0.75 * jitter(rough)


def test_at_rest_the_portrait_is_itself():
    motion = CausalRetargeter(PORTRAIT)
    assert moved(motion.target, PORTRAIT) == 0
    assert moved(hold(motion, face(), 0, 2), PORTRAIT) < 1.5  # px; the rest is estimated
    motion.calibrate()
    assert moved(hold(motion, face(), 2, 2), PORTRAIT) < 0.1  # and now it is known


def test_who_begins_with_an_open_mouth_can_open_and_close_the_portraits(driver):
    mouth = openness(driver.landmarks)[:, 0]
    wide, closed = int(mouth.argmax()), int(mouth.argmin())
    motion = CausalRetargeter(PORTRAIT)
    opened = openness(hold(motion, driver.landmarks[wide], 0, 3))[0]
    shut = openness(hold(motion, driver.landmarks[closed], 3, 1))[0]
    assert opened > openness(PORTRAIT)[0] + 0.05 and shut < openness(PORTRAIT)[0] + 0.02
    motion.meet()  # somebody else
    assert openness(hold(motion, driver.landmarks[wide], 4, 3))[0] > openness(PORTRAIT)[0] + 0.05
    motion.calibrate()  # but who calibrates with an open mouth means it
    assert openness(hold(motion, driver.landmarks[wide], 7, 3))[0] == pytest.approx(openness(PORTRAIT)[0], abs=0.01)


def test_a_lost_face_holds_and_returns_without_a_jump(driver):
    motion = CausalRetargeter(PORTRAIT)
    away = 100 + int(turns(driver.landmarks[100:])[:, 0].argmax())
    for t in range(50):
        before = motion.see(driver.landmarks[t], t / FPS)
    back = [motion.see(driver.landmarks[away], 10 + t / FPS) for t in range(25)]
    assert moved(back[0], before) < 0.01
    assert max(moved(a, b) for a, b in zip(back, back[1:])) < STEP
    direct = CausalRetargeter(PORTRAIT)
    for t in range(50):
        direct.see(driver.landmarks[t], t / FPS)
    assert moved(back[-1], before) > 2 and abs(turns(back[-1])[0, 0] - turns(before)[0, 0]) > 3


def test_calibrating_makes_what_is_seen_the_rest_without_a_jump():
    motion = CausalRetargeter(PORTRAIT)
    hold(motion, face(), 0, 2)
    aside = hold(motion, face(15), 2, 1)
    assert turns(aside)[0, 0] - turns(PORTRAIT)[0, 0] > 10
    motion.calibrate()
    after = [motion.see(face(15), 3 + t / FPS) for t in range(25)]
    assert moved(after[0], aside) < 0.01 and max(moved(a, b) for a, b in zip(after, after[1:])) < STEP
    assert moved(after[-1], PORTRAIT) < 0.2


def test_options_change_without_a_jump():
    motion = CausalRetargeter(PORTRAIT)
    hold(motion, face(), 0, 2)
    turned = hold(motion, face(15), 2, 1)
    motion.change(MotionOptions(mirror=True))
    after = [motion.see(face(15), 3 + t / FPS) for t in range(25)]
    assert moved(after[0], turned) < 0.01 and max(moved(a, b) for a, b in zip(after, after[1:])) < 2 * STEP
    yaw = lambda target: turns(target)[0, 0] - turns(PORTRAIT)[0, 0]
    assert yaw(turned) > 10 and yaw(after[-1]) == pytest.approx(-yaw(turned), abs=1)
    motion.change(MotionOptions(only=("lips",)))
    assert abs(yaw(hold(motion, face(15), 4, 1))) < 0.1
    with pytest.raises(UsageError, match="--strength"):
        motion.change(MotionOptions(strength=9))
    assert motion.options == MotionOptions(only=("lips",))


def test_the_reference_follows_who_sits_elsewhere_but_not_who_looks_aside():
    motion = CausalRetargeter(PORTRAIT)
    hold(motion, face(), 0, 2)
    at_once = hold(motion, face(x=230), 2, 0.5)
    later = hold(motion, face(x=230), 2.5, 30)
    assert moved(at_once, PORTRAIT) > 8 and moved(later, PORTRAIT) < 0.2 * moved(at_once, PORTRAIT)
    aside = hold(motion, face(20, 230), 32.5, 1)
    still_aside = hold(motion, face(20, 230), 33.5, 20)
    assert abs(turns(aside)[0, 0] - turns(still_aside)[0, 0]) < 1.5


def test_frames_that_are_not_later_change_nothing():
    motion = CausalRetargeter(PORTRAIT)
    before = hold(motion, face(), 0, 1)
    assert motion.see(face(20), 0.5) is before and motion.see(face(20), (FPS - 1) / FPS) is before


def test_it_does_not_grow():
    motion = CausalRetargeter(PORTRAIT)
    hold(motion, face(), 0, 2)
    size = len(pickle.dumps(motion))
    for t in range(200):
        motion.see(face(t % 10), 10 + 18 * t)  # an hour
    assert len(pickle.dumps(motion)) <= size
