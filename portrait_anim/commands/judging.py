"""The commands that judge: `portrait-anim evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from .console import say


def evaluate(
    shards: Annotated[Path, typer.Argument(help="Folder made by prepare; only its held-out people are used.")],
    weights: Annotated[Path | None, typer.Option(help="Weights file. Default: the one that ships.")] = None,
    against: Annotated[Path | None, typer.Option(help="Other weights to compare with, for a row of their own.")] = None,
    paper: Annotated[Path | None, typer.Option(help="Weights of the paper's networks, for a row of their own.")] = None,
    shots: Annotated[
        list[int] | None,
        typer.Option(help="Photos of the person, T; may be repeated. Default: 1, 8, 32 as the clips allow."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="24 fixed pairs, T = 1, in two minutes on two cores.")] = False,
    finetune: Annotated[
        float | None, typer.Option(help="Seconds: measure persons fine-tuned so long, too, on pairs of their own.")
    ] = None,
    people: Annotated[int | None, typer.Option(help="With --finetune, of so many people. Default: all.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for evaluation.json, evaluation.md, contact-sheet.png.")
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
    cross: Annotated[
        bool,
        typer.Option("--cross", help="Motion from one person to another: blinks, lips, gaze, pose, jitter, likeness."),
    ] = False,
) -> None:
    """Measure weights on people never trained on: still photo, mesh warp alone, the model; or, with --cross, motion."""
    if cross:
        from ..evaluation import cross as evaluate_cross

        step = lambda done, total: say(f"{done} of {total} pairs")
        print(evaluate_cross.to_markdown(evaluate_cross.evaluate_cross(shards, weights, out, progress=step)))
        return
    from ..animation.options import check_finetune
    from ..evaluation.protocol import evaluate as measure
    from ..evaluation.results import to_markdown

    if any(not 1 <= t <= 32 for t in shots or []):
        raise UsageError("--shots must be from 1 to 32.")
    if finetune is not None:
        check_finetune(finetune)
    if people is not None and (people < 1 or finetune is None):
        raise UsageError("--people must be 1 or more, and goes with --finetune.")

    def show(done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            say(f"{done} of {total} pairs")

    measured = measure(
        shards, weights, against, paper, tuple(shots) if shots else None, quick, finetune, people, out, report,
        inception, alexnet, show,
    )  # fmt: skip
    print(to_markdown(measured))
    if report is not None:
        say(f"open {report / 'report.html'}")
