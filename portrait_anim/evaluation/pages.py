"""Fill the pages of this package, its HTML files, with data."""

import json
from importlib import resources


def filled_in(template: str, data: dict) -> str:
    """Return a page of this package with the common style and its data in it."""
    page, style = (resources.files(__package__).joinpath(name).read_text("utf-8") for name in (template, "pages.css"))
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")  # no name can end the script
    return page.replace("{{style}}", style.rstrip()).replace("{{data}}", text)
