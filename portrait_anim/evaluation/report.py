"""Write the page of an evaluation: a folder with one HTML file that opens without a server, pictures and videos."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from ..media.writing import VideoWriter
from ..system.files import make_folder, write_whole
from .blind import blind
from .pages import filled_in
from .tables import Column, Table

JPEG_QUALITY = 92
CLIP_FPS = 12.5  # of the videos: about the rate of the shards


class Report:
    """The folder of a page. Pictures and videos are written when they are added, the page itself at the end.

    folder: is made if it is missing; files of the same names are replaced. rivals: two methods whose clips a person may
    want to judge without knowing which is which, see `blind`. Within a `with` block that ends before the page is
    written, by Ctrl-C or an error, what was added is removed. Raises OutputError.
    """

    def __init__(self, folder: Path, rivals: tuple[str, ...] = ()):
        self.folder = folder
        self._rivals = rivals
        self._items: list[dict] = []
        self._clips: list[dict] = []
        self._written: list[Path] = []
        parts = [folder, *(folder / part for part in ("pictures", "videos", *(f"videos/{rival}" for rival in rivals)))]
        self._made = [part for part in parts if not part.exists()]
        self._is_whole = False
        for part in parts:
            make_folder(part)

    def __enter__(self) -> "Report":
        return self

    def __exit__(self, *exc) -> None:
        if self._is_whole:
            return
        for file in self._written:
            file.unlink(missing_ok=True)
        for part in reversed(self._made):
            with suppress(OSError):  # somebody else has put something there
                part.rmdir()

    def add_item(self, group: str, name: str, pictures: dict[str, np.ndarray], values: dict[str, dict]) -> None:
        """Add a pair.

        group: which table it belongs to. pictures: (H, W, 3) uint8 by name, in the order in which they are shown.
        values: {method: {key of a column: value}}, NaN or None where it could not be measured.
        """
        shown = []
        for number, (kind, picture) in enumerate(pictures.items()):
            file = f"pictures/{_plain(group)}-{_plain(name)}-{number}-{_plain(kind)}.jpg"
            encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
            write_whole(self._noted(file), encoded.tobytes())
            shown.append({"name": kind, "file": file})
        known = lambda value: value if value is not None and np.isfinite(value) else None
        values = {method: {key: known(value) for key, value in of.items()} for method, of in values.items()}
        self._items.append({"group": group, "name": name, "pictures": shown, "values": values})

    def add_clip(self, group: str, name: str, frames: dict[str, Sequence[np.ndarray]], fps: float = CLIP_FPS) -> None:
        """Add a clip: the frames (H, W, 3) uint8 of each method, all of one size, which are shown side by side.

        With `rivals` the clips of these two are written alone as well.
        """
        for rival in self._rivals:
            write_video(self._noted(f"videos/{rival}/{_plain(group)}-{_plain(name)}.mp4"), frames[rival], fps)
        file = f"videos/{_plain(group)}-{_plain(name)}.mp4"
        write_video(self._noted(file), [np.concatenate(moment, 1) for moment in zip(*frames.values())], fps)
        self._clips.append({"group": group, "name": name, "file": file, "of": list(frames)})

    def write(
        self,
        title: str,
        notes: list[str],
        tables: list[Table],
        columns: Sequence[Column],
        left: str,
        right: str,
        method: str,
        first: str,
    ) -> Path:
        """Write the page, report.html, and return its path.

        columns: the measures of the pairs. left, right: the pictures that are compared at first. method, first: pairs
        are sorted at first by how bad this method is, by the measure with this key.
        """
        if self._rivals and self._clips:
            blind(*(self.folder / "videos" / rival for rival in self._rivals), self.folder / "blind")
        data = {
            "title": title, "notes": notes, "tables": [asdict(table) for table in tables],
            "metrics": [asdict(column) for column in columns], "items": self._items, "clips": self._clips,
            "left": left, "right": right, "method": method, "first": first, "blind": bool(self._rivals and self._clips),
        }  # fmt: skip
        path = self.folder / "report.html"
        write_whole(path, filled_in("report.html", data).encode())
        self._is_whole = True
        return path

    def _noted(self, file: str) -> Path:
        """Return the path of a file of the page that is about to be written."""
        self._written.append(self.folder / file)
        return self._written[-1]


def write_video(path: Path, frames: Sequence[np.ndarray], fps: float = CLIP_FPS) -> None:
    """Write frames (H, W, 3) uint8 as a video; an odd last row or column is left out."""
    height, width = (side - side % 2 for side in frames[0].shape[:2])
    with VideoWriter(path, (width, height), fps) as writer:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[:height, :width]))


def _plain(name: str) -> str:
    """Return a name as a part of a file's name that needs no escapes anywhere."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")
