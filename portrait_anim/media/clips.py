"""Short clips as bytes: square frames in memory <-> a small HEVC video, for files that hold thousands of frames."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OutputError
from ..system.files import temporary_faults, temporary_file, temporary_folder
from .ffmpeg import GUARDED, last_words, read_log, start_ffmpeg, url
from .reading import EXACT_SCALING, read_whole

_KEYFRAMES = 24  # frames between pictures that need no other: a damaged one spoils no more than these
_RATE = "15"  # frames/s that the file states; nobody reads it


def encode_clip(frames: np.ndarray, quality: int) -> bytes:
    """Compress frames to a video.

    frames: (T, S, S, 3) or, grey, (T, S, S), uint8; S is even. quality: x265's constant rate factor, of which less is
    better. Raises OutputError when ffmpeg cannot encode it.
    """
    count, side = frames.shape[:2]
    raw = "gray" if frames.ndim == 3 else "rgb24"
    with temporary_folder() as folder, temporary_file() as log:
        file = Path(folder, "clip.mp4")
        arguments = ["-f", "rawvideo", "-pix_fmt", raw, "-s", f"{side}x{side}", "-r", _RATE, "-i", "pipe:0"]
        options = f"log-level=error:pools=none:frame-threads=1:keyint={_KEYFRAMES}"
        arguments += ["-sws_flags", EXACT_SCALING, "-pix_fmt", "yuv420p", "-c:v", "libx265", "-preset", "medium"]
        arguments += ["-crf", str(quality), "-x265-params", options, url(file)]
        with start_ffmpeg(arguments, log, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            try:
                process.communicate(np.ascontiguousarray(frames).data)
            except BrokenPipeError:
                process.wait()
        if process.returncode or not file.exists():
            raise OutputError(f"ffmpeg could not compress {count} frames ({last_words(read_log(log))}).")
        return file.read_bytes()


def decode_clip(data: bytes, count: int, side: int, grey: bool = False) -> np.ndarray:
    """Return the frames of a video made by `encode_clip`: (count, side, side[, 3]) uint8.

    Raises ValueError when it does not hold so many frames of that size.
    """
    shape = (count, side, side) if grey else (count, side, side, 3)
    # The file has no name that could outlive a process that is killed; ffmpeg can seek in it all the same.
    with temporary_file() as file, temporary_file() as log:
        with temporary_faults():
            file.write(data)
            file.seek(0)
        arguments = ["-nostdin", "-threads", "1", *GUARDED, "-i", url("/dev/stdin"), "-frames:v", str(count)]
        arguments += ["-sws_flags", EXACT_SCALING, "-pix_fmt", "gray" if grey else "rgb24", "-f", "rawvideo", "pipe:1"]
        with start_ffmpeg(arguments, log, stdin=file, stdout=subprocess.PIPE) as process:
            frames = np.empty(shape, np.uint8)
            pipe: Any = process.stdout
            whole = read_whole(pipe, frames) and not pipe.read(1)
        if not whole:
            raise ValueError(f"no {count} frames of {side} px ({last_words(read_log(log))})")
    return frames
