"""Find faces and their landmarks, in photos and along videos."""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

import numpy as np

from .errors import InputError, UsageError, unknown

TRACKERS = ("mediapipe", "face-alignment")
MAX_FACES = 6
HOLD_SECONDS = 0.5  # a lost face keeps its last pose this long before and after it is sought


@dataclass(frozen=True)
class Face:
    """landmarks: (478, 3) float64 in px of the image: x right, y down, z away from the camera at the scale of x."""

    landmarks: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        return self.landmarks[:468, :2].mean(0)

    @property
    def size(self) -> float:
        """Side of a square of the same area as the landmarks' box, px."""
        return float(np.sqrt(np.prod(np.ptp(self.landmarks[:468, :2], axis=0))))


class Tracker(Protocol):
    """Finds faces: `faces(image (H, W, 3) uint8 RGB)` gives them largest first, [] without one."""

    def faces(self, image: np.ndarray) -> list[Face]: ...

    def close(self) -> None: ...


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """MediaPipe's native code greets on file descriptor 2 when it loads; nothing of that concerns a user."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        saved = os.dup(2)
    except OSError:  # closed: there is nothing to keep quiet
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


class MediaPipeTracker:
    """MediaPipe Face Mesh with irises, 478 points; its models are in the package, so it works offline.

    video=True follows faces from frame to frame (about 160 frames/s on one core); otherwise every image stands alone.
    """

    def __init__(self, video: bool = False, max_faces: int = MAX_FACES, min_confidence: float = 0.5):
        with quiet_stderr():
            from mediapipe.python.solutions.face_mesh import FaceMesh

            options = dict(refine_landmarks=True, max_num_faces=max_faces, min_detection_confidence=min_confidence)
            self._mesh = FaceMesh(static_image_mode=not video, **options)
            self._mesh.process(np.zeros((64, 64, 3), np.uint8))  # the graph starts, and logs, in threads of its own
        self._started = False

    def faces(self, image: np.ndarray) -> list[Face]:
        image = np.ascontiguousarray(image)
        if self._started:
            result = self._mesh.process(image)
        else:  # each network of the graph logs at its first use, the last of them when a face is first found
            with quiet_stderr():
                result = self._mesh.process(image)
            self._started = bool(result.multi_face_landmarks)
        height, width = image.shape[:2]
        found = []
        for face in result.multi_face_landmarks or []:
            points = np.array([(p.x, p.y, p.z) for p in face.landmark], np.float64)
            found.append(Face(points * (width, height, width)))
        return sorted(found, key=lambda f: -f.size)

    def close(self) -> None:
        self._mesh.close()


class FaceAlignmentTracker:
    """The 68 points of `face-alignment` (3DFAN), completed to 478 by the shape model. Slow, and its networks are
    downloaded at first use, but it finds faces that MediaPipe misses. Irises are placed by the shape, not seen."""

    def __init__(self, device: str = "cpu"):
        with quiet_stderr():
            import face_alignment
        kind = face_alignment.LandmarksType.THREE_D
        try:
            with quiet_stderr(), redirect_stdout(io.StringIO()):
                self._net = face_alignment.FaceAlignment(kind, device=device, compile=False)
        except Exception as error:  # urllib's, torch.hub's and the disk's own kinds
            raise InputError(
                "The face-alignment tracker downloads its networks at first use and could not "
                f"({type(error).__name__}): connect once, or use --tracker mediapipe."
            ) from error

    def faces(self, image: np.ndarray) -> list[Face]:
        from .shape_model import fit_68

        found = self._net.get_landmarks(image) or []
        return sorted((Face(fit_68(p.astype(np.float64))) for p in found), key=lambda f: -f.size)

    def close(self) -> None:
        pass


def check_tracker(tracker: str) -> None:
    """Raises UsageError for an unknown name."""
    if tracker not in TRACKERS:
        raise unknown("--tracker", tracker, TRACKERS)


def find_faces(image: np.ndarray, tracker: str = "mediapipe") -> list[Face]:
    """All faces of a photo (H, W, 3) uint8 RGB, largest first; [] without one.

    MediaPipe's detector sees an image in 128 px and misses small faces. So the photo is searched whole and in
    overlapping tiles of half its size, and when that finds nothing in ever smaller tiles and with less certainty.
    """
    if tracker == "face-alignment":
        return FaceAlignmentTracker().faces(image)
    for parts, min_confidence in (((1, 2), 0.5), ((4,), 0.5), ((8,), 0.5), ((1, 2), 0.2)):
        tracker = MediaPipeTracker(min_confidence=min_confidence)
        try:
            found: list[Face] = []
            for tile in (t for count in parts for t in _tiles(image.shape, count)):
                for face in tracker.faces(image[tile]):
                    moved = Face(face.landmarks + (tile[1].start, tile[0].start, 0))
                    if all(np.linalg.norm(moved.centre - f.centre) > 0.8 * f.size for f in found):
                        found.append(moved)
        finally:
            tracker.close()
        if found:
            return sorted(found, key=lambda f: -f.size)
    return []


def _tiles(shape: tuple, parts: int) -> list[tuple[slice, slice]]:
    """Tiles of 1/parts of the image's sides, each overlapping the next by half; none when they would be tiny."""
    height, width = (-(-side // parts) for side in shape[:2])
    if parts > 1 and min(height, width) < 96:
        return []
    steps = range(2 * parts - 1)
    return [
        np.s_[y : y + height, x : x + width]
        for y in {k * height // 2 for k in steps}
        for x in {k * width // 2 for k in steps}
    ]


@dataclass
class MotionTrack:
    """The driver's landmarks along time.

    landmarks: (T, 478, 3) float32, px of frames of `size` (width, height). fps: exact. found: (T,) bool, False where
    the face was lost and its landmarks are held or interpolated.
    """

    landmarks: np.ndarray
    size: tuple[int, int]
    fps: Fraction
    found: np.ndarray
    n_faces: int = 1  # in the first frame that shows any

    def __len__(self) -> int:
        return len(self.landmarks)

    def lost_ranges(self) -> list[tuple[int, int]]:
        """First and last frame (counted from 0) of every stretch without a face."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], ~self.found, [0]])))
        return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


def track_video(
    frames: Iterable[np.ndarray], fps: Fraction, name: str, face: int = 1, tracker: str = "mediapipe"
) -> Iterator[MotionTrack | int]:
    """Follow one face through frames (H, W, 3) uint8 RGB: yields the number of frames done, then the MotionTrack.

    face: 1 is the largest in the first frame that shows any, 2 the next. Raises InputError when no frame shows it.
    """
    slow = FaceAlignmentTracker() if tracker == "face-alignment" else None
    search = slow or MediaPipeTracker()
    follow: Tracker | None = None
    points: list[np.ndarray | None] = []
    last, size, n_faces = None, (0, 0), 0
    try:
        for image in frames:
            size = image.shape[1::-1]
            if follow is None:
                found = search.faces(image) or ([] if points else find_faces(image, tracker))
                if found:
                    if face > len(found):
                        shows = f"only {len(found)} face{'s'[: len(found) > 1]}"
                        raise UsageError(
                            f"{name}: --driver-face {face} was asked for, but frame {len(points)} shows {shows}."
                        )
                    n_faces = len(found)
                    last = found[face - 1]
                    follow = slow or MediaPipeTracker(video=True, max_faces=1 if len(found) == 1 else MAX_FACES)
            here = None
            if follow is not None:
                near = [f for f in follow.faces(image) if np.linalg.norm(f.centre - last.centre) < 1.5 * last.size]
                here = min(near, key=lambda f: np.linalg.norm(f.centre - last.centre), default=None)
                last = here or last
            points.append(None if here is None else here.landmarks.astype(np.float32))
            yield len(points)
    finally:
        for used in {search, follow} - {None}:
            used.close()
    if not any(p is not None for p in points):
        raise InputError(
            f"{name}: no face found in any of its {len(points)} frames; use a clip that shows one face clearly."
        )
    yield replace(fill_gaps(points, size, fps), n_faces=n_faces)


def fill_gaps(points: list[np.ndarray | None], size: tuple[int, int], fps: Fraction) -> MotionTrack:
    """Bridge frames without a face: the last pose is held, then moved smoothly to the one that returns."""
    found = np.array([p is not None for p in points])
    seen = np.flatnonzero(found)
    landmarks = np.empty((len(points), *points[seen[0]].shape), np.float32)
    landmarks[found] = [p for p in points if p is not None]
    landmarks[: seen[0]], landmarks[seen[-1] :] = landmarks[seen[0]], landmarks[seen[-1]]
    ease = max(2, round(2 * HOLD_SECONDS * float(fps)))
    for a, b in zip(seen[:-1], seen[1:]):
        if b - a > 1:
            t = np.clip((np.arange(a + 1, b) - max(a, b - ease)) / (b - max(a, b - ease)), 0, 1)
            t = (t * t * (3 - 2 * t)).astype(np.float32)[:, None, None]
            landmarks[a + 1 : b] = landmarks[a] * (1 - t) + landmarks[b] * t
    return MotionTrack(landmarks, size, fps, found)
