"""The whole way from photos and driver to a video. `Animator.animate` is what the command calls."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PortraitAnimError, UsageError
from ..motion.drivers import Driver
from ..motion.file import save_motion
from ..networks.devices import check_device, check_precision
from ..painting.person import Person
from ..provenance.marks import Marking
from ..system.files import PathLike
from ..system.threads import cores
from .inputs import LruCache, Progress, Reader, portraits_key
from .options import Options
from .people import Portraits, make_person, no_weights_warnings
from .request import Request, default_output
from .warm_up import LazyPainter

if TYPE_CHECKING:
    from ..painting.painter import Painter

__all__ = ["Animator", "Progress", "Result", "default_output"]


@dataclass
class Result:
    """What was written.

    output: the file, or the pattern of the frames' names. size: (width, height) px. fps: frames per second, exactly.
    frames: how many. warnings: sentences for the user. timings: seconds of "reading" (portrait and driver), "tuning"
    (all that makes the person, the wait for the networks included), "frames" and "total".
    """

    output: Path
    size: tuple[int, int]
    fps: Fraction
    frames: int
    warnings: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)


class Animator:
    """Brings portraits to life.

    The networks are loaded once, at the first use. The last few portraits and drivers that were read are kept, so that
    further outputs of them share the work.

    weights: a weights file, None for those that ship; without any the photo is only warped, and a warning says so.
    device: "auto", "cpu", "cuda" or "mps". precision: "auto", "fp32", "bf16" or "fp16". threads: how many frames are
    made at the same time, None for as many as there are cores. Raises UsageError when threads is less than 1, or when
    device or precision is none of these words.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
    ):
        if threads is not None and threads < 1:
            raise UsageError(f"--threads {threads} is impossible; choose 1 or more.")
        check_device(device)
        check_precision(precision)
        self.threads = threads or cores()
        self._networks = LazyPainter(weights, device, precision)
        self._reader, self._people = Reader(), LruCache()

    @property
    def painter(self) -> "Painter | None":
        """The networks, None when there are no weights. Raises InputError or UsageError."""
        return self._networks.get()

    def animate(
        self,
        images: list[PathLike],
        driver: PathLike,
        output: PathLike | None = None,
        *,
        progress: Callable[[Progress], None] = lambda progress: None,
        **options,
    ) -> Result:
        """Animate a portrait by a driver and write the video, or whatever kind of file the output's name asks for.

        images: the portrait, then further photos of the same person; none when a source video or a person file stands
        for them. driver: a video, a picture, a motion written by save_motion, the name of a built-in motion, or
        "camera:0". output: None for `default_output`; a driver that is a single picture can give a single .png.
        progress: called with every step. options: the fields of `Options`, which are the options of the command.

        On Ctrl-C a fine-tuning ends early and the rest goes on. Raises PortraitAnimError, and leaves nothing behind,
        when something is wrong.
        """
        begin = time.perf_counter()
        request = Request.checked(images, driver, output, Options(**options), self._networks.weights)
        self._networks.load_in_background()
        asked = request.options
        marking = Marking(request.sources, request.driver.name, asked.private, asked.sign_cert, asked.sign_key)
        portraits, source = self._read(request, progress)
        marking.leave_out(portraits.left_out if portraits else [])
        if asked.save_motion is not None:
            save_motion(asked.save_motion, source.track)
        tracked = time.perf_counter()
        person = self._make_person(request, portraits, progress)
        tuned = time.perf_counter()
        result = self._render(request, person, source, marking, progress)
        result.warnings[:0] = [*(portraits.warnings if portraits else []), *source.warnings, *person.notes]
        end = time.perf_counter()
        result.timings = {
            "reading": tracked - begin,
            "tuning": tuned - tracked,
            "frames": end - tuned,
            "total": end - begin,
        }
        return result

    def _read(self, request: Request, progress: Callable[[Progress], None]) -> tuple[Portraits | None, Driver]:
        """Read portraits and driver while the networks are loaded.

        A fault of the networks is said after those of the portraits and before those of the driver, whichever is known
        first, and does not wait for the driver to be tracked to its end.
        """
        loading, stage = self._networks.load_in_background(), None

        def show(step: Progress) -> None:
            nonlocal stage
            stage = step.stage
            if stage == "driver" and loading.done():
                loading.result()
            progress(step)

        try:
            return self._reader.best_way(request)(request, show)
        except PortraitAnimError:
            if stage == "driver" and self._networks.chosen:
                loading.result()
            raise

    def _make_person(
        self, request: Request, portraits: Portraits | None, progress: Callable[[Progress], None]
    ) -> Person:
        """Make the person of the portraits, fine-tuned when that was asked for, or load the one that was saved."""
        painter, options = self._networks.load_in_background().result(), request.options
        if portraits is None:
            saved = options.person
            assert saved is not None  # a person file stands for the photos
            make = lambda: Person.load(saved, painter)
        else:
            show = lambda *step: progress(Progress(*step))
            make = lambda: make_person(portraits.photos, painter, self._networks.weights, options, show)
        person = self._people.get((*portraits_key(request), options.finetune, options.seed), make)
        if options.save_person is not None:
            person.save(options.save_person)
        return person

    def _render(
        self, request: Request, person: Person, source: Driver, marking: Marking, progress: Callable[[Progress], None]
    ) -> Result:
        """Make and write all frames."""
        from .rendering import Rendering

        rendering = Rendering(request, person, source, self.threads)
        with rendering.writer(marking) as writer, closing(rendering.frames()) as frames:
            for done, frame in enumerate(frames, 1):
                writer.write(frame)
                progress(Progress("frames", done, rendering.count))
        warnings = [*no_weights_warnings(person), *rendering.warnings, *writer.warnings, *marking.warnings]
        return Result(request.output, writer.size, source.track.fps, rendering.count, warnings)
