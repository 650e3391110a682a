"""The `portrait-anim` command, whose subcommands are tools around `animate`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError, UsageError
from . import judging
from .console import EXIT_SOME_FAILED, BatchDisplay, print_json, print_version, run, say
from .live import live

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.callback()
def tools(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Tools around `animate`: a web page, your camera, lists of jobs, checks of installation and files, training."""


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; the default is reached from this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on, 0 for any free one.")] = 8420,
    max_upload: Annotated[int, typer.Option(help="MB that portrait and clip may have together.")] = 200,
    weights: Annotated[Path | None, typer.Option(help="Weights file. Default: the one that ships.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
) -> None:
    """A local web page: drop a portrait, choose a motion, see the result. Ctrl-C stops it."""
    if max_upload < 1:
        raise UsageError(f"--max-upload {max_upload} is too little; give 1 MB or more.")
    try:
        from ..web import app as web
    except ModuleNotFoundError as error:
        raise UsageError(f"The web page needs {error.name}; install it by: pip install '.[web]'.") from error
    from ..animation.animator import Animator
    from ..networks.weights import check_file
    from ..system.network import is_loopback, listen, shown_name

    animator = Animator(weights, device, precision)
    if weights is not None:
        check_file(weights)
        _ = animator.painter  # what is wrong with the file is said now, not at the first portrait
    listener = listen(host, port)
    if not is_loopback(host):
        say(f"warning: everybody who can reach {host} can use this page; it asks for no password.")
    shown = shown_name(host)
    try:
        print(f"http://{shown}:{listener.getsockname()[1]}/  (Ctrl-C stops)", flush=True)
        web.serve(listener, host, max_upload, animator)
    except KeyboardInterrupt:  # the usual way to stop the server
        pass
    say("stopped; all uploads and videos were deleted")


app.command()(live)


@app.command(rich_help_panel="Training")
def prepare(
    videos: Annotated[list[Path], typer.Argument(help="Videos, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    groups: Annotated[
        Path | None,
        typer.Option(
            help="JSON lines with `id` (file stem) and `group` (the person), and `test`: true for people to hold out. "
            "Default: every file is a person, one in seven is held out."
        ),
    ] = None,
    size: Annotated[int, typer.Option(help="Side of the frames in px, 512 or 256, if the video has so many.")] = 512,
    workers: Annotated[int, typer.Option(help="How many videos are prepared at the same time.")] = 2,
) -> None:
    """Turn videos of people into training shards: tracked, split at cuts and lost faces, one crop per segment.

    Ctrl-C stops it within seconds; the same command goes on where it stopped. Exit code 5 when some videos could not
    be used.
    """
    from ..training.prepare import prepare as make
    from .training_display import PrepareDisplay

    with PrepareDisplay() as display:
        reports = make(videos, out, groups, size, workers, progress=display)
    kept, failed = sum(r["kept"] for r in reports), sum(bool(r["error"]) for r in reports)
    shards = sum(len(r["shards"]) for r in reports)
    if not shards:
        raise InputError(f"{out}: none of the {len(reports)} videos could be used; the lines above say why.")
    print(f"{out}: {kept} frames in {shards} shards of {len(reports)} videos, {failed} unreadable")
    if failed:
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command("meta-train", rich_help_panel="Training")
def meta_train(
    shards: Annotated[Path, typer.Argument(help="Folder made by prepare.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: checkpoint, log, samples, weights.")],
    minutes: Annotated[float | None, typer.Option(help="Stop after so long. Default: when interrupted.")] = None,
    steps: Annotated[int | None, typer.Option(help="End of the run; the learning rate falls to 0 by it.")] = None,
    plan_minutes: Annotated[float | None, typer.Option(help="The end by time: minutes of all calls together.")] = None,
    init: Annotated[Path | None, typer.Option(help="Weights file to start a new run from.")] = None,
    paper: Annotated[bool, typer.Option("--paper", help="The paper's own networks, on whole frames.")] = False,
    adversarial_after: Annotated[
        int | None, typer.Option(help="Steps before the critic joins. Default: 4000, with --init 0.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Episodes a step, of a few frames each. Default: 2 on a processor, 8 on a GPU.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of the generator and the source encoder. Default: 3e-4, with --init 1e-4.")
    ] = None,
    vgg19: Annotated[Path | None, typer.Option(help="Your VGG19 (Caffe's), for the paper's own loss.")] = None,
    vggface: Annotated[Path | None, typer.Option(help="Your VGGFace (VGG16), for the same.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    processes: Annotated[
        int | None,
        typer.Option(help="Processes that train together. Default: one per core of a processor, one on a GPU."),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of the networks in each process.")] = 1,
    workers: Annotated[
        int | None, typer.Option(help="Processes that make episodes. Default: 0 on a processor.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded frames. Default: SHARDS/decoded.")] = None,
    cache_gb: Annotated[float, typer.Option(help="How large that folder may become.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Of the first weights and the draw of episodes.")] = 0,
    evaluate_minutes: Annotated[float, typer.Option(help="Minutes between samples of held-out people.")] = 15.0,
) -> None:
    """Train on shards; Ctrl-C or SIGTERM saves, the same command continues exactly. Runs under torchrun, too."""
    counts = (batch, steps, processes, threads)
    if min(1 if count is None else count for count in counts) < 1 or (workers or 0) < 0:
        raise UsageError("--batch, --steps, --processes and --threads must be 1 or more, --workers 0 or more.")
    if steps is not None and plan_minutes is not None:
        raise UsageError("--steps and --plan-minutes both say when the run ends; give one of them.")
    if min(1 if number is None else number for number in (minutes, plan_minutes, cache_gb)) <= 0:
        raise UsageError("--minutes, --plan-minutes and --cache-gb must be more than 0.")
    import os

    import torch

    torch.set_num_threads(threads)
    from ..evaluation.progress import ProgressSamples
    from ..networks import weights
    from ..networks.config import ModelConfig
    from ..system.threads import cores
    from ..training.history import NO_MATPLOTLIB, can_plot
    from ..training.processes import choose_training_device
    from ..training.shards import load_shards
    from ..training.train import meta_train as train
    from ..training.train import own_config

    place = choose_training_device(device)
    if processes is None:
        processes = 1 if "RANK" in os.environ or place.type == "cuda" else cores()
    if adversarial_after is None:
        adversarial_after = 0 if init else 4000
    if learning_rate is None:
        learning_rate = 1e-4 if init else 3e-4
    changes = dict(
        learning_rate=learning_rate, steps=steps, plan_minutes=plan_minutes, adversarial_after=adversarial_after,
        vgg19=vgg19, vggface=vggface, seed=seed,
    )  # fmt: skip
    config = own_config(place, paper, **changes | ({} if batch is None else {"batch": batch}))
    others = os.environ.get("RANK", "0") != "0"  # of torchrun; they show nothing
    samples = None if paper or others else ProgressSamples(load_shards(shards, held_out=True))
    if not can_plot():
        say(NO_MATPLOTLIB)

    def show(report: dict) -> None:
        numbers = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in report.items())
        say(numbers)

    trainer = train(
        shards, out, minutes, workers, ModelConfig.paper() if paper else ModelConfig(), config, init, place, processes,
        cache, cache_gb, evaluate_minutes=evaluate_minutes, progress=show, sample=samples,
    )  # fmt: skip
    if trainer.rank == 0:
        hours = trainer.seconds / 3600
        frames = trainer.step * config.batch * config.episodes.targets * trainer.world
        start = f", from {init.name}" if init else ""
        info = {
            "name": out.name,
            "licence": "that of the shards' videos",
            "training": f"{trainer.step} steps, {frames} frames, {hours:.2f} h{start}",
        }
        # The discriminator is fine-tuning's: of our kind of model it is passed on as it was.
        critic = trainer.adversary.network if paper else weights.load(init, critic=True).critic if init else None
        path = out / "weights.safetensors"
        weights.save(path, trainer.model, info, **trainer.averaged(), critic=critic)
        print(f"{path}: {info['training']}")


@app.command()
def batch(
    jobs: Annotated[
        Path,
        typer.Argument(
            help=".csv or .jsonl; columns: images, driver, output, and animate's options, such as max_size."
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="Folder or template for jobs without an output: out/{portrait}-{driver}.mp4."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Make everything again. Default: go on where it stopped.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="JSON lines, one per finished job. Default: JOBS.report.jsonl beside it."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes. Default: one per two cores, or what fits into the Ray cluster.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Frames a worker makes at the same time. Default: its share of the cores.")
    ] = None,
    retries: Annotated[int, typer.Option(help="How often a job is tried again when its worker was killed.")] = 2,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="When photos or drivers are missing, run the other jobs. Default: say all that are missing, run none.",
        ),
    ] = False,
    ray: Annotated[
        str | None, typer.Option(help="Run on a Ray cluster: auto, local, or its address. Needs the extra `cluster`.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Weights file. Default: the one that ships.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per job, a line each.")] = False,
) -> None:
    """Run thousands of `animate` jobs; the same command goes on where it stopped, and tries failed ones again.

    Exit code 5 when some jobs failed; the report and the last lines say which and why.
    """
    from ..batch.run import read_jobs, run_batch

    todo = read_jobs(jobs, output, force)
    report = report or jobs.with_name(f"{jobs.name}.report.jsonl")
    settings: dict = dict(weights=weights, device=device, precision=precision)
    display = BatchDisplay(len(todo), quiet, json)
    settings |= dict(workers=workers, threads=threads, retries=retries, keep_going=keep_going, ray=ray)
    for outcome in run_batch(todo, report, **settings):
        display.report(outcome)
    display.summary(jobs, report)
    if display.failed:
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command()
def doctor(
    weights: Annotated[str | None, typer.Option(help="Weights file. Default: the one that ships.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per check, a line each.")] = False,
) -> None:
    """Check whether all that `animate` needs is here and works, and how fast it is.

    A line per check: ok, PROBLEM with what to do, or a note on what `animate` can do without. Exit code 1 when there is
    a problem.
    """
    from dataclasses import asdict

    from .doctor import examine, summary

    problems = 0
    for check in examine(weights, device, precision):
        problems += check.ok is False
        if json:
            print_json(asdict(check))
        else:
            mark = {True: "ok", False: "PROBLEM", None: "note"}[check.ok]
            say(f"{mark:<8}{check.name:<15}{check.text}", sys.stdout)
    if not json:
        say(summary(problems), sys.stdout)
    if problems:
        raise typer.Exit(1)


app.command(rich_help_panel="Training")(judging.evaluate)
app.command(rich_help_panel="Training")(judging.blind)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="Video or picture.")],
    trust: Annotated[
        Path | None, typer.Option(help="Certificates (PEM) of issuers you trust, for files signed by others.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of sentences.")] = False,
) -> None:
    """Say how a video or picture was made, as far as it tells, whether it is intact, and who signed it.

    Exit codes: 0 signed and intact, 1 anything else, 3 unreadable.
    """
    from dataclasses import asdict

    from ..provenance.verify import verify_file

    report = verify_file(file, trust)
    if json:
        print_json(asdict(report))
    else:
        for line in report.sentences():
            say(line, sys.stdout)
    if report.verdict != "intact":
        raise typer.Exit(1)


def main() -> None:
    """Run the `portrait-anim` command."""
    run(app)


if __name__ == "__main__":
    sys.exit(main())
