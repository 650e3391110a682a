"""The part that all commands share: messages and progress on the terminal, and how a command line starts and ends."""

import gc
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from ..errors import OutputError, PortraitAnimError, UsageError
from ..system.files import VIDEO_SUFFIXES, temporary_folder
from ..system.quiet import quiet_python
from ..system.signals import ENDING, raise_on

EXIT_SOME_FAILED = 5  # exit code when some of several outputs failed
EXIT_INTERRUPTED = 130
FIRST_ESTIMATE, NEXT_ESTIMATE = 2.0, 30.0  # s, after which estimates are printed where there are no bars


def shown(path: Path) -> str:
    """Return a path as the user would type it in the current folder."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


class Display:
    """Shows progress on stderr: bars in a terminal, a line per stage elsewhere, nothing when quiet."""

    _TITLES = {
        "portrait": "Reading the portrait", "source": "Choosing frames", "driver": "Tracking the driver",
        "tuning": "Fine-tuning", "frames": "Animating",
    }  # fmt: skip

    def __init__(self, quiet: bool, note: Callable[[], str] | None = None):
        """Create a display.

        note: returns a description of the device that makes the frames, shown before the first one.
        """
        self.console = Console(stderr=True)
        self._quiet, self._bars, self._tasks, self._begin, self._job = quiet, None, {}, {}, None
        self._note, self._next, self._said, self._totals = note, 0.0, set(), {}

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *exc) -> None:
        self.end_bars()

    def end_bars(self) -> None:
        """Leave the bars of a job as they are, so that the next message stands below them."""
        if self._bars:
            self._bars.stop()
        self._bars, self._tasks = None, {}

    def _begin_bars(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description:<21}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[then]}"),
        )
        # By default rich redirects stdout to the bars' terminal, even when stdout is a file or a pipe.
        self._bars = Progress(*columns, console=self.console, refresh_per_second=5, redirect_stdout=False)
        self._bars.start()

    def progress(self, job, step) -> None:
        """Show a step of a job, a `Progress`."""
        if self._quiet or step.total == 0:
            return
        if job is not self._job:
            self._job, self._begin, self._totals = job, {}, {}
        if self._bars is None and self.console.is_terminal:
            self._begin_bars()
        now = time.monotonic()
        if step.stage not in self._begin:
            self._begin[step.stage], self._next = (now, step.done), now + FIRST_ESTIMATE
            if text := self._introduction(step.stage):
                self.console.print(text, highlight=False) if self._bars else say(text)
        is_cut = step.stage == "tuning" and step.total < self._totals.setdefault(step.stage, step.total)
        if is_cut:
            text = "Fine-tuning ends early; the video is made with what is learned"
            self.console.print(text, highlight=False) if self._bars else say(text)
        begin, first = self._begin[step.stage]
        speed = (step.done - first) / (now - begin) if now > begin else 0
        rate = f"{speed:.1f}/s" if speed and step.total != 1 else ""
        is_last = step.stage == "frames" or step.done == step.total
        then = "" if is_last else f"then {self._TITLES['frames'].lower()}"  # how long that takes nobody knows yet
        if self._bars:
            if step.stage not in self._tasks:
                for before in self._bars.tasks:  # a clip may have fewer frames than its header says
                    self._bars.update(before.id, total=before.completed, then="")
                self._tasks[step.stage] = self._bars.add_task(self._TITLES[step.stage], total=None, rate="", then="")
            state = {"completed": step.done, "total": step.total, "rate": rate, "then": then}
            self._bars.update(self._tasks[step.stage], **state)
        elif step.done == step.total and not is_cut:
            say(f"{self._TITLES[step.stage]}: {step.done} of {step.total}" + (f" ({rate})" if rate else ""))
        elif speed and step.total and now >= self._next and (left := (step.total - step.done) / speed) > 1:
            self._next = now + NEXT_ESTIMATE
            text = f"{self._TITLES[step.stage]}: {step.done} of {step.total} ({rate}), about {duration(left)} left"
            say(f"{text}, {then}" if then else text)

    def _introduction(self, stage: str) -> str:
        if stage == "tuning":
            return "Fine-tuning to the photos first; Ctrl-C ends that early, and the video is made with what is learned"
        return f"Running on {self._note()}" if stage == "frames" and self._note else ""

    def report(self, outcome, stream) -> None:
        """Print the outcome of a job: an error always, warnings unless quiet, and success on `stream`, if one is given.

        A message that several outputs have in common, such as that of a driver without a face, is printed once.
        """
        if outcome.error:
            self._say_once(f"error: {outcome.error}")
        if self._quiet or outcome.error:
            return
        result = outcome.result
        for warning in result.warnings if result else []:
            self._say_once(f"warning: {warning}")
        if not stream:
            return
        if not result:
            say(f"{shown(Path(outcome.job.target))}: exists, skipped", stream)
            return
        (width, height), seconds = result.size, result.timings["total"]
        frames = "1 frame" if result.frames == 1 else f"{result.frames} frames"
        rate = f" ({result.frames / seconds:.1f} frames/s)" if result.frames > 1 else ""
        say(f"{shown(result.output)}: {width}x{height}, {frames} in {seconds:.1f} s{rate}", stream)

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            say(text)


class BatchDisplay:
    """Shows the progress of a batch on stderr: a line per job, and at the end which jobs failed.

    json_lines: whether to print one JSON object per job on stdout as well.
    """

    def __init__(self, total: int, quiet: bool, json_lines: bool):
        self._total, self._quiet, self._json = total, quiet, json_lines
        self._begin, self._made, self._skipped, self.failed = time.monotonic(), 0, 0, []

    def report(self, outcome) -> None:
        """Print the outcome of a job, with an estimate of the time that is left."""
        if self._json:
            print_json(outcome.to_json())
        self._made += outcome.result is not None
        self.failed += [outcome] if outcome.error else []
        self._skipped += not outcome.result and not outcome.error
        done = self._made + len(self.failed)
        if self._quiet or not (outcome.result or outcome.error):
            return
        left = self._total - done - self._skipped
        said = outcome.error or f"{shown(outcome.result.output)}: {outcome.result.frames} frames"
        rest = f" (about {duration(left * (time.monotonic() - self._begin) / done)} left)" if left else ""
        say(f"[{done + self._skipped}/{self._total}] {'error: ' if outcome.error else ''}{said}{rest}")

    def summary(self, jobs: Path, report: Path) -> None:
        """Print which jobs failed, and how many were made, skipped and failed.

        jobs, report: the paths of the two files.
        """
        if self.failed:
            say(f"error: {len(self.failed)} of {self._total} jobs of {jobs} failed:")
            for outcome in self.failed:
                say(f"  {shown(Path(outcome.job.output))}: {outcome.error}")
        if not self._quiet and not self._json:
            counts = f"{self._made} made, {self._skipped} were there already, {len(self.failed)} failed"
            say(f"{jobs}: {counts} in {duration(time.monotonic() - self._begin)}; report in {report}", sys.stdout)


def duration(seconds: float) -> str:
    """Return seconds as text in the largest two units: 9 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    large, small, units = (whole // 60, whole % 60, ("min", "s"))
    if large >= 60:
        large, small, units = (large // 60, large % 60, ("h", "min"))
    return f"{large} {units[0]}" + (f" {small} {units[1]}" if small else "")


def print_version(asked: bool) -> None:
    """Print the version and exit, if `asked` to: the callback of --version."""
    if asked:
        from .. import __version__

        print(f"portrait-anim {__version__}")
        raise typer.Exit


def print_json(value: dict) -> None:
    """Print a value as one line of JSON on stdout."""
    say(json.dumps(value, ensure_ascii=False), sys.stdout)


@contextmanager
def to_stdout(output: str | None, taken: str | None) -> Iterator[tuple[str | None, object]]:
    """Yield the name of the file to write to, and the stream on which to report success, if any.

    An output `-`, or one such as `-.gif`, is first written to a temporary file, because the index and sound of an MP4
    are added last. At the end of the block the file is copied to stdout. Raises UsageError when stdout is a terminal,
    or when `taken` gives a reason why stdout cannot be used.
    """
    if output is None or not re.fullmatch(r"-(\.\w+)?", output):
        yield output, sys.stdout
        return
    if taken:
        raise UsageError(f"-o {output}: stdout cannot be used, {taken}; name an output.")
    if sys.stdout.isatty():
        raise UsageError(f"-o {output}: stdout is a terminal; redirect it to a file or a pipe, or name an output.")
    suffix = output[1:] or ".mp4"
    if suffix.lower() not in (*VIDEO_SUFFIXES, ".gif"):
        raise UsageError(f"-o {output}: stdout takes one file; use -, -.mov, -.webm or -.gif.")
    with temporary_folder() as folder:
        name = Path(folder, f"stdout{suffix}")
        yield str(name), None
        try:
            with name.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise OutputError(f"-o {output}: stdout cannot be written ({error.strerror}).") from error


def say(text: str, stream=None) -> None:
    """Print a line on stderr, or on the stream given.

    A reader that has gone or a full disk is ignored, because it must not fail a run that works. Control characters,
    which file names may contain, are escaped: they could move the cursor or split the line.
    """
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    try:
        print(text, file=stream or sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


def own_streams() -> None:
    """Make stdout and stderr safe to write to, and keep the output of native libraries out of them.

    They become copies of the real ones (or lead nowhere, if those are closed) that can print any character. File
    descriptor 2 itself leads nowhere from then on, since MediaPipe's threads write to it at any time.
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
    quiet_python()


def run(application: typer.Typer) -> None:
    """Run a command line and end the process with its exit code.

    An error becomes one sentence on stderr. Ctrl-C, SIGTERM and SIGHUP stop the run cleanly.
    """
    gc.set_threshold(700, 10, 1000)  # old objects are mostly imported code: search them rarely
    own_streams()
    try:
        # Signals that are ignored stay so, as under nohup and in background jobs.
        raise_on([number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN], KeyboardInterrupt)
        _check_folder()
        _check_dashes(application)
        returned = application(standalone_mode=False)  # the code of a typer.Exit, else None
        code = returned if isinstance(returned, int) else 0
    except PortraitAnimError as error:
        for sentence in getattr(error, "errors", [error]):
            say(f"error: {sentence}")
        code = error.exit_code
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except Exception as error:
        code = _usage_error(error)
    if code == EXIT_INTERRUPTED:
        say("interrupted: nothing unfinished was left behind")
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.close()  # here, where an error can be ignored
        except OSError:
            pass
    os._exit(code)  # without waiting for threads of native libraries or of a stopped run


def _check_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise OutputError("The current folder no longer exists; change to one that does.") from error


def _check_dashes(application: typer.Typer) -> None:
    """Refuse a long option with one dash, as in ffmpeg: -driver would be read as -d river. Raises UsageError."""
    for word in sys.argv[1:]:
        if re.fullmatch(r"-[a-z][a-z-]+", word):
            command = typer.main.get_command(application)
            commands = [command, *getattr(command, "commands", {}).values()]
            if any(f"-{word}" in param.opts for one in commands for param in one.params):
                raise UsageError(f"{word}: options of more than one letter take two dashes; did you mean -{word}?")


def _usage_error(error: Exception) -> int:
    """Print an error of typer, such as an unknown option, as one sentence and return its exit code.

    Any other exception is a bug and is raised again.
    """
    show, code = getattr(error, "format_message", None), getattr(error, "exit_code", None)
    if type(error).__name__ == "Abort":
        return EXIT_INTERRUPTED
    if type(error).__name__ == "NoArgsIsHelpError":
        return code  # the help has been printed
    if show is None or code is None:
        raise error
    name = getattr(getattr(error, "param", None), "opts", [""])[0]
    near = list(getattr(error, "possibilities", None) or [])  # the nearest first
    text = (error.message if near else show()).rstrip(".")
    text = re.sub(r"Input should be a valid integer.*", "a whole number is needed", text)
    text = re.sub(r"Input should be a valid number.*", "a number is needed", text)
    hint = f"; did you mean {near[0]}?" if near else "" if text.endswith("?") else "; try --help."
    say(f"error: {name + ': ' if name and name not in text else ''}{text}{hint}")
    return code
