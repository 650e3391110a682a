"""Make the folders of results, and fill the pages of this package, its HTML files, with data."""

import json
from importlib import resources
from pathlib import Path

from ..errors import OutputError


def make_folder(folder: Path) -> None:
    """Make a folder if it is missing, before any work is done. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); name another folder.") from error


def filled_in(template: str, data: dict) -> str:
    """Return a page of this package with its data in it."""
    page = resources.files(__package__).joinpath(template).read_text("utf-8")
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")  # no name can end the script
    return page.replace("{{data}}", text)
