"""Drivers of every kind: a video, a single image, a saved motion, a built-in one, a camera -> MotionTrack."""

import difflib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..errors import InputError, UsageError
from ..geometry.expressions import at_rest
from ..landmarks.following import TRACK_SIZE, MotionTrack, NoFaceError, track_video
from ..landmarks.tracking import find_faces, has_face_alignment, no_face_advice
from ..media.photo import SEARCH_SIZE, fit_size, load_photo
from ..media.reading import MAX_FPS, MIN_FPS, FrameReader
from .builtin import NAMES, make_motion
from .file import load_motion

STILL_SECONDS = 2.0  # of a single image: its pose is reached in the first half and held
IMAGE_SUFFIXES = {
    ".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".jp2", ".tga", ".ppm", ".ico",
}  # fmt: skip
DEFAULT_FPS = Fraction(25)  # of what has no rate of its own


@dataclass
class Driver:
    """A driver made ready. has_audio: whether its file has sound, which begins `start` seconds into it.

    still: a single image, whose pose and expression are to be reached from the portrait's own and held.
    """

    track: MotionTrack
    has_audio: bool = False
    start: float = 0.0
    warnings: list[str] = field(default_factory=list)
    still: bool = False


def kind_of(driver: str | Path) -> str:
    """ "camera", "saved", "image", "built-in" or "video". A file wins over a built-in motion of its name.

    Raises InputError for a word that is neither, and UsageError for a camera without a number; names with a suffix
    are left to whoever reads the file.
    """
    name = str(driver)
    if name.startswith("camera:"):
        number = name.removeprefix("camera:")
        if not (number.isascii() and number.isdigit()):
            raise UsageError(f"{name}: a camera is named by its number, as in camera:0.")
        return "camera"
    if not os.path.isfile(name) and name in NAMES:
        return "built-in"
    if not os.path.lexists(name) and name.replace("-", "").replace("_", "").isalpha():
        near = difflib.get_close_matches(name.lower(), NAMES, 1, 0.5)
        meant = f"did you mean {near[0]}?" if near else "animate --list-motions shows those that there are."
        raise InputError(f"{name}: no such file, and no built-in motion of that name; {meant}")
    suffix = Path(name).suffix.lower()
    return "saved" if suffix == ".npz" else "image" if suffix in IMAGE_SUFFIXES else "video"


