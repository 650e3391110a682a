"""Start and stop the ffmpeg program, and read what it says.

The program is the one that comes with the package imageio-ffmpeg.
"""

import contextlib
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import imageio_ffmpeg

from ..errors import InputError
from ..system.files import PathLike, check_input
from ..system.signals import signals_deferred
from .content import content_type

PROBE_TIMEOUT = 60.0  # s
MAX_PIXELS = 8192 * 8192  # of a frame as stored, twice 8K: decoders take whatever memory a header asks for
# Options before every input: a playlist that poses as a video must not reach the network, and a header that lies about
# the size must not fill the memory.
GUARDED = ("-protocol_whitelist", "file", "-max_pixels", str(MAX_PIXELS))
PIPE_BYTES = 1 << 20  # the largest pipe that an ordinary Linux user may ask for
_DULL = re.compile(  # lines of ffmpeg's log that only say that something failed, after the line that says why
    r"Error opening (input|output) file|Output file|Conversion failed|frame=|Terminating thread|Task finished"
    r"|Error muxing a packet|Last message repeated|Nothing was written into output file"
)


def url(path: PathLike) -> str:
    """Return a path in a form that ffmpeg takes for nothing but a file, even if it is named `-x.mp4` or `a:b.mp4`."""
    return f"file:{Path(path).absolute()}"


def source(path: PathLike) -> list[str]:
    """Return the arguments that name a file as ffmpeg's input, whatever kind its name suggests.

    ffmpeg itself looks at the content first, but an MPEG stream that is named .jpg would be taken for a picture.
    """
    demuxer = ["-f", "mpeg"] if content_type(path) == "video/mpeg" else []
    return [*GUARDED, *demuxer, "-i", url(path)]


def describe(path: PathLike, output: list[str]) -> str:
    """Return what ffmpeg prints about a media file while it runs with the output options `output`.

    ffmpeg's exit code is ignored; what it prints tells whether the file is a video. Raises InputError if there is no
    such file, if it cannot be opened, or if ffmpeg crashes or does not end in time.
    """
    check_input(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{path}: is a folder; give a video file.")
        if not stat.S_ISREG(mode):  # a pipe cannot be read twice, a device may never end
            raise InputError(f"{path}: is not an ordinary file; give a video file.")
        with open(path, "rb") as file:
            empty = not file.read(1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}); check the name and its permissions.") from error
    if empty:
        raise InputError(f"{path}: the file is empty; fetch it again.")
    arguments = ["-nostdin", *source(path), *output]
    with start_ffmpeg(
        arguments, subprocess.PIPE, "info", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
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
def start_ffmpeg(
    arguments: list[str], log: Any, verbosity: str = "error", **options: Any
) -> Iterator[subprocess.Popen]:
    """Start ffmpeg with unbuffered pipes, and stop it at the end of the `with` block if it still runs.

    log: where its messages go, as `stderr` of Popen. This should be a file if there may be many messages, because a
    full pipe would block ffmpeg. options: of Popen, such as stdin and stdout.
    """
    process = None
    try:
        with signals_deferred():  # otherwise a signal could leave a process that nobody stops
            process = subprocess.Popen(
                [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostats", "-v", verbosity, *arguments],
                stderr=log,
                bufsize=0,
                start_new_session=True,  # Ctrl-C reaches only this process, which then stops ffmpeg
                **options,
            )
        yield process
    finally:
        if process is not None:
            stop(process)


def stop(process: subprocess.Popen) -> None:
    """Kill ffmpeg if it still runs, and close its pipes."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def widen_pipe(pipe: IO[bytes]) -> None:
    """Give a pipe a larger buffer on systems that can do that (Linux), so that there are fewer transfers."""
    try:
        import fcntl

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except (ImportError, AttributeError, OSError):
        pass  # it is only slower


def read_log(log: IO[bytes]) -> str:
    """Return the last 16 KB of ffmpeg's messages from its log file."""
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - 16_384))
    return log.read().decode("utf-8", "replace")


def last_words(log: str) -> str:
    """Return the last line of ffmpeg's messages that gives a reason, without the prefix in square brackets."""
    lines = [re.sub(r"^(\[[^\]]*\] ?)+", "", line).strip(" ") for line in log.splitlines()]
    lines = [line for line in lines if line and not _DULL.match(line)]
    return lines[-1] if lines else "no reason given"
