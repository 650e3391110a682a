"""Find faces and their landmarks in pictures."""

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Protocol

import numpy as np

from ..errors import InputError, unknown

TRACKERS = ("auto", "mediapipe", "face-alignment")
MAX_FACES = 6
_ALONE = threading.RLock()  # file descriptors and modules are the whole process'


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
    with _ALONE:  # else the last of two threads would restore what the first had put in its place
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


def solution(name: str) -> ModuleType:
    """A module of mediapipe's solutions. They import matplotlib for a plot that nobody here asks for, which would take
    as long as all the rest: if it is not there yet, they get empty modules in its place."""
    with _ALONE:
        stubs = {stub: ModuleType(stub) for stub in ("matplotlib", "matplotlib.pyplot") if stub not in sys.modules}
        sys.modules.update(stubs)
        try:
            return import_module(f"mediapipe.python.solutions.{name}")
        finally:
            for stub in stubs:
                sys.modules.pop(stub, None)


class MediaPipeTracker:
    """MediaPipe Face Mesh with irises, 478 points; its models are in the package, so it works offline.

    video=True follows faces from frame to frame (about 160 frames/s on one core); otherwise every image stands alone.
    """

    def __init__(self, video: bool = False, max_faces: int = MAX_FACES, min_confidence: float = 0.5):
        with quiet_stderr():
            options = dict(refine_landmarks=True, max_num_faces=max_faces, min_detection_confidence=min_confidence)
            self._mesh = solution("face_mesh").FaceMesh(static_image_mode=not video, **options)
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
        from ..geometry.shape_model import fit_68

        found = self._net.get_landmarks(image) or []
        return sorted((Face(fit_68(p.astype(np.float64))) for p in found), key=lambda f: -f.size)

    def close(self) -> None:
        pass


def check_tracker(tracker: str) -> None:
    """Raises UsageError for an unknown name."""
    if tracker not in TRACKERS:
        raise unknown("--tracker", tracker, TRACKERS)


def has_face_alignment() -> bool:
    """Whether the networks of face-alignment were downloaded before: "auto" does not download anything unasked."""
    home = os.environ.get("TORCH_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "torch"
    )
    folder = os.path.join(home, "hub", "checkpoints")
    there = os.listdir(folder) if os.path.isdir(folder) else []
    return all(any(name.startswith(net) for name in there) for net in ("s3fd", "3DFAN4", "depth"))


def no_face_advice(tracker: str) -> str:
    """What else to try when no face was found, as the end of a sentence."""
    if tracker == "auto" and not has_face_alignment():
        return ", or try --tracker face-alignment, which downloads its networks once"
    return ", or try --tracker face-alignment" if tracker == "mediapipe" else ""


def find_faces(image: np.ndarray, tracker: str = "auto") -> list[Face]:
    """All faces of a photo (H, W, 3) uint8 RGB, largest first; [] without one.

    "auto" asks MediaPipe first, and face-alignment when that finds nothing and its networks are there.

    MediaPipe's detector sees an image in 128 px and misses small faces. So the photo is searched whole and in
    overlapping tiles of half its size, and when that finds nothing in ever smaller tiles and with less certainty.
    """
    if tracker == "face-alignment":
        return FaceAlignmentTracker().faces(image)
    if tracker == "auto":
        found = find_faces(image, "mediapipe")
        return found if found or not has_face_alignment() else find_faces(image, "face-alignment")
    for parts, min_confidence in (((1, 2), 0.5), ((4,), 0.5), ((8,), 0.5), ((1, 2), 0.2)):
        mesh = MediaPipeTracker(min_confidence=min_confidence)
        try:
            found: list[Face] = []
            for tile in (t for count in parts for t in _tiles(image.shape, count)):
                for face in mesh.faces(image[tile]):
                    moved = Face(face.landmarks + (tile[1].start, tile[0].start, 0))
                    if all(np.linalg.norm(moved.centre - f.centre) > 0.8 * f.size for f in found):
                        found.append(moved)
        finally:
            mesh.close()
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
