"""Draw what helps to judge a result: the mesh over the frames, a side-by-side comparison, a sheet of single frames."""

import math
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from ..geometry.mesh import EDGES, N_LANDMARKS, TRIANGLES
from ..landmarks.following import MotionTrack
from ..media.reading import FrameReader
from ..motion.retarget import Retargeter
from ..portrait.portrait import Portrait
from ..system.sequences import ArrayFile, FrameSequence, block_ranges, by_blocks

SHEET_FRAMES = 12  # frames of a preview: two thirds evenly spread, the others the most different ones
SHEET_WIDTH = 1920  # px, approximately
_LINE, _MESH, _TEXT, _STRIP = (80, 255, 120), (255, 255, 255), (235, 235, 235), (24, 24, 24)
_FACE_EDGES = np.unique(
    np.sort(
        np.concatenate([TRIANGLES[(TRIANGLES < N_LANDMARKS).all(1)][:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    ),
    axis=0,
)  # (E, 2)


def draw_mesh(frame: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return a frame (H, W, 3) uint8 with the mesh of its landmarks drawn over it: thin triangles and bold contours.

    landmarks: (478, 2) or more columns, in px of the frame.
    """
    points = np.round((landmarks[:, :2] - 0.5) * 8).astype(np.int32)
    width = max(1, round(float(np.ptp(landmarks[:468, 1])) / 250))
    thin = frame.copy()
    cv2.polylines(thin, list(points[_FACE_EDGES]), False, _MESH, 1, cv2.LINE_AA, 3)
    drawn = cv2.addWeighted(thin, 0.45, frame, 0.55, 0)
    for edges in EDGES.values():
        cv2.polylines(drawn, list(points[edges]), False, _LINE, width, cv2.LINE_AA, 3)
    for point in points[468:N_LANDMARKS]:
        cv2.circle(drawn, point.tolist(), 8 * width, (255, 220, 0), -1, cv2.LINE_AA, 3)
    return drawn


def with_mesh(frames: Iterable[np.ndarray], targets: Retargeter, portrait: Portrait) -> Iterator[np.ndarray]:
    """Yield the frames of a portrait with the mesh of the target landmarks drawn over them."""
    for t, frame in enumerate(frames):
        landmarks = targets[t] / portrait.scale
        landmarks[:, :2] += portrait.corner
        yield draw_mesh(frame, landmarks)


def labelled(image: np.ndarray, label: str) -> np.ndarray:
    """Return an image (H, W, 3) under a strip with a label. The height of the strip is even."""
    height, width = image.shape[:2]
    strip = np.full((2 * max(9, round(height * 0.022)), width, 3), _STRIP, np.uint8)
    scale = strip.shape[0] / 34
    length = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0]
    scale *= min(1.0, (width - 8) / max(1, length))
    at = (4, round(strip.shape[0] * 0.5 + 11 * scale))
    cv2.putText(strip, label, at, cv2.FONT_HERSHEY_SIMPLEX, scale, _TEXT, max(1, round(scale)), cv2.LINE_AA)
    return np.vstack([strip, image])


class Comparison:
    """Frames that show portrait, driver and result side by side, as high as the result.

    size: (width, height) of the frames in px. track: landmarks of the driver, which are drawn over it if given. The
    driver is decoded a second time, in step with the result, so that nothing of it stays in memory.
    """

    def __init__(self, photo: np.ndarray, reader: FrameReader, track: MotionTrack | None = None):
        self._reader, self._track = reader, track
        height, width = photo.shape[:2]
        self._panel = (max(2, round(reader.size[0] * height / reader.size[1] / 2) * 2), height)
        self._portrait = labelled(photo, "portrait")
        self.size = (2 * width + self._panel[0], self._portrait.shape[0])

    def frames(self, frames: Iterable[np.ndarray], wanted: Iterable[int]) -> Iterator[np.ndarray]:
        """Yield the frames of the comparison.

        frames: the results for the driver's frames with the numbers `wanted`, which ascend.
        """
        with self._reader:
            driver = enumerate(self._reader)
            t, image = next(driver)
            for number, frame in zip(wanted, frames):
                while t < number:
                    t, image = next(driver, (number, image))
                panel = cv2.resize(image, self._panel, interpolation=cv2.INTER_AREA)
                if self._track is not None:
                    scale = np.array(self._panel) / self._track.size
                    panel = draw_mesh(panel, self._track.landmarks[number][:, :2] * scale)
                yield np.hstack([self._portrait, labelled(panel, "driver"), labelled(frame, "result")])


# ---------------------------------------------------------------- the preview


class SelectedFrames:
    """The subset of a motion's frames that a preview shows, which can be used in place of the whole motion.

    numbers: those of the frames, ascending.
    """

    def __init__(self, targets: Retargeter, count: int = SHEET_FRAMES):
        self._targets = targets
        parts = block_ranges(len(targets))
        every = ArrayFile.of(np.stack([targets[t] for t in range(a, b)]) for a, b in parts)
        self.numbers = choose_frames(every, count)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, n: int) -> np.ndarray:
        return self._targets[self.numbers[n]]


def choose_frames(landmarks: FrameSequence, count: int) -> list[int]:
    """Return the numbers of the `count` most telling frames, ascending, or of all if there are fewer.

    landmarks: (T, 478, 3). Two thirds of the frames are evenly spread. Then the frame that is least like those chosen
    so far is added again and again: the widest mouth, closed eyes, the largest turns.
    """
    n = len(landmarks)
    chosen = sorted(set(np.linspace(0, n - 1, min(n, count * 2 // 3)).round().astype(int).tolist()))
    distance = np.min([_distances(landmarks, t) for t in chosen], 0)
    while len(chosen) < min(n, count):
        distance[chosen] = -1
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, _distances(landmarks, chosen[-1]))
    return sorted(chosen)


def _distances(landmarks: FrameSequence, t: int) -> np.ndarray:
    """Return how far the landmarks of each frame are from those of frame t on average, (T,)."""
    there = landmarks[t]
    return by_blocks(lambda faces: np.abs(faces - there).reshape(len(faces), -1).mean(1), landmarks)


def contact_sheet(frames: Iterable[np.ndarray], labels: list[str]) -> np.ndarray:
    """Return frames (H, W, 3) as one picture (h, w, 3) uint8: a grid, each frame under its label."""
    cells, columns = [], 1
    for frame, label in zip(frames, labels):
        columns = min(len(labels), 2 if frame.shape[1] > 2 * frame.shape[0] else 4)
        scale = min(1.0, SHEET_WIDTH / columns / frame.shape[1])
        size = (max(1, int(frame.shape[1] * scale)), max(1, int(frame.shape[0] * scale)))
        cells.append(labelled(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), label))
    cells += [np.full_like(cells[0], _STRIP)] * (math.ceil(len(cells) / columns) * columns - len(cells))
    return np.vstack([np.hstack(cells[row : row + columns]) for row in range(0, len(cells), columns)])
