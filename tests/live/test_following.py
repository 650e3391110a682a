"""One person is followed: nobody else takes over, and whoever was lost is found again."""

import numpy as np
import pytest

from portrait_anim.geometry.mesh import MEAN_FACE
from portrait_anim.landmarks.tracking import Face
from portrait_anim.live.following import RELEASE_SECONDS, FaceFollower


def face(x: float, size: float = 100.0) -> Face:
    return Face(MEAN_FACE * size + [x, 200, 0])


def sees(follower: FaceFollower, seconds: float, *found: Face) -> float | None:
    """Where the face is that is followed, px."""
    here = follower.choose(sorted(found, key=lambda f: -f.size), seconds)
    return None if here is None else round(float(here.centre[0]))


@pytest.fixture
def follower():
    made = FaceFollower()
    yield made
    made.close()


def test_the_largest_face_is_followed_and_stays_though_another_is_larger(follower):
    assert sees(follower, 0.0) is None
    assert sees(follower, 0.1, face(100), face(400, 80)) == 100 and follower.is_new
    for k in range(1, 20):  # the other comes nearer and passes
        assert sees(follower, 0.1 + k / 10, face(100 + k), face(400 - 5 * k, 80 + 5 * k)) == 100 + k
        assert not follower.is_new and follower.n_faces == 2


def test_a_second_person_does_not_take_the_place_of_one_who_looks_away(follower):
    sees(follower, 0.0, face(100), face(250, 90))
    for k in range(1, 29):
        assert sees(follower, k / 10, face(250, 90)) is None
    assert sees(follower, 2.9, face(105), face(250, 90)) == 105 and not follower.is_new


def test_after_a_while_whoever_is_there_may_follow_and_is_new(follower):
    sees(follower, 0.0, face(100), face(250, 90))
    assert sees(follower, RELEASE_SECONDS - 0.1, face(250, 90)) is None
    assert sees(follower, RELEASE_SECONDS + 0.1, face(250, 90)) == 250 and follower.is_new


def test_who_was_alone_is_found_elsewhere_soon(follower):
    sees(follower, 0.0, face(100))
    assert sees(follower, 0.3, face(300)) is None
    assert sees(follower, 0.7, face(300)) == 300 and not follower.is_new


def test_calibrating_takes_whoever_is_the_largest(follower):
    sees(follower, 0.0, face(100), face(300, 90))
    follower.release()
    assert sees(follower, 0.1, face(300, 130), face(100)) == 300 and not follower.is_new


def test_faces_of_real_pictures(follower, faces):
    double = np.concatenate([faces[0], faces[0][:, ::-1]], 1)
    seen = [follower.see(double, t / 25) for t in range(4)]
    assert follower.n_faces == 2 and all(here is not None for here in seen)
    assert np.ptp([here.centre[0] for here in seen]) < 10
    assert follower.see(np.full_like(double, 90), 0.2) is None and follower.n_faces == 0
