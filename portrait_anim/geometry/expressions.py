"""A linear model of what expressions do to the landmarks of a face.

The model has eight features, such as the gap of the lips. For each of them it knows how all landmarks move when the
feature grows by one face height. It was learned from clips of many people by scripts/make_expressions.py.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from .mesh import MEAN_FACE, RIGID, similarity

FEATURES = ("open", "wide", "corners", "lid_r", "lid_l", "brows", "gaze_x", "gaze_y")
MIRRORED = [0, 1, 2, 4, 3, 5, 6, 7]  # the feature of the other side


@lru_cache(maxsize=1)
def expressions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Load the model, as float64 arrays (rest, expressions, trust).

    rest: (478, 3) the mean resting face, canonical. expressions: (8, 478, 3) what one face height more of each feature
    adds to the landmarks. trust: (8,) which share of the differences in a feature, between pictures of different
    people, is expression and not the form of their faces.
    """
    with np.load(Path(__file__).parent / "data" / "expressions.npz") as model:
        rest, learned, trust = (model[key].astype(np.float64) for key in ("rest", "expressions", "trust"))
    return rest, learned, trust


def rest_face() -> np.ndarray:
    """Return the mean resting face with its lips closed, a canonical shape (478, 3)."""
    rest, learned, _ = expressions()
    return rest - features(rest)[FEATURES.index("open")] * learned[FEATURES.index("open")]


def features(shapes: np.ndarray) -> np.ndarray:
    """Measure the FEATURES of canonical shapes (..., 478, 3), and return them as (..., 8) in face heights.

    They are the gap of the lips, the width of the mouth, the height of its corners over its middle, the gaps of the
    right and the left lids, the height of the brows over the eyes, and how far the irises look to the picture's right
    and down.
    """
    p = lambda *points: shapes[..., list(points), :].mean(-2)
    length = lambda a, b: np.linalg.norm(a - b, axis=-1)
    eyes = p(33, 133, 362, 263)
    gaze = p(468, 473) - eyes
    return np.stack(
        [
            length(p(13), p(14)),
            length(p(61), p(291)),
            p(0, 17)[..., 1] - p(61, 291)[..., 1],
            length(p(159, 158, 160), p(145, 153, 144)),
            length(p(386, 385, 387), p(374, 380, 373)),
            eyes[..., 1] - p(70, 63, 105, 66, 107, 300, 293, 334, 296, 336)[..., 1],
            gaze[..., 0],
            gaze[..., 1],
        ],
        -1,
    )


def at_rest(landmarks: np.ndarray) -> np.ndarray:
    """Estimate how a face with landmarks (478, 3) would look at rest and straight ahead.

    The expression is removed as far as one picture tells. The unit and the place of the face stay the same.
    """
    scale, rotation, shift = similarity(MEAN_FACE[RIGID], landmarks[RIGID])
    shape = (landmarks - shift) @ rotation / scale
    rest, learned, trust = expressions()
    amounts = (features(shape) - features(rest_face())) * trust
    middle = MEAN_FACE[RIGID].mean(0)
    return scale * (shape - np.tensordot(amounts, learned, 1) - middle + rotation @ middle) + shift
