"""Read a driver of any kind, and return its motion: a video, an image, a saved or built-in motion, or a camera."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

import cv2
import numpy as np

from ..errors import InputError, UsageError
from ..geometry.expressions import at_rest
from ..landmarks.following import TRACK_SIZE, MotionTrack, NoFaceError, track_video
from ..landmarks.tracking import find_faces, has_face_alignment, no_face_advice
from ..media.camera import open_camera, record, stop_on_interrupt
from ..media.photo import SEARCH_SIZE, fit_size, load_photo
from ..media.reading import FrameReader
from ..system.files import PathLike
from ..system.sequences import ArrayFile, FrameSequence, block_ranges
from .builtin import make_motion
from .file import load_motion
from .source import DriverSource

STILL_SECONDS = 2.0  # duration that a single image stands for: its pose is reached in the first half and then held
DEFAULT_FPS = Fraction(25)  # of drivers without a frame rate of their own


@dataclass
class Driver:
    """A driver that has been read.

    track: its motion. has_audio: whether its file has sound. start: the seconds into the file at which motion and sound
    begin. warnings: sentences for the user. still: whether it is a single image, whose pose and expression are to be
    reached from the portrait's own and then held.
    """

    track: MotionTrack
    has_audio: bool = False
    start: float = 0.0
    warnings: list[str] = field(default_factory=list)
    still: bool = False


def load_driver(
    driver: PathLike | DriverSource,
    face: int = 1,
    tracker: str = "auto",
    start: float | None = None,
    end: float | None = None,
    fps: float | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Driver:
    """Read a driver: a video, an image, an .npz file of --save-motion, the name of a built-in motion, or camera:0.

    face: which of the faces to follow, 1 is the largest. tracker: "auto", "mediapipe" or "face-alignment". start, end:
    seconds; a camera or an image has only an end, which is how long it lasts. fps: another frame rate than the driver's
    own. progress: called with the number of frames done and of all frames, None if that is not known.

    Raises InputError if the driver cannot be read or shows no face, and UsageError for impossible values.
    """
    source = DriverSource.of(driver)
    source.check_times(start, end, fps)
    name, kind = source.name, source.kind
    if kind == "video":
        return _video(name, face, tracker, start, end, fps, progress)
    rate = None if fps is None else Fraction(fps).limit_denominator(100_000)
    if kind == "camera":
        return _camera(name, face, tracker, end, rate, progress)
    if kind == "image":
        progress(0, 1)
        ready = _image(name, face, tracker, end or STILL_SECONDS, rate or DEFAULT_FPS)
        progress(1, 1)
        return ready
    progress(0, 0)  # a motion is not tracked
    track = load_motion(name) if kind == "saved" else make_motion(name, rate or DEFAULT_FPS)
    return Driver(_cut(track, name, start, end, rate))


def _cut(track: MotionTrack, name: str, start: float | None, end: float | None, fps: Fraction | None) -> MotionTrack:
    """Return the part of a track from start to end, in seconds, at another frame rate if fps is not None."""
    own = float(track.fps)
    if start is None and end is None and fps is None:
        return track
    if start and start * own > len(track) - 1:
        raise InputError(
            f"{name}: start at {start:g} s is beyond its end at {len(track) / own:g} s; give a smaller one."
        )
    rate = float(fps or own)
    seconds = min(end or float("inf"), len(track) / own) - (start or 0)
    places = np.minimum((start or 0) * own + np.arange(max(1, round(seconds * rate))) * own / rate, len(track) - 1)
    first = places.astype(int)
    share = (places - first).astype(np.float32)[:, None, None]
    share[np.isin(first + 1, track.cuts)] = 0  # nothing lies between two shots
    second = np.minimum(first + 1, len(track) - 1)
    between = lambda a, b: (
        (1 - share[a:b]) * _picked(track.landmarks, first[a:b]) + (share[a:b] * _picked(track.landmarks, second[a:b]))
    )
    landmarks = ArrayFile.of(between(*part) for part in block_ranges(len(first)))
    cuts = tuple(int(c) for c in np.unique(np.searchsorted(first, track.cuts)) if 0 < c < len(first))
    return replace(track, landmarks=landmarks, found=track.found[first], cuts=cuts, fps=fps or track.fps)


def _picked(landmarks: FrameSequence, numbers: np.ndarray) -> np.ndarray:
    """Return the landmarks (n, 478, 3) of the frames with these numbers (n,)."""
    return np.stack([landmarks[t] for t in numbers])


# ---------------------------------------------------------------- videos and cameras


def _video(
    name: str,
    face: int,
    tracker: str,
    start: float | None,
    end: float | None,
    fps: float | None,
    progress: Callable,
) -> Driver:
    """Follow a face through a video."""
    reader = FrameReader(name, start, end, fps, max_side=TRACK_SIZE)
    show = lambda done: progress(done, reader.expected_frames)
    with reader:
        track = _follow(lambda: reader, reader.fps, name, face, tracker, show)
    return Driver(track, reader.info.has_audio, reader.start, _report(track, name, face) + reader.warnings)


def _follow(frames: Callable, fps: Fraction, name: str, face: int, tracker: str, show: Callable) -> MotionTrack:
    """Follow a face, and return its track.

    frames: returns the frames; it may be called twice. show: called with the number of frames done.
    """
    for state in _followed(frames, fps, name, face, tracker):
        if isinstance(state, MotionTrack):
            return state
        show(state)
    raise AssertionError("track_video ends with the track")


def _followed(frames: Callable, fps: Fraction, name: str, face: int, tracker: str) -> Iterator[int | MotionTrack]:
    """Yield what `track_video` yields.

    The tracker "auto" is MediaPipe, and then face-alignment if no face was found and its networks are there.
    """
    if tracker == "auto" and has_face_alignment():
        try:
            yield from track_video(frames(), fps, name, face, "mediapipe")
            return
        except NoFaceError:
            tracker = "face-alignment"
    yield from track_video(frames(), fps, name, face, tracker)


def _report(track: MotionTrack, name: str, face: int) -> list[str]:
    """Return warnings about a track, as sentences for the user."""
    some = lambda texts: ", ".join(texts[:8]) + (", ..." if len(texts) > 8 else "")
    warnings = []
    if track.n_faces > 1 and face == 1:
        warnings.append(f"{name}: shows {track.n_faces} faces, followed the largest; --driver-face 2 is the next.")
    if lost := track.lost_ranges():
        spans = some([str(a) if a == b else f"{a}-{b}" for a, b in lost])
        warnings.append(f"{name}: no face in frames {spans}; the nearest pose was held.")
    if track.cuts:
        plural = "s" * (len(track.cuts) > 1)
        warnings.append(
            f"{name}: cut{plural} at frame{plural} {some([str(c) for c in track.cuts])}; moved over smoothly."
        )
    return warnings


def _camera(name: str, face: int, tracker: str, end: float | None, fps: Fraction | None, progress: Callable) -> Driver:
    """Record from a camera, for `end` seconds or until Ctrl-C, while the face is followed."""
    if end is None and threading.current_thread() is not threading.main_thread():
        raise UsageError(f"{name}: --end SECONDS is needed to record from a camera.")
    times: list[float] = []
    with open_camera(name) as capture, stop_on_interrupt() as stopped:
        expected = None if end is None else round(end * (capture.get(cv2.CAP_PROP_FPS) or 25))
        show = lambda done: progress(done, None if expected is None else max(done, expected))
        frames = lambda: record(capture, end, times, stopped)
        track = _follow(frames, DEFAULT_FPS, name, face, "mediapipe" if tracker == "auto" else tracker, show)
    # Cameras do not keep the rate that they state, above all in the dark. So frames are placed by when they were taken.
    taken = np.array(times) - times[0]
    mean = (len(times) - 1) / taken[-1] if len(times) > 1 and taken[-1] > 0 else float(DEFAULT_FPS)
    rate = fps or Fraction(round(min(max(mean, 1), 60)))
    nearest = np.searchsorted(taken, np.arange(max(1, int(taken[-1] * rate) + 1)) / float(rate), "right") - 1
    landmarks = ArrayFile.of(_picked(track.landmarks, nearest[a:b]) for a, b in block_ranges(len(nearest)))
    track = replace(track, landmarks=landmarks, found=track.found[nearest], fps=rate)
    track = replace(track, cuts=tuple(int(c) for c in np.searchsorted(nearest, track.cuts) if 0 < c < len(nearest)))
    return Driver(track, warnings=_report(track, name, face))


# ---------------------------------------------------------------- a single image


def _image(name: str, face: int, tracker: str, seconds: float, fps: Fraction) -> Driver:
    """Read a single image as a track of the given duration that does not move."""
    image = fit_size(load_photo(name), SEARCH_SIZE)
    faces = find_faces(image, tracker)
    if not faces:
        raise InputError(f"{name}: no face found; use a picture that shows one face clearly{no_face_advice(tracker)}.")
    if face > len(faces):
        raise UsageError(f"{name}: --driver-face {face} was asked for, but the picture shows {len(faces)}.")
    landmarks = faces[face - 1].landmarks
    count = max(2, round(seconds * fps))
    track = MotionTrack(
        np.repeat(landmarks[None].astype(np.float32), count, 0),
        (image.shape[1], image.shape[0]),
        fps,
        np.ones(count, bool),
        len(faces),
        rest=at_rest(landmarks),
    )
    return Driver(track, warnings=_report(track, name, face), still=True)
