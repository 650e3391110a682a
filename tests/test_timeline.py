"""Controls of the motion: time, parts, mirror, limits."""

from fractions import Fraction

import numpy as np
import pytest
from conftest import ASTRONAUT, CLIP, assert_refused, read_frames, run_animate, track

from portrait_anim.errors import UsageError
from portrait_anim.geometry.anatomy import _areas as areas
from portrait_anim.geometry.anatomy import shrink_folds, smooth_folds
from portrait_anim.geometry.mesh import MEAN_FACE, openness
from portrait_anim.geometry.pose import estimate_poses, euler_angles, from_euler
from portrait_anim.geometry.smoothing import Crossfade
from portrait_anim.landmarks.following import MotionTrack
from portrait_anim.media.reading import probe
from portrait_anim.motion.retarget import MotionOptions, Retargeter
from portrait_anim.motion.timeline import Timeline

PORTRAIT = MEAN_FACE * 120 + [128, 110, 0]


@pytest.fixture(scope="module")
def driver() -> MotionTrack:
    return track(CLIP)


def targets(driver: MotionTrack, every: int = 3, portrait: np.ndarray = PORTRAIT, **options) -> np.ndarray:
    made = Retargeter(driver, portrait, MotionOptions(**options))
    return np.stack([made[t] for t in range(0, len(made), every)])


def turns(landmarks: np.ndarray) -> np.ndarray:
    return np.degrees(euler_angles(estimate_poses(landmarks, MEAN_FACE).rotation))


class Ramp:
    """Targets that move by one each frame."""

    def __init__(self, length: int):
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, t: int) -> np.ndarray:
        assert 0 <= t < self._length
        return np.full((478, 3), float(t))


def shown(*arguments, **options) -> list[float]:
    line = Timeline(Ramp(11), 10, *arguments, **options)
    return [float(line[t][0, 0]) for t in range(len(line))]


def test_speed_and_pingpong():
    assert shown() == list(range(11))
    assert shown(speed=2) == [0, 2, 4, 6, 8, 10]
    assert np.allclose(shown(speed=0.5), np.arange(0, 10.1, 0.5))
    assert shown(pingpong=True) == [*range(11), *range(9, 0, -1)]
    assert shown(pingpong=True, loop=3) == [*range(11), *range(9, 0, -1)] * 3


def test_the_seam_of_a_loop_is_eased_over():
    once, twice = shown(), shown(loop=2)
    assert len(twice) == 22 and twice[:11] == once
    assert np.abs(np.diff(twice)).max() < 5 and twice[11] == pytest.approx(10)  # 10 without easing
    assert twice[16:] == once[5:]


def test_a_start_from_elsewhere_is_eased_and_then_forgotten():
    far = np.full((478, 3), 30.0)
    line = Timeline(Ramp(30), 10, start=far)
    values = [line[t][0, 0] for t in range(30)]
    assert values[0] == 30 and values[10:] == list(range(10, 30)) and np.abs(np.diff(values)).max() < 6


def test_jumps_one_after_another_stay_smooth():
    values = np.where(np.arange(40) % 10 < 5, 0.0, 20.0)
    eased = Crossfade([np.full((478, 3), v) for v in values], 10, range(5, 40, 5))
    assert np.abs(np.diff([eased[t][0, 0] for t in range(40)])).max() < 9


@pytest.mark.parametrize(
    "options", [{"speed": 0}, {"speed": float("nan")}, {"speed": 99}, {"loop": 0}, {"loop": 10**6}]
)
def test_impossible_times(options):
    with pytest.raises(UsageError, match="--speed|--loop"):
        Timeline(Ramp(3), 25, **options)


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


@pytest.mark.parametrize("strength", [1.0, 3.0])
def test_the_face_never_folds(driver, strength):
    made = Retargeter(driver, PORTRAIT, MotionOptions(strength=strength))
    before = areas(made._own)
    seen = before > 0.1 * before.mean()
    for t in range(0, len(made), 3):
        assert (areas(made.shape(t))[seen] > 0).all(), t


def test_offsets_that_would_fold_are_made_smaller():
    rng = np.random.default_rng(0)
    before = areas(MEAN_FACE)
    seen = before > 0.1 * before.mean()
    for size in (0.001, 0.004, 0.02):
        offsets = rng.normal(0, size, (478, 3))
        fitted = shrink_folds(MEAN_FACE, smooth_folds(MEAN_FACE, offsets))
        assert (areas(MEAN_FACE + fitted)[seen] > 0).all()
    small = np.tile([0.01, 0.02, 0.0], (478, 1))
    assert np.allclose(shrink_folds(MEAN_FACE, smooth_folds(MEAN_FACE, small)), small)


def test_a_smile_survives_a_nod_and_closed_lips_of_a_clip_close_it(driver):
    """Built-in motions only say what changes; a talking driver's closed lips are closed on any face."""
    from portrait_anim.motion.builtin import make_motion

    smiling = PORTRAIT.copy()
    smiling[[14, 87, 317, 88, 178, 402, 318]] += [0, 9, 0]  # the lower lip: teeth show
    nod = targets(make_motion("nod"), portrait=smiling)
    assert openness(nod)[:, 0].min() > 0.7 * openness(smiling)[0]
    closed = openness(driver.landmarks)[:, 0] < 0.005
    assert closed.any()
    assert openness(targets(driver, 1, portrait=smiling)[closed])[:, 0].mean() < 0.03


def test_time_options_of_the_command(tmp_path, short_clip):
    done = run_animate(
        ASTRONAUT, "-d", short_clip, "--speed", 0.5, "--pingpong", "--loop", 2, "--mirror", "--max-turn", 20,
        "--max-size", 256, "-o", "x.mp4", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(read_frames(tmp_path / "x.mp4")) == 2 * (23 + 21) and probe(tmp_path / "x.mp4").fps == Fraction(25)


def test_sound_that_no_longer_fits_is_left_out_with_a_warning(tmp_path):
    done = run_animate(
        ASTRONAUT, "-d", CLIP, "--end", 0.5, "--speed", 2, "--max-size", 256, "-o", "x.mp4", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "sound" in done.stderr and "--speed" in done.stderr
    assert not probe(tmp_path / "x.mp4").has_audio


@pytest.mark.parametrize("option", ["--speed", "--loop", "--max-turn", "--head-strength", "--eyes-strength"])
def test_impossible_controls(tmp_path, option):
    done = run_animate(ASTRONAUT, "-d", "nod", option, "-1", cwd=tmp_path)
    assert_refused(done, 2, option, folder=tmp_path)
