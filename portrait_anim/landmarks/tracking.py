"""Find the faces in a picture, and their landmarks, with MediaPipe or face-alignment."""

import io
import os
import sys
import threading
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Protocol

import numpy as np

from ..errors import InputError, unknown
from ..system.quiet import quiet_stderr

TRACKERS = ("auto", "mediapipe", "face-alignment")
MAX_FACES = 6
_LOCK = threading.RLock()  # modules belong to the whole process


@dataclass(frozen=True)
class Face:
    """The landmarks of one face.

    landmarks: (478, 3) float64, px of the image: x to the right, y down, z away from the camera at the scale of x.
    """

    landmarks: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """The mean (x, y) of the landmarks without the irises, px."""
        return self.landmarks[:468, :2].mean(0)

    @property
    def size(self) -> float:
        """The side of a square with the area of the landmarks' box, px."""
        return float(np.sqrt(np.prod(np.ptp(self.landmarks[:468, :2], axis=0))))


class Tracker(Protocol):
    """What every tracker can do."""

    def faces(self, image: np.ndarray) -> list[Face]:
        """Return the faces in an image (H, W, 3) uint8 RGB, the largest first; an empty list if there are none."""
        ...

    def close(self) -> None:
        """Free what the tracker holds."""
        ...


def solution(name: str) -> ModuleType:
    """Import one of mediapipe's solutions, such as "face_mesh", without matplotlib.

    The solutions import matplotlib for a plot that nobody here asks for, and that takes as long as all the rest. Unless
    matplotlib is loaded already, they get empty modules in its place.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")  # so that its threads, which log at any time, log less
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _LOCK:
        stubs = {stub: ModuleType(stub) for stub in ("matplotlib", "matplotlib.pyplot") if stub not in sys.modules}
        sys.modules.update(stubs)
        try:
            return import_module(f"mediapipe.python.solutions.{name}")
        finally:
            for stub in stubs:
                sys.modules.pop(stub, None)


class MediaPipeTracker:
    """Finds 478 landmarks of each face with MediaPipe Face Mesh, irises included.

    Its models are in the mediapipe package, so it works offline.

    video: follow faces from frame to frame (about 160 frames/s on one core); otherwise every image stands alone.
    max_faces: the most faces that are found. min_confidence: 0 to 1, of the face detector.
    """

    def __init__(self, video: bool = False, max_faces: int = MAX_FACES, min_confidence: float = 0.5):
        with quiet_stderr():
            options = dict(refine_landmarks=True, max_num_faces=max_faces, min_detection_confidence=min_confidence)
            self._mesh = solution("face_mesh").FaceMesh(static_image_mode=not video, **options)
            self._mesh.process(np.zeros((64, 64, 3), np.uint8))  # the graph starts, and logs, in threads of its own
        self._started = False

    def faces(self, image: np.ndarray) -> list[Face]:
        """Return the faces in an image, the largest first, as every Tracker does."""
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
        """Free MediaPipe's graph."""
        self._mesh.close()


class FaceAlignmentTracker:
    """Finds 68 landmarks of each face with face-alignment (3DFAN) and completes them to 478 by the shape model.

    It is slow and downloads its networks at the first use, but it finds faces that MediaPipe misses. The irises are
    placed by the shape model; where the eyes look is not seen.

    Raises InputError if the networks cannot be downloaded.
    """

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
        """Return the faces in an image, the largest first, as every Tracker does."""
        from ..geometry.shape_model import fit_68

        found = self._net.get_landmarks(image) or []
        return sorted((Face(fit_68(p.astype(np.float64))) for p in found), key=lambda f: -f.size)

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


def check_tracker(tracker: str) -> None:
    """Raise UsageError if this is not the name of a tracker."""
    if tracker not in TRACKERS:
        raise unknown("--tracker", tracker, TRACKERS)


def has_face_alignment() -> bool:
    """Tell whether the networks of face-alignment were downloaded before.

    The tracker "auto" does not download anything unasked.
    """
    home = os.environ.get("TORCH_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "torch"
    )
    folder = os.path.join(home, "hub", "checkpoints")
    there = os.listdir(folder) if os.path.isdir(folder) else []
    return all(any(name.startswith(net) for name in there) for net in ("s3fd", "3DFAN4", "depth"))


def no_face_advice(tracker: str) -> str:
    """Return what else to try when no face was found, as the end of a sentence; "" if there is nothing."""
    if tracker == "auto" and not has_face_alignment():
        return ", or try --tracker face-alignment, which downloads its networks once"
    return ", or try --tracker face-alignment" if tracker == "mediapipe" else ""


def find_faces(image: np.ndarray, tracker: str = "auto") -> list[Face]:
    """Find all faces in a photo (H, W, 3) uint8 RGB, the largest first.

    MediaPipe's detector sees an image in 128 px and misses small faces. So it is shown the whole photo and overlapping
    tiles of half its size. If that finds nothing, it is shown ever smaller tiles, and at last less certain faces count.

    tracker: "mediapipe", "face-alignment", or "auto" for MediaPipe and, if that finds nothing and the networks of
    face-alignment were downloaded before, face-alignment.
    """
    if tracker == "face-alignment":
        return FaceAlignmentTracker().faces(image)
    if tracker == "auto":
        found = find_faces(image, "mediapipe")
        return found if found or not has_face_alignment() else find_faces(image, "face-alignment")
    for parts, min_confidence in (((1, 2), 0.5), ((4,), 0.5), ((8,), 0.5), ((1, 2), 0.2)):
        mesh = MediaPipeTracker(min_confidence=min_confidence)
        try:
            found = []
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
    """Return tiles with 1/parts of the image's sides, each overlapping the next by half; none if they were tiny."""
    height, width = (-(-side // parts) for side in shape[:2])
    if parts > 1 and min(height, width) < 96:
        return []
    steps = range(2 * parts - 1)
    return [
        np.s_[y : y + height, x : x + width]
        for y in {k * height // 2 for k in steps}
        for x in {k * width // 2 for k in steps}
    ]
