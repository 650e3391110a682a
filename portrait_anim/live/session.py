"""The engine: pictures of a camera go in, pictures of the moving portrait come out, and what is late is dropped.

There is room for a single picture of the camera, the newest, so nothing queues and nothing grows. A thread that has
finished a picture takes the next one, looks for the face, moves the portrait's, and renders it: each picture is made by
one thread from start to end, one thread per core. No face is looked for in pictures that nobody has time to render.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import cv2
import numpy as np

from ..geometry.warp import Box
from ..landmarks.following import TRACK_SIZE
from ..media.photo import fit_size
from ..motion.causal import CausalRetargeter
from ..motion.options import MotionOptions
from ..painting.renderer import Renderer
from ..provenance.marks import labelled
from ..system.threads import cores, single_threaded_libraries
from .following import FaceFollower
from .sizes import WINDOW_SECONDS, Pace, RenderersBySize, SizedPortrait

MAX_THREADS = 4  # that make pictures; more would only wait for the next picture of the camera
RATE, FAST_RATE = 15.0, 24.0  # pictures/s to hold, the second where there is bf16 or a GPU


@dataclass(frozen=True)
class Picture:
    """The portrait as it looks now.

    image: (H, W, 3) uint8 RGB. encoded: what the session's `encode` made of it, None without one. taken: the time of
    the camera's picture that it follows, s, by the camera's clock.
    """

    image: np.ndarray
    encoded: bytes | None
    taken: float


@dataclass(frozen=True)
class Status:
    """How a session does.

    size: (width, height) px of the last picture. rate: pictures/s over the last seconds. wanted: those that are to be
    held. capacity: those that could be made, None while that is not known. holds: whether `wanted` is held. has_face:
    whether the person is seen. n_faces: how many faces are. given, shown: how many pictures of the camera came, and how
    many pictures were made of them; the others were dropped.
    """

    size: tuple[int, int]
    rate: float
    wanted: float
    capacity: float | None
    holds: bool
    has_face: bool
    n_faces: int
    given: int
    shown: int


class Latest:
    """Room for one item: a newer one takes the place of one that nobody has taken yet."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: tuple | None = None
        self._closed = False

    def put(self, *item) -> None:
        """Leave an item for whoever takes it first."""
        with self._changed:
            self._item = item
            self._changed.notify()

    def take(self, timeout: float | None = None) -> tuple | None:
        """Wait for an item and return it; None when there will be none any more, or none within `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, timeout)
            item, self._item = self._item, None
            return None if self._closed else item

    def close(self) -> None:
        """Let everybody who waits go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


@dataclass(frozen=True)
class _Target:
    """What is to be rendered: the landmarks in the crop, and the box of it to be painted, in this order."""

    number: int
    taken: float
    landmarks: np.ndarray
    box: Box


