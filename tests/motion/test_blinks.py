"""Blinks close both eyes alike; winks, and eyes that differ while open, stay."""

import numpy as np
import pytest

from portrait_anim.geometry.anatomy import lid_gaps
from portrait_anim.motion.blinks import alike
from portrait_anim.motion.builtin import NAMES, make_motion
from portrait_anim.motion.retarget import Retargeter


def lids_of(targets: Retargeter) -> np.ndarray:
    """The gaps of the lids in every frame, as shares of those of the portrait: (T, 2)."""
    return np.array([lid_gaps(targets.shape(t)) for t in range(len(targets))]) / lid_gaps(targets._own)


def test_the_blink_of_the_bundled_clip_shuts_both_eyes(driver, portrait):
    """Its driver's right lid was seen to fall late: .28 of its gap was left while the left one was shut."""
    lids = lids_of(Retargeter(driver, portrait.views[0].landmarks))
    blink = 40 + int(lids[40:60].mean(1).argmin())
    assert (lids[blink - 1 : blink + 2].min(0) < 0.1).all()
    assert np.abs(np.subtract(*lids[45:60].T)).max() < 0.25
    assert np.abs(lids[-5:] - lids[-5:].mean()).max() < 0.1 and lids[-1].min() > 0.9  # it ends with open eyes


@pytest.mark.parametrize("fps", [12, 25, 60])
def test_a_wink_stays_a_wink(portrait, fps):
    lids = lids_of(Retargeter(make_motion("wink", fps), portrait.views[0].landmarks))
    right, left = lids[int(0.65 * fps)]
    assert min(right, left) < 0.1 and max(right, left) > 0.7


def test_what_the_tracker_sees_of_one_eye_alone_for_a_frame_is_no_wink():
    lids = np.ones((50, 2))
    lids[20:23] = [[0.7, 0.3], [0.4, 0.03], [0.6, 0.5]]  # a blink, one eye late
    lids[:10, 1] = 0.85  # an eye that is smaller all the time
    made = alike(lids, 25)
    assert (made[20:23, 0] == made[20:23, 1]).all() and made[21].max() == 0.03
    assert np.allclose(made[:10], lids[:10]) and (made[30:] == 1).all()


def test_shots_are_judged_each_for_itself():
    lids = np.tile([[1.0, 1.0]], (40, 1))
    lids[20:, 0] = 0.05  # a new shot begins, of somebody who winks
    assert (alike(lids, 25, (20,)) == lids).all()


@pytest.mark.parametrize("name", NAMES)
def test_built_in_motions_end_at_rest(portrait, name):
    own = portrait.views[0].landmarks
    targets = Retargeter(make_motion(name), own)
    height = np.linalg.norm(own[10] - own[152])
    for t in (0, len(targets) - 1):
        assert np.linalg.norm(targets[t] - own, axis=1).max() < 0.006 * height
        assert np.allclose(targets._lids[t], 1, atol=0.01)
