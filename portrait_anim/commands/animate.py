"""The `animate` command: a thin layer over `Animator.animate`, whose parameters have the names of the options."""

import os
from typing import Annotated

import typer

from ..errors import UsageError
from .console import EXIT_SOME_FAILED, Display, print_json, print_version, run, say, to_stdout

_HELP = """Bring a portrait to life: write a video in which it moves like the person in the driver clip.

[bold]animate mona.jpg --driver clip.mp4[/bold]              writes mona--clip.mp4
[bold]animate mona.jpg -d smile[/bold]                       a built-in motion
[bold]animate mona.jpg -d clip.mp4 --preview[/bold]          a dozen frames first
[bold]animate me.jpg -d clip.mp4 --start 2 --end 7.5 -o me.gif[/bold]
[bold]animate me.jpg -d clip.mp4 --only eyes --only lips[/bold]
[bold]animate me.jpg -d clip.mp4 --compare -o me.mp4 -f[/bold]  replaces me.mp4
[bold]animate *.jpg --each -d clip.mp4 -o out/[/bold]        a video of every portrait
[bold]animate me.jpg -d a.mp4 -d b.mp4 -o '{driver}.mp4'[/bold]

Exit codes: 0 done, 2 wrong usage, 3 input unusable, 4 output problem,
5 some of several outputs failed, 130 interrupted. docs/messages.md explains every message.
Only animate people who agreed to it, and say that the video is synthetic when you share it.
"""

_SWITCH_WORDS = ("yes", "no", "true", "false", "on", "off")
app = typer.Typer(add_completion=True, rich_markup_mode="rich", pretty_exceptions_enable=False)


def _list_motions(value: bool) -> None:
    if value:
        from ..motion.builtin import NAMES

        print("\n".join(f"{name:12} {says}" for name, says in NAMES.items()))
        raise typer.Exit


