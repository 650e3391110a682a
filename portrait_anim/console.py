"""What both commands share: what is said and shown, and how a command line starts and ends."""

import os
import signal
import sys
import time
from pathlib import Path

import typer
from rich.console import Console

from .errors import OutputError, PortraitAnimError

EXIT_INTERRUPTED = 130


def shown(path: Path) -> str:
    """The path as one would type it from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


class Display:
    """Progress on stderr: bars in a terminal, a line per stage elsewhere, nothing when quiet."""

    _TITLES = {"portrait": "Reading the portrait", "driver": "Tracking the driver", "frames": "Animating"}

    def __init__(self, quiet: bool):
        self.console = Console(stderr=True)
        self._quiet, self._bars, self._tasks, self._begin = quiet, None, {}, {}

    def __enter__(self) -> "Display":
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
