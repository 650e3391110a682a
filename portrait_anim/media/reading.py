"""Read videos: find out what a file holds, and read its frames as arrays at a constant rate.

ffmpeg decodes them. Only one frame is in memory at a time.
"""

import math
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, UsageError
from ..system.files import PathLike, temporary_file
from .ffmpeg import describe, last_words, read_log, source, start_ffmpeg, stop, widen_pipe

MIN_FPS, MAX_FPS = 0.01, 240
STANDARD_FPS = [Fraction(n * 1000, d) for n in (12, 15, 24, 25, 30, 48, 50, 60, 120) for d in (1000, 1001)]
FALLBACK_FPS = Fraction(30)  # for the files without a rate that browsers and webcams write; they mostly mean 30
PREROLL = 3.0  # s; a seek in TS or AVI can land after the wanted place, so it aims that much before it
EXACT_SCALING = "bicubic+accurate_rnd+full_chroma_int"  # colours are exact to 2/255 instead of 5/255; half the speed
_TEXT_ART = ("ansi", "bintext", "xbin", "idf")  # with these codecs ffmpeg "plays" plain text files as videos


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself.

    path: as given. width, height: px as displayed, that is after rotation and with square pixels. fps: the exact
    constant rate at which to read it (30000/1001, not 29.97). duration: seconds, None if unknown. has_audio: whether it
    has sound. unused_fps: the rate that it states, if that is too high to be meant, else None.
    """

    path: Path
    width: int
    height: int
    fps: Fraction
    duration: float | None
    has_audio: bool
    unused_fps: Fraction | None = None


def probe(path: PathLike) -> VideoInfo:
    """Find out what a video file holds, by decoding its first frame.

    The answer is remembered until the file changes. Raises InputError if the file is missing, a folder, empty, not a
    video, without a picture, or damaged throughout.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # `describe` says what is wrong
        return _probe(os.fspath(path), None)
    return _probe(os.fspath(path), (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=8)
def _probe(path: str, identity: tuple | None) -> VideoInfo:
    """Do the work of `probe`. identity: of the file's content, so that the cache never returns an old answer."""
    first_frame = ["-map", "0:V:0", "-vf", "showinfo=checksum=0", "-frames:v", "1", "-f", "null", "-"]
    text = describe(path, first_frame)
    # The cover pictures of music files are "Video" streams, too. Like the stream specifier 0:V, this leaves them out.
    video = re.search(r"^ +Stream #0:(?!.*\(attached pic\)).*?: Video: (.*)$", text, re.MULTILINE)
    has_audio = re.search(r"^ +Stream #0:.*?: Audio: ", text, re.MULTILINE) is not None
    if "Input #0" not in text or (video and video[1].startswith(_TEXT_ART)):
        raise InputError(
            f"{path}: not a video, or an incomplete one ({last_words(text)}); check that it plays, or fetch it again."
        )
    if video is None:
        kind = "has sound but no picture" if has_audio else "holds no video"
        raise InputError(f"{path}: {kind}; give a video file.")
    first = re.search(r"showinfo.*\] n: *0 .* sar:(\d+)/(\d+) s:(\d+)x(\d+)", text)
    if first is None and (large := re.search(r"Picture size (\d+x\d+) exceeds", text)):
        raise InputError(f"{path}: frames of {large[1]} px are too large; scale it to 8192x8192 or less.")
    if first is None:
        raise InputError(f"{path}: no frame can be decoded ({last_words(text)}); the file is damaged, fetch it again.")
    sar_num, sar_den, width, height = map(int, first.groups())
    if sar_num and sar_den and abs(sar_num / sar_den - 1) > 0.02:  # DV and DVD have narrow or wide pixels
        width = max(1, round(width * sar_num / sar_den))
    duration = re.search(r"^  Duration: (\d+):(\d+):(\d+\.\d+)", text, re.MULTILINE)
    seconds = int(duration[1]) * 3600 + int(duration[2]) * 60 + float(duration[3]) if duration else 0.0
    rate, mean = _frame_rate(video[1], text), _mean_rate(video[1])
    unused = mean if mean > MAX_FPS and rate == FALLBACK_FPS else None
    return VideoInfo(Path(path), width, height, rate, seconds or None, has_audio, unused)


def _mean_rate(stream: str) -> Fraction:
    """Return the mean frame rate in ffmpeg's line about a stream, 0 if it names none."""
    printed = re.search(r"([\d.]+)(k?) fps", stream)
    return Fraction(printed[1]) * (1000 if printed[2] else 1) if printed else Fraction(0)


def _frame_rate(stream: str, text: str) -> Fraction:
    """Return the constant rate that keeps every frame of a constant-rate file and suits a variable-rate one."""
    exact = re.search(r"config in time_base: \S+, frame_rate: (\d+)/(\d+)", text)
    base = Fraction(int(exact[1]), int(exact[2])) if exact and int(exact[2]) else Fraction(0)
    mean = _mean_rate(stream)
    # `base` is the finest raster the time stamps lie on. Far above the mean it is only the clock of a
    # variable-rate file (90000/s), or the field rate of an interlaced one, and would repeat every frame.
    if 0 < base <= MAX_FPS and (not mean or base < mean * Fraction(19, 10)):
        return base
    if not 0 < mean <= MAX_FPS:
        return FALLBACK_FPS
    nearest = min(STANDARD_FPS, key=lambda rate: abs(rate - mean))
    return nearest if abs(nearest / mean - 1) < Fraction(1, 100) else mean


def check_times(start: float | None, end: float | None, fps: float | Fraction | None) -> None:
    """Raise UsageError for impossible seconds of start and end, or an impossible frame rate; None is possible."""
    if start is not None and not 0 <= start < math.inf:
        raise UsageError(f"start is {start} s; it must be a number of seconds, 0 or more.")
    if end is not None and not (start or 0) < end < math.inf:
        raise UsageError(f"end ({end} s) must be a number of seconds after start ({start or 0:g} s).")
    if fps is not None and not MIN_FPS <= fps <= MAX_FPS:
        raise UsageError(f"frame rate {fps} is impossible; give {MIN_FPS} or more, up to {MAX_FPS}.")


class FrameReader:
    """Reads the frames of a video at a constant rate: iterate over it, inside a `with` block or without one.

    Frame i is what is seen at start + i / fps: where a variable-rate file lacks a frame the one before is repeated, and
    surplus frames are dropped. Each iteration begins again at `start` and ends the iteration before.

    path: the video. start, end: seconds, None for all of it. fps: rate of the frames, None for the file's own.
    max_side: frames are made smaller, with even sides, until their longer side fits; None for full size, px.

    It has these attributes. info: VideoInfo. fps: Fraction, the rate of the frames. size: their (width, height), px.
    expected_frames: an estimate, None if the duration is unknown. warnings: sentences, complete after an iteration.

    Raises UsageError for impossible values, and InputError (also while iterating) if nothing can be read.
    """

    def __init__(
        self,
        path: PathLike,
        start: float | None = None,
        end: float | None = None,
        fps: float | Fraction | None = None,
        max_side: int | None = None,
    ):
        check_times(start, end, fps)
        self.start = 0.0 if start is None else float(start)
        if max_side is not None and max_side < 2:
            raise UsageError(f"largest side {max_side} is impossible; give 2 pixels or more.")
        self.info = probe(path)
        self.warnings: list[str] = []
        if self.info.duration is not None and self.start >= self.info.duration:
            raise InputError(
                f"{path}: start at {self.start:g} s is beyond its end at {self.info.duration:g} s; "
                "give a smaller start."
            )
        self.end = None if end is None or end >= (self.info.duration or 1e7) else float(end)  # None: all there is
        self.fps = self.info.fps if fps is None else Fraction(fps).limit_denominator(100_000)
        if fps is None and self.info.unused_fps:
            stated = f"{float(self.info.unused_fps):g} frames/s, which is taken as {float(self.fps):g}"
            self.warnings.append(f"{path}: says {stated}; give --fps for another rate")
        width, height = self.info.width, self.info.height
        self._flags = EXACT_SCALING
        if max_side is not None and max(width, height) > max_side:
            scale = (max_side - max_side % 2) / max(width, height)
            width, height = (max(2, int(side * scale / 2 + 0.5) * 2) for side in (width, height))
            self._flags = "bicubic"  # small frames are for tracking: fast before exact
        self.size = (width, height)
        stops = [t for t in (self.end, self.info.duration) if t is not None]
        self.expected_frames = max(1, round((min(stops) - self.start) * self.fps)) if stops else None
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "FrameReader":
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the frames, (H, W, 3) uint8 RGB, each in memory of its own."""
        self._stop()
        width, height = self.size
        count = 0
        with temporary_file() as log:
            arguments = self._arguments()
            with start_ffmpeg(arguments, log, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                self._process = process
                widen_pipe(process.stdout)
                while True:
                    frame = np.empty((height, width, 3), np.uint8)
                    if not read_whole(process.stdout, frame):
                        break
                    count += 1
                    yield frame
                status = process.wait()
            self._judge(count, status, read_log(log))

    def _arguments(self) -> list[str]:
        """Return the arguments with which ffmpeg writes the raw frames to its stdout."""
        rate = f"{self.fps.numerator}/{self.fps.denominator}"
        jump, skip, limit = [], [], []
        if self.start:  # `before` frames are read and dropped, so that they fill the gaps of a variable rate
            before = int(min(PREROLL, self.start) * self.fps)
            jump = ["-ss", f"{float(self.start - before / self.fps):.6f}"]
            skip = ["-ss", f"{float((before - 0.05) / self.fps):.6f}"] if before else []
        if self.end is not None:
            limit = ["-frames:v", str(max(1, round((self.end - self.start) * self.fps)))]
        # The fps filter alone drops and repeats frames of a constant-rate file whose time stamps, rounded to
        # 1 ms, lie between two places of the output; `-fps_mode cfr` alone can be a whole frame late. So
        # first each frame gets its place: the one after the last frame's if the time agrees within 0.6 of a
        # frame, else the nearest. ld(0): time in frames, ld(1): place of the last frame.
        place = "if(gt(N,0)*lt(abs(ld(0)-ld(1)-1),0.6), ld(1)+1, max(gt(N,0)*ld(1),round(ld(0))))"
        filters = [
            f"settb=AVTB,setpts='0*st(0,T*{rate})+st(1,{place})/({rate}*TB)',fps={rate}",
            # A fixed size, whatever the file changes to on the way, keeps the raw stream in step.
            f"scale={self.size[0]}:{self.size[1]}:flags={self._flags},setsar=1",
        ]
        threads = str(min(4, os.cpu_count() or 1))  # each decoder thread holds a frame or more
        return [
            *("-threads", threads, *jump, *source(self.info.path)),
            *("-map", "0:V:0", *skip, *limit, "-vf", ",".join(filters)),
            *("-fps_mode", "cfr", "-r", rate, "-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1"),
        ]

    def _judge(self, count: int, status: int, log: str) -> None:
        """After the last frame, raise InputError if there was none, and warn if there were too few or damaged ones."""
        path, expected = self.info.path, self.expected_frames
        if count == 0:
            where = f" after {self.start:g} s" if self.start else ""
            reason = f" ({last_words(log)})" if log.strip() else ""
            raise InputError(f"{path}: no frame could be read{where}{reason}; check the file and the start time.")
        complained = bool(log.strip()) or status != 0
        if expected and count < expected - (2 if complained else max(2, expected // 10)):
            cause = "truncated file?" if complained else "truncated file, or sound longer than the picture?"
            self.warnings.append(
                f"{path}: stops early after frame {count} of about {expected} ({cause}); using what could be read"
            )
        elif status or re.search(r"corrupt|[Ee]rror while decoding|Invalid data", log):
            self.warnings.append(f"{path}: damaged ({last_words(log)}); some frames may look wrong")

    def _stop(self) -> None:
        if self._process is not None:
            stop(self._process)
            self._process = None


def read_whole(pipe: Any, frame: np.ndarray) -> bool:
    """Read one whole frame from a pipe into an array. Returns False at the end of the stream."""
    view = frame.data.cast("B")
    done = 0
    while done < len(view):
        got = pipe.readinto(view[done:])
        if not got:
            return False
        done += got
    return True
