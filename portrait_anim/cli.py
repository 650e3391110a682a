"""The `animate` command: a thin layer over `Animator.animate`; every option is a parameter of the same name."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import __version__
from .errors import OutputError, PortraitAnimError

EXIT_INTERRUPTED = 130
_HELP = """Bring a portrait to life: write a video in which it moves like the person in the driver clip.

[bold]animate mona_lisa.jpg --driver clip.mp4[/bold]                 writes mona_lisa--clip.mp4
[bold]animate grandma.jpg -d clip.mp4 -o grandma.mp4 --force[/bold]  replaces grandma.mp4
[bold]animate me.jpg -d clip.mp4 --start 2 --end 7.5 -o me.gif[/bold]
[bold]animate me.jpg -d clip.mp4 --only eyes --only lips[/bold]      the head stays still

Exit codes: 0 done, 2 wrong usage, 3 input unusable, 4 output problem, 130 interrupted.
Only animate people who agreed to it, and say that the video is synthetic when you share it.
"""

app = typer.Typer(add_completion=True, rich_markup_mode="rich", pretty_exceptions_enable=False)


def _version(value: bool) -> None:
    if value:
        print(f"portrait-anim {__version__}")
        raise typer.Exit


@app.command(help=_HELP, no_args_is_help=True)
def animate(
    images: Annotated[
        list[str],
        typer.Argument(
            help="The portrait; more photos of the same person may follow and tell the network more about the face."
        ),
    ],
    driver: Annotated[str, typer.Option("--driver", "-d", help="Clip whose head, eyes and mouth lead.")],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help=".mp4 .mov .webm .gif, or a folder for PNG pictures. Default: PORTRAIT--DRIVER.mp4 here.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace the output if it exists.")] = False,
    face: Annotated[
        int, typer.Option(help="Which face of the portrait, 1 is the largest.", rich_help_panel="Faces")
    ] = 1,
    driver_face: Annotated[
        int, typer.Option(help="Which face of the driver, 1 is the largest.", rich_help_panel="Faces")
    ] = 1,
    tracker: Annotated[
        str,
        typer.Option(
            help="mediapipe, or face-alignment for faces it misses (slow; downloads its networks at first use).",
            rich_help_panel="Faces",
        ),
    ] = "mediapipe",
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
    end: Annotated[float | None, typer.Option(help="End in the driver, seconds.", rich_help_panel="Video")] = None,
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
    audio: Annotated[bool, typer.Option(help="Keep the driver's sound.", rich_help_panel="Video")] = True,
    crf: Annotated[
        int,
        typer.Option(help="H.264 quality, 0 (lossless) to 51; smaller is better and larger.", rich_help_panel="Video"),
    ] = 18,
    weights: Annotated[
        str | None, typer.Option(help="Weights file. Default: the one that ships.", rich_help_panel="Run")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel="Run")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.", rich_help_panel="Run")] = "auto",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but errors.", rich_help_panel="Run")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    from .animator import Animator

    display = _Display(quiet)
    with display:
        result = Animator(weights, device, precision).animate(
            images, driver, output, force=force, face=face, driver_face=driver_face, tracker=tracker,
            motion=motion, strength=strength, only=tuple(only or ()), smooth=smooth,
            reference_frame=reference_frame, start=start, end=end, fps=fps, max_size=max_size,
            background=background, audio=audio, crf=crf, progress=display.progress,
        )  # fmt: skip
    if not quiet:
        for warning in result.warnings:
            say(f"warning: {warning}")
        (width, height), seconds = result.size, result.timings["total"]
        plural = "" if result.frames == 1 else "s"
        rate = result.frames / seconds
        made = f"{width}x{height}, {result.frames} frame{plural} in {seconds:.1f} s ({rate:.1f} frames/s)"
        say(f"{_shown(result.output)}: {made}", sys.stdout)


def _shown(path: Path) -> str:
    """The path as one would type it from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


