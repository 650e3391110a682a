"""Make training shards of videos of people: tracked, split at cuts and lost faces, one fixed square per segment.

The square holds the whole head. It has 512 px where the video resolves the head so finely, else 256 px. `shards`
describes the files. `index.jsonl` beside them says what became of every video.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError, PortraitAnimError
from ..geometry.view import CROP
from ..landmarks.refining import Refiner
from ..portrait.portrait import cut_square, head_square
from .shards import FIRST_SIZE, FORMAT, Shard, save_shard

VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif"}


@dataclass(frozen=True)
class PrepareConfig:
    """Which frames of a video are kept, and how they are stored."""

    fps: float = 15.0  # faces move little between frames; more would store the same picture twice
    min_frames: int = 12
    max_frames: int = 400  # per segment, so that one long interview does not fill the shards
    min_face: float = 60.0  # px, height of the face in the source: less has no mouth to learn from
    min_sharp: float = 440.0  # px, side of the square in the source from which it is kept at 512 px, not at 256
    jpeg_quality: int = 95


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


def read_groups(path: Path | None) -> dict[str, str]:
    """Read {file stem: person} from a JSON-lines file with `id` and `group` in each line. Raises InputError."""
    if path is None:
        return {}
    try:
        rows = [json.loads(line) for line in Path(path).read_text().splitlines() if line.strip()]
        return {str(r["id"]): str(r["group"]) for r in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: every line must be JSON with `id` and `group` ({error}).") from error


def prepare(
    videos: list[Path],
    out: Path,
    groups: Path | None = None,
    workers: int = 2,
    config: PrepareConfig = PrepareConfig(),
    progress: Callable[[dict, int, int], None] = lambda report, done, total: None,
) -> list[dict]:
    """Make shards of videos in the folder `out`, and return a report per video.

    Videos that index.jsonl lists, and that have not changed, are not read again, so an interrupted run can be resumed.
    groups: see `read_groups`; without it every file is a person of its own. `progress(report, done, total)` is called
    per video. A report is {"video", "shards", "kept", "rejected": {reason: frames}, "error"}.
    """
    files, group_of = expand(videos), read_groups(groups)
    out.mkdir(parents=True, exist_ok=True)
    index = out / "index.jsonl"
    known = {}
    if index.exists():
        for line in index.read_text().splitlines():
            try:
                row = json.loads(line)
                known[row["video"], row["stamp"]] = row
            except (ValueError, KeyError):
                continue  # the last line of a run that was killed
    reports, jobs = [], []
    for file in files:
        row = known.get((str(file), _stamp(file)))
        if row and all((out / s).exists() for s in row["shards"]):
            reports.append(row)
        else:
            jobs.append((file, out, group_of.get(file.stem, file.stem), config))
    for n, row in enumerate(reports, 1):
        progress(row, n, len(files))
    with ProcessPoolExecutor(max_workers=max(1, workers)) as pool, open(index, "a") as log:
        for future in as_completed([pool.submit(_prepare_one, *job) for job in jobs]):
            report = future.result()
            log.write(json.dumps(report) + "\n")
            log.flush()
            reports.append(report)
            progress(report, len(reports), len(files))
    return reports


def _stamp(file: Path) -> str:
    try:
        stat = file.stat()
        return f"{stat.st_size}-{stat.st_mtime_ns}"
    except OSError:
        return "missing"


def _prepare_one(file: Path, out: Path, group: str, config: PrepareConfig) -> dict:
    """Make the shards of one video and return its report. A fault of the video itself is reported, not raised."""
    cv2.setNumThreads(1)
    report = {
        "video": str(file),
        "stamp": _stamp(file),
        "group": group,
        "shards": [],
        "kept": 0,
        "rejected": {},
        "error": None,
    }
    stem = f"{file.stem}-{hashlib.sha256(str(file).encode()).hexdigest()[:6]}"
    try:
        for number, shard in enumerate(_segments(file, group, config, report["rejected"])):
            name = f"{stem}-{number}.npz"
            save_shard(out / name, shard)
            report["shards"].append(name)
            report["kept"] += len(shard)
    except PortraitAnimError as error:
        report["error"] = str(error)
    return report


def _segments(file: Path, group: str, config: PrepareConfig, rejected: dict[str, int]) -> Iterator[Shard]:
    """Yield the runs of frames with one face that moves without a jump, each as a shard."""
    from ..landmarks.tracking import MediaPipeTracker
    from ..media.reading import FrameReader

    tracker, refiner = MediaPipeTracker(video=True, max_faces=1), Refiner()
    frames: list[np.ndarray] = []
    faces: list[np.ndarray] = []
    thumb = None

    def close(reason: str) -> Iterator[Shard]:
        if len(frames) >= config.min_frames:
            yield _make_shard(file, group, frames, faces, refiner, config)
        elif frames:
            rejected[reason] = rejected.get(reason, 0) + len(frames)
        frames.clear()
        faces.clear()

    try:
        with FrameReader(file, max_side=1080) as reader:
            fps = min(config.fps, float(reader.fps))
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
            yield from close("segment too short")
    finally:
        tracker.close()
        refiner.close()


def _make_shard(file: Path, group: str, frames: list, faces: list, refiner: Refiner, config: PrepareConfig) -> Shard:
    from ..portrait.layers import matte

    landmarks = np.stack(faces)
    height, width = frames[0].shape[:2]
    centre, side = head_square(np.median(landmarks, axis=0))
    # A clip that is already cut close to the head is taken whole: cutting closer would lose the hair.
    side = min(width, height) if side > 0.8 * min(width, height) else side
    size = CROP if side >= config.min_sharp else FIRST_SIZE
    scale = size / side
    corner = np.clip(centre - side / 2, 0, np.maximum(np.array([width, height]) - side, 0))
    landmarks = landmarks * scale
    landmarks[..., :2] -= corner * scale
    to_jpeg = lambda image, quality: cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].ravel()
    images, mattes = [], []
    for n, frame in enumerate(frames):
        crop = cut_square(frame, corner, side, size)
        landmarks[n] = refiner(crop, landmarks[n])
        images.append(to_jpeg(crop[..., ::-1], config.jpeg_quality))
        # Half the resolution is enough for the matte, which is smooth.
        soft = cv2.resize(matte(crop), (size // 2, size // 2), interpolation=cv2.INTER_AREA)
        mattes.append(to_jpeg((soft * 255).round().astype(np.uint8), 90))
    header = {"format": FORMAT, "video": file.name, "group": group, "scale": scale, "size": size}
    return Shard(header, images, mattes, landmarks.astype(np.float32))
