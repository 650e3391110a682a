"""The skin between lower lip and chin when the mouth opens.

The landmarks press it together most of all in the fold right below the lip. A photo that is warped so has a dotted line
there, of the shade that lies below most lips. Skin gives way as a whole instead.
"""

import numpy as np

from .smoothing import smoothstep

# Landmarks from the edge of the lower lip to the oval of the face, column by column from the right to the left.
_COLUMNS = np.array([
    [146, 43, 202, 210, 169, 150], [91, 106, 204, 211, 170, 149], [181, 182, 194, 32, 140, 176],
    [84, 83, 201, 208, 171, 148], [17, 18, 200, 199, 175, 152], [314, 313, 421, 428, 396, 377],
    [405, 406, 418, 262, 369, 400], [321, 335, 424, 431, 395, 378], [375, 273, 422, 430, 394, 379],
])  # fmt: skip
_PRESSED = 0.9, 0.6  # length of a part over its own: from the first on it gives way, at the second wholly


def eased(landmarks: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return target landmarks (478, 3) whose chin is pressed together evenly, as the camera sees it.

    Lip and oval stay, and the columns of points between them keep to their lines. landmarks: (478, 3), the photo's,
    turned and enlarged as the head is in the target.
    """
    own = _lengths(landmarks)
    lengths = _lengths(target)
    pressed = (lengths / np.maximum(own, 1e-9)).min(1)
    much = smoothstep((pressed - _PRESSED[0]) / (_PRESSED[1] - _PRESSED[0]))[:, None]
    if not much.any():  # as in most frames
        return target
    total = lengths.sum(1, keepdims=True)
    wanted = lengths + much * (own / np.maximum(own.sum(1, keepdims=True), 1e-9) * total - lengths)
    moved = np.array(target, np.float64)
    for column, before, after in zip(_COLUMNS, lengths, wanted):
        along = np.concatenate([[0], np.cumsum(before)])
        places = np.cumsum(after)[:-1]
        moved[column[1:-1]] = np.stack([np.interp(places, along, line) for line in target[column].T], 1)
    return moved


def _lengths(landmarks: np.ndarray) -> np.ndarray:
    """Return the lengths (9, 5) of the parts of the columns in the picture."""
    return np.linalg.norm(np.diff(landmarks[_COLUMNS, :2], axis=1), axis=2)
