"""Make training shards of videos of people: tracked, split at cuts and lost faces, one fixed square per segment.

The square holds the whole head. It has 512 px where the video resolves the head so finely, else 256 px. `shards`
describes the files. `index.jsonl` beside them says what became of every video.
"""

import glob
import hashlib
import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError, PortraitAnimError, UsageError
from ..geometry.view import CROP
from ..landmarks.refining import Refiner
from ..portrait.portrait import cut_square, head_square
from ..system.files import make_folder
from ..system.signals import raise_on
from .shards import FORMAT, Shard, make_shard, save_shard

SMALL = 256  # px, side of the frames of videos that resolve the head less finely
MATTE = 192  # px
_PATIENCE = 5.0  # s, for a process that was told to stop
VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif"}


@dataclass(frozen=True)
class PrepareConfig:
    """Which frames of a video are kept, and how they are stored."""

    size: int = CROP  # px, the largest side of the frames: 512 or 256
    fps: float = 15.0  # faces move little between frames; more would store the same picture twice
    min_frames: int = 12
    max_frames: int = 144  # per shard, so that a clip that is decoded fits into memory beside others
    min_face: float = 60.0  # px, height of the face in the source: less has no mouth to learn from
    min_sharp: float = 440.0  # px, side of the square in the source from which it is kept at 512 px, not at 256


@dataclass(frozen=True)
class Person:
    """Who is seen in a file. is_test: whether that person is held out or, False, is not; None: it is drawn."""

    group: str
    is_test: bool | None = None


def expand(videos: list[Path]) -> list[Path]:
    """Return the given files, and every video below the given folders. Raises InputError."""
    found: list[Path] = []
    for path in videos:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the name.")
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
        else:
            found.append(path)
    if not found:
        raise InputError(f"No videos found in {', '.join(map(str, videos))}; give video files or folders of them.")
    return found


def read_groups(path: Path | None) -> dict[str, Person]:
    """Read who is in which file, {file stem: Person}, from a JSON-lines file. Raises InputError.

    Each line has `id` and `group`, and may have `test`: true for a person who is held out, false for one who is not.
    """
    if path is None:
        return {}
    people: dict[str, Person] = {}
    side: dict[str, bool | None] = {}
    try:
        for number, line in enumerate(Path(path).read_text().splitlines(), 1):
            if not line.strip():
                continue
            row = json.loads(line)
            person = Person(str(row["group"]), row.get("test"))
            if person.is_test not in (None, True, False):
                raise ValueError(f"line {number}: test must be true or false")
            if side.setdefault(person.group, person.is_test) != person.is_test:
                raise ValueError(f"line {number}: {person.group} is on both sides of the split")
            people[str(row["id"])] = person
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: every line must be JSON with `id` and `group`, and may have `test` ({error})."
        ) from error
    return people


def prepare(
    videos: list[Path],
    out: Path,
    groups: Path | None = None,
    size: int = CROP,
    workers: int = 2,
    config: PrepareConfig = PrepareConfig(),
    progress: Callable[[dict, int, int], None] = lambda report, done, total: None,
) -> list[dict]:
    """Make shards of videos in the folder `out`, and return a report per video.

    Videos that index.jsonl lists, and that have not changed, are not read again, so an interrupted run can be resumed:
    Ctrl-C and SIGTERM end it within seconds, and all shards that were written are whole. groups: see `read_groups`;
    without it every file is a person of its own. size: the side of the frames in px, 512 or 256; a video that does not
    resolve the head so finely is kept at 256. `progress(report, done, total)` is called per video; done and total are
    bytes of videos. A report is {"video", "shards", "kept", "rejected": {reason: frames}, "error"}. Raises InputError,
    UsageError, OutputError.
    """
    if size not in (CROP, SMALL):
        raise UsageError(f"--size {size} is not possible; choose {CROP} or {SMALL}.")
    config = replace(config, size=size)
    files, people = expand(videos), read_groups(groups)
    make_folder(out)
    index = out / "index.jsonl"
    known = _known(index)
    reports: list[dict] = []
    todo: list[tuple] = []
    sizes = {file: _bytes(file) for file in files}
    total, done = sum(sizes.values()), 0
    for file in files:
        person = people.get(file.stem, Person(file.stem))
        row = known.get((str(file), _stamp(file)))
        same = row and row.get("made") == _made(person, config)
        if row and same and all((out / s).exists() for s in row["shards"]):
            done += sizes[file]
            reports.append(row)
            progress(row, done, total)
        else:
            todo.append((file, out, person, config))
    with open(index, "a") as log:
        for report in _in_processes(todo, workers):
            log.write(json.dumps(report) + "\n")
            log.flush()
            reports.append(report)
            done += sizes[Path(report["video"])]
            progress(report, done, total)
    return reports


def _known(index: Path) -> dict[tuple[str, str], dict]:
    known = {}
    for line in index.read_text().splitlines() if index.exists() else []:
        try:
            row = json.loads(line)
            known[row["video"], row["stamp"]] = row
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a run that was killed
    return known


def _made(person: Person, config: PrepareConfig) -> list:
    """Return what shards depend on besides their video: if it is another now, they are made again."""
    return [FORMAT, config.size, person.group, person.is_test]


