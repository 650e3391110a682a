"""The commands that judge: `portrait-anim evaluate` and `portrait-anim blind`."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from .console import EXIT_SOME_FAILED, say


def evaluate(
    shards: Annotated[
        Path,
        typer.Argument(
            help="Folder made by prepare; only its held-out people are used. With --videos: the portraits and drivers."
        ),
    ],
    weights: Annotated[Path | None, typer.Option(help="Weights file. Default: the one that ships.")] = None,
    against: Annotated[Path | None, typer.Option(help="Other weights to compare with, for a row of their own.")] = None,
    paper: Annotated[Path | None, typer.Option(help="Weights of meta-train --paper, for a row of their own.")] = None,
    shots: Annotated[
        list[int] | None,
        typer.Option(help="Photos of the person, T; may be repeated. Default: 1, 8, 32 as the clips allow."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="24 fixed pairs, T = 1, in two minutes on two cores.")] = False,
    finetune: Annotated[
        float | None,
        typer.Option(help="Also measure persons fine-tuned for so many seconds, on pairs of their own."),
    ] = None,
    people: Annotated[int | None, typer.Option(help="With --finetune: how many people. Default: all.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the figures, as JSON and Markdown, and a contact sheet.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for a page to look at, report.html: tables, distributions, every pair, clips."),
    ] = None,
    inception: Annotated[
        Path | None, typer.Option(help="Your inception-2015-12-05.pt, for the usual FID. Default: EfficientNet's.")
    ] = None,
    alexnet: Annotated[
        Path | None, typer.Option(help="Your AlexNet (torchvision's), for LPIPS. Default: EfficientNet's distance.")
    ] = None,
    videos: Annotated[
        Path | None,
        typer.Option(
            help="Folder of finished videos of any tool, called PORTRAIT--DRIVER.mp4: measure these instead of weights."
        ),
    ] = None,
    cross: Annotated[
        bool,
        typer.Option("--cross", help="Motion from one person to another: blinks, lips, gaze, pose, jitter, likeness."),
    ] = False,
) -> None:
    """Measure how well weights animate people whom no training saw, beside the still photo and the mesh warp alone.

    With --cross, motion from one person to another; with --videos, finished videos against portrait and driver: one
    that cannot be measured is left out, and the exit code is then 5.
    """
    if cross and videos is not None:
        raise UsageError("--cross and --videos measure different things; give one of them.")
    if cross or videos is not None:
        others = {"--against": against, "--paper": paper, "--shots": shots, "--quick": quick, "--finetune": finetune}
        others |= {"--people": people, "--inception": inception, "--alexnet": alexnet}
        others |= {} if cross else {"--weights": weights}
        if unused := [name for name, value in others.items() if value not in (None, False)]:
            kind = "--cross" if cross else "--videos"
            raise UsageError(f"{unused[0]} has no meaning with {kind}; leave it out.")

    left_out: list[str] = []

    def show(done: int, total: int, every: int = 1) -> None:
        if done % every == 0 or done == total:
            say(f"{done} of {total}")

    if videos is not None:
        from ..evaluation import videos as finished

        result = finished.evaluate_videos(shards, videos, out, report, show)
        left_out = [one["why"] for one in result["left out"]]
        print(finished.table_of(result).markdown())
    elif cross:
        from ..evaluation import cross as between

        print(between.to_markdown(between.evaluate_cross(shards, weights, out, report, progress=show)))
    else:
        from ..evaluation.protocol import evaluate as measure
        from ..evaluation.results import to_markdown

        _check(shots, finetune, people)
        measured = measure(
            shards, weights, against, paper, tuple(shots) if shots else None, quick, finetune, people, out, report,
            inception, alexnet, lambda done, total: show(done, total, 20),
        )  # fmt: skip
        print(to_markdown(measured))
    if report is not None:
        say(f"{report / 'report.html'}: open it in a browser")
    if left_out:
        for sentence in dict.fromkeys(left_out):
            say(f"error: {sentence}")
        total = result["videos"] + len(left_out)
        say(f"error: {len(left_out)} of {total} videos could not be measured; the lines above say why.")
        raise typer.Exit(EXIT_SOME_FAILED)


def _check(shots: list[int] | None, finetune: float | None, people: int | None) -> None:
    """Raise UsageError for numbers that are out of range."""
    from ..animation.options import check_finetune

    if any(not 1 <= t <= 32 for t in shots or []):
        raise UsageError("--shots must be from 1 to 32.")
    if finetune is not None:
        check_finetune(finetune)
    if people is not None and (people < 1 or finetune is None):
        raise UsageError("--people must be 1 or more, and goes with --finetune.")


def blind(
    a: Annotated[Path, typer.Argument(help="Folder of videos that one method made.")],
    b: Annotated[Path, typer.Argument(help="Folder of videos of the same names that another method made.")],
    out: Annotated[Path, typer.Option(help="Folder for the page, blind.html, and copies of the videos.")],
) -> None:
    """Make a page on which you judge two methods, of any tools, by their videos without knowing which is which."""
    from ..evaluation.blind import blind as make

    path = make(a, b, out, warn=lambda sentence: say(f"warning: {sentence}"))
    print(f"{path}: open it in a browser, and answer with the arrow keys")
