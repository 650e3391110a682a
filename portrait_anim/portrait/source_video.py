"""Choose photos from a video: the sharp frames in which the person looks most different."""

from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np

from ..geometry.mesh import MEAN_FACE, openness
from ..geometry.pose import estimate_poses
from ..landmarks.following import TRACK_SIZE, MotionTrack, track_video
from ..media.photo import fit_size
from ..media.reading import FrameReader
from ..system.sequences import ArrayFile, by_blocks
from .portrait import Portrait

_GRID = 48  # cells, each way, in which sharpness is kept for every frame
_SHARPEST = 0.6  # share of the frames that is sharp enough to choose from


def portraits_of_video(
    path: str,
    shots: int,
    max_size: int = 1280,
    background: str = "still",
    tracker: str = "mediapipe",
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> list[Portrait]:
    """Return portraits of the largest face in up to `shots` frames of a video, the calmest, which is the canvas, first.

    They are fewer when the video has fewer sharp frames with a face. max_size: the longest side of the portraits, px.
    `progress` gets the frames that are tracked, and how many there are, if known. Raises InputError.
    """
    reader = FrameReader(path, max_side=TRACK_SIZE)
    energy = ArrayFile((_GRID, _GRID))
    for state in track_video(_watched(reader, energy), reader.fps, str(path), 1, tracker):
        if isinstance(state, MotionTrack):
            break
        progress(state, reader.expected_frames)
    chosen = choose_frames(state, _sharpness(state, energy), shots)
    portraits = {}
    with FrameReader(path) as frames:
        for t, frame in enumerate(frames):
            if t in chosen:
                photo = fit_size(frame, max_size)
                scale = photo.shape[1] / state.size[0]
                portraits[t] = Portrait(photo, state.landmarks[t].astype(np.float64) * scale, background)
            if len(portraits) == len(chosen):
                break
    return [portraits[t] for t in chosen]


def choose_frames(track: MotionTrack, sharpness: np.ndarray, shots: int) -> list[int]:
    """Return the numbers of the frames that differ most in mouth, eyes and turn of the head, the calmest first.

    sharpness: (T,), a value per frame. Only the sharpest of the frames with a face are considered, and at most `shots`
    are returned.
    """
    rotations = by_blocks(lambda faces: estimate_poses(faces, MEAN_FACE).rotation, track.landmarks)
    turns = np.array([cv2.Rodrigues(r)[0][:, 0] for r in rotations])
    opening = by_blocks(openness, track.landmarks)
    enough = np.quantile(sharpness[track.found], 1 - _SHARPEST)
    usable = np.flatnonzero(track.found & (sharpness >= enough))
    looks = np.concatenate([opening, turns], 1)[usable]
    eyes = np.abs(opening[usable, 2:] - np.median(opening[usable, 2:], 0)).sum(1)
    calm = np.linalg.norm(turns[usable], axis=1) + opening[usable, 0] + eyes
    chosen = [int(calm.argmin())]
    distance = np.abs(looks - looks[chosen[0]]).sum(1)
    while len(chosen) < min(shots, len(usable)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.abs(looks - looks[chosen[-1]]).sum(1))
        distance[chosen] = -1
    return usable[chosen].tolist()


def _watched(frames: Iterable[np.ndarray], energy: ArrayFile) -> Iterator[np.ndarray]:
    """Yield the frames, and append the amount of their fine detail to `energy`, (_GRID, _GRID) each."""
    for frame in frames:
        detail = cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.CV_32F) ** 2
        energy.append(cv2.resize(detail, (_GRID, _GRID), interpolation=cv2.INTER_AREA))
        yield frame


def _sharpness(track: MotionTrack, energy: ArrayFile) -> np.ndarray:
    """Return the amount of fine detail of the face in every frame, (T,)."""
    result = np.zeros(len(track))
    for t, (points, cells) in enumerate(zip(track.landmarks, energy)):
        low, high = points[:468, :2].min(0), points[:468, :2].max(0)
        (x0, y0), (x1, y1) = (np.clip(p / track.size * _GRID, 0, _GRID - 1).astype(int) for p in (low, high))
        result[t] = cells[y0 : y1 + 1, x0 : x1 + 1].mean()
    return result