def _in_processes(todo: list[tuple], workers: int) -> Iterator[dict]:
    """Yield the reports of `_prepare_one`. When the caller ends early, the processes are stopped at once."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(max(1, min(workers, len(todo) or 1)), initializer=_be_stopped_by_the_caller)
    try:
        for future in as_completed([pool.submit(_prepare_one, *job) for job in todo]):
            yield future.result()
    except BrokenProcessPool as error:
        raise PortraitAnimError(
            "A process that prepares videos was lost; check the memory, use fewer --workers, and run it again."
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        processes = set(multiprocessing.active_children()) - others
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(_PATIENCE)
            process.kill()


def _be_stopped_by_the_caller() -> None:
    """Leave Ctrl-C, which goes to every process of a terminal, to the caller, and clean up when it says stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_on([signal.SIGTERM], SystemExit)


def _bytes(file: Path) -> int:
    try:
        return max(1, file.stat().st_size)
    except OSError:
        return 1


def _stamp(file: Path) -> str:
    try:
        stat = file.stat()
        return f"{stat.st_size}-{stat.st_mtime_ns}"
    except OSError:
        return "missing"


def _prepare_one(file: Path, out: Path, person: Person, config: PrepareConfig) -> dict:
    """Make the shards of one video and return its report. A fault of the video itself is reported, not raised."""
    cv2.setNumThreads(1)
    report = {
        "video": str(file),
        "stamp": _stamp(file),
        "group": person.group,
        "made": _made(person, config),
        "shards": [],
        "kept": 0,
        "rejected": {},
        "error": None,
    }
    stem = f"{file.stem}-{hashlib.sha256(str(file).encode()).hexdigest()[:6]}"
    try:
        for stale in out.glob(f"{glob.escape(stem)}-*.npz"):  # of an earlier version of the video or of this program
            stale.unlink()
        for number, shard in enumerate(_segments(file, person, config, report["rejected"])):
            name = f"{stem}-{number}.npz"
            save_shard(out / name, shard)
            report["shards"].append(name)
            report["kept"] += len(shard)
    except PortraitAnimError as error:
        report["error"] = str(error)
    return report


def _segments(file: Path, person: Person, config: PrepareConfig, rejected: dict[str, int]) -> Iterator[Shard]:
    """Yield the runs of frames with one face that moves without a jump, each as a shard."""
    from ..landmarks.tracking import MediaPipeTracker
    from ..media.reading import FrameReader

    tracker, refiner = MediaPipeTracker(video=True, max_faces=1), Refiner()
    frames: list[np.ndarray] = []
    faces: list[np.ndarray] = []
    thumb = None

    def close(reason: str) -> Iterator[Shard]:
        if len(frames) >= config.min_frames:
            yield _make_shard(file, person, frames, faces, refiner, config)
        elif frames:
            rejected[reason] = rejected.get(reason, 0) + len(frames)
        frames.clear()
        faces.clear()

    try:
        with FrameReader(file, max_side=1080) as reader:
            fps, n = min(config.fps, float(reader.fps)), 0
            for n, image in enumerate(reader):
                if int(n * fps / float(reader.fps)) == int((n - 1) * fps / float(reader.fps)):
                    continue
                small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
                cut = thumb is not None and np.abs(small - thumb).mean() > 30
                thumb = small
                found = tracker.faces(image)
                face = found[0].landmarks if found else None
                if face is not None and np.ptp(face[:468, 1]) < config.min_face:
                    rejected["face too small"] = rejected.get("face too small", 0) + 1
                    face = None
                elif face is None:
                    rejected["no face"] = rejected.get("no face", 0) + 1
                jump = face is not None and faces and (
                    np.linalg.norm((face - faces[-1])[:468, :2].mean(0)) > 0.35 * np.ptp(face[:468, 1])
                )  # fmt: skip
                if cut or face is None or jump or len(frames) >= config.max_frames:
                    yield from close("segment too short")
                if face is not None:
                    frames.append(image.copy())
                    faces.append(face)
            if n == 0:
                raise InputError(f"{file}: is a single picture, not a video; give videos of people.")
            yield from close("segment too short")
    finally:
        tracker.close()
        refiner.close()


def _make_shard(
    file: Path, person: Person, frames: list, faces: list, refiner: Refiner, config: PrepareConfig
) -> Shard:
    from ..portrait.layers import matte

    landmarks = np.stack(faces)
    height, width = frames[0].shape[:2]
    centre, side = head_square(np.median(landmarks, axis=0))
    # A clip that is already cut close to the head is taken whole: cutting closer would lose the hair.
    side = min(width, height) if side > 0.8 * min(width, height) else side
    size = min(config.size, CROP if side >= config.min_sharp else SMALL)
    scale = size / side
    corner = np.clip(centre - side / 2, 0, np.maximum(np.array([width, height]) - side, 0))
    landmarks = landmarks * scale
    landmarks[..., :2] -= corner * scale
    crops, mattes = np.empty((len(frames), size, size, 3), np.uint8), np.empty((len(frames), MATTE, MATTE), np.uint8)
    for n, frame in enumerate(frames):
        crops[n] = cut_square(frame, corner, side, size)
        landmarks[n] = refiner(crops[n], landmarks[n])
        # A matte is smooth: few px are enough.
        mattes[n] = np.rint(cv2.resize(matte(crops[n]), (MATTE, MATTE), interpolation=cv2.INTER_AREA) * 255)
    header = {"video": file.name, "group": person.group, "scale": scale}
    header |= {} if person.is_test is None else {"test": person.is_test}
    return make_shard(header, crops, mattes, landmarks)