@app.command(help=_HELP, no_args_is_help=True)
def animate(  # noqa: D103 (the help text is given to the decorator)
    driver: Annotated[
        list[str],
        typer.Option(
            "--driver",
            "-d",
            help="Whose head, eyes and mouth lead: a video, a picture, a saved motion (.npz), a built-in one such as "
            "nod or smile (--list-motions), or camera:0 (until --end or Ctrl-C). Several give several outputs.",
        ),
    ],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="The portrait; more photos of the same person may follow and tell the network more about the face."
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help=".mp4 .mov .webm .gif, or frames/ for a folder of PNGs. Several outputs: a folder, or a template of "
            "{portrait}, {driver}, {number}. - is stdout (-.gif, -.webm). Default: PORTRAIT--DRIVER.mp4 here.",
        ),
    ] = None,
    each: Annotated[
        bool, typer.Option("--each", help="Every image is another person's portrait, with an output of its own.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace the output if it exists.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out outputs that are there already and whole.")
    ] = False,
    face: Annotated[
        int, typer.Option(help="Which face of the portrait, 1 is the largest.", rich_help_panel="Faces")
    ] = 1,
    driver_face: Annotated[
        int, typer.Option(help="Which face of the driver, 1 is the largest.", rich_help_panel="Faces")
    ] = 1,
    tracker: Annotated[
        str,
        typer.Option(
            help="auto, mediapipe, or face-alignment for faces it misses (slow; downloads its networks at first use). "
            "auto takes face-alignment when mediapipe finds nothing and the networks are there.",
            rich_help_panel="Faces",
        ),
    ] = "auto",
    motion: Annotated[
        str,
        typer.Option(
            help="relative: changes from the frame most like the portrait. absolute: the driver's own turn.",
            rich_help_panel="Motion",
        ),
    ] = "relative",
    strength: Annotated[
        float,
        typer.Option(
            help="How strongly the portrait moves: 0 not at all, 1 like the driver, up to 3.", rich_help_panel="Motion"
        ),
    ] = 1.0,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Move only this part: head, face, eyes or lips. May be repeated.", rich_help_panel="Motion"),
    ] = None,
    head_strength: Annotated[
        float, typer.Option(help="As --strength, for the head alone; both multiply.", rich_help_panel="Motion")
    ] = 1.0,
    eyes_strength: Annotated[float, typer.Option(help="The same for eyes and brows.", rich_help_panel="Motion")] = 1.0,
    lips_strength: Annotated[float, typer.Option(help="The same for mouth and jaw.", rich_help_panel="Motion")] = 1.0,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Move like the driver's mirror image.", rich_help_panel="Motion")
    ] = False,
    max_turn: Annotated[
        float,
        typer.Option(help="Degrees; larger turns of the head are bent softly towards it.", rich_help_panel="Motion"),
    ] = 40.0,
    speed: Annotated[
        float, typer.Option(help="Motion this much faster: 0.5 is half as fast.", rich_help_panel="Motion")
    ] = 1.0,
    pingpong: Annotated[
        bool, typer.Option("--pingpong", help="Forwards, then backwards.", rich_help_panel="Motion")
    ] = False,
    loop: Annotated[int, typer.Option(help="Show the motion so many times.", rich_help_panel="Motion")] = 1,
    save_motion: Annotated[
        str | None,
        typer.Option(help="Also save the driver's motion to this .npz, for --driver.", rich_help_panel="Motion"),
    ] = None,
    list_motions: Annotated[
        bool,
        typer.Option(
            "--list-motions",
            callback=_list_motions,
            is_eager=True,
            help="Show the built-in motions.",
            rich_help_panel="Motion",
        ),
    ] = False,
    smooth: Annotated[
        bool, typer.Option(help="Take the tracker's jitter out of the motion.", rich_help_panel="Motion")
    ] = True,
    reference_frame: Annotated[
        int | None,
        typer.Option(
            help="Driver frame (from 0) that stands for the portrait as it is. Default: found by itself.",
            rich_help_panel="Motion",
        ),
    ] = None,
    start: Annotated[float | None, typer.Option(help="Start in the driver, seconds.", rich_help_panel="Video")] = None,
    end: Annotated[
        float | None,
        typer.Option(
            help="End in the driver, seconds. For a picture or a camera: how long it lasts.", rich_help_panel="Video"
        ),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frame rate. Default: the driver's, exactly.", rich_help_panel="Video")
    ] = None,
    max_size: Annotated[
        int,
        typer.Option(
            help="Longer side of the video at most, px. Smaller photos keep their size.", rich_help_panel="Video"
        ),
    ] = 1280,
    background: Annotated[
        str, typer.Option(help="still: the background stays. warp: it moves with the head.", rich_help_panel="Video")
    ] = "still",
    teeth: Annotated[
        bool,
        typer.Option(
            help="Invent teeth when a mouth opens that is closed in all photos; --no-teeth for babies.",
            rich_help_panel="Video",
        ),
    ] = True,
    audio: Annotated[bool, typer.Option(help="Keep the driver's sound.", rich_help_panel="Video")] = True,
    crf: Annotated[
        int,
        typer.Option(help="H.264 quality, 0 (lossless) to 51; smaller is better and larger.", rich_help_panel="Video"),
    ] = 18,
    compare: Annotated[
        bool, typer.Option("--compare", help="Portrait, driver and result side by side.", rich_help_panel="Seeing")
    ] = False,
    preview: Annotated[
        bool,
        typer.Option("--preview", help="Only OUTPUT.preview.png: a dozen telling frames.", rich_help_panel="Seeing"),
    ] = False,
    show_mesh: Annotated[
        bool, typer.Option("--show-mesh", help="Draw landmarks and mesh over the frames.", rich_help_panel="Seeing")
    ] = False,
    label: Annotated[
        bool,
        typer.Option("--label", help="Write a small 'AI' into a corner of the frames.", rich_help_panel="Marking"),
    ] = False,
    private: Annotated[
        bool,
        typer.Option(
            "--private",
            help="Leave the names of portrait and driver out of the signed manifest that every output carries.",
            rich_help_panel="Marking",
        ),
    ] = False,
    sign_cert: Annotated[
        str | None,
        typer.Option(
            help="Your certificate (PEM) to sign the manifest. Default: a key made for this installation.",
            rich_help_panel="Marking",
        ),
    ] = None,
    sign_key: Annotated[str | None, typer.Option(help="Its private key (PEM).", rich_help_panel="Marking")] = None,
    finetune: Annotated[
        str,
        typer.Option(
            help="Fit the networks to the photos first: for so many seconds, off, or auto: for about a minute where "
            "that was measured to help, from 8 photos on. Ctrl-C ends it early.",
            rich_help_panel="Person",
        ),
    ] = "auto",
    seed: Annotated[
        int,
        typer.Option(
            help="Of the fine-tuning: the same seed, the same person (auto counts steps; seconds end by the clock).",
            rich_help_panel="Person",
        ),
    ] = 0,
    save_person: Annotated[
        str | None,
        typer.Option(help="Keep the (fine-tuned) person in this .safetensors file.", rich_help_panel="Person"),
    ] = None,
    person: Annotated[
        str | None, typer.Option(help="A file of --save-person, instead of photos.", rich_help_panel="Person")
    ] = None,
    source_video: Annotated[
        str | None,
        typer.Option(help="A video of the person: some of its frames serve as photos.", rich_help_panel="Person"),
    ] = None,
    shots: Annotated[int, typer.Option(help="How many frames of --source-video.", rich_help_panel="Person")] = 8,
    weights: Annotated[
        str | None, typer.Option(help="Weights file. Default: the one that ships.", rich_help_panel="Run")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel="Run")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.", rich_help_panel="Run")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="Frames made at the same time. Default: one per core.", rich_help_panel="Run")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but errors.", rich_help_panel="Run")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per output, a line each.", rich_help_panel="Run")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    given = locals()
    from dataclasses import fields

    from ..animation.animator import Animator
    from ..animation.options import Options
    from ..batch.jobs import expand, run_jobs
    from .doctor import describe

    if words := [name for name in images or [] if name.lower() in _SWITCH_WORDS and not os.path.exists(name)]:
        raise UsageError(f"{words[0]}: is no photo; switches take no value, as in --no-teeth.")
    options = {field.name: given[field.name] for field in fields(Options)} | {"only": tuple(only or ())}
    reasons = {
        "it takes one output, not several": each or len(driver) > 1,
        "--json prints there, too": json,
        "a preview is a file": preview,
    }
    taken = next((reason for reason, holds in reasons.items() if holds), None)
    with to_stdout(output, taken) as (name, stream):
        jobs = expand(images or [], driver, name, each, options)
        animator, failed, several = Animator(weights, device, precision, threads), 0, len(jobs) > 1
        with Display(quiet, lambda: describe(animator)) as display:
            for outcome in run_jobs(jobs, animator, skip_existing, display.progress):
                failed += outcome.error is not None
                display.end_bars()
                if json:
                    print_json(outcome.to_json())
                if outcome.error and (not several or (not outcome.started and isinstance(outcome.error, UsageError))):
                    raise outcome.error  # what is wrong with an option is so for every output
                display.report(outcome, None if json else stream)
    if failed:
        say(f"error: {failed} of {len(jobs)} outputs failed; the lines above say why.")
        raise typer.Exit(EXIT_SOME_FAILED)


def main() -> None:
    """Run the `animate` command."""
    run(app)


if __name__ == "__main__":
    main()
