"""Write the page of an evaluation: a folder with one HTML file that opens without a server, pictures and videos."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from ..media.writing import VideoWriter
from ..system.files import make_folder
from .blind import blind
from .pages import filled_in, page_folder
from .tables import Column, Table

JPEG_QUALITY = 92
CLIP_FPS = 12.5  # of the videos: about the rate of the shards


class Report:
    """The folder of a page, report.html, made within a `with` block.

    Pictures and videos are written when they are added, the page itself at the end. All of them appear in the folder at
    the end of the block, in place of those of an earlier page; if it ends by Ctrl-C or an error, the earlier page stays
    as it was, see `page_folder`.

    folder: is made if it is missing. rivals: two methods whose clips a person may want to judge without knowing which
    is which, see `blind`. Raises OutputError.
    """

    def __init__(self, folder: Path, rivals: tuple[str, ...] = ()):
        self._rivals = rivals
        self._items: list[dict] = []
        self._clips: list[dict] = []
        self._place = page_folder(folder)

    def __enter__(self) -> "Report":
        self._folder = self._place.__enter__()
        for part in ("pictures", "videos", *(f"videos/{rival}" for rival in self._rivals)):
            make_folder(self._folder / part)
        return self

    def __exit__(self, *exc) -> bool | None:
        return self._place.__exit__(*exc)

    def add_item(self, group: str, name: str, pictures: dict[str, np.ndarray], values: dict[str, dict]) -> None:
        """Add a pair.

        group: which table it belongs to. pictures: (H, W, 3) uint8 by name, in the order in which they are shown.
        values: {method: {key of a column: value}}, NaN or None where it could not be measured.
        """
        shown = []
        for number, (kind, picture) in enumerate(pictures.items()):
            file = f"pictures/{_plain(group)}-{_plain(name)}-{number}-{_plain(kind)}.jpg"
            encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
            (self._folder / file).write_bytes(encoded.tobytes())
            shown.append({"name": kind, "file": file})
        known = lambda value: value if value is not None and np.isfinite(value) else None
        values = {method: {key: known(value) for key, value in of.items()} for method, of in values.items()}
        self._items.append({"group": group, "name": name, "pictures": shown, "values": values})

    def add_clip(self, group: str, name: str, frames: dict[str, Sequence[np.ndarray]], fps: float = CLIP_FPS) -> None:
        """Add a clip: the frames (H, W, 3) uint8 of each method, all of one size, which are shown side by side.

        With `rivals` the clips of these two are written alone as well.
        """
        for rival in self._rivals:
            write_video(self._folder / f"videos/{rival}/{_plain(group)}-{_plain(name)}.mp4", frames[rival], fps)
        file = f"videos/{_plain(group)}-{_plain(name)}.mp4"
        write_video(self._folder / file, [np.concatenate(moment, 1) for moment in zip(*frames.values())], fps)
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
    ) -> None:
        """Write the page itself.

        columns: the measures of the pairs. left, right: the pictures that are compared at first. method, first: pairs
        are sorted at first by how bad this method is, by the measure with this key.
        """
        if self._rivals and self._clips:
            blind(*(self._folder / "videos" / rival for rival in self._rivals), self._folder / "blind")
        data = {
            "title": title, "notes": notes, "tables": [asdict(table) for table in tables],
            "metrics": [asdict(column) for column in columns], "items": self._items, "clips": self._clips,
            "left": left, "right": right, "method": method, "first": first, "blind": bool(self._rivals and self._clips),
        }  # fmt: skip
        (self._folder / "report.html").write_text(filled_in("report.html", data), "utf-8")


def write_video(path: Path, frames: Sequence[np.ndarray], fps: float = CLIP_FPS) -> None:
    """Write frames (H, W, 3) uint8 as a video; an odd last row or column is left out."""
    height, width = (side - side % 2 for side in frames[0].shape[:2])
    with VideoWriter(path, (width, height), fps) as writer:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[:height, :width]))


def _plain(name: str) -> str:
    """Return a name as a part of a file's name that needs no escapes anywhere."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")
