"""The skin between lower lip and chin gives way as a whole."""

import numpy as np
import pytest
from support import ASTRONAUT, portrait_of

from portrait_anim.geometry.anatomy import JAW
from portrait_anim.geometry.chin import eased
from portrait_anim.geometry.mesh import MEAN_FACE, OUTER_LIPS, OVAL, HeadMesh

MIDDLE = [17, 18, 200, 199, 175, 152]


def pressed(landmarks: np.ndarray) -> np.ndarray:
    parts = lambda points: np.linalg.norm(np.diff(points[MIDDLE, :2], axis=0), axis=1)
    return parts(landmarks) / parts(MEAN_FACE)


def test_a_wide_mouth_presses_the_whole_chin_instead_of_the_fold_below_the_lip():
    wide = MEAN_FACE + 0.13 * JAW
    assert pressed(wide).min() < 0.3
    even = eased(MEAN_FACE, wide)
    assert pressed(even).min() > 0.6
    assert pressed(even).mean() == pytest.approx(pressed(wide).mean(), abs=0.06)
    kept = np.concatenate([OUTER_LIPS, OVAL])
    assert (even[kept] == wide[kept]).all()


def test_it_begins_softly_and_does_not_depend_on_the_size_of_the_head():
    steps = np.stack([eased(MEAN_FACE, MEAN_FACE + gap * JAW) for gap in np.arange(0, 0.14, 0.002)])
    assert np.abs(steps[0] - MEAN_FACE).max() < 1e-12
    assert np.linalg.norm(np.diff(steps, axis=0), axis=2).max() < 0.005
    larger = eased(3 * MEAN_FACE, 3 * (MEAN_FACE + 0.1 * JAW))
    assert larger == pytest.approx(3 * eased(MEAN_FACE, MEAN_FACE + 0.1 * JAW))


def test_a_face_that_stays_as_it_is_is_posed_where_it_is():
    landmarks = portrait_of(ASTRONAUT).views[0].landmarks
    assert HeadMesh(landmarks).posed(landmarks)[:468] == pytest.approx(landmarks[:468], abs=1e-9)
