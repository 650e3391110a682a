"""A page on which a person judges two methods by their videos without knowing which is which."""

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError, OutputError
from ..media.reading import probe
from ..system.files import VIDEO_SUFFIXES, make_folder, write_whole
from .pages import filled_in


def blind(a: Path, b: Path, out: Path, warn: Callable[[str], None] = lambda sentence: None) -> Path:
    """Write the page, blind.html, and copies of the videos beside it under names that tell nothing; return its path.

    a, b: folders of videos, of any tool; those with the same name show the same thing. The methods are called by the
    folders' names. out: the folder for the page. warn: is called with a sentence on videos that are in one folder only.
    Raises InputError or OutputError.
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
    make_folder(out / "videos")
    pairs = [{"name": name, "files": [_copied(videos[name], out) for videos in found]} for name in names]
    methods = [a.resolve().name, b.resolve().name]
    methods = methods if methods[0] != methods[1] else [str(a), str(b)]
    path = out / "blind.html"
    write_whole(
        path, filled_in("blind.html", {"id": secrets.token_hex(8), "methods": methods, "pairs": pairs}).encode()
    )
    return path


def _videos(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; give two folders of videos.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    return {path.stem: path for path in files if not path.name.startswith(".")}


def _copied(video: Path, out: Path) -> str:
    """Copy a video to a file whose name does not tell which one it is, and return its address on the page."""
    probe(video)
    target = out / "videos" / f"{secrets.token_hex(6)}{video.suffix.lower()}"
    try:
        shutil.copyfile(video, target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror}); check the folder and its space.") from error
    return f"videos/{target.name}"
