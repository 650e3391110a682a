"""Measure finished videos, of any tool, against the portrait and the driver that they were made of."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError, InputErrors, UsageError
from ..landmarks.following import TRACK_SIZE
from ..landmarks.tracking import find_faces
from ..media.photo import load_photo
from ..media.reading import FrameReader
from ..portrait.layers import matte
from ..portrait.portrait import cut_square, head_square
from ..system.files import VIDEO_SUFFIXES, check_folder, make_folder, write_whole
from . import motion
from .edges import laplacian
from .flicker import FRAMES, second_difference
from .likeness import Likeness
from .reference import SIDE, filled, regions
from .report import Report
from .tables import Column, Table

BETWEEN = "--"  # stands between the names of portrait and driver in a video's name
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MAX_FRAMES = 300  # of a video that are measured, so that a long one takes no longer
LARGEST = 512  # px, side of the square in which the sharpness is measured
COLUMNS = (
    *motion.COLUMNS,
    Column("sharpness", "sharpness of the face over the photo's", 2, "one"),
    Column("edge_flicker", "edge flicker over the driver's", 2),
)
VIDEO = "video"  # the name of the only row


@dataclass(frozen=True)
class _Clip:
    """The frames of a video.

    frames: (H, W, 3) uint8, at most TRACK_SIZE px. landmarks: (T, 478, 3) px of these, NaN where no face is found.
    """

    frames: list[np.ndarray]
    landmarks: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """Whether each frame shows a face, (T,) bool."""
        return np.isfinite(self.landmarks[:, 0, 0])

    def squares(self, size: int, count: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Return `count` frames cut to one square around the head, (size, size, 3) uint8, and the landmarks in it.

        They are the first ones in a row that all show a face, or as many as there are.
        """
        start, length = _longest_run(self.found)
        part = slice(start, start + min(length, count))
        centre, side = head_square(np.median(self.landmarks[part], axis=0))
        corner = centre - side / 2
        points = (self.landmarks[part] - np.array([*corner, 0])) * (size / side)
        return [cut_square(frame, corner, side, size) for frame in self.frames[part]], points


