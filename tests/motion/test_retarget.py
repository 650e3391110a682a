"""Motion transfer on made-up and real motion: parts, strength, mirror, limits."""

import tracemalloc
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from reference import PORTRAIT

from portrait_anim.animation.overlays import SelectedFrames
from portrait_anim.errors import UsageError
from portrait_anim.geometry.anatomy import _areas as areas
from portrait_anim.geometry.mesh import INNER_LIPS, MEAN_FACE, NECK, openness
from portrait_anim.geometry.pose import estimate_poses, euler_angles, from_euler
from portrait_anim.landmarks.following import MotionTrack
from portrait_anim.motion import retarget
from portrait_anim.motion.builtin import make_motion
from portrait_anim.motion.drivers import load_driver
from portrait_anim.motion.file import save_motion
from portrait_anim.motion.options import MotionOptions
from portrait_anim.motion.retarget import Retargeter
from portrait_anim.motion.transfer import MAX_SHIFT
from portrait_anim.system import sequences
from portrait_anim.system.sequences import ArrayFile


def as_track(landmarks: np.ndarray) -> MotionTrack:
    return MotionTrack(landmarks.astype(np.float32), (400, 300), Fraction(25), np.ones(len(landmarks), bool))


def yaws(landmarks: np.ndarray) -> np.ndarray:
    rotation = estimate_poses(landmarks, MEAN_FACE).rotation
    return np.degrees(np.arctan2(rotation[:, 0, 2], rotation[:, 2, 2]))


def targets(driver: MotionTrack, every: int = 3, portrait: np.ndarray = PORTRAIT, **options) -> np.ndarray:
    made = Retargeter(driver, portrait, MotionOptions(**options))
    return np.stack([made[t] for t in range(0, len(made), every)])


def turns(landmarks: np.ndarray) -> np.ndarray:
    return np.degrees(euler_angles(estimate_poses(landmarks, MEAN_FACE).rotation))


def test_at_the_reference_frame_the_portrait_is_itself(driver):
    targets = Retargeter(driver, PORTRAIT, MotionOptions(smooth=False))
    moved = np.linalg.norm((targets[targets.reference_frame] - PORTRAIT)[:, :2], axis=1)
    assert moved.max() < 0.5


def test_a_still_driver_gives_a_still_portrait(driver):
    still = as_track(np.repeat(driver.landmarks[:1], 20, 0))
    targets = Retargeter(still, PORTRAIT)
    frames = np.stack([targets[t] for t in range(len(targets))])
    assert np.abs(frames - frames[0]).max() < 0.01


def test_the_drivers_face_shape_does_not_leak(driver):
    """A driver with a face twice as wide moves the portrait no differently: its own shape stays its own."""
    wide = as_track((driver.landmarks - driver.landmarks.mean(1, keepdims=True)) * [1.25, 1, 1] + 150)
    at_rest = Retargeter(wide, PORTRAIT, MotionOptions(smooth=False))
    width = np.linalg.norm(at_rest[at_rest.reference_frame][234] - at_rest[at_rest.reference_frame][454])
    assert width == pytest.approx(np.linalg.norm(PORTRAIT[234] - PORTRAIT[454]), rel=0.01)


