"""A page on which a person judges two methods by their videos without knowing which is which."""

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from ..media.reading import probe
from ..system.files import VIDEO_SUFFIXES
from .pages import filled_in, page_folder

PAGE = "blind.html"


def blind(a: Path, b: Path, out: Path, warn: Callable[[str], None] = lambda sentence: None) -> Path:
    """Write the page, blind.html, and copies of the videos beside it under names that tell nothing; return its path.

    a, b: folders of videos, of any tool; those with the same name show the same thing. The methods are called by the
    folders' names. out: the folder for the page, where it takes the place of an earlier one when it is whole. warn: is
    called with a sentence on videos that are in one folder only. Raises InputError or OutputError.
    """
    found = [_videos(folder) for folder in (a, b)]
    names = sorted(set(found[0]) & set(found[1]))
    if not names:
        raise InputError(f"{a} and {b}: have no videos of the same names; name the two videos of a pair alike.")
    for folder, videos in zip((a, b), found):
        if alone := sorted(set(videos) - set(names)):
            warn(
                f"{folder}: {', '.join(alone[:5])}{'...' if len(alone) > 5 else ''}: not in the other folder, left out"
            )
    methods = [a.resolve().name, b.resolve().name]
    methods = methods if methods[0] != methods[1] else [str(a), str(b)]
    with page_folder(out) as folder:
        (folder / "videos").mkdir()
        pairs = [{"name": name, "files": [_copied(videos[name], folder) for videos in found]} for name in names]
        data = {"id": secrets.token_hex(8), "methods": methods, "pairs": pairs}
        (folder / PAGE).write_text(filled_in(PAGE, data), "utf-8")
    return out / PAGE


def _videos(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; give two folders of videos.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    return {path.stem: path for path in files if not path.name.startswith(".")}


def _copied(video: Path, folder: Path) -> str:
    """Copy a video to a file whose name does not tell which one it is, and return its address on the page."""
    probe(video)
    address = f"videos/{secrets.token_hex(6)}{video.suffix.lower()}"
    shutil.copyfile(video, folder / address)
    return address
