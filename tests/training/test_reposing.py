"""Faces in other poses than their photo's."""

import numpy as np

from portrait_anim.geometry.mesh import face_height, openness
from portrait_anim.training.reposing import repose


def test_reposed_faces_are_faces_in_other_poses(mona):
    own = mona[0].landmarks
    poses = np.stack([repose(own, np.random.default_rng(j)) for j in range(60)])
    assert np.isfinite(poses).all()
    moved = np.linalg.norm(poses - own, axis=2).mean(1) / face_height(own)
    assert 0.02 < moved.min() and moved.max() < 0.5
    opening = openness(poses)
    assert opening[:, 0].max() > openness(own)[0] + 0.08  # mouths open
    assert opening[:, 2].min() < 0.6 * openness(own)[2]  # eyes close
    assert (poses[:, 14, 1] - poses[:, 13, 1]).min() > -0.03 * face_height(own)  # lips do not cross
