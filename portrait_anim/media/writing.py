"""Writing videos: frame by frame, with the driver's sound, into a file that appears only when complete.

The picture is encoded to a hidden file beside the target. The sound is added in a second pass that only
copies the picture: by then the exact length is known, and nothing wrong with the sound can harm the picture.
"""

import contextlib
import os
import re
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError, OutputError
from ..system.files import NUMBER, check_output, locked, partial_path, pictures, remove, sweep
from .ffmpeg import GUARDED, describe, last_words, read_log, start_ffmpeg, stop, url, widen_pipe

MAX_GIF_FPS = 50  # viewers slow a GIF down to 10 fps when a frame is shown for less than 0.02 s
_MP4 = (".mp4", ".mov", ".m4v")
_SOUND = {  # suffix -> codecs that can be copied as they are, codec to make otherwise
    **dict.fromkeys(_MP4, (("aac", "mp3"), ("aac", "192k"))),
    ".webm": (("opus", "vorbis"), ("libopus", "128k")),
}
_FULL = re.compile(r"No space left on device|Disk quota exceeded|File too large")  # as the system words it


class VideoWriter:
    """Encode frames inside a `with` block; the file appears at its end, complete, or not at all.

    path: kind of file by suffix, see `check_output`. force: replace an existing one, also one that appears while
    we work; else that is an OutputError. size: (width, height), even
    for H.264. fps: constant rate, best a Fraction. crf: H.264 quality, 0-51, smaller is better; taken over to
    VP9's scale; GIF and PNG have none. audio_from: media file whose sound goes with the frames from
    audio_start seconds on; GIF and PNG stay silent. metadata: tags for the file; GIF and PNG have none.
    finish: called with each file that is whole before it gets its name, to change it.

    path: Path, target (see `check_output`). count: frames so far. warnings: sentences, filled at the end.

    Raises ValueError for impossible sizes or frames, UsageError and OutputError as `check_output` with force,
    OutputError when the encoder fails.
    """

    def __init__(
        self, path, size, fps, crf=18, audio_from=None, audio_start=0.0, metadata=None, force=True, finish=None
    ):
        self.path = check_output(path, force)
        self.force = force
        self.size = width, height = int(size[0]), int(size[1])
        self.fps = Fraction(fps).limit_denominator(100_000)
        self.crf = crf
        self._as_pictures = self.path.suffix.lower() == ".png"
        self._as_yuv = self.path.suffix.lower() in (*_MP4, ".webm")
        self.audio_from = audio_from if self.path.suffix.lower() in _SOUND else None
        self.audio_start = audio_start
        self.metadata = dict(metadata or {})
        self.finish = finish
        self.count = 0
        self.warnings: list[str] = []
        if width < 1 or height < 1 or self.fps <= 0:
            raise ValueError(f"size {width}x{height} at {fps} fps is impossible")
        if self.path.suffix.lower() in _MP4 and (width % 2 or height % 2):
            raise ValueError(f"H.264 needs even sizes, got {width}x{height}")

    def __enter__(self):
        target = self.path
        if self._as_pictures and not target.parent.is_dir():
            target = target.parent  # the hidden folder becomes the wanted one
        self._temporary = partial_path(target, self.path.suffix)
        sweep(target.parent)
        with contextlib.ExitStack() as begun:
            begun.callback(remove, self._temporary)
            try:
                if self._as_pictures:
                    self._temporary.mkdir()
                else:
                    self._temporary.touch(exist_ok=False)
            except OSError as error:
                raise self._error(error.strerror) from error
            self._log = begun.enter_context(tempfile.TemporaryFile())
            # The folder of pictures is the child's own: as part of a pattern, a % in its name would count.
            cwd = self._temporary if self._as_pictures else None
            encoder = start_ffmpeg(self._arguments(), self._log, stdin=subprocess.PIPE, cwd=cwd)
            self._process = begun.enter_context(encoder)
            widen_pipe(self._process.stdin)
            self._begun = begun.pop_all()
        return self

    def __exit__(self, kind, error, trace) -> None:
        with self._begun:  # at its end the encoder is stopped, the log closed and the temporary file gone
            if kind is None:
                self._finish()

    def write(self, frame: np.ndarray) -> None:
        """Add one frame: (H, W, 3) uint8 RGB."""
        width, height = self.size
        if frame.shape != (height, width, 3) or frame.dtype != np.uint8:
            raise ValueError(f"frame is {frame.shape} {frame.dtype}, the video ({height}, {width}, 3) uint8")
        try:
            for plane in yuv420(frame) if self._as_yuv else [frame]:
                view = memoryview(np.ascontiguousarray(plane)).cast("B")
                while view:
                    view = view[self._process.stdin.write(view) :]
        except OSError as error:  # the encoder has gone; what it said is worth more than "broken pipe"
            stop(self._process)
            raise self._error(last_words(read_log(self._log))) from error
        self.count += 1

    def _error(self, reason: str) -> OutputError:
        return OutputError(f"{self.path}: cannot be written ({reason}); check the free disk space and the options.")

    def _arguments(self) -> list[str]:
        width, height = self.size
        suffix = self.path.suffix.lower()
        threads = str(min(8, os.cpu_count() or 1))  # more cost memory and gain little
        # The file says which colours its numbers mean: without that, players guess.
        yuv = "setsar=1,setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
        if suffix in _MP4:
            # CPU per frame of the bundled example and size: superfast 6.3 ms, 4.5 MB; veryfast 6.6 ms, 1.3 MB;
            # faster 11.4 ms, 1.4 MB. Searching motion in a diamond takes 0.5 ms off veryfast and nothing else.
            codec = ["-vf", yuv, "-c:v", "libx264", "-preset", "veryfast", "-crf", str(self.crf)]
            codec += ["-x264-params", "me=dia"]
        elif suffix == ".webm":
            # 1280x1280 on two cores: realtime 27 frames/s, good 7 at most.
            crf = min(63, round(self.crf * 1.4))  # about the same quality as H.264 with `crf`
            codec = ["-vf", yuv, "-c:v", "libvpx-vp9", "-crf", str(crf), "-b:v", "0"]
            codec += ["-deadline", "realtime", "-cpu-used", "6", "-row-mt", "1"]
        elif suffix == ".gif":
            # A palette per frame: one for all frames would hold the whole clip in memory. Bayer dither stays
            # in place from frame to frame, and takes half the time.
            halve = -(-self.fps // MAX_GIF_FPS)
            rate = f"fps={self.fps / halve}," if halve > 1 else ""
            palette = "split[a][b];[a]palettegen=stats_mode=single:reserve_transparent=0[p];[b][p]"
            codec = ["-vf", f"{rate}{palette}paletteuse=new=1:dither=bayer:bayer_scale=3"]
        else:
            # Three times as fast as the default, for files of about the same size.
            codec = ["-c:v", "png", "-compression_level", "3", "-pred", "mixed"]
            codec += ["-f", "image2", "-start_number", "1"]
        output = f"file:{self.path.name}" if self._as_pictures else url(self._temporary)
        return [
            *("-f", "rawvideo", "-pix_fmt", "yuv420p" if self._as_yuv else "rgb24", "-s", f"{width}x{height}"),
            *("-r", f"{self.fps.numerator}/{self.fps.denominator}", "-i", "pipe:0"),
            *(*codec, "-threads", threads, *self._container(), "-y", output),
        ]

    def _container(self) -> list[str]:
        tags = [word for key, value in self.metadata.items() for word in ("-metadata", f"{key}={value}")]
        if self.path.suffix.lower() in _MP4:
            tags += ["-movflags", "+faststart+use_metadata_tags"]  # playable while it loads; tags of any name
        return tags

    def _finish(self) -> None:
        """Let the encoder end, add the sound, and put the result in its place."""
        self._process.stdin.close()
        status = self._process.wait()
        if not self.count:
            raise self._error("no frame was made")
        said = read_log(self._log)
        if full := _FULL.search(said):
            raise self._error(full[0])
        if status != 0:
            raise self._error(last_words(said))
        if self.audio_from is not None:
            self._add_sound()
        try:
            if self.finish is not None:
                for file in sorted(self._temporary.iterdir()) if self._as_pictures else [self._temporary]:
                    self.finish(file)
            if self._as_pictures:
                self._move_pictures()
            else:
                self._place(self._temporary, self.path)
        except FileExistsError as error:
            raise OutputError(f"{self.path}: appeared while it was made; use --force or another name.") from error
        except OSError as error:
            raise self._error(error.strerror) from error

    def _move_pictures(self) -> None:
        folder = self.path.parent
        if not folder.is_dir():
            try:
                os.replace(self._temporary, folder)
                return
            except OSError:
                if not folder.is_dir():
                    raise
        with locked(folder):  # of two runs at once the last one wins, as with files
            if not self.force and pictures(self.path):
                raise FileExistsError
            for new in self._temporary.iterdir():
                self._place(new, self.path.with_name(new.name))
            before, width, after = NUMBER.split(self.path.name)
            number = self.count + 1  # the last pictures of a longer earlier run must not follow ours
            while not width or len(str(number)) <= int(width):
                old = self.path.with_name(f"{before}{number:0{width or 1}d}{after}")
                if not old.is_file():
                    break
                old.unlink()
                number += 1

    def _place(self, new: Path, target: Path) -> None:
        """Give a finished file its name. Raises FileExistsError when that is taken, unless `force`."""
        if not self.force:
            try:
                os.link(new, target)  # unlike a check followed by a replacement, it leaves no gap
            except FileExistsError:
                raise
            except OSError as error:  # a file system without links
                if os.path.lexists(target):
                    raise FileExistsError from error
            else:
                new.unlink()
                return
        os.replace(new, target)

    def _add_sound(self) -> None:
        """Replace the finished picture by picture and sound; when that fails, leave it and warn."""
        copyable, (codec, rate) = _SOUND[self.path.suffix.lower()]
        # Silence where the sound starts late or has gaps, for players that ignore time stamps.
        fit = f"aresample=async=1:first_pts=0,atrim=end={float(self.count / self.fps):.6f}"
        remade = ["-af", fit, "-c:a", codec, "-b:a", rate, "-ac", "2"]
        try:
            found = re.search(r"^ +Stream #0:.*?: Audio: (\w+)", describe(self.audio_from, []), re.MULTILINE)
        except InputError as error:
            self.warnings.append(f"the result has no sound: {error}")
            return
        if found is None:
            return
        # Copied sound starts where a packet starts, not where it should: cut only what is made anew.
        ways = [["-c:a", "copy"]] if found[1] in copyable and not self.audio_start else []
        for way in (*ways, remade):
            reason = self._mux(way)
            if reason is None:
                return
        self.warnings.append(f"{self.audio_from}: its sound cannot be used ({reason}); the result has no sound")

    def _mux(self, sound: list[str]) -> str | None:
        """Write picture and sound to a second file and put it in the place of the first. Returns why not."""
        seconds = self.count / self.fps
        both = partial_path(self._temporary, self.path.suffix)
        start = ["-ss", f"{self.audio_start:.6f}"] if self.audio_start else []
        arguments = [
            *("-nostdin", "-i", url(self._temporary), *GUARDED, *start, "-t", f"{float(seconds):.6f}"),
            *("-i", url(self.audio_from), "-map", "0:v:0", "-map", "1:a:0", "-map_chapters", "-1"),
            *("-c:v", "copy", *sound, *self._container(), "-y", url(both)),
            *("-map", "1:a:0", "-f", "null", "-"),  # decodes it as well: copying would not notice damage
        ]
        try:
            pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
            with tempfile.TemporaryFile() as log, start_ffmpeg(arguments, log, **pipes) as process:
                try:
                    status = process.wait(timeout=60 + 2 * float(seconds))
                except subprocess.TimeoutExpired:
                    return "it takes too long to read"
                said = read_log(log)
            if full := _FULL.search(said):  # not the fault of the sound
                raise self._error(full[0])
            if status != 0:
                return last_words(said)
            if said.strip():
                self.warnings.append(f"{self.audio_from}: its sound is damaged in places ({last_words(said)})")
            os.replace(both, self._temporary)
        except OSError as error:
            if _FULL.search(str(error)):
                raise self._error(error.strerror) from error
            return error.strerror
        finally:
            both.unlink(missing_ok=True)
        return None


# BT.709, the matrix of HD video, in the range 16..235: rows Y, Cb, Cr over R, G, B and 1.
_BT709 = np.array(
    [[0.2126, 0.7152, 0.0722, 0], [-0.114572, -0.385428, 0.5, 0], [0.5, -0.454153, -0.045847, 0]], np.float32
)
_BT709 *= np.array([[219], [224], [224]], np.float32) / 255
_BT709[:, 3] = 16, 128, 128


def yuv420(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Planes Y (H, W), Cb and Cr (half of that, rounded up) of a frame (H, W, 3) uint8 RGB.

    Here, because ffmpeg's own exact conversion takes four times as long and needs twice the bytes through the pipe.
    """
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        frame = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    y, *chroma = cv2.split(cv2.transform(frame, _BT709))
    cb, cr = (cv2.resize(c, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for c in chroma)
    return y[:height, :width], cb, cr
