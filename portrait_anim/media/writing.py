"""Write videos frame by frame, with the driver's sound, into a file that appears only when it is complete.

The frames are encoded to a hidden file beside the target. The sound is added in a second pass, which only copies the
encoded frames: by then the exact length is known, and whatever is wrong with the sound cannot harm them.
"""

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import InputError, OutputError
from ..system.files import NUMBER, PathLike, locked, partial_path, pictures, remove, sweep, temporary_file
from .ffmpeg import describe, last_words, read_log, source, start_ffmpeg, stop, url, widen_pipe

MAX_GIF_FPS = 50  # viewers slow a GIF down to 10 fps when a frame is shown for less than 0.02 s
_MP4 = (".mp4", ".mov", ".m4v")
# For each suffix: the sound codecs that can be copied as they are, and the codec and bit rate for all others.
_SOUND: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    **dict.fromkeys(_MP4, (("aac", "mp3"), ("aac", "192k"))),
    ".webm": (("opus", "vorbis"), ("libopus", "128k")),
}
_FULL = re.compile(r"No space left on device|Disk quota exceeded|File too large")  # in the system's words


class VideoWriter:
    """Encodes frames inside a `with` block. At its end the file appears, complete, or not at all.

    path: the target as `check_output` returned it, whose suffix tells the kind of file; it is not checked again. size:
    (width, height) px, even for H.264. fps: the constant frame rate, best a Fraction. crf: quality of H.264, 0 to 51,
    smaller is better; it is converted to VP9's scale, and ignored for GIF and PNG. audio_from: a media file whose
    sound, from audio_start seconds on, goes with the frames; GIF and PNG stay silent. metadata: tags for the file; GIF
    and PNG get none. force: replace an existing file, even one that appears during the work; without it that is an
    OutputError. finish: a function that may change each file, called with its path when the file is whole but does not
    have its name yet.

    It has these attributes. path: the target. count: frames so far. warnings: sentences, complete at the end of the
    block.

    Raises ValueError for impossible sizes or frames, and OutputError if the encoder fails.
    """

    def __init__(
        self,
        path: PathLike,
        size: Sequence[int],
        fps: float | Fraction,
        crf: int = 18,
        audio_from: PathLike | None = None,
        audio_start: float = 0.0,
        metadata: Mapping[str, str] | None = None,
        force: bool = True,
        finish: Callable[[Path], None] | None = None,
    ):
        self.path = Path(path)
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

    def __enter__(self) -> "VideoWriter":
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
            self._log = begun.enter_context(temporary_file())
            # ffmpeg works in the folder of the pictures: as a part of their pattern, a % in its name would count.
            cwd = self._temporary if self._as_pictures else None
            encoder = start_ffmpeg(self._arguments(), self._log, stdin=subprocess.PIPE, cwd=cwd)
            self._process = begun.enter_context(encoder)
            assert self._process.stdin is not None
            widen_pipe(self._process.stdin)
            self._begun = begun.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        with self._begun:  # at its end the encoder is stopped, the log closed and the temporary file removed
            if kind is None:
                self._finish()

    def write(self, frame: np.ndarray) -> None:
        """Add one frame, (H, W, 3) uint8 RGB. Raises ValueError if it has another size or type."""
        width, height = self.size
        if frame.shape != (height, width, 3) or frame.dtype != np.uint8:
            raise ValueError(f"frame is {frame.shape} {frame.dtype}, the video ({height}, {width}, 3) uint8")
        assert self._process.stdin is not None
        try:
            for plane in yuv420(frame) if self._as_yuv else [frame]:
                view = np.ascontiguousarray(plane).data.cast("B")
                while view:
                    view = view[self._process.stdin.write(view) :]
        except OSError as error:  # the encoder has ended, and its own words tell more than "broken pipe"
            stop(self._process)
            said = read_log(self._log)
            full = _FULL.search(said)  # several lines follow from it
            raise self._error(full[0] if full else last_words(said)) from error
        self.count += 1

    def _error(self, reason: str | None) -> OutputError:
        return OutputError(f"{self.path}: cannot be written ({reason}); check the free disk space and the options.")

    def _arguments(self) -> list[str]:
        """Return the arguments with which ffmpeg encodes the raw frames that it reads from its stdin."""
        width, height = self.size
        suffix = self.path.suffix.lower()
        threads = str(min(8, os.cpu_count() or 1))  # more cost memory and gain little
        # The file must say which colours its numbers mean; otherwise players guess.
        yuv = "setsar=1,setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
        if suffix in _MP4:
            # CPU time per frame of the bundled example, and size of the file: superfast 6.3 ms, 4.5 MB; veryfast 6.6
            # ms, 1.3 MB; faster 11.4 ms, 1.4 MB. Motion search in a diamond (me=dia) saves another 0.5 ms at no cost.
            codec = ["-vf", yuv, "-c:v", "libx264", "-preset", "veryfast", "-crf", str(self.crf)]
            codec += ["-x264-params", "me=dia"]
        elif suffix == ".webm":
            # For 1280x1280 px on two cores, realtime gives 27 frames/s, and good 7 at most.
            crf = min(63, round(self.crf * 1.4))  # about the same quality as H.264 with `crf`
            codec = ["-vf", yuv, "-c:v", "libvpx-vp9", "-crf", str(crf), "-b:v", "0"]
            codec += ["-deadline", "realtime", "-cpu-used", "6", "-row-mt", "1"]
        elif suffix == ".gif":
            # Each frame has a palette of its own, because one for all frames would need the whole clip in memory. Bayer
            # dither stays in place from frame to frame and takes half the time.
            halve = -(-self.fps // MAX_GIF_FPS)
            rate = f"fps={self.fps / halve}," if halve > 1 else ""
            palette = "split[a][b];[a]palettegen=stats_mode=single:reserve_transparent=0[p];[b][p]"
            codec = ["-vf", f"{rate}{palette}paletteuse=new=1:dither=bayer:bayer_scale=3"]
        else:
            # This is three times as fast as the default, with files of about the same size.
            codec = ["-c:v", "png", "-compression_level", "3", "-pred", "mixed"]
            codec += ["-f", "image2", "-start_number", "1"]
        output = f"file:{self.path.name}" if self._as_pictures else url(self._temporary)
        return [
            *("-f", "rawvideo", "-pix_fmt", "yuv420p" if self._as_yuv else "rgb24", "-s", f"{width}x{height}"),
            *("-r", f"{self.fps.numerator}/{self.fps.denominator}", "-i", "pipe:0"),
            *(*codec, "-threads", threads, *self._container(), "-y", output),
        ]

    def _container(self) -> list[str]:
        """Return the arguments for the file format: metadata, and the place of the index."""
        tags = [word for key, value in self.metadata.items() for word in ("-metadata", f"{key}={value}")]
        if self.path.suffix.lower() in _MP4:
            tags += ["-movflags", "+faststart+use_metadata_tags"]  # playable while it loads; tags of any name
        return tags

    def _finish(self) -> None:
        """Wait for the encoder to end, add the sound, and give the result its name."""
        assert self._process.stdin is not None
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
        """Move the finished PNG pictures to their folder, and remove the last ones of a longer earlier run."""
        folder = self.path.parent
        if not folder.is_dir():
            try:
                os.replace(self._temporary, folder)
                return
            except OSError:
                if not folder.is_dir():
                    raise
        with locked(folder):  # of two runs at the same time the last one wins, as with files
            if not self.force and pictures(self.path):
                raise FileExistsError
            for new in self._temporary.iterdir():
                self._place(new, self.path.with_name(new.name))
            before, width, after = NUMBER.split(self.path.name)
            number = self.count + 1  # the last pictures of a longer earlier run must not follow these
            while not width or len(str(number)) <= int(width):
                old = self.path.with_name(f"{before}{number:0{width or 1}d}{after}")
                if not old.is_file():
                    break
                old.unlink()
                number += 1

    def _place(self, new: Path, target: Path) -> None:
        """Give a finished file its name. Raises FileExistsError if the name is taken, unless with `force`."""
        if not self.force:
            try:
                os.link(new, target)  # unlike a check followed by a replacement, this leaves no gap between the two
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
        """Add the sound to the finished video. If that fails, leave the video without sound, and warn."""
        assert self.audio_from is not None
        copyable, (codec, rate) = _SOUND[self.path.suffix.lower()]
        # Where the sound starts late or has gaps, silence is inserted, for players that ignore time stamps.
        fit = f"aresample=async=1:first_pts=0,atrim=end={float(self.count / self.fps):.6f}"
        remade = ["-af", fit, "-c:a", codec, "-b:a", rate, "-ac", "2"]
        try:
            found = re.search(r"^ +Stream #0:.*?: Audio: (\w+)", describe(self.audio_from, []), re.MULTILINE)
        except InputError as error:
            self.warnings.append(f"the result has no sound: {error}")
            return
        if found is None:
            return
        # Copied sound would start at the start of a packet, not at audio_start. So it is encoded anew if it is cut.
        ways = [["-c:a", "copy"]] if found[1] in copyable and not self.audio_start else []
        for way in (*ways, remade):
            reason = self._mux(way)
            if reason is None:
                return
        self.warnings.append(f"{self.audio_from}: its sound cannot be used ({reason}); the result has no sound")

    def _mux(self, sound: list[str]) -> str | None:
        """Replace the finished video by one with sound. Returns None, or the reason why the sound cannot be used."""
        assert self.audio_from is not None
        seconds = self.count / self.fps
        both = partial_path(self._temporary, self.path.suffix)
        start = ["-ss", f"{self.audio_start:.6f}"] if self.audio_start else []
        arguments = [
            *("-nostdin", "-i", url(self._temporary), *start, "-t", f"{float(seconds):.6f}"),
            *(*source(self.audio_from), "-map", "0:v:0", "-map", "1:a:0", "-map_chapters", "-1"),
            *("-c:v", "copy", *sound, *self._container(), "-y", url(both)),
            *("-map", "1:a:0", "-f", "null", "-"),  # decodes the sound as well, since copying would not notice damage
        ]
        try:
            pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
            with tempfile.TemporaryFile() as log, start_ffmpeg(arguments, log, **pipes) as process:
                try:
                    status = process.wait(timeout=60 + 2 * float(seconds))
                except subprocess.TimeoutExpired:
                    return "it takes too long to read"
                said = read_log(log)
            if full := _FULL.search(said):  # which is not the fault of the sound
                raise self._error(full[0])
            if status != 0:
                return last_words(said)
            if said.strip():
                self.warnings.append(f"{self.audio_from}: its sound is damaged in places ({last_words(said)})")
            os.replace(both, self._temporary)
        except OSError as error:
            if _FULL.search(str(error)):
                raise self._error(error.strerror) from error
            return error.strerror or str(error)
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
    """Convert a frame (H, W, 3) uint8 RGB to YUV 4:2:0: the planes Y (H, W), and Cb and Cr with half the sides.

    Odd sides are rounded up. This is done here because ffmpeg's own exact conversion takes four times as long, and
    needs twice as many bytes to go through the pipe.
    """
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        frame = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    y, *chroma = cv2.split(cv2.transform(frame, _BT709))
    cb, cr = (cv2.resize(c, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for c in chroma)
    return y[:height, :width], cb, cr
