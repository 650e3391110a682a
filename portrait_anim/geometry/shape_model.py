"""Complete the 68 landmarks of other models to the 478 that this package uses.

A linear model of face shapes is fitted to the 68 points. It was learned from the landmarks of the training people:
canonical shape = mean + sum of coefficients times basis (see `pose.canonical`).
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from .mesh import similarity

# The mesh's point for each of the 68 of the iBUG scheme: jaw, brows, nose, eyes, lips.
POINTS_68 = np.array(
    [162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389]
    + [71, 63, 105, 66, 107, 336, 296, 334, 293, 301]
    + [168, 197, 5, 4, 75, 97, 2, 326, 305]
    + [33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380]
    + [61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181]
    + [78, 82, 13, 312, 308, 317, 14, 87]
)
_NOISE = 0.01  # face heights: the error that the 68 points are assumed to have
_DEPTH_TRUST = 0.3  # weight of the depth, which is rough in other models and absent in 2D ones
_ROUNDS = 4  # of estimating pose and shape in turn; more change nothing


@lru_cache(maxsize=1)
def _model() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Load the model, as float64 arrays (mean, basis, deviation).

    mean: (478, 3). basis: (K, 478, 3). deviation: (K,) standard deviation of the coefficients over people and
    expressions.
    """
    with np.load(Path(__file__).parent / "data" / "shape_model.npz") as model:
        mean, basis, deviation = (model[key].astype(np.float64) for key in ("mean", "basis", "deviation"))
    return mean, basis, deviation


def fit_68(points: np.ndarray) -> np.ndarray:
    """Estimate 478 landmarks, (478, 3), from 68 points of the iBUG scheme, (68, 3) or (68, 2), in the same unit.

    This is regularised least squares in the canonical frame, in turn with an estimate of the pose. From points without
    depth the turn of the head is known from the outline of the face only.
    """
    mean, basis, deviation = _model()
    flat = points.shape[1] == 2
    if flat:  # begin with the mean face's depth
        in_plane = np.concatenate([points, np.zeros((68, 1))], 1)
        size = np.linalg.norm(np.ptp(points, axis=0)) / np.linalg.norm(np.ptp(mean[POINTS_68, :2], axis=0))
        points = in_plane + np.array([0, 0, 1]) * size * mean[POINTS_68, 2:]
    trust = np.tile([1.0, 1.0, 0.1 if flat else _DEPTH_TRUST], 68)
    design = (basis[:, POINTS_68].reshape(len(basis), -1) * trust).T  # (204, K)
    normal = design.T @ design + np.diag((_NOISE / deviation) ** 2)
    shape = mean
    for _ in range(_ROUNDS):
        scale, rotation, shift = similarity(shape[POINTS_68], points)
        canonical = (points - shift) @ rotation / scale
        rest = (canonical - mean[POINTS_68]).ravel() * trust
        shape = mean + np.tensordot(np.linalg.solve(normal, design.T @ rest), basis, 1)
    return scale * shape @ rotation.T + shift
