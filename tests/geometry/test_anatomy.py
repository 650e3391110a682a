"""What a face cannot do: offsets that would fold it are shortened."""

import numpy as np

from portrait_anim.geometry import anatomy, mesh
from portrait_anim.geometry.anatomy import _areas as areas
from portrait_anim.geometry.anatomy import shrink_folds, smooth_folds
from portrait_anim.geometry.mesh import MEAN_FACE


def test_offsets_are_shortened_to_where_areas_say():
    """The share that leaves a triangle its least area is the first root of its area along the offsets."""
    rng = np.random.default_rng(1)
    shape, offsets = mesh.MEAN_FACE, rng.normal(0, 0.03, mesh.MEAN_FACE.shape)
    triangles = mesh.TRIANGLES[mesh.LABELS == mesh.FACE]
    turn = mesh.ORIENTATION[mesh.LABELS == mesh.FACE]

    def area(v):
        a, b, c = v[triangles, :2].transpose(1, 0, 2)
        return np.cross(b - a, c - a) * turn

    before, least = area(shape), 0.15
    assert np.allclose(anatomy._areas(shape), before)
    shares = np.linspace(0, 1, 2001)
    along = np.stack([area(shape + share * offsets) for share in shares])
    folds = along < least * before
    expected = np.where(folds.any(0), shares[folds.argmax(0)], 1)
    share = anatomy._fitting_share(shape, offsets, least)
    seen = before > 0.1 * before.mean()
    assert 50 < (expected < 1)[seen].sum() < seen.sum() and (share[~seen] == 1).all()
    assert np.abs(share - expected)[seen].max() < 1e-3


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
