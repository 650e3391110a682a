"""Start and stop the ffmpeg program, and read what it says. The binary is the one that comes with imageio-ffmpeg."""

import contextlib
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg

from ..errors import InputError
from ..system.signals import signals_deferred

PROBE_TIMEOUT = 60.0  # s
MAX_PIXELS = 8192 * 8192  # of a frame as stored, twice 8K: decoders take whatever memory a header asks for
GUARDED = (  # for every input: a playlist posing as a video must not reach the network, a header not the memory
    "-protocol_whitelist", "file", "-max_pixels", str(MAX_PIXELS)
)  # fmt: skip
PIPE_BYTES = 1 << 20  # the most an ordinary Linux user may ask for
_DULL = re.compile(  # lines of ffmpeg's that only say that something failed, after the one that says why
    r"Error opening (input|output) file|Output file|Conversion failed|frame=|Terminating thread|Task finished"
    r"|Error muxing a packet|Last message repeated"
)


def url(path) -> str:
    """A path that ffmpeg takes for nothing but a file, also when it is named `-x.mp4` or `a:b.mp4`."""
    return f"file:{Path(path).absolute()}"


def describe(path, output: list[str]) -> str:
    """What ffmpeg prints about a media file while making `output` of it (its exit code is not looked at).

    Raises InputError when there is no such file or it cannot be opened.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{path}: is a folder; give a video file.")
        if not stat.S_ISREG(mode):  # a pipe cannot be read twice, a device may never end
            raise InputError(f"{path}: is not an ordinary file; give a video file.")
        with open(path, "rb") as file:
            empty = not file.read(1)
    except (FileNotFoundError, NotADirectoryError) as error:
        if re.match(r"[A-Za-z][\w+.-]+:/", os.fspath(path)):  # Path makes one slash of two
            raise InputError(f"{path}: is an address, not a file; fetch the video and give a local file.") from error
        raise InputError(f"{path}: no such file; check the name.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}); check the name and its permissions.") from error
    if empty:
        raise InputError(f"{path}: the file is empty; fetch it again.")
    arguments = ["-nostdin", *GUARDED, "-i", url(path), *output]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    with start_ffmpeg(arguments, subprocess.PIPE, "info", **pipes) as process:
        try:
            said = process.communicate(timeout=PROBE_TIMEOUT)[1]
        except subprocess.TimeoutExpired as error:
            raise InputError(
                f"{path}: ffmpeg gave no answer in {PROBE_TIMEOUT:g} s; check the disk or the file."
            ) from error
    if process.returncode < 0:
        raise InputError(f"{path}: ffmpeg crashed on it; convert it to MP4, or update imageio-ffmpeg.")
    return said.decode("utf-8", "replace")


@contextlib.contextmanager
def start_ffmpeg(arguments: list[str], log, verbosity: str = "error", **pipes) -> Iterator[subprocess.Popen]:
    """ffmpeg, running inside the `with` block at most, with unbuffered pipes; its messages go to `log`.

    That should be a file wherever it writes much: a pipe that is full would block it.
    """
    process = None
    try:
        with signals_deferred():  # or a process could be left that nobody knows of
            process = subprocess.Popen(
                [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostats", "-v", verbosity, *arguments],
                stderr=log,
                bufsize=0,
                start_new_session=True,  # Ctrl-C reaches us alone; we then end the child in an orderly way
                **pipes,
            )
        yield process
    finally:
        if process is not None:
            stop(process)


def stop(process: subprocess.Popen) -> None:
    """End ffmpeg if it still runs, and close its pipes."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def widen_pipe(pipe) -> None:
    """Fewer, larger transfers through a pipe where the system can do that (Linux)."""
    try:
        import fcntl

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except (ImportError, AttributeError, OSError):
        pass  # only slower


def read_log(log) -> str:
    """The last messages of an ffmpeg that has ended."""
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - 16_384))
    return log.read().decode("utf-8", "replace")


def last_words(log: str) -> str:
    """The last line of ffmpeg's messages that says why, without its address prefix."""
    lines = [re.sub(r"^(\[[^\]]*\] ?)+", "", line).strip(" ") for line in log.splitlines()]
    lines = [line for line in lines if line and not _DULL.match(line)]
    return lines[-1] if lines else "no reason given"
