"""The `portrait-anim` command: the tools around `animate`: prepare, meta-train, evaluate."""

import typer

from .cli import run

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.callback()
def tools() -> None:
    """Tools around `animate`: make training shards, train weights, measure them."""


def main() -> None:
    run(app)