class _Display:
    """Progress on stderr: bars in a terminal, a line per stage elsewhere, nothing when quiet."""

    _TITLES = {"portrait": "Reading the portrait", "driver": "Tracking the driver", "frames": "Animating"}

    def __init__(self, quiet: bool):
        self.console = Console(stderr=True)
        self._quiet, self._bars, self._tasks, self._begin = quiet, None, {}, {}

    def __enter__(self) -> "_Display":
        if not self._quiet and self.console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description:<21}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
            )
            self._bars = Progress(*columns, console=self.console, refresh_per_second=5)
            self._bars.start()
        return self

    def __exit__(self, *exc) -> None:
        if self._bars:
            self._bars.stop()

    def progress(self, step) -> None:
        now = time.monotonic()
        begin = self._begin.setdefault(step.stage, now)
        if self._quiet:
            return
        rate = f"{step.done / (now - begin):.1f}/s" if now > begin else ""
        if self._bars:
            if step.stage not in self._tasks:
                self._tasks[step.stage] = self._bars.add_task(self._TITLES[step.stage], total=step.total, rate="")
            self._bars.update(self._tasks[step.stage], completed=step.done, total=step.total, rate=rate)
        elif step.done == step.total:
            say(f"{self._TITLES[step.stage]}: {step.done} of {step.total} ({rate})")


def say(text: str, stream=None) -> None:
    """A line on stderr, or the stream given. A reader that has gone or a full disk must not fail a run that works.

    Control characters of file names are shown escaped: they could move the cursor or split the sentence.
    """
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    try:
        print(text, file=stream or sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


def own_streams() -> None:
    """Make stdout and stderr safe to write to, and keep the native libraries' chatter out of them.

    They become copies of the real ones (nowhere, if those are closed) that print any character; file descriptor 2
    itself goes nowhere, since MediaPipe's threads write there whenever they like.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        try:
            copy = os.dup(number)
        except OSError:
            os.dup2(null, number)
            copy = os.dup(null)
        encoding = getattr(getattr(sys, name), "encoding", None) or "utf-8"
        setattr(sys, name, open(copy, "w", encoding=encoding, errors="backslashreplace"))
    os.dup2(null, 2)


def run(application: typer.Typer) -> None:
    """Run a command line: errors become one sentence and their exit code; Ctrl-C, SIGTERM and SIGHUP stop cleanly."""
    signals = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

    def interrupted(*_) -> None:
        for number in signals:  # a second one must not stop the cleaning up
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    own_streams()
    try:
        for number in signals:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, background jobs
                signal.signal(number, interrupted)
        _check_folder()
        returned = application(standalone_mode=False)  # the code of an Exit, or what the command returns: None
        code = returned if isinstance(returned, int) else 0
    except PortraitAnimError as error:
        say(f"error: {error}")
        code = error.exit_code
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except Exception as error:
        code = _usage_error(error)
    if code == EXIT_INTERRUPTED:
        say("interrupted: nothing was written")
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.close()  # now, while an error can be ignored
        except OSError:
            pass
    os._exit(code)  # threads of native libraries, or of a run that was stopped, must not hold it up


def _check_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise OutputError("The current folder no longer exists; change to one that does.") from error


def _usage_error(error: Exception) -> int:
    """Typer's own errors (unknown option, missing argument) as one sentence; anything else is a bug and is raised."""
    show, code = getattr(error, "format_message", None), getattr(error, "exit_code", None)
    if type(error).__name__ == "Abort":
        return EXIT_INTERRUPTED
    if type(error).__name__ == "NoArgsIsHelpError":
        return code  # the help has been printed
    if show is None or code is None:
        raise error
    name = getattr(getattr(error, "param", None), "opts", [""])[0]
    text = show().rstrip(".")
    say(f"error: {name + ': ' if name and name not in text else ''}{text}; try --help.")
    return code


def main() -> None:
    run(app)


if __name__ == "__main__":
    main()