def evaluate_videos(
    inputs: Path,
    videos: Path,
    out: Path | None = None,
    report: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict:
    """Measure the videos in a folder, and return what the JSON file holds.

    A video is called PORTRAIT--DRIVER, as `animate` calls its outputs; what follows a further "--" is ignored. Portrait
    and driver are looked for by these names in the folder `inputs` and those below it. The frames of video and driver
    are compared one by one, at the video's rate, MAX_FRAMES at most. Neither need have been made by this tool.

    A video that cannot be read, or that shows no face, is left out, and "left out" of the result says why. out: the
    folder for videos.json and videos.md. report: the folder for the page. Raises InputError when a name does not fit,
    or when no video could be measured.
    """
    todo = _matched(inputs, videos)
    if out is not None:
        check_folder(out)
    likeness = Likeness()
    measured: list[_Measured] = []
    left_out: list[dict[str, str]] = []
    with Report(report) if report is not None else nullcontext() as page:
        for done, (video, portrait, driver) in enumerate(todo, 1):
            try:
                measured.append(_measure(video, portrait, driver, likeness, page))
            except (InputError, UsageError) as error:  # such as a frame rate out of range
                left_out.append({"video": video.name, "why": str(error)})
            progress(done, len(todo))
        if not measured:
            raise InputErrors(list(dict.fromkeys(one["why"] for one in left_out)))
        rows = [one.row for one in measured]
        mean = lambda key: float(np.nanmean([row[key] for row in rows]))
        means = motion.summary([one.motion for one in measured])
        means |= {key: mean(key) for key in ("csim", "sharpness", "edge_flicker")}
        known = lambda value: round(value, 4) if np.isfinite(value) else None
        tidy = lambda row: {k: known(v) if isinstance(v, float) else v for k, v in row.items()}
        result = {"videos": len(rows), "left out": left_out, "means": tidy(means), "rows": [tidy(row) for row in rows]}
        if out is not None:
            make_folder(out)
            write_whole(out / "videos.json", json.dumps(result, indent=1).encode())
            write_whole(out / "videos.md", to_markdown(result).encode())
        if page is not None:
            title, tables = f"Videos in {videos}", [table_of(result)]
            page.write(title, notes_of(result), tables, COLUMNS, "portrait", "result 2", VIDEO, "csim")
    return result


@dataclass(frozen=True)
class _Measured:
    """What was measured of a video. row: its line of the table. motion: as `motion.compare` returns it."""

    row: dict
    motion: dict


def _measure(video: Path, portrait: Path, driver: Path, likeness: Likeness, page: Report | None) -> _Measured:
    """Measure a video, and add it to the page. Raises InputError when one of the three files cannot be used."""
    photo = load_photo(portrait)
    faces = find_faces(photo)
    if not faces:
        raise _no_face(portrait, "portrait", video)
    with FrameReader(video, max_side=TRACK_SIZE) as reader:
        made = _read(reader)
        fps = reader.fps
    with FrameReader(driver, fps=fps, max_side=TRACK_SIZE) as reader:
        wanted = _read(reader)
    count = min(len(made.frames), len(wanted.frames))
    both = wanted.found[:count]
    if both.sum() < 3:
        raise _no_face(driver, "driver", video)
    if made.found[:count][both].sum() < 3:
        raise InputError(f"{video}: shows no face where its driver {driver} shows one; check that they fit.")
    clips = motion.compare(wanted.landmarks[:count][both], made.landmarks[:count][both])
    embedding = likeness.embed(photo, faces[0].landmarks)
    row = {"video": video.name, "frames": count, **motion.summary([clips])}
    row["csim"] = likeness.mean(embedding, made.frames[:count:6], made.landmarks[:count:6])
    row["sharpness"] = _sharpness(made, photo, faces[0].landmarks)
    row["edge_flicker"] = _edge_flicker(made) / max(_edge_flicker(wanted), 0.1)
    if page is not None:
        _show(page, video.stem, photo, made, wanted, count, row, float(fps))
    return _Measured(row, clips)


def _no_face(path: Path, kind: str, video: Path) -> InputError:
    return InputError(f"{path}: shows no face; give the {kind} that {video.name} was made of.")


def table_of(report: dict) -> Table:
    """Return the table of a report: a row for each video, and the means."""
    rows = {row["video"]: row for row in report["rows"]} | {f"all {report['videos']}": report["means"]}
    note = "against the portrait and the driver they were made of; correlations r, ratios to the driver's own"
    return Table("Videos", note, COLUMNS, rows)


def to_markdown(report: dict) -> str:
    """Return the table of a report as Markdown, and below it what was left out."""
    return "\n\n".join([table_of(report).markdown(), *notes_of(report)]) + "\n"


def notes_of(report: dict) -> list[str]:
    """Return sentences on the videos that were left out."""
    return [f"Left out: {one['video']}. {one['why']}" for one in report["left out"]]


def _matched(inputs: Path, videos: Path) -> list[tuple[Path, Path, Path]]:
    """Return videos with their portraits and drivers."""
    for folder in (inputs, videos):
        if not folder.is_dir():
            raise InputError(f"{folder}: is no folder; give one with portraits and drivers, and --videos the results.")
    files = sorted(path for path in inputs.rglob("*") if path.is_file())
    named = lambda suffixes: {path.stem: path for path in reversed(files) if path.suffix.lower() in suffixes}
    portraits, drivers = named(PICTURE_SUFFIXES), named((*VIDEO_SUFFIXES, ".gif"))
    found, wrong = [], []
    for video in sorted(videos.iterdir(), key=lambda path: path.stem):
        if video.suffix.lower() not in VIDEO_SUFFIXES or video.name.startswith("."):
            continue
        names = video.stem.split(BETWEEN)
        if len(names) < 2:
            wrong.append(
                InputError(f"{video}: its name does not say what it was made of; call it PORTRAIT--DRIVER.mp4.")
            )
            continue
        portrait, driver = portraits.get(names[0]), drivers.get(names[1])
        for kind, name, path in (("portrait", names[0], portrait), ("driver", names[1], driver)):
            if path is None:
                wrong.append(
                    InputError(f"{video}: its {kind} {name} is not in {inputs}; put it there, or rename the video.")
                )
        if portrait is not None and driver is not None:
            found.append((video, portrait, driver))
    if wrong:
        raise InputErrors([str(error) for error in wrong])
    if not found:
        raise InputError(f"{videos}: holds no videos; give the folder of the results.")
    return found


def _read(reader: FrameReader) -> _Clip:
    frames = []
    for frame in reader:
        frames.append(frame)
        if len(frames) == MAX_FRAMES:
            break
    return _Clip(frames, motion.find_again(frames))


def _longest_run(found: np.ndarray) -> tuple[int, int]:
    """Return start and length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], found, [0]])))
    runs = [(int(b - a), int(a)) for a, b in edges.reshape(-1, 2)]
    length, start = max(runs, key=lambda run: (run[0], -run[1]), default=(0, 0))
    return start, length


def _sharpness(clip: _Clip, photo: np.ndarray, points: np.ndarray) -> float:
    """Return the variance of the Laplacian in the face over that in the photo's, both at the smaller one's size."""
    centre, side = head_square(points)
    size = int(min(side, head_square(np.median(clip.landmarks[clip.found], axis=0))[1], LARGEST))
    frames, landmarks = clip.squares(size, FRAMES)
    corner = centre - side / 2
    own = cut_square(photo, corner, side, size)
    still = _detail(own, (points - np.array([*corner, 0])) * (size / side))
    return float(np.mean([_detail(frame, at) for frame, at in zip(frames, landmarks)])) / max(still, 1e-6)


def _detail(image: np.ndarray, points: np.ndarray) -> float:
    """Return the variance of the Laplacian of a picture in the face with these landmarks."""
    face = filled(points[:468, :2], image.shape[:2])
    return float(laplacian(image)[face].var())


def _edge_flicker(clip: _Clip) -> float:
    """Return the second difference over time at the head's edge."""
    frames, landmarks = clip.squares(SIDE, FRAMES)
    if len(frames) < 3:
        return float("nan")
    edges = [regions(points, matte(frame))["edge"] for frame, points in zip(frames, landmarks)]
    return second_difference(frames, edges)


def _show(
    page: Report, name: str, photo: np.ndarray, made: _Clip, wanted: _Clip, count: int, row: dict, fps: float
) -> None:
    """Add a video to the page: the portrait, then driver and result at three moments, and both as a clip."""
    shows = {"portrait": _fitted(photo)}
    for number, t in enumerate(np.linspace(0, count - 1, 4).astype(int)[1:], 1):
        shows |= {f"driver {number}": _fitted(wanted.frames[t]), f"result {number}": _fitted(made.frames[t])}
    page.add_item("all", name, shows, {VIDEO: {column.key: row[column.key] for column in COLUMNS}})
    clip = {"driver": wanted.frames[:count], "result": made.frames[:count]}
    page.add_clip("all", name, {kind: [_fitted(frame) for frame in frames] for kind, frames in clip.items()}, fps)


def _fitted(image: np.ndarray) -> np.ndarray:
    """Return a picture in a square of LARGEST px, with grey beside it."""
    scale = LARGEST / max(image.shape[:2])
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    square = np.full((LARGEST, LARGEST, 3), 128, np.uint8)
    y, x = (LARGEST - small.shape[0]) // 2, (LARGEST - small.shape[1]) // 2
    square[y : y + small.shape[0], x : x + small.shape[1]] = small
    return square
