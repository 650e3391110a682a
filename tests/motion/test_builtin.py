"""Built-in motions: smooth, loopable, and what their names say."""

from fractions import Fraction

import numpy as np
import pytest
from support import ASTRONAUT, assert_refused, run_animate

from portrait_anim.errors import InputError, UsageError
from portrait_anim.geometry.expressions import FEATURES, features
from portrait_anim.geometry.mesh import MEAN_FACE, face_height, openness
from portrait_anim.geometry.pose import canonical, estimate_poses, euler_angles
from portrait_anim.motion import builtin as motions
from portrait_anim.motion.drivers import load_driver
from portrait_anim.motion.source import kind_of


def amounts(landmarks: np.ndarray) -> dict[str, np.ndarray]:
    """What each feature does over time, from the first frame on."""
    shapes = canonical(landmarks, estimate_poses(landmarks, MEAN_FACE))
    values = features(shapes)
    return dict(zip(FEATURES, (values - values[0]).T))


def degrees(landmarks: np.ndarray) -> np.ndarray:
    turns = np.degrees(euler_angles(estimate_poses(landmarks, MEAN_FACE).rotation))
    return turns - turns[0]


@pytest.mark.parametrize("name", motions.NAMES)
def test_every_motion_moves_smoothly_and_comes_back(name):
    track = motions.make_motion(name)
    moved = np.linalg.norm((track.landmarks - track.rest)[..., :2], axis=-1) / face_height(track.rest)
    assert moved[0].max() < 0.01 and moved[-1].max() < 0.01  # can be looped
    assert moved.max() > 0.01
    step = np.linalg.norm(np.diff(track.landmarks, axis=0)[..., :2], axis=-1) / face_height(track.rest)
    assert step.max() < 0.06  # of the face's height in 1/25 s
    assert len(track) == len(motions.make_motion(name, Fraction(50))) // 2


def test_motions_do_what_they_say():
    made = {name: motions.make_motion(name).landmarks for name in motions.NAMES}
    assert np.ptp(degrees(made["nod"])[:, 1]) > 10 and np.ptp(degrees(made["shake"])[:, 0]) > 20
    blink = amounts(made["blink"])
    assert blink["lid_r"].min() < -0.03 and blink["lid_l"].min() < -0.03
    wink = amounts(made["wink"])
    assert wink["lid_l"].min() < -0.03 and wink["lid_r"].min() > -0.01
    smile = amounts(made["smile"])
    assert smile["wide"].max() > 0.03 and smile["corners"].max() > 0.015 and smile["open"].max() < 0.03
    assert amounts(made["surprise"])["brows"].max() > 0.02
    assert np.ptp(amounts(made["look-around"])["gaze_x"]) > 0.03
    yawn = canonical(made["yawn"], estimate_poses(made["yawn"], MEAN_FACE))
    assert np.ptp(openness(made["yawn"])[:, 0]) > 0.15 and np.ptp(yawn[:, 152, 1]) > 0.04  # the jaw goes down


def test_a_mistyped_motion_gets_a_suggestion_before_any_work(tmp_path):
    done = run_animate(ASTRONAUT, "-d", "smle", cwd=tmp_path)
    assert_refused(done, 3, "smle", "did you mean smile?", folder=tmp_path)
    assert "Reading" not in done.stderr
    with pytest.raises(InputError, match="--list-motions"):
        kind_of("qqqqq")
    shown = run_animate("--list-motions", cwd=tmp_path)
    assert shown.returncode == 0 and set(motions.NAMES) <= set(shown.stdout.split())


def test_part_of_a_motion_at_another_rate():
    part = load_driver("nod", start=0.5, end=1.5, fps=50).track
    assert len(part) == 50 and part.fps == 50
    assert np.allclose(part.landmarks[0], motions.make_motion("nod", Fraction(50)).landmarks[25])
    for options in ({"start": 99}, {"start": -1}, {"start": 2, "end": 1}, {"fps": 0}, {"end": float("nan")}):
        with pytest.raises((UsageError, InputError)):
            load_driver("nod", **options)
