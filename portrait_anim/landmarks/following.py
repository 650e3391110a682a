"""Follow one face through a video: find its landmarks in each frame, bridge the gaps, and notice the cuts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np

from ..errors import InputError, UsageError
from ..geometry.mesh import N_LANDMARKS, face_height, mirrored_landmarks
from ..geometry.smoothing import smoothstep
from ..system.sequences import ArrayFile, block_ranges, blocks
from .tracking import MAX_FACES, Face, FaceAlignmentTracker, MediaPipeTracker, Tracker, find_faces, no_face_advice

TRACK_SIZE = 640  # px: the tracker needs no more, and small frames decode faster
HOLD_SECONDS = 0.5  # a lost face is expected back where it was for this long; after that it may return anywhere
SETTLE = 10  # how often a first frame is shown to MediaPipe: until then its faces grow by a percent
CUT_CHANGE = 30.0  # of 255: mean change of a 32 px picture that may be a cut
CUT_JUMP, FAR_JUMP = 0.08, 0.4  # face heights: landmarks that jump so far with such a change, or without it, are a cut


class NoFaceError(InputError):
    """No face was found in any frame of a driver."""


@dataclass
class MotionTrack:
    """The landmarks of the driver's face in each frame.

    landmarks: (T, 478, 3) float32, px of frames of `size` (width, height): an array, or an ArrayFile for videos, which
    may be long. Both are read by `[t]` and `[a:b]`. fps: the exact frame rate. found: (T,) bool,
    False where the face was lost and its landmarks are held or interpolated. n_faces: how many faces the first frame
    with any shows. cuts: the first frames of new shots. rest: (478, 3) px, the driver's face at rest, looking straight
    ahead, if that is known; None if it is to be the frame that suits the portrait best.
    """

    landmarks: np.ndarray | ArrayFile
    size: tuple[int, int]
    fps: Fraction
    found: np.ndarray
    n_faces: int = 1
    cuts: tuple[int, ...] = ()
    rest: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.landmarks)

    def mirrored(self) -> "MotionTrack":
        """Return the same motion as seen in a mirror."""
        flip = lambda landmarks: mirrored_landmarks(landmarks, self.size[0])
        rest = None if self.rest is None else flip(self.rest)
        landmarks = ArrayFile.of(np.stack([flip(face) for face in part]) for part in blocks(self.landmarks))
        return replace(self, landmarks=landmarks, rest=rest)

    def lost_ranges(self) -> list[tuple[int, int]]:
        """Return the first and the last frame, counted from 0, of every stretch without a face."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], ~self.found, [0]])))
        return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


def track_video(
    frames: Iterable[np.ndarray], fps: Fraction, name: str, face: int = 1, tracker: str = "mediapipe"
) -> Iterator[MotionTrack | int]:
    """Follow one face through frames (H, W, 3) uint8 RGB.

    Yields the number of frames done after each frame, and the MotionTrack at the end. If the face is lost for longer
    than HOLD_SECONDS, or by a cut, it is looked for everywhere: first where it was, then the largest face is taken.

    name: of the video, for messages. face: 1 is the largest in the first frame that shows any, 2 the next largest.
    tracker: "mediapipe" or "face-alignment".

    Raises InputError if there are no frames, NoFaceError if none shows a face, and UsageError if there are fewer than
    `face` faces.
    """
    following = _Following(fps, name, face, tracker)
    try:
        for image in frames:
            following.add(image)
            yield len(following.found)
    finally:
        following.close()
    if not following.found:
        raise InputError(f"{name}: it gave no frame; check it, or use another driver.")
    if not any(following.found):
        raise NoFaceError(
            f"{name}: no face found in any of its {len(following.found)} frames; use a clip that shows one face "
            f"clearly{no_face_advice(tracker)}."
        )
    yield following.track()


