"""Measure how well the motion tracked on rendered frames agrees with the motion of the driver."""

from collections.abc import Iterable

import numpy as np

from ..geometry.expressions import features
from ..geometry.mesh import MEAN_FACE
from ..geometry.pose import canonical, estimate_poses, euler_angles
from ..landmarks.tracking import MediaPipeTracker
from .tables import Column

BLINK = 0.6  # lids count as closed when their gap is below this share of the clip's usual one
# Gap of the lips over the mouth's width: the driver's are closed below the first and open above the last; frames
# between say nothing. The result's are closed below the middle one.
LIPS_CLOSED, LIPS_MADE, LIPS_OPEN = 0.03, 0.05, 0.07
COLUMNS = (
    Column("csim", "CSIM to the portrait", 3, "high"),
    Column("mouth", "mouth opening r", 3, "high"),
    Column("eyes", "eye opening r", 3, "high"),
    Column("blink_f1", "blink F1", 2, "high"),
    Column("lips_f1", "lip-closure F1", 2, "high"),
    Column("yaw", "yaw r", 3, "high"),
    Column("pitch", "pitch r", 3, "high"),
    Column("roll", "roll r", 3, "high"),
    Column("gaze", "gaze error, % of eye width", 1),
    Column("jitter", "jitter ratio", 2),
    Column("lost", "frames without a face, %", 1),
)


def find_again(frames: Iterable[np.ndarray]) -> np.ndarray:
    """Return the landmarks (T, 478, 3) tracked on rendered frames, NaN where no face is found."""
    tracker = MediaPipeTracker(video=True, max_faces=1)
    try:
        found = [tracker.faces(frame) for frame in frames]
    finally:
        tracker.close()
    return np.stack([f[0].landmarks if f else np.full((478, 3), np.nan) for f in found])


def angles(landmarks: np.ndarray) -> np.ndarray:
    """Return yaw, pitch and roll of landmarks (T, 478, 3), in degrees: (T, 3)."""
    return np.degrees(euler_angles(estimate_poses(landmarks, MEAN_FACE).rotation))


def lid_opening(shapes: np.ndarray) -> np.ndarray:
    """Return the gap of the lids over the eye's width of canonical shapes (T, 478, 3), the mean of both eyes: (T,)."""
    gap = lambda a, b: np.linalg.norm((shapes[:, a] - shapes[:, b])[:, :2], axis=-1)
    width = lambda a, b: np.linalg.norm(shapes[:, a] - shapes[:, b], axis=-1)
    right = (gap(160, 144) + gap(159, 145) + gap(158, 153)) / 3 / width(33, 133)
    left = (gap(387, 373) + gap(386, 374) + gap(385, 380)) / 3 / width(362, 263)
    return (right + left) / 2


def mouth_opening(shapes: np.ndarray) -> np.ndarray:
    """Return the gap of the lips over the mouth's width of canonical shapes (T, 478, 3): (T,)."""
    return np.maximum(0, shapes[:, 14, 1] - shapes[:, 13, 1]) / np.linalg.norm(shapes[:, 61] - shapes[:, 291], axis=-1)


def gaze(shapes: np.ndarray) -> np.ndarray:
    """Return the direction of gaze of canonical shapes (T, 478, 3): (T, 2).

    It is how far the irises are from the middle of the eye, in eye widths.
    """
    width = np.linalg.norm(shapes[:, [33, 362]] - shapes[:, [133, 263]], axis=-1).mean(1)
    return features(shapes)[:, -2:] / width[:, None]


def acceleration(landmarks: np.ndarray) -> float:
    """Return the mean second difference of landmarks (T, 478, 3), in face heights, as a measure of jitter."""
    height = np.linalg.norm(landmarks[:, 10, :2] - landmarks[:, 152, :2], axis=-1).mean()
    return float(np.linalg.norm(np.diff(landmarks[:, :468, :2], 2, axis=0), axis=-1).mean() / height)


def f1(made: np.ndarray, wanted: np.ndarray) -> float:
    """Return the F1 score of the frames that show something in the result against those in the driver.

    made, wanted: (T,) bool, whether each frame of the result and of the driver shows it. The score is NaN when no frame
    of either does.
    """
    both = 2 * (made & wanted).sum()
    total = made.sum() + wanted.sum()
    return float(both / total) if total else float("nan")


def compare(driver: np.ndarray, made: np.ndarray) -> dict:
    """Return the measures of one clip.

    driver, made: landmarks (T, 478, 3) of the driver, and those found again, NaN where the face was lost. "blinks" and
    "lips" are pairs of (T',) bool, made and wanted; "mouth" and "eyes" are pairs of openings (T',), "turns" of angles
    (T', 3), about their means. "gaze" (% of the eye's width), "jitter" (a ratio) and "lost" (% of frames) are numbers.
    """
    here = np.isfinite(made[:, 0, 0])
    d, o = driver[here].astype(np.float64), made[here]
    shapes = [canonical(x, estimate_poses(x, MEAN_FACE)).astype(np.float64) for x in (o, d)]
    lids, mouths = ([measure(s) for s in shapes] for measure in (lid_opening, mouth_opening))
    closed = [gap < BLINK * np.percentile(gap, 80) for gap in lids]
    clear = (mouths[1] < LIPS_CLOSED) | (mouths[1] > LIPS_OPEN)
    both_open = ~closed[0] & ~closed[1]
    looks = [g - np.median(g, 0) for g in (gaze(s[both_open]) for s in shapes)]
    return {
        "blinks": closed,
        "lips": [mouths[0][clear] < LIPS_MADE, mouths[1][clear] < LIPS_CLOSED],
        "turns": [a - a.mean(0) for a in (angles(o), angles(d))],
        "mouth": [m - m.mean() for m in mouths],
        "eyes": [gap - gap.mean() for gap in lids],
        "gaze": 100 * float(np.linalg.norm(looks[0] - looks[1], axis=1).mean()),
        "jitter": acceleration(o) / acceleration(d),
        "lost": 100 * float(1 - here.mean()),
    }


def summary(clips: list[dict]) -> dict[str, float]:
    """Return the measures over several clips: F1 scores and correlations over all their frames, the others as means."""
    join = lambda key: [np.concatenate(side) for side in zip(*(clip[key] for clip in clips))]
    made, wanted = join("turns")
    turns = [float(np.corrcoef(made[:, n], wanted[:, n])[0, 1]) for n in range(3)]
    result = {
        "blink_f1": f1(*join("blinks")),
        "lips_f1": f1(*join("lips")),
        **dict(zip(("yaw", "pitch", "roll"), turns)),
    }
    result |= {key: float(np.corrcoef(*join(key))[0, 1]) for key in ("mouth", "eyes")}
    return {**result, **{key: float(np.mean([c[key] for c in clips])) for key in ("gaze", "jitter", "lost")}}
