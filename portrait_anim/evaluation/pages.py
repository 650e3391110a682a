"""Fill the pages of this package, its HTML files, with data."""

import json
from importlib import resources


def filled_in(template: str, data: dict) -> str:
    """Return a page of this package with its data in it."""
    page = resources.files(__package__).joinpath(template).read_text("utf-8")
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")  # no name can end the script
    return page.replace("{{data}}", text)