def test_turns_arrive_and_large_ones_are_bent(driver):
    targets = Retargeter(driver, PORTRAIT)
    made = yaws(np.stack([targets[t] for t in range(len(targets))]))
    assert np.corrcoef(made, yaws(driver.landmarks))[0, 1] > 0.98
    strong = Retargeter(driver, PORTRAIT, MotionOptions(strength=3.0))
    rotations = estimate_poses(np.stack([strong[t] for t in range(len(strong))]), MEAN_FACE).rotation
    angles = np.degrees(np.arccos(np.clip((np.trace(rotations, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert 25 < angles.max() < 40 + 2


def test_closed_eyes_close_on_any_face(driver):
    """The driver blinks; a portrait with much wider eyes must close them, too."""
    wide_eyed = PORTRAIT.copy()
    targets = Retargeter(driver, wide_eyed)
    made = np.stack([targets[t] for t in range(len(targets))])
    eyes, driven = openness(made)[:, 2], openness(driver.landmarks)[:, 2]
    blink = int(driven.argmin())
    assert driven[blink] < 0.6 * np.median(driven)
    assert eyes[blink] < 0.35 * np.median(eyes)


def test_closed_lips_touch_and_lips_never_cross(driver):
    targets = Retargeter(driver, PORTRAIT)
    mouth = openness(driver.landmarks)[:, 0]
    gaps = []
    for t in range(len(targets)):
        shape = targets[t]
        pose = estimate_poses(shape[None], MEAN_FACE)
        upright = (shape - pose.shift[0]) @ pose.rotation[0] / pose.scale[0]
        gaps.append((upright[INNER_LIPS[:10:-1]] - upright[INNER_LIPS[1:10]])[:, 1])
    gaps = np.array(gaps)
    assert gaps.min() > -0.004  # face heights
    assert np.abs(gaps[mouth < 0.005]).mean() < 0.01
    assert gaps[mouth.argmax()].max() > 0.05


def test_only_parts_move(driver):
    eyes = Retargeter(driver, PORTRAIT, MotionOptions(only=("eyes",)))
    made = np.stack([eyes[t] for t in range(0, len(eyes), 5)])
    assert np.ptp(openness(made)[:, 2]) > 0.02
    assert np.ptp(openness(made)[:, 0]) < 0.01
    assert np.ptp(yaws(made)) < 0.5


@pytest.mark.parametrize("options", [{}, {"motion": "absolute", "mirror": True}, {"smooth": False}])
def test_a_driver_in_a_file_gives_the_same_bits_whatever_the_blocks(driver, monkeypatch, options):
    driver = replace(driver, cuts=(30, 31, 150))
    whole = Retargeter(driver, PORTRAIT, MotionOptions(**options))
    monkeypatch.setattr(sequences, "BLOCK", 16)
    kept = replace(driver, landmarks=ArrayFile.of([driver.landmarks]))
    by_blocks = Retargeter(kept, PORTRAIT, MotionOptions(**options))
    assert by_blocks.reference_frame == whole.reference_frame
    assert all(np.array_equal(by_blocks[t], whole[t]) for t in range(len(driver)))


def test_memory_does_not_hold_the_landmarks_of_a_long_driver(driver, tmp_path, monkeypatch):
    """Saved, loaded, cut, mirrored and retargeted: none of it takes a tenth of the landmarks' 5.7 KB a frame more."""
    monkeypatch.setattr(retarget, "_MEDIAN_FRAMES", 300)
    monkeypatch.setattr(sequences, "BLOCK", 64)
    peaks = {}
    for times in (1, 5, 8):  # the first brings what is made once
        landmarks = ArrayFile.of([driver.landmarks] * times)
        found = np.ones(len(landmarks), bool)
        track = replace(driver, landmarks=landmarks, found=found)
        tracemalloc.start()
        save_motion(tmp_path / "m.npz", track)
        part = load_driver(tmp_path / "m.npz", start=0.04, fps=24).track
        made = Retargeter(part, PORTRAIT, MotionOptions(mirror=True))
        SelectedFrames([made[0]] * len(made))
        peaks[times] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(made) == round((len(track) - 1) * 24 / 25)
    assert (peaks[8] - peaks[5]) / (3 * len(driver)) < 570, peaks


@pytest.mark.parametrize(
    "options, words",
    [
        ({"motion": "x"}, "--motion"),
        ({"only": ("x",)}, "--only"),
        ({"strength": float("nan")}, "--strength"),
        ({"reference_frame": 10**6}, "--reference-frame"),
    ],
)
def test_impossible_options(driver, options, words):
    with pytest.raises(UsageError, match=words):
        Retargeter(driver, PORTRAIT, MotionOptions(**options))


def test_a_mirror_turns_left_into_right(driver):
    plain, mirrored = turns(targets(driver)), turns(targets(driver, mirror=True))
    centred = lambda x: x - x.mean(0)
    plain, mirrored = centred(plain), centred(mirrored)
    for axis, sign in ((0, -1), (1, 1), (2, -1)):
        assert np.corrcoef(plain[:, axis], mirrored[:, axis])[0, 1] * sign > 0.98
    back = driver.mirrored().mirrored()
    assert np.abs(back.landmarks - driver.landmarks).max() < 1e-3


def test_strength_of_parts(driver):
    plain = targets(driver)
    still_head = targets(driver, head_strength=0)
    assert np.ptp(turns(still_head), axis=0).max() < 0.2 < np.ptp(turns(plain), axis=0).max()
    quiet = targets(driver, lips_strength=0)
    mouth = lambda x: np.ptp(openness(x)[:, 0])
    assert mouth(quiet) < 0.15 * mouth(plain)
    lids = lambda x: openness(x)[:, 2].min()
    open_eyes = targets(driver, eyes_strength=0, every=1)
    assert lids(open_eyes) > 2 * lids(targets(driver, every=1))


@pytest.mark.parametrize("limit", [10.0, 25.0])
def test_turns_stay_below_the_limit(driver, limit):
    made = turns(targets(driver, strength=3.0, max_turn=limit))
    angle = np.linalg.norm(made - turns(PORTRAIT[None]), axis=1)
    assert 0.6 * limit < angle.max() < limit + 1


def test_turned_portraits_turn_by_the_same_angles(driver):
    """A head that looks aside nods about its own axis, and yaws about the vertical."""
    aside = MEAN_FACE @ from_euler(np.array([[0.5, 0.1, 0.1]]))[0].T * 120 + [128, 110, 0]
    made = turns(targets(driver, portrait=aside))
    wanted = turns(driver.landmarks[::3])
    for axis in range(3):
        assert np.corrcoef(made[:, axis], wanted[:, axis])[0, 1] > 0.95


def neck(landmarks: np.ndarray) -> np.ndarray:
    """The place of the neck (T, 2), px, of landmarks (T, 478, 3)."""
    pose = estimate_poses(landmarks, MEAN_FACE)
    return (pose.scale[:, None] * (pose.rotation @ NECK) + pose.shift)[:, :2]


def test_a_head_that_turns_and_nods_stays_on_its_neck(driver):
    made = targets(driver, smooth=False)
    height = np.ptp(PORTRAIT[:468, 1])
    assert np.ptp(made[:, 4, 0]) > 0.2 * height  # the nose moves
    assert np.abs(neck(made) - neck(PORTRAIT[None])).max() < (MAX_SHIFT + 0.02) * height


@pytest.mark.parametrize("way", [(0.6, 0), (-0.6, 0), (0, 0.6)])
def test_a_driver_who_leans_or_walks_does_not_carry_the_head_off_its_body(way):
    landmarks = np.repeat(PORTRAIT[None], 40, 0)
    height = np.ptp(PORTRAIT[:468, 1])
    landmarks[:, :, :2] += np.linspace(0, 1, 40)[:, None, None] * np.array(way) * height
    made = neck(targets(as_track(landmarks), every=1, reference_frame=0))
    gone = np.abs(made - made[0]).max()
    assert 0.5 * MAX_SHIFT * height < gone <= 1.1 * MAX_SHIFT * height
    assert (np.diff((made - made[0]) @ np.sign(way)) > -1e-3).all()  # it comes to its limit and does not turn back


@pytest.mark.parametrize("strength", [1.0, 3.0])
def test_the_face_never_folds(driver, strength):
    made = Retargeter(driver, PORTRAIT, MotionOptions(strength=strength))
    before = areas(made._own)
    seen = before > 0.1 * before.mean()
    for t in range(0, len(made), 3):
        assert (areas(made.shape(t))[seen] > 0).all(), t


def test_a_smile_survives_a_nod_and_closed_lips_of_a_clip_close_it(driver):
    """Built-in motions only say what changes; a talking driver's closed lips are closed on any face."""
    smiling = PORTRAIT.copy()
    smiling[[14, 87, 317, 88, 178, 402, 318]] += [0, 9, 0]  # the lower lip: teeth show
    nod = targets(make_motion("nod"), portrait=smiling)
    assert openness(nod)[:, 0].min() > 0.7 * openness(smiling)[0]
    closed = openness(driver.landmarks)[:, 0] < 0.005
    assert closed.any()
    assert openness(targets(driver, 1, portrait=smiling)[closed])[:, 0].mean() < 0.03
