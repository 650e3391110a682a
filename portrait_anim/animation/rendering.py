"""The frames of one output: rendered by several threads, then what the user wants to see over or beside them."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from ..media.reading import FrameReader
from ..motion.drivers import Driver
from ..motion.retarget import Retargeter
from ..motion.timeline import Timeline
from ..painting.person import Person
from ..portrait.portrait import Portrait
from ..provenance.marks import Marking, labelled
from ..system.threads import single_threaded_libraries
from .outputs import PictureWriter, SheetWriter, VideoWriter, Writer
from .overlays import Comparison, SelectedFrames, with_mesh
from .request import Request

if TYPE_CHECKING:
    from ..painting.renderer import Renderer


class Rendering:
    """All that is rendered for one request: which frames there are, how they are made, what writes them.

    size: (width, height) of the frames. count: how many. warnings: sentences for the user.
    """

    def __init__(self, request: Request, person: Person, driver: Driver, threads: int):
        from ..painting.renderer import Renderer, painted_box

        self._request, self._driver, self._threads = request, driver, threads
        self._portrait: Portrait = person.portraits[0]
        self.warnings: list[str] = []
        options, track = request.options, driver.track
        canvas = self._portrait.views[0]
        retargeted = Retargeter(track, canvas.landmarks, options)
        box = painted_box(retargeted, canvas)
        self._renderer = Renderer.of(self._portrait, person.generator(), box, options.teeth)
        still = canvas.landmarks if driver.still else None
        timing = (options.speed, options.pingpong, options.loop, still)
        self._targets: Sequence = Timeline(retargeted, float(track.fps), track.cuts, *timing)
        self._numbers: Sequence[int] = range(len(self._targets))  # the driver's frame of each, as far as it is shown
        if request.kind == "sheet":
            self._targets = SelectedFrames(self._targets)
            self._numbers = self._targets.numbers
        elif request.kind == "picture":
            self._targets = [self._targets[len(self._targets) - 1]]
        self._comparison = self._compare() if options.compare else None
        self.size = self._comparison.size if self._comparison else self._portrait.photo.shape[1::-1]
        self.count = len(self._targets)

    def _compare(self) -> Comparison:
        request, photo = self._request, self._portrait.photo
        reader = FrameReader(request.driver.name, *request.driver_range, max_side=max(photo.shape[:2]))
        return Comparison(photo, reader, self._driver.track if request.options.show_mesh else None)

    def frames(self) -> Generator[np.ndarray, None, None]:
        """Yield the finished frames (H, W, 3) uint8 in their order."""
        frames = rendered(self._renderer, self._targets, self._threads)
        if self._request.options.show_mesh:
            frames = with_mesh(frames, self._targets, self._portrait)
        if self._comparison:
            frames = self._comparison.frames(frames, self._numbers)
        if self._request.options.label:
            frames = labelled(frames)
        return frames

    def writer(self, marking: Marking) -> Writer:
        """Return what writes the frames to the request's output. marking: called with each finished file."""
        request, options, fps = self._request, self._request.options, self._driver.track.fps
        if request.kind == "sheet":
            return SheetWriter(request.output, marking, list(self._numbers), fps)
        if request.kind == "picture":
            return PictureWriter(request.output, marking)
        sound = None
        if options.audio and self._driver.has_audio:
            if options.retimed:
                self.warnings.append(
                    f"{request.driver.name}: its sound does not fit --speed, --pingpong or --loop and was left out."
                )
            else:
                sound = request.driver.name
        return VideoWriter(
            request.output,
            self.size,
            fps,
            options.crf,
            sound,
            self._driver.start,
            marking.tags,
            options.force,
            marking,
        )


def rendered(renderer: "Renderer", targets: Sequence, threads: int) -> Generator[np.ndarray, None, None]:
    """Yield the frame of each of the targets, in order, made by so many threads.

    Each frame is made by one thread from start to end. Native code frees the GIL, and libraries that each used all
    cores for one frame would only wait for one another.
    """
    make: Callable[[int], np.ndarray] = lambda t: renderer.frame(targets[t])
    pending: deque[Future[np.ndarray]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        with single_threaded_libraries():
            for t in range(len(targets)):
                pending.append(pool.submit(make, t))
                if len(pending) > 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
