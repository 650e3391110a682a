"""Fill the pages of this package, its HTML files, with data, and put them in place of earlier ones."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path

from ..errors import OutputError
from ..system.files import make_folder, missing_folders, partial_path, remove, sweep
from ..system.signals import signals_deferred

_SHOWN = re.compile(r'"((?:pictures|videos)/[\w-]+\.\w+)"')  # a picture or video in the data of a page


def filled_in(template: str, data: dict) -> str:
    """Return a page of this package with the common style and its data in it."""
    page, style = (resources.files(__package__).joinpath(name).read_text("utf-8") for name in (template, "pages.css"))
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")  # no name can end the script
    return page.replace("{{style}}", style.rstrip()).replace("{{data}}", text)


@contextmanager
def page_folder(folder: Path) -> Iterator[Path]:
    """Let a page, its pictures and its videos be written so that they appear in `folder` only when all are whole.

    The `with` block gets an empty folder to write to, a hidden one in `folder`, which is made if it is missing. At the
    end of the block the files move to the same places in `folder`. They replace those of the same names, and what only
    a replaced page showed is removed; all other files stay. After an exception in the block everything is as it was
    before. Raises OutputError when the folder cannot be written to.
    """
    missing = missing_folders(folder)
    make_folder(folder)
    sweep(folder)
    hidden = partial_path(folder / "page")
    try:
        with _told_of(folder):
            hidden.mkdir()
            yield hidden
            with signals_deferred():
                _move(hidden, folder)
        missing = []
    finally:
        remove(hidden)
        for part in missing:
            with suppress(OSError):  # somebody else has put something there
                part.rmdir()


@contextmanager
def _told_of(folder: Path) -> Iterator[None]:
    """Tell of an OSError as of a folder that cannot be written to, unless it names files elsewhere alone."""
    try:
        yield
    except OSError as error:
        named = [Path(os.fsdecode(name)).resolve() for name in (error.filename, error.filename2) if name is not None]
        if named and not any(file.is_relative_to(folder.resolve()) for file in named):
            raise
        reason = error.strerror or error
        raise OutputError(f"{folder}: cannot be written ({reason}); check the folder and its space.") from error


def _move(hidden: Path, folder: Path) -> None:
    """Move all files of a folder to another one, pages after all that they show."""
    files = sorted((path for path in hidden.rglob("*") if path.is_file()), key=lambda path: path.suffix == ".html")
    targets = [folder / file.relative_to(hidden) for file in files]
    before = {path for target in targets for path in _shown_by(target)}
    for file, target in zip(files, targets):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)
    for path in before - {path for target in targets for path in _shown_by(target)}:
        remove(path)


def _shown_by(page: Path) -> set[Path]:
    """Return the pictures and videos that a page shows; none if it is no page or not there."""
    if page.suffix != ".html" or not page.is_file():
        return set()
    return {page.parent / name for name in _SHOWN.findall(page.read_text("utf-8", errors="replace"))}
