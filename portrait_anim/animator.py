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
from .checks import portrait_warnings
from .encode import VideoWriter
from .errors import UsageError, unknown
from .motion import Retargeter, check_motion
from .outputs import check_apart, check_output, check_preview, write_aside
from .overlays import Chosen, Comparison, contact_sheet, with_mesh
from .provenance import Marking, labelled
from .tracking import MotionTrack, check_tracker, track_video
from .video import FrameReader
from .warp import CROP, N_CHANNELS, condition

PAINT_MARGIN = 1.4  # size of the painted box over the face's oval: as far as the rings that follow the head
KEPT = 4  # portraits and drivers that stay in memory for the next output
TRACK_SIZE = 640  # px: the tracker needs no more, and small frames decode faster


@dataclass(frozen=True)
class Progress:
    """stage: "portrait", "driver" or "frames". done of total units; total None when not known."""

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
    return Path(f"{Path(image).stem[:100]}--{Path(driver).stem[:100]}.mp4")  # a file's name has 255 bytes at most


@dataclass
class _Portraits:
    """The photos of one person, the first of them the canvas."""

    photos: list  # of Portrait
    warnings: list[str]


@dataclass
class _Clip:
    """A driver clip that was tracked. start: seconds into it, where its sound begins, too."""

    track: MotionTrack
    has_audio: bool
    start: float
    warnings: list[str]


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
        self._recent_portraits, self._recent_clips = _Recent(), _Recent()

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
        tracker: str = "mediapipe",
        motion: str = "relative",
        strength: float = 1.0,
        only: tuple[str, ...] = (),
        smooth: bool = True,
        reference_frame: int | None = None,
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
        label: bool = False,
        private: bool = False,
        sign_cert: str | Path | None = None,
        sign_key: str | Path | None = None,
        progress: Callable[[Progress], None] = lambda progress: None,
    ) -> Result:
        """Animate a portrait by a driver clip and write the video; the options are those of the command.

        images: the portrait, then further photos of the same person. output: None for `default_output`.
        preview: make only a contact sheet of a few frames, OUTPUT.preview.png.
        Raises PortraitAnimError, and leaves nothing behind, when something is wrong.
        """
        begin = time.perf_counter()
        if not images or any(str(path) == "" for path in (*images, driver)):
            raise UsageError("A portrait and a driver are needed, and neither name may be empty.")
        images = [Path(image) for image in images]
        if not 16 <= max_size <= 8192:
            raise UsageError(f"--max-size {max_size} is out of range; choose 16 to 8192 px.")
        if not 0 <= crf <= 51:
            raise UsageError(f"--crf {crf} is out of range; choose 0 (lossless) to 51 (worst).")
        check_tracker(tracker)
        check_motion(motion, strength, only)
        if reference_frame is not None and reference_frame < 0:
            raise UsageError(f"--reference-frame {reference_frame} is impossible; frames are counted from 0.")
        if background not in ("still", "warp"):
            raise unknown("--background", background, ("still", "warp"))
        if face < 1 or driver_face < 1:
            raise UsageError("Faces are counted from 1, the largest.")
        check = check_preview if preview else check_output
        output = check(output if output is not None else default_output(images[0], driver), force)
        weights = self._options[0]
        check_apart(output, [*images, driver, *(f for f in (weights, sign_cert, sign_key) if f is not None)])
        if weights is not None:
            weights_file.check_file(weights)
        marking = Marking(images, driver, private, sign_cert, sign_key)
        warm_up = ThreadPoolExecutor(1).submit(self._warm_up)  # torch loads while portrait and driver are read

        portraits = self._portraits(images, face, max_size, background, tracker, progress)
        ready = time.perf_counter()
        if warm_up.done():
            warm_up.result()  # a bad device or weights file should not wait for the driver to be tracked
        clip = self._clip(driver, driver_face, tracker, start, end, fps, progress)
        tracked = time.perf_counter()
        painter = warm_up.result()
        warnings = portraits.warnings + clip.warnings
        if painter is None:
            warnings.append("No weights found: the photo is only warped; mouth interior and eyelids are not painted.")

        portrait = portraits.photos[0]
        targets = Retargeter(clip.track, portrait.views[0].landmarks, motion, strength, only, reference_frame, smooth)
        size, rate = portrait.photo.shape[1::-1], clip.track.fps
        if preview:
            targets = Chosen(targets)
        frames = self._frames(portraits.photos, targets, painter)
        if show_mesh:
            frames = with_mesh(frames, targets, portrait)
        if compare:
            reader = FrameReader(driver, start, end, fps, max_side=max(size))
            comparison = Comparison(portrait.photo, reader, clip.track if show_mesh else None)
            frames = comparison.frames(frames, targets.numbers if preview else range(len(targets)))
            size = comparison.size
        if label:
            frames = labelled(frames)
        frames = self._counted(frames, len(targets), progress)
        if preview:
            sheet = contact_sheet(frames, [f"frame {t}, {float(t / rate):.2f} s" for t in targets.numbers])
            size = sheet.shape[1::-1]
            with write_aside(output, output.suffix) as partial:
                partial.write_bytes(cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
                marking(partial)
        else:
            sound = driver if audio and clip.has_audio else None
            with VideoWriter(output, size, rate, crf, sound, clip.start, marking.tags, force, marking) as writer:
                for frame in frames:
                    writer.write(frame)
            warnings += writer.warnings
        end_time = time.perf_counter()
        timings = {
            "portrait": ready - begin,
            "driver": tracked - ready,
            "frames": end_time - tracked,
            "total": end_time - begin,
        }
        return Result(output, size, rate, len(targets), warnings + marking.warnings, timings)

    # ---------------------------------------------------------------- stages

    def _warm_up(self):
        """Load the networks and run them once: the first pass of a network is slow."""
        painter = self.painter
        if painter is not None:
            import torch

            psi = torch.zeros(1, sum(painter.weights.generator.coeffs), dtype=painter.dtype, device=painter.device)
            painter.paint(np.zeros((CROP, CROP, N_CHANNELS), np.float32), psi)
        return painter

    def _portraits(self, images, face, max_size, background, tracker, progress) -> "_Portraits":
        from .portrait import Portrait, check_photos

        def read() -> _Portraits:
            loaded = _Portraits([], [])
            for number, image in enumerate(images):
                portrait = Portrait.load(image, face if number == 0 else 1, max_size, background, tracker)
                if portrait.n_faces > 1 and (face == 1 or number):
                    loaded.warnings.append(
                        f"{image}: shows {portrait.n_faces} faces, used the largest; --face 2 takes the next."
                    )
                if number == 0:  # the canvas; further photos may well look aside or shut their eyes
                    loaded.warnings += portrait_warnings(str(image), portrait.photo, portrait.landmarks)
                loaded.photos.append(portrait)
                progress(Progress("portrait", number + 1, len(images)))
            if len(images) > 1:
                loaded.photos, said = check_photos(loaded.photos, images)
                loaded.warnings += said
            for other in loaded.photos[1:]:
                loaded.photos[0].add(other)
            return loaded

        progress(Progress("portrait", 0, len(images)))
        return self._recent_portraits.get((*map(_identity, images), face, max_size, background, tracker), read)

    def _clip(self, driver, face, tracker, start, end, fps, progress) -> "_Clip":
        def read() -> _Clip:
            reader = FrameReader(driver, start, end, fps, max_side=TRACK_SIZE)
            with reader:
                for state in track_video(reader, reader.fps, str(driver), face, tracker):
                    if isinstance(state, MotionTrack):
                        break
                    progress(Progress("driver", state, reader.expected_frames))
            warnings = []
            if state.n_faces > 1 and face == 1:
                warnings.append(
                    f"{driver}: shows {state.n_faces} faces, followed the largest; --driver-face 2 is the next."
                )
            lost = state.lost_ranges()
            if lost:
                spans = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in lost[:8])
                more = ", ..." if len(lost) > 8 else ""
                warnings.append(f"{driver}: no face in frames {spans}{more}; the nearest pose was held.")
            return _Clip(state, reader.info.has_audio, reader.start, warnings + reader.warnings)

        return self._recent_clips.get((_identity(driver), face, tracker, start, end, fps), read)

    @staticmethod
    def _counted(frames: Iterator[np.ndarray], total: int, progress) -> Iterator[np.ndarray]:
        for done, frame in enumerate(frames, 1):
            yield frame
            progress(Progress("frames", done, total))

    def _frames(self, portraits: list, targets: Retargeter, painter) -> Iterator[np.ndarray]:
        """The finished frames, in order. Each is made by one thread from start to end, one thread per core: native
        code frees the GIL, and libraries that each used all cores for a frame would only wait for one another."""
        from .compose import compose_frame, paint_box

        portrait = portraits[0]
        warper = portrait.warper()
        psi = painter.person([p.views[0] for p in portraits]) if painter else None
        box = painted_box(targets)

        def make(t: int) -> np.ndarray:
            target = targets[t]
            warp = warper.warp(target)
            x = condition(warp, portrait.views, portrait.plate, target)
            painting = painter.paint(x[box[1] : box[3], box[0] : box[2]], psi) if painter else None
            refined, added = paint_box(warp, portrait.views, portrait.plate, x, painting, box)
            return compose_frame(portrait, warp, refined, added, box)

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
