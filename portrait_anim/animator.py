"""The whole way from photos and driver to video. `Animator.animate` is what the command calls."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from . import weights as weights_file
from .drivers import Driver, kind_of, load_driver
from .encode import VideoWriter
from .errors import UsageError, unknown
from .motion import MotionOptions, Retargeter
from .motion_file import check_motion_output
from .motion_file import save_motion as write_motion
from .outputs import check_apart, check_output, check_preview, is_picture, write_whole
from .overlays import Chosen, Comparison, contact_sheet, with_mesh
from .people import check_finetune, check_people, make_person, read_portraits
from .person import Person
from .timeline import Timeline, check_timeline
from .tracking import check_tracker
from .video import FrameReader
from .warp import CROP, WHOLE, condition

PAINT_MARGIN = 1.4  # size of the painted box over the face's oval: as far as the rings that follow the head
KEPT = 4  # portraits and drivers that stay in memory for the next output


@dataclass(frozen=True)
class Progress:
    """stage: "portrait", "source", "driver", "tuning" or "frames". done of total units (of tuning: seconds or steps);
    total None when not known."""

    stage: str
    done: int
    total: int | None


@dataclass
class Result:
    """What was written. warnings: sentences for the user. timings: seconds by stage, "total" included."""

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


class _Recent:
    """What was read last, by key: several outputs of one portrait or of one driver share the work."""

    def __init__(self):
        self._values: dict = {}

    def get(self, key: tuple, make: Callable):
        """The value of key, made if need be."""
        value = self._values.pop(key, None)
        self._values[key] = value if value is not None else make()
        while len(self._values) > KEPT:
            del self._values[next(iter(self._values))]
        return self._values[key]


def _identity(path: str | Path) -> tuple:
    """Changes when the file does. A file that is missing has none yet: whoever reads it says so."""
    try:
        status = os.stat(path)
        return (os.path.abspath(path), status.st_size, status.st_mtime_ns)
    except (OSError, ValueError):
        return (str(path),)


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
        self._painter = None
        self._recent_portraits, self._recent_people, self._recent_drivers = _Recent(), _Recent(), _Recent()

    @property
    def painter(self):
        """The networks, None when there are no weights. Raises InputError or UsageError."""
        weights = self._options[0]
        if self._painter is None and (weights is not None or weights_file.find_default() is not None):
            from .painter import Painter

            self._painter = Painter(*self._options)
        return self._painter

    def animate(
        self,
        images: list[str | Path],
        driver: str | Path,
        output: str | Path | None = None,
        *,
        force: bool = False,
        face: int = 1,
        driver_face: int = 1,
        tracker: str = "auto",
        motion: str = "relative",
        strength: float = 1.0,
        head_strength: float = 1.0,
        eyes_strength: float = 1.0,
        lips_strength: float = 1.0,
        only: tuple[str, ...] = (),
        mirror: bool = False,
        max_turn: float = 40.0,
        smooth: bool = True,
        reference_frame: int | None = None,
        speed: float = 1.0,
        pingpong: bool = False,
        loop: int = 1,
        save_motion: str | Path | None = None,
        start: float | None = None,
        end: float | None = None,
        fps: float | None = None,
        max_size: int = 1280,
        background: str = "still",
        audio: bool = True,
        crf: int = 18,
        compare: bool = False,
        preview: bool = False,
        show_mesh: bool = False,
        finetune: str | float = "auto",
        seed: int = 0,
        save_person: str | Path | None = None,
        person: str | Path | None = None,
        source_video: str | Path | None = None,
        shots: int = 8,
        progress: Callable[[Progress], None] = lambda progress: None,
    ) -> Result:
        """Animate a portrait by a driver clip and write the video; the options are those of the command.

        images: the portrait, then further photos of the same person. They may be followed by `shots` frames of
        `source_video`, or come from it alone, or from `person`, a file that save_person wrote before. driver: what
        `load_driver` takes. output: None for `default_output`; a driver that is a single picture can give a single
        .png. finetune: "auto", "off" or seconds; on Ctrl-C it ends early and the rest goes on.
        preview: make only a contact sheet of a few frames, OUTPUT.preview.png.
        Raises PortraitAnimError, and leaves nothing behind, when something is wrong.
        """
        begin = time.perf_counter()
        finetune = check_finetune(finetune)
        save_person = check_people(images, source_video, shots, person, save_person, finetune, seed, force)
        given = [*images, *(path for path in (source_video, person) if path is not None)]
        if not given or any(str(path) == "" for path in (*given, driver)):
            raise UsageError("A portrait and a driver are needed, and neither name may be empty.")
        images = [Path(image) for image in images]
        if not 16 <= max_size <= 8192:
            raise UsageError(f"--max-size {max_size} is out of range; choose 16 to 8192 px.")
        if not 0 <= crf <= 51:
            raise UsageError(f"--crf {crf} is out of range; choose 0 (lossless) to 51 (worst).")
        check_tracker(tracker)
        still = kind_of(driver) == "image"  # its turn of the head is to be reached, not to be added to the portrait's
        options = MotionOptions("absolute" if still else motion, strength, head_strength, eyes_strength, lips_strength,
                                tuple(only), mirror, max_turn, smooth, reference_frame)  # fmt: skip
        options.check()
        check_timeline(speed, loop)
        if background not in ("still", "warp"):
            raise unknown("--background", background, ("still", "warp"))
        if face < 1 or driver_face < 1:
            raise UsageError("Faces are counted from 1, the largest.")
        retimed = speed != 1 or pingpong or loop > 1
        if compare and (retimed or kind_of(driver) != "video"):
            raise UsageError(
                "--compare shows a video as it is: with another driver, --speed, --pingpong or --loop it cannot."
            )
        output = output if output is not None else default_output(given[0], driver)
        output = check_preview(output, force) if preview else check_output(output, force, still)
        weights = self._options[0]
        for written in (output, *([] if save_person is None else [save_person])):
            check_apart(written, [*given, driver, *([] if weights is None else [weights])])
        if save_motion is not None:
            save_motion = check_motion_output(save_motion, force)
            check_apart(save_motion, [*given, driver])
        if weights is not None:
            weights_file.check_file(weights)
        warm_up = ThreadPoolExecutor(1).submit(self._warm_up)  # torch loads while portrait and driver are read

        step = lambda *values: progress(Progress(*values))
        portraits, read = None, (face, max_size, background, tracker)
        photos = (*map(_identity, given), len(images), shots, *read)
        if person is None:
            read_all = lambda: read_portraits(images, source_video, shots, *read, step)
            portraits = self._recent_portraits.get(photos, read_all)
        ready = time.perf_counter()
        if warm_up.done():
            warm_up.result()  # a bad device or weights file should not wait for the driver to be tracked
        clip = self._driver(driver, driver_face, tracker, start, end, fps, progress)
        if save_motion is not None:
            write_motion(save_motion, clip.track)
        tracked = time.perf_counter()
        painter = warm_up.result()
        warnings = [*(portraits.warnings if portraits else []), *clip.warnings]
        if painter is None:
            if person is not None or save_person is not None or finetune not in ("auto", "off"):
                raise UsageError("Persons are tuned, saved and loaded with weights, and there are none; see --weights.")
            warnings.append("No weights found: the photo is only warped; mouth interior and eyelids are not painted.")
        if portraits is None:
            make = lambda: Person.load(person, painter)
        else:
            make = lambda: make_person(portraits.photos, painter, weights, finetune, seed, step)
        someone = self._recent_people.get((*photos, finetune, seed), make)
        warnings += someone.notes
        if save_person is not None:
            someone.save(save_person)
        tuned = time.perf_counter()

        portrait = someone.portraits[0]
        own = portrait.views[0].landmarks
        targets = Retargeter(clip.track, own, options)
        box = painted_box(targets)
        size, rate = portrait.photo.shape[1::-1], clip.track.fps
        targets = Timeline(targets, float(rate), clip.track.cuts, speed, pingpong, loop, own if still else None)
        single = is_picture(output) and not preview
        if preview:
            targets = Chosen(targets)
        elif single:
            targets = [targets[len(targets) - 1]]
        frames = self._frames(someone, targets, box)
        if show_mesh:
            frames = with_mesh(frames, targets, portrait)
        if compare:
            reader = FrameReader(driver, start, end, fps, max_side=max(size))
            comparison = Comparison(portrait.photo, reader, clip.track if show_mesh else None)
            frames = comparison.frames(frames, targets.numbers if preview else range(len(targets)))
            size = comparison.size
        frames = self._counted(frames, len(targets), progress)
        if preview:
            sheet = contact_sheet(frames, [f"frame {t}, {float(t / rate):.2f} s" for t in targets.numbers])
            size = sheet.shape[1::-1]
            write_whole(output, cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
        elif single:
            (picture,) = frames
            write_whole(output, cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
        else:
            sound = driver if audio and clip.has_audio and not retimed else None
            if audio and clip.has_audio and retimed:
                warnings.append(f"{driver}: its sound does not fit --speed, --pingpong or --loop and was left out.")
            tags = {
                "comment": "Made with portrait-anim: a still portrait animated by a driver clip (synthetic motion)."
            }
            with VideoWriter(output, size, rate, crf, sound, clip.start, tags, force=force) as writer:
                for frame in frames:
                    writer.write(frame)
            warnings += writer.warnings
        end_time = time.perf_counter()
        timings = {
            "portrait": ready - begin,
            "driver": tracked - ready,
            "tuning": tuned - tracked,
            "frames": end_time - tuned,
            "total": end_time - begin,
        }
        return Result(output, size, rate, len(targets), warnings, timings)

    # ---------------------------------------------------------------- stages

    def _warm_up(self):
        """Load the networks and make one frame of a grey picture: the first pass of a network is slow, and compiled
        code must be loaded, or compiled when it never was on this machine."""
        from .mesh import MEAN_FACE
        from .portrait import Portrait

        painter = self.painter
        side, turn = 128, np.array([[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]])  # turned: the mirrored view is used, too
        grey = Portrait(
            np.full((side, side, 3), 128, np.uint8), MEAN_FACE @ turn.T * (side / 2.2) + (side / 2, side / 2, 0), "warp"
        )
        centre = grey.views[0].landmarks.mean(0)
        front = (grey.views[0].landmarks - centre) @ turn + centre
        psi = painter.person(grey.views[:1]) if painter else None
        _make_frame(grey, grey.warper(), front, painter, psi)
        return painter

    def _driver(self, driver, face, tracker, start, end, fps, progress) -> Driver:
        show = lambda done, total: progress(Progress("driver", done, total))
        read = lambda: load_driver(driver, face, tracker, start, end, fps, show)
        if kind_of(driver) == "camera":  # another recording every time
            return read()
        return self._recent_drivers.get((_identity(driver), face, tracker, start, end, fps), read)

    @staticmethod
    def _counted(frames: Iterator[np.ndarray], total: int, progress) -> Iterator[np.ndarray]:
        for done, frame in enumerate(frames, 1):
            yield frame
            progress(Progress("frames", done, total))

    def _frames(self, person: Person, targets, box) -> Iterator[np.ndarray]:
        """The finished frames, in order. Each is made by one thread from start to end, one thread per core: native
        code frees the GIL, and libraries that each used all cores for a frame would only wait for one another."""
        portrait, painter, psi = person.portraits[0], person.painter, person.psi
        warper = portrait.warper()
        make = lambda t: _make_frame(portrait, warper, targets[t], painter, psi, box)

        workers = self.threads
        pending: deque[Future] = deque()
        pool = ThreadPoolExecutor(workers)
        try:
            with _single_threaded_libraries():
                for t in range(len(targets)):
                    pending.append(pool.submit(make, t))
                    if len(pending) > workers:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _make_frame(portrait, warper, target: np.ndarray, painter, psi, box=WHOLE) -> np.ndarray:
    """The frame (H, W, 3) uint8 with the portrait's landmarks at target; painted in a box of the crop."""
    from .compose import compose_frame, paint_box

    warp = warper.warp(target)
    x = condition(warp, portrait.views, portrait.plate, target, box)
    painting = painter.paint(x, psi) if painter else None
    refined, added = paint_box(warp, portrait.views, portrait.plate, x, painting, box)
    return compose_frame(portrait, warp, refined, added, box)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _single_threaded_libraries() -> Iterator[None]:
    import cv2

    torch = sys.modules.get("torch")  # not loaded when there are no weights
    before = cv2.getNumThreads(), torch and torch.get_num_threads()
    cv2.setNumThreads(1)
    if torch:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        if torch:
            torch.set_num_threads(before[1])
