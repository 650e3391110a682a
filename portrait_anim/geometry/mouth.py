"""The inside of the mouth: teeth keep their size when the lips part, and a gap opens behind them.

What a photo shows between the lips belongs to the upper lip, as teeth do in a smile, or in a mouth that is wide open in
part to the lower one. When the mouth opens further each part stays with its lip, as long as it is in the photo, and
between the two opens a cavity. It is as dark as mouths are, because the line where the parts met is all that the photo
shows there, and drawn out it would be streaks. When the mouth closes, the parts are covered from that line. So the
inside has three strips of triangles, and two rows of points between them, the hems.
"""

import numpy as np

from .smoothing import smoothstep

UPPER = np.array([191, 80, 81, 82, 13, 312, 311, 310, 415])  # inner edge of the lips, from the right to the left
LOWER = np.array([95, 88, 178, 87, 14, 317, 402, 318, 324])
CORNERS = 78, 308
_LIP = (178, 87, 14, 317, 402), (181, 84, 17, 314, 405)  # of the lower one, its inner and outer edge
N_HEMS = len(UPPER) + len(LOWER)
COVER = 0.9  # how much of what lies there the cavity's own colour covers
DARK = 0.35  # its colour over the lower lip's. The middle of a mouth has .6 (median of 71 clips), but .6 looks like fog
_SLIT = 0.09  # of the width: as much stays dark between parts that do not fit, or the line where they meet is hard
_TOUCH = 0.02, 0.06  # gap over the width: up to the first there is no slit, from the second on all of it
_SMILE, _OPEN = 0.16, 0.3  # gap over the width: up to the first all is upper teeth, from the second on half is


def triangles(first: int) -> np.ndarray:
    """Return the triangles (T, 3) of the three strips. first: the number of the first of the hems' points."""
    hems = first + np.arange(N_HEMS).reshape(2, -1)
    rows = [[CORNERS[0], *row, CORNERS[1]] for row in (UPPER, *hems, LOWER)]
    listed = []
    for above, below in zip(rows[:-1], rows[1:]):
        for n in range(len(above) - 1):
            listed += [(above[n], below[n], above[n + 1]), (above[n + 1], below[n], below[n + 1])]
    return np.array([t for t in listed if len(set(t)) == 3])


def is_cavity(triangles: np.ndarray, first: int) -> np.ndarray:
    """Return which triangles (F, 3) lie between the hems, (F,) bool."""
    return ((triangles >= first) | np.isin(triangles, CORNERS)).all(1)


def gaps(landmarks: np.ndarray) -> np.ndarray:
    """Return the distances (9,) between the inner edges of the lips, in the unit of landmarks (478, 3)."""
    return np.linalg.norm(landmarks[LOWER] - landmarks[UPPER], axis=1)


def _width(landmarks: np.ndarray) -> float:
    return float(np.linalg.norm(landmarks[CORNERS[0]] - landmarks[CORNERS[1]]))


def depth_shown(landmarks: np.ndarray) -> float:
    """Return how far landmarks (478, 3) let one look into the mouth: 0 up to a smile, 1 where it is wide open."""
    return float(np.clip((gaps(landmarks).max() / _width(landmarks) - _SMILE) / (_OPEN - _SMILE), 0, 1))


def parts(landmarks: np.ndarray) -> np.ndarray:
    """Return how much of the inside hangs on the upper and on the lower lip, (2, 9), in the unit of the landmarks."""
    lower = depth_shown(landmarks) / 2
    return gaps(landmarks) * np.array([[1 - lower], [lower]])


def fitting(lengths: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return lengths (2, 9) of the parts, shortened so that they fit between the lips of landmarks (478, 3).

    The more they are shortened the wider is the dark slit that stays open between them.
    """
    gap, total = gaps(landmarks), np.maximum(lengths.sum(0), 1e-9)
    width = _width(landmarks)
    slit = np.minimum(0.5 * gap, _SLIT * width * np.clip(1 - gap / total, 0, 1))
    slit *= smoothstep((gap / width - _TOUCH[0]) / (_TOUCH[1] - _TOUCH[0]))
    return lengths * np.minimum(1, (gap - slit) / total)


def hems(lengths: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return the hems (18, 3) of parts with lengths (2, 9) that hang on the lips of landmarks (478, 3)."""
    upper, lower = landmarks[UPPER], landmarks[LOWER]
    way = (lower - upper) / np.maximum(np.linalg.norm(lower - upper, axis=1, keepdims=True), 1e-9)
    return np.concatenate([upper + way * lengths[0][:, None], lower - way * lengths[1][:, None]])


def lip_places(landmarks: np.ndarray) -> np.ndarray:
    """Return places on the lower lip of landmarks (478, 3), (10, 2) in their unit: they tell its colour."""
    inner, outer = (landmarks[list(edge), :2] for edge in _LIP)
    return np.concatenate([inner + share * (outer - inner) for share in (0.35, 0.65)])