class LiveSession:
    """One person before one camera, and the portrait that follows them. Use it as a context manager.

    renderers: of the portrait. options: how motion is transferred, relative only. rate: pictures/s to hold. threads:
    that make pictures, None for one per core. pace: of an earlier session of the same portrait, which knows what size
    suits this machine. label: whether to write a small "AI" into the pictures. encode: makes bytes of a finished
    picture, such as a JPEG file. watch: called with every finished picture in its order, by the threads that make them.

    What goes wrong in its threads is raised by `take`.
    """

    def __init__(
        self,
        renderers: RenderersBySize,
        options: MotionOptions = MotionOptions(),
        rate: float = RATE,
        threads: int | None = None,
        pace: Pace | None = None,
        label: bool = True,
        encode: Callable[[np.ndarray], bytes] | None = None,
        watch: Callable[[Picture], None] | None = None,
    ):
        self._renderers, self._label, self._encode, self._watch = renderers, label, encode, watch
        self._threads = min(threads or cores(), MAX_THREADS)
        self.pace = pace or Pace(renderers.sizes, rate, self._threads)
        self._motion = CausalRetargeter(renderers.canvas, options)
        self._frames_lock, self._motion_lock = threading.Lock(), threading.Lock()
        self._follower: FaceFollower | None = None
        self._box = renderers.grown(None, self._motion)
        self._frames, self._pictures = Latest(), Latest()
        self._lock = threading.Lock()  # of what follows
        self._rendering: tuple[SizedPortrait, Box, Renderer] | None = None
        self._number = self._shown_number = 0
        self._given = self._shown = 0
        self._times: deque[float] = deque()  # when the last pictures were ready
        self._size = (0, 0)
        self._has_face = False
        self._error: BaseException | None = None
        self._workers: list[threading.Thread] = []
        self._begun = ExitStack()

    def __enter__(self) -> "LiveSession":
        self._begun.enter_context(single_threaded_libraries())
        self._follower = FaceFollower()
        self._show(self._next_target(0.0), time.perf_counter())  # the portrait as it is, before anybody is seen
        self._workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self._threads)]
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *error) -> None:
        self._frames.close()
        self._pictures.close()
        for worker in self._workers:
            worker.join()
        if self._follower is not None:
            self._follower.close()
        self._begun.close()

    def put(self, frame: np.ndarray | Callable[[], np.ndarray], taken: float) -> None:
        """Give the newest picture of the camera; one that is still waiting is dropped.

        frame: (H, W, 3) uint8 RGB, or what reads it, so that dropped pictures need not be decoded. taken: its time, s,
        by any clock that rises.
        """
        with self._lock:
            self._given += 1
        self._frames.put(frame, taken)

    def take(self, timeout: float | None = None) -> Picture | None:
        """Wait for the newest picture of the portrait, and return it.

        None if there is none within `timeout` seconds, or if the session has ended. Raises what has gone wrong.
        """
        item = self._pictures.take(timeout)
        if self._error is not None:
            raise self._error
        return item[0] if item else None

    def calibrate(self) -> None:
        """Take the driver's face of the next second as that of the portrait as it is, whoever is the largest then."""
        with self._motion_lock:
            self._motion.calibrate()
            if self._follower is not None:
                self._follower.release()

    def change(self, options: MotionOptions) -> None:
        """Go on with other options. Raises UsageError for impossible ones."""
        with self._motion_lock:
            self._motion.change(options)

    @property
    def options(self) -> MotionOptions:
        """The options that hold now."""
        return self._motion.options

    def status(self) -> Status:
        """Return how the session does."""
        with self._lock:
            now, pace = time.monotonic(), self.pace
            rate = sum(ready > now - WINDOW_SECONDS for ready in self._times) / WINDOW_SECONDS
            face = (self._has_face, self._follower.n_faces if self._follower else 0)
            done = (self._given, self._shown)
            return Status(self._size, rate, pace.rate, pace.capacity, pace.holds, *face, *done)

    # ---------------------------------------------------------------- what the threads do

    def _work(self) -> None:
        """Make one picture after the other, always of the newest of the camera."""
        try:
            while True:
                with self._frames_lock:  # one after the other, in the order of their times
                    item = self._frames.take()
                    if item is None:
                        return
                    begin = time.perf_counter()
                    target = self._follow(*item)
                if target is not None:
                    self._show(target, begin)
        except BaseException as error:
            self._error = self._error or error
            self._pictures.put(None)  # wakes whoever waits for a picture

    def _follow(self, frame: np.ndarray | Callable[[], np.ndarray], taken: float) -> _Target | None:
        """Look for the face in a picture of the camera, and return where the portrait's is to be, None without one."""
        assert self._follower is not None
        image = fit_size(frame() if callable(frame) else frame, TRACK_SIZE)
        with self._motion_lock:
            face = self._follower.see(image, taken)
            self._has_face = face is not None
            if face is None:
                return None  # the portrait stays as it is
            if self._follower.is_new:
                self._motion.meet()
            self._motion.see(face.landmarks / max(image.shape[:2]), taken)
            return self._next_target(taken)

    def _next_target(self, taken: float) -> _Target:
        self._box = self._renderers.grown(self._box, self._motion)
        self._number += 1
        return _Target(self._number, taken, self._motion.target, self._box)

    def _show(self, target: _Target, begin: float) -> None:
        """Render a target, and let it be seen unless a newer one was. begin: when the work for it began."""
        sized, renderer = self._renderer(target.box)
        image = renderer.frame(target.landmarks)
        if self._label:
            image = next(labelled([image]))
        picture = Picture(image, self._encode(image) if self._encode else None, target.taken)
        busy = time.perf_counter() - begin
        with self._lock:
            now = time.monotonic()
            self.pace.note(now, sized.size, busy)
            if target.number < self._shown_number:
                return  # another thread was quicker with a newer one
            self._shown_number, self._shown = target.number, self._shown + 1
            self._size = (image.shape[1], image.shape[0])
            self._times.append(now)
            while self._times[0] < now - WINDOW_SECONDS:
                self._times.popleft()
            if self._watch:
                self._watch(picture)
            self._pictures.put(picture)

    def _renderer(self, box: Box) -> tuple[SizedPortrait, Renderer]:
        """Return the renderer for a box in the size that the pace asks for, or in the nearest that is ready."""
        with self._lock:
            sized = self._renderers.nearest(self.pace.size)
            if self._rendering is None or self._rendering[0] is not sized or self._rendering[1] != box:
                self._rendering = (sized, box, self._renderers.renderer(sized, box))
            return sized, self._rendering[2]


def jpeg(image: np.ndarray, quality: int = 88) -> bytes:
    """Return a picture (H, W, 3) uint8 RGB as a JPEG file."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
