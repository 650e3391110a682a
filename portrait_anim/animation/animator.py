"""The whole way from photos and driver to video. `Animator.animate` is what the command calls."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from ..errors import PortraitAnimError, UsageError
from ..geometry.warp import CROP, WHOLE, condition
from ..media.reading import FrameReader
from ..media.writing import VideoWriter
from ..motion.drivers import Driver, kind_of
from ..motion.file import check_motion_output
from ..motion.file import save_motion as write_motion
from ..motion.retarget import Retargeter
from ..motion.timeline import Timeline
from ..networks import weights as weights_file
from ..painting.person import Person, check_person, check_save
from ..provenance.marks import Marking, labelled
from ..system.files import atomic_write, check_apart, check_output, check_preview, is_picture
from ..system.helper_process import can_run_helper
from ..system.threads import cores, gc_paused, single_threaded_libraries
from .inputs import Progress, Reader, Recent, portraits_key
from .options import Options
from .overlays import Chosen, Comparison, contact_sheet, with_mesh
from .people import Portraits, make_person

PAINT_MARGIN = 1.4  # size of the painted box over the face's oval: as far as the rings that follow the head


@dataclass
class Result:
    """What was written. warnings: sentences for the user. timings: seconds of "reading" (portrait and driver), "tuning"
    (all that makes the person, the wait for the networks included), "frames" and "total"."""

    output: Path
    size: tuple[int, int]
    fps: Fraction
    frames: int
    warnings: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)


def painted_box(targets: Retargeter) -> tuple[int, int, int, int]:
    """The part of the crop (x0, y0, x1, y1) that the networks see: the head with the hair around it.

    The rest the warp does right. One box for all frames, on the grid of the networks' strides: what they paint must
    not depend on where the head is.
    """
    low, high = np.split(np.clip(targets.extent(PAINT_MARGIN), 0, CROP), 2)
    return (*(np.floor(low / 16) * 16).astype(int).tolist(), *(np.ceil(high / 16) * 16).astype(int).tolist())


def default_output(image: str | Path, driver: str | Path) -> Path:
    """<portrait>--<driver>.mp4 in the current folder."""
    driver = str(driver).replace("camera:", "camera")
    return Path(f"{Path(image).stem[:100]}--{Path(driver).stem[:100]}.mp4")  # a file's name has 255 bytes at most


class Animator:
    """Brings portraits to life. The networks are loaded once, at the first use; the last few portraits and drivers
    that were read are kept, so that further outputs of them share the work.

    weights: a weights file, None for those that ship; without any the tool is the warp alone and says so.
    device: "auto", "cpu", "cuda", "mps". precision: "auto", "fp32", "bf16", "fp16". threads: frames that are made at
    the same time, None for as many as there are cores.
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
        self.threads = threads or cores()
        self._options = (weights, device, precision)
        self._painter = self._warm_up = None
        self._reader, self._people = Reader(), Recent()

    @property
    def painter(self):
        """The networks, None when there are no weights. Raises InputError or UsageError."""
        weights = self._options[0]
        if self._painter is None and (weights is not None or weights_file.find_default() is not None):
            from ..painting.painter import Painter

            with single_threaded_libraries():
                self._painter = Painter(*self._options)
        return self._painter

    def animate(
        self,
        images: list[str | Path],
        driver: str | Path,
        output: str | Path | None = None,
        *,
        progress: Callable[[Progress], None] = lambda progress: None,
        **options,
    ) -> Result:
        """Animate a portrait by a driver and write the video (or what the output's name asks for).

        images: the portrait, then further photos of the same person; none when a source video or a person file stands
        for them. driver: what `load_driver` takes. output: None for `default_output`; a driver that is a single
        picture can give a single .png. options: the fields of `Options`, those of the command. On Ctrl-C a
        fine-tuning ends early and the rest goes on. Raises PortraitAnimError, and leaves nothing behind, when
        something is wrong.
        """
        begin = time.perf_counter()
        images = [Path(image) for image in images]
        options = Options(**options).checked(images, driver)
        output, options = self._check_files(images, driver, output, options)
        read = self._reader.read_aside if self._may_read_aside(driver) else self._reader.read
        warm_up = self._warmed_up()  # torch loads while portrait and driver are read
        sources = [*images, *options.stand_ins()]
        marking = Marking(sources, driver, options.private, options.sign_cert, options.sign_key)
        portraits, source = self._read(read, images, driver, options, warm_up, progress)
        marking.leave_out(portraits.left_out if portraits else [])
        if options.save_motion is not None:
            write_motion(options.save_motion, source.track)
        tracked = time.perf_counter()
        person = self._person(portraits, warm_up.result(), images, options, progress)
        if options.save_person is not None:
            person.save(options.save_person)
        tuned = time.perf_counter()
        warnings = [*(portraits.warnings if portraits else []), *source.warnings, *person.notes]
        if person.painter is None:
            warnings.append("No weights found: the photo is only warped; mouth interior and eyelids are not painted.")
        size, count = self._render(person, source, driver, output, options, marking, warnings, progress)
        end = time.perf_counter()
        timings = {
            "reading": tracked - begin,
            "tuning": tuned - tracked,
            "frames": end - tuned,
            "total": end - begin,
        }
        return Result(output, size, source.track.fps, count, warnings + marking.warnings, timings)

    def _check_files(self, images: list[Path], driver, output, options: Options) -> tuple[Path, Options]:
        """Where to write, once all names are known to be possible: no input is replaced, no folder is missing."""
        given, force = [*images, *options.stand_ins()], options.force
        output = output if output is not None else default_output(given[0], driver)
        if options.preview:
            output = check_preview(output, force)
        else:
            output = check_output(output, force, picture=kind_of(driver) == "image")
        if options.save_person is not None:
            options = replace(options, save_person=check_save(options.save_person, force))
        if options.save_motion is not None:
            options = replace(options, save_motion=check_motion_output(options.save_motion, force))
        weights = self._options[0]
        read = (weights, options.sign_cert, options.sign_key)
        for written in (output, options.save_person, options.save_motion):
            if written is not None:
                check_apart(written, [*given, driver, *(path for path in read if path is not None)])
        if options.person is not None:
            check_person(options.person)
        if weights is not None:
            weights_file.check_file(weights)
        return output, options

    def _render(
        self,
        person: Person,
        source: Driver,
        driver,
        output: Path,
        options: Options,
        marking: Marking,
        warnings,
        progress,
    ) -> tuple[tuple[int, int], int]:
        """Make and write all frames; their size (width, height) and number."""
        portrait, track = person.portraits[0], source.track
        own, size = portrait.views[0].landmarks, portrait.photo.shape[1::-1]
        retargeted = Retargeter(track, own, options)
        still = own if source.still else None
        timing = (options.speed, options.pingpong, options.loop, still)
        targets = Timeline(retargeted, float(track.fps), track.cuts, *timing)
        single = is_picture(output) and not options.preview
        if options.preview:
            targets = Chosen(targets)
        elif single:
            targets = [targets[len(targets) - 1]]
        frames = self.frames(person, targets, painted_box(retargeted))
        if options.show_mesh:
            frames = with_mesh(frames, targets, portrait)
        if options.compare:
            reader = FrameReader(driver, options.start, options.end, options.fps, max_side=max(size))
            comparison = Comparison(portrait.photo, reader, track if options.show_mesh else None)
            frames = comparison.frames(frames, targets.numbers if options.preview else range(len(targets)))
            size = comparison.size
        if options.label:
            frames = labelled(frames)
        frames = self._counted(frames, len(targets), progress)
        if options.preview or single:
            if options.preview:
                picture = contact_sheet(frames, [f"frame {t}, {float(t / track.fps):.2f} s" for t in targets.numbers])
            else:
                (picture,) = frames
            with atomic_write(output, output.suffix) as partial:
                partial.write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
                marking(partial)
            return picture.shape[1::-1], len(targets)
        sound = driver if options.audio and source.has_audio and not options.retimed else None
        if options.audio and source.has_audio and options.retimed:
            warnings.append(f"{driver}: its sound does not fit --speed, --pingpong or --loop and was left out.")
        sink = VideoWriter(
            output, size, track.fps, options.crf, sound, source.start, marking.tags, options.force, marking
        )
        with sink as writer:
            for frame in frames:
                writer.write(frame)
        warnings += writer.warnings
        return size, len(targets)

    # ---------------------------------------------------------------- stages

    def _warmed_up(self) -> Future:
        """The networks, which a thread loads and warms up from the first call on; tried again after a failure."""
        if self._warm_up is None or (self._warm_up.done() and self._warm_up.exception()):
            self._warm_up = ThreadPoolExecutor(1).submit(self._make_ready)
        return self._warm_up

    def _make_ready(self):
        """Load the networks and make one frame of a grey picture: the first pass of a network is slow, and compiled
        code must be loaded, or compiled when it never was on this machine."""
        with gc_paused():
            from ..geometry.mesh import MEAN_FACE
            from ..painting import compose  # noqa: F401
            from ..portrait.portrait import Portrait

            painter = self.painter
        # glibc gives memory back, to take it again page by page for the next frame, until it has seen a block as large
        # freed: 31 MB, of 32 that it learns from (mallopt(3), M_MMAP_THRESHOLD). It is a tenth of the rendering.
        np.empty(31 << 20, np.uint8)
        side, turn = 128, np.array([[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]])  # turned: the mirrored view is used, too
        grey = Portrait(
            np.full((side, side, 3), 128, np.uint8), MEAN_FACE @ turn.T * (side / 2.2) + (side / 2, side / 2, 0), "warp"
        )
        centre = grey.views[0].landmarks.mean(0)
        front = (grey.views[0].landmarks - centre) @ turn + centre
        with single_threaded_libraries():
            _make_frame(grey, grey.warper(), front, Person.of([grey], painter).brush())
        return painter

    @staticmethod
    def _may_read_aside(driver) -> bool:
        """Whether reading gains by a process of its own: not where torch is loaded already."""
        return "torch" not in sys.modules and can_run_helper() and kind_of(driver) != "camera"

    def _read(
        self, read: Callable, images: list[Path], driver, options: Options, warm_up: Future, progress
    ) -> tuple[Portraits | None, Driver]:
        """What the reader gives. A fault of the networks is said after those of the portraits and before those of the
        driver, whichever is known first, and does not wait for the driver to be tracked to its end."""
        stage = None

        def show(step: Progress) -> None:
            nonlocal stage
            stage = step.stage
            if stage == "driver" and warm_up.done():
                warm_up.result()
            progress(step)

        try:
            return read(images, driver, options, show)
        except PortraitAnimError:
            if stage == "driver" and self._options != (None, "auto", "auto"):
                warm_up.result()
            raise

    def _person(self, portraits: Portraits | None, painter, images: list, options: Options, progress) -> Person:
        """The person of the portraits, fine-tuned when asked for, or the one that was saved."""
        asked = options.person is not None or options.save_person is not None or options.finetune not in ("auto", "off")
        if painter is None and asked:
            raise UsageError("Persons are tuned, saved and loaded with weights, and there are none; see --weights.")
        step = lambda *values: progress(Progress(*values))
        if portraits is None:
            make = lambda: Person.load(options.person, painter)
        else:
            make = lambda: make_person(portraits.photos, painter, self._options[0], options, step)
        key = (*portraits_key(images, options), options.finetune, options.seed)
        return self._people.get(key, make)

    @staticmethod
    def _counted(frames: Iterator[np.ndarray], total: int, progress) -> Iterator[np.ndarray]:
        for done, frame in enumerate(frames, 1):
            yield frame
            progress(Progress("frames", done, total))

    def frames(self, person: Person, targets, box) -> Iterator[np.ndarray]:
        """The finished frames, in order. Each is made by one thread from start to end, one thread per core: native
        code frees the GIL, and libraries that each used all cores for a frame would only wait for one another."""
        portrait, brush = person.portraits[0], person.brush()
        warper = portrait.warper()
        make = lambda t: _make_frame(portrait, warper, targets[t], brush, box)

        workers = self.threads
        pending: deque[Future] = deque()
        pool = ThreadPoolExecutor(workers)
        try:
            with single_threaded_libraries():
                for t in range(len(targets)):
                    pending.append(pool.submit(make, t))
                    if len(pending) > workers:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _make_frame(portrait, warper, target: np.ndarray, brush, box=WHOLE) -> np.ndarray:
    """The frame (H, W, 3) uint8 with the portrait's landmarks at target; painted in a box of the crop."""
    from ..painting.compose import compose_frame, paint_box

    warp = warper.warp(target)
    x = condition(warp, portrait.views, portrait.plate, target, box)
    painting = brush.paint(x) if brush else None
    refined, added = paint_box(warp, portrait.views, portrait.plate, x, painting, box)
    return compose_frame(portrait, warp, refined, added, box)
