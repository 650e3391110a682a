"""What expressions do to a face: learned from people's clips by scripts/make_expressions.py.

An expression is what a feature, such as the gap of the lips, does to all landmarks when it grows by one face height.
"""

from functools import lru_cache
from importlib.resources import files

import numpy as np

from .mesh import MEAN_FACE, RIGID, similarity

FEATURES = ("open", "wide", "corners", "lid_r", "lid_l", "brows", "gaze_x", "gaze_y")
MIRRORED = [0, 1, 2, 4, 3, 5, 6, 7]  # the feature of the other side


@lru_cache(maxsize=1)
def expressions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean resting face (478, 3), canonical; what one face height more of each feature adds, (8, 478, 3); and how
    much of a feature's difference between pictures of people is expression, (8,)."""
    with np.load(files(__package__) / "data" / "expressions.npz") as z:
        return tuple(z[key].astype(np.float64) for key in ("rest", "expressions", "trust"))


def rest_face() -> np.ndarray:
    """The mean resting face with its lips closed, canonical (478, 3)."""
    rest, learned, _ = expressions()
    return rest - features(rest)[FEATURES.index("open")] * learned[FEATURES.index("open")]


def features(shapes: np.ndarray) -> np.ndarray:
    """What FEATURES measure on canonical shapes (..., 478, 3): (..., 8) in face heights.

    Gap of the lips, width of the mouth, height of its corners over its middle, gap of the right and left lids, height
    of the brows over the eyes, and where the irises look: to the picture's right, and down.
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
    """A face (478, 3) with its expression taken out as far as one picture tells, looking straight ahead."""
    scale, rotation, shift = similarity(MEAN_FACE[RIGID], landmarks[RIGID])
    shape = (landmarks - shift) @ rotation / scale
    rest, learned, trust = expressions()
    amounts = (features(shape) - features(rest_face())) * trust
    middle = MEAN_FACE[RIGID].mean(0)
    return scale * (shape - np.tensordot(amounts, learned, 1) - middle + rotation @ middle) + shift