class _Following:
    """Follows one face from frame to frame.

    found: for each frame so far whether the face was found. cuts: the first frames of new shots.
    """

    def __init__(self, fps: Fraction, name: str, face: int, tracker: str):
        self._fps, self._name, self._face, self._tracker = fps, name, face, tracker
        self._search: Tracker = FaceAlignmentTracker() if tracker == "face-alignment" else MediaPipeTracker()
        self._follow: Tracker | None = None
        self._place: Face | None = None  # where the face is expected; None: not found yet
        self._seen: Face | None = None  # as it was found last
        self._lost = 0  # frames since then
        self._changed = False  # whether the picture changed as by a cut since then
        self._thumb: np.ndarray | None = None
        self._size: tuple[int, int] = (0, 0)
        self._n_faces = 0
        self._landmarks = ArrayFile((N_LANDMARKS, 3))  # zeros where it was not found
        self.found: list[bool] = []
        self.cuts: list[int] = []

    def add(self, image: np.ndarray) -> None:
        """Find the face in the next frame (H, W, 3) uint8 RGB."""
        self._size = (image.shape[1], image.shape[0])
        thumb = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
        changed = self._thumb is not None and float(np.abs(thumb - self._thumb).mean()) > CUT_CHANGE
        self._thumb = thumb
        self._changed |= changed
        if self._place is None:
            self._begin(image)
        elif changed:
            self._look_again(image, self._place)
        here = self._find(image, self._place) if self._place is not None else None
        if here is None:
            self._lost += 1
        else:
            if self._seen is not None and self._is_cut(self._seen, here):
                self.cuts.append(len(self.found))
            self._seen = self._place = here
            self._lost, self._changed = 0, False
        self.found.append(here is not None)
        self._landmarks.append(np.zeros((N_LANDMARKS, 3)) if here is None else here.landmarks)

    def track(self) -> MotionTrack:
        """Return the landmarks of all frames, with the gaps filled. The face must have been found at least once."""
        found = np.array(self.found)
        fill_gaps(self._landmarks, found, float(self._fps), self.cuts)
        return MotionTrack(self._landmarks, self._size, self._fps, found, self._n_faces, tuple(self.cuts))

    def close(self) -> None:
        """Free the trackers."""
        for used in {self._search, self._follow}:
            if used is not None:
                used.close()

    def _begin(self, image: np.ndarray) -> None:
        """Look for the wanted face for the first time."""
        found = self._search.faces(image) or ([] if self.found else find_faces(image, self._tracker))
        if not found:
            return
        if self._face > len(found):
            shows = f"only {len(found)} face{'s'[: len(found) > 1]}"
            raise UsageError(
                f"{self._name}: --driver-face {self._face} was asked for, but frame {len(self.found)} shows {shows}."
            )
        self._n_faces = len(found)
        self._place = found[self._face - 1]
        self._start_tracker(image)

    def _look_again(self, image: np.ndarray, place: Face) -> None:
        """After what may be a cut, go on with the face where it was expected, or else with the largest face."""
        found = self._search.faces(image)
        if found:
            near = min(found, key=lambda face: _distance(face, place))
            self._place = near if _distance(near, place) < 0.5 * place.size else found[0]
            self._n_faces = max(self._n_faces, len(found))
        self._start_tracker(image)

    def _start_tracker(self, image: np.ndarray) -> None:
        """Start a tracker that knows nothing of the frames before."""
        if self._follow is not None and self._follow is not self._search:
            self._follow.close()
        slow = self._tracker == "face-alignment"
        count = 1 if self._n_faces == 1 else MAX_FACES
        self._follow = self._search if slow else MediaPipeTracker(video=True, max_faces=count)
        for _ in range(0 if slow else SETTLE):
            self._follow.faces(image)

    def _find(self, image: np.ndarray, place: Face) -> Face | None:
        """Find the face near the place where it is expected, or anywhere if it has been lost for long."""
        assert self._follow is not None
        found = self._follow.faces(image)
        near = [face for face in found if _distance(face, place) < 1.5 * place.size]
        if not near and self._lost > HOLD_SECONDS * self._fps:
            near = found[:1]
        return min(near, key=lambda face: _distance(face, place), default=None)

    def _is_cut(self, before: Face, here: Face) -> bool:
        """Tell whether the face jumped as by a cut from where it was found before."""
        jump = np.linalg.norm((here.landmarks - before.landmarks)[:, :2], axis=1).mean()
        jump /= face_height(before.landmarks)
        return bool(jump > CUT_JUMP if self._changed else jump > FAR_JUMP and self._lost == 0)


def _distance(a: Face, b: Face) -> float:
    """Return the distance between the centres of two faces, px."""
    return float(np.linalg.norm(a.centre - b.centre))


def fill_gaps(landmarks: np.ndarray | ArrayFile, found: np.ndarray, fps: float, cuts: Iterable[int] = ()) -> None:
    """Bridge the frames without a face: write landmarks (T, 478, 3) where found (T,) is False.

    In a gap the last landmarks are held, and then moved smoothly to those after the gap, unless these follow a cut.
    At least one frame must have a face.
    """
    seen = np.flatnonzero(found)
    landmarks[: seen[0]] = landmarks[seen[0]]
    landmarks[seen[-1] + 1 :] = landmarks[seen[-1]]
    ease = max(2, round(2 * HOLD_SECONDS * fps))
    for last in np.flatnonzero(np.diff(seen) > 1):
        a, b = int(seen[last]), int(seen[last + 1])
        before, after = landmarks[a], landmarks[b]
        for first, end in block_ranges(b - a - 1):
            places = np.arange(a + 1 + first, a + 1 + end)
            t = smoothstep((places - max(a, b - ease)) / (b - max(a, b - ease)))
            t = t.astype(np.float32)[:, None, None] * (b not in cuts)
            landmarks[places[0] : places[-1] + 1] = before * (1 - t) + after * t