def load_driver(
    driver: str | Path,
    face: int = 1,
    tracker: str = "auto",
    start: float | None = None,
    end: float | None = None,
    fps: float | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Driver:
    """Read a driver: a video, an image, an .npz of --save-motion, the name of a built-in motion, or camera:0.

    face: of those it shows, 1 is the largest. start, end: seconds; of a camera and an image only end, how long they
    last. fps: another frame rate than its own. Raises InputError or UsageError.
    """
    kind = kind_of(driver)
    if kind == "video":
        return _video(driver, face, tracker, start, end, fps, progress)
    _check_times(start, end, fps)
    rate = None if fps is None else Fraction(fps).limit_denominator(100_000)
    if kind in ("camera", "image") and start:
        raise UsageError(f"{driver}: --start has no meaning for {'a camera' if kind == 'camera' else 'an image'}.")
    if kind == "camera":
        return _camera(str(driver), face, tracker, end, rate, progress)
    if kind == "image":
        progress(0, 1)
        ready = _image(driver, face, tracker, end or STILL_SECONDS, rate or DEFAULT_FPS)
        progress(1, 1)
        return ready
    progress(0, 0)  # a motion is not tracked
    track = load_motion(driver) if kind == "saved" else make_motion(str(driver), rate or DEFAULT_FPS)
    return Driver(_cut(track, str(driver), start, end, rate))


def _check_times(start: float | None, end: float | None, fps: float | None) -> None:
    """What FrameReader checks for videos."""
    if start is not None and not 0 <= start < float("inf"):
        raise UsageError(f"start is {start} s; it must be a number of seconds, 0 or more.")
    if end is not None and not (start or 0) < end < float("inf"):
        raise UsageError(f"end ({end} s) must be a number of seconds after start ({start or 0:g} s).")
    if fps is not None and not MIN_FPS <= fps <= MAX_FPS:
        raise UsageError(f"frame rate {fps} is impossible; give {MIN_FPS} or more, up to {MAX_FPS}.")


def _cut(track: MotionTrack, name: str, start: float | None, end: float | None, fps: Fraction | None) -> MotionTrack:
    """The part of a track from start to end, at another rate if wanted."""
    own = float(track.fps)
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
    landmarks = track.landmarks[first]
    if share.any():
        landmarks = (1 - share) * landmarks + share * track.landmarks[np.minimum(first + 1, len(track) - 1)]
    cuts = tuple(int(c) for c in np.unique(np.searchsorted(first, track.cuts)) if 0 < c < len(first))
    return replace(track, landmarks=landmarks, found=track.found[first], cuts=cuts, fps=fps or track.fps)


# ---------------------------------------------------------------- videos and cameras


def _video(driver, face, tracker, start, end, fps, progress) -> Driver:
    reader = FrameReader(driver, start, end, fps, max_side=TRACK_SIZE)
    show = lambda done: progress(done, reader.expected_frames)
    with reader:
        track = _follow(lambda: reader, reader.fps, str(driver), face, tracker, show)
    return Driver(track, reader.info.has_audio, reader.start, _report(track, str(driver), face) + reader.warnings)


def _follow(frames: Callable, fps: Fraction, name: str, face: int, tracker: str, show: Callable) -> MotionTrack:
    """The track of frames(), which can be asked for twice; show gets the number of frames that were followed."""
    for state in _followed(frames, fps, name, face, tracker):
        if isinstance(state, MotionTrack):
            return state
        show(state)
    raise AssertionError("track_video ends with the track")


def _followed(frames: Callable, fps: Fraction, name: str, face: int, tracker: str) -> Iterator[int | MotionTrack]:
    """What `track_video` gives. "auto" is MediaPipe, and face-alignment if that finds no face and this is there."""
    if tracker == "auto" and has_face_alignment():
        try:
            yield from track_video(frames(), fps, name, face, "mediapipe")
            return
        except NoFaceError:
            tracker = "face-alignment"
    yield from track_video(frames(), fps, name, face, tracker)


def _report(track: MotionTrack, name: str, face: int) -> list[str]:
    """What a user should know about a track."""
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


def _camera(name: str, face, tracker, end, fps, progress) -> Driver:
    import cv2

    if end is None and threading.current_thread() is not threading.main_thread():
        raise UsageError(f"{name}: --end SECONDS is needed to record from a camera.")
    cv2.setLogLevel(0)
    capture = cv2.VideoCapture(int(name.removeprefix("camera:")[:9]))
    try:
        if not capture.isOpened():
            raise InputError(f"{name}: there is no such camera, or it is in use; try another number, or a video file.")
        times: list[float] = []
        expected = None if end is None else round(end * (capture.get(cv2.CAP_PROP_FPS) or 25))
        show = lambda done: progress(done, None if expected is None else max(done, expected))
        with _stop_on_interrupt() as stopped:
            frames = lambda: _recorded(capture, end, times, stopped)
            track = _follow(frames, DEFAULT_FPS, name, face, "mediapipe" if tracker == "auto" else tracker, show)
    finally:
        capture.release()
    # Cameras do not keep the rate they state, in the dark above all: frames are put where they were taken.
    taken = np.array(times) - times[0]
    mean = (len(times) - 1) / taken[-1] if len(times) > 1 and taken[-1] > 0 else float(DEFAULT_FPS)
    rate = fps or Fraction(round(min(max(mean, 1), 60)))
    nearest = np.searchsorted(taken, np.arange(max(1, int(taken[-1] * rate) + 1)) / float(rate), "right") - 1
    track = replace(track, landmarks=track.landmarks[nearest], found=track.found[nearest], fps=rate)
    track = replace(track, cuts=tuple(int(c) for c in np.searchsorted(nearest, track.cuts) if 0 < c < len(nearest)))
    return Driver(track, warnings=_report(track, name, face))


def _recorded(capture, end: float | None, times: list[float], stopped: threading.Event) -> Iterator[np.ndarray]:
    """Frames of a camera (H, W, 3) RGB until the end, its own or Ctrl-C; when each was taken goes to times."""
    while not stopped.is_set():
        here, frame = capture.read()
        now = time.monotonic()
        if not here or (end is not None and times and now - times[0] >= end):
            return
        times.append(now)
        yield np.ascontiguousarray(frame[..., ::-1])


@contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """Ctrl-C sets the event instead of ending the program."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.signal(signal.SIGINT, lambda *_: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


# ---------------------------------------------------------------- a single image


def _image(driver, face: int, tracker: str, seconds: float, fps: Fraction) -> Driver:
    image = fit_size(load_photo(driver), SEARCH_SIZE)
    faces = find_faces(image, tracker)
    if not faces:
        raise InputError(
            f"{driver}: no face found; use a picture that shows one face clearly{no_face_advice(tracker)}."
        )
    if face > len(faces):
        raise UsageError(f"{driver}: --driver-face {face} was asked for, but the picture shows {len(faces)}.")
    landmarks = faces[face - 1].landmarks
    count = max(2, round(seconds * fps))
    track = MotionTrack(
        np.repeat(landmarks[None].astype(np.float32), count, 0),
        image.shape[1::-1],
        fps,
        np.ones(count, bool),
        len(faces),
        rest=at_rest(landmarks),
    )
    return Driver(track, warnings=_report(track, str(driver), face), still=True)
