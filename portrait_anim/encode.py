"""Writing videos: frame by frame, with the driver's sound, into a file that appears only when complete.

The picture is encoded to a hidden file beside the target. The sound is added in a second pass that only
copies the picture: by then the exact length is known, and nothing wrong with the sound can harm the picture.
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from fractions import Fraction
from pathlib import Path

import numpy as np

from .errors import InputError, OutputError, UsageError
from .video import EXACT_SCALING, LOCAL_ONLY, describe, last_words, launch, read_log, stop, url, widen_pipe

FORMATS = ".mp4, .mov, .m4v, .webm, .gif, or PNG pictures: a folder name such as frames/ or out_%05d.png"
MAX_GIF_FPS = 50  # viewers slow a GIF down to 10 fps when a frame is shown for less than 0.02 s
_MP4 = (".mp4", ".mov", ".m4v")
_SOUND = {  # suffix -> codecs that can be copied as they are, codec to make otherwise
    **dict.fromkeys(_MP4, (("aac", "mp3"), ("aac", "192k"))),
    ".webm": (("opus", "vorbis"), ("libopus", "128k")),
}
_NUMBER = re.compile(r"%0?(\d*)d")


def check_output(path, force: bool = False) -> Path:
    """Say early whether a result could be written to `path`, without doing any work.

    Returns the absolute path to write to; for PNG pictures the pattern of their names (`frames/%05d.png`).
    PNG pictures are meant by `out_%05d.png`, and by any name that ends in "/", has no suffix or is a folder.

    Raises UsageError for an unknown suffix, OutputError when there is something already (unless `force`), the
    name is that of a folder, or the folder is missing or not writable.
    """
    text = os.fspath(path)
    target = Path(text)
    suffix = target.suffix.lower()
    named_folder = text.endswith(("/", os.sep)) or not suffix
    if named_folder or (target.is_dir() and suffix not in (*_SOUND, ".gif", ".png")):
        target /= "%05d.png"
        suffix = ".png"
    if suffix == ".png":
        return _check_pattern(path, target, force)
    if suffix not in (*_SOUND, ".gif"):
        raise UsageError(f"{path}: unknown kind of output {suffix}; use {FORMATS}.")
    target = target.resolve()
    if target.is_dir():
        raise OutputError(f"{path}: is a folder; give the name of a file.")
    if target.exists() and not force:
        raise OutputError(f"{path}: exists already; use --force to replace it, or another name.")
    _check_folder(path, target.parent)
    return target


def _check_pattern(path, target: Path, force: bool) -> Path:
    """`check_output` for PNG pictures. Their folder may be missing, the one around it not."""
    if target.name.count("%") != 1 or not _NUMBER.search(target.name):
        raise UsageError(f"{path}: one PNG cannot hold a video; use a folder name such as frames/, or out_%05d.png.")
    folder = target.parent.resolve()
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, not a folder; give another name for the pictures.")
    if not force and _pictures(folder / target.name):
        raise OutputError(f"{path}: pictures of that name exist already; use --force to replace them.")
    _check_folder(path, folder if folder.exists() else folder.parent)
    return folder / target.name


def _check_folder(path, folder: Path) -> None:
    if not folder.is_dir():
        raise OutputError(f"{path}: there is no folder {folder}; create it first.")
    try:  # asking the system for permissions is not enough: read-only disks, network folders, root
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{path}: cannot write to {folder} ({error.strerror}); use another folder.") from error


def _pictures(pattern: Path) -> list[Path]:
    """Existing files that `pattern` (folder/out_%05d.png) could have written."""
    if not pattern.parent.is_dir():
        return []
    number = _NUMBER.search(pattern.name)
    before, after = pattern.name[: number.start()], pattern.name[number.end() :]
    name = re.compile(rf"{re.escape(before)}\d{{{number[1] or 1},}}{re.escape(after)}")
    return [file for file in pattern.parent.iterdir() if name.fullmatch(file.name)]


class VideoWriter:
    """Encode frames inside a `with` block; the file appears at its end, complete, or not at all.

    path: kind of file by suffix, see `check_output`; an existing one is replaced. size: (width, height), even
    for H.264. fps: constant rate, best a Fraction. crf: H.264 quality, 0-51, smaller is better; taken over to
    VP9's scale; GIF and PNG have none. audio_from: media file whose sound goes with the frames from
    audio_start seconds on; GIF and PNG stay silent. metadata: tags for the file; GIF and PNG have none.

    path: Path, target (see `check_output`). count: frames so far. warnings: sentences, filled at the end.

    Raises ValueError for impossible sizes or frames, UsageError and OutputError as `check_output` with force,
    OutputError when the encoder fails.
    """

    def __init__(self, path, size, fps, crf=18, audio_from=None, audio_start=0.0, metadata=None):
        self.path = check_output(path, force=True)
        self.size = width, height = int(size[0]), int(size[1])
        self.fps = Fraction(fps).limit_denominator(100_000)
        self.crf = crf
        self._as_pictures = self.path.suffix.lower() == ".png"
        self.audio_from = audio_from if self.path.suffix.lower() in _SOUND else None
        self.audio_start = audio_start
        self.metadata = dict(metadata or {})
        self.count = 0
        self.warnings: list[str] = []
        if width < 1 or height < 1 or self.fps <= 0:
            raise ValueError(f"size {width}x{height} at {fps} fps is impossible")
        if self.path.suffix.lower() in _MP4 and (width % 2 or height % 2):
            raise ValueError(f"H.264 needs even sizes, got {width}x{height}")

    def __enter__(self):
        folder = self.path.parent
        if self._as_pictures and not folder.is_dir():
            folder = folder.parent  # the hidden folder becomes the wanted one
        self._temporary = self._hidden(folder)
        try:
            if self._as_pictures:
                self._temporary.mkdir()
            else:
                self._temporary.touch(exist_ok=False)
        except OSError as error:
            raise self._error(error.strerror) from error
        self._log = tempfile.TemporaryFile()
        try:
            # The folder of pictures is the child's own: as part of a pattern, a % in its name would count.
            cwd = self._temporary if self._as_pictures else None
            self._process = launch(self._arguments(), self._log, stdin=subprocess.PIPE, cwd=cwd)
            widen_pipe(self._process.stdin)
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            stop(self._process)
            self._log.close()
            self._discard()

    def write(self, frame: np.ndarray) -> None:
        """Add one frame: (H, W, 3) uint8 RGB."""
        width, height = self.size
        if frame.shape != (height, width, 3) or frame.dtype != np.uint8:
            raise ValueError(f"frame is {frame.shape} {frame.dtype}, the video ({height}, {width}, 3) uint8")
        view = memoryview(np.ascontiguousarray(frame)).cast("B")
        try:
            while view:
                view = view[self._process.stdin.write(view) :]
        except OSError as error:  # the encoder has gone; what it said is worth more than "broken pipe"
            stop(self._process)
            raise self._error(last_words(read_log(self._log))) from error
        self.count += 1

    def _hidden(self, folder: Path) -> Path:
        stem = self.path.stem[:40]  # a name near the file system's limit must not pass it
        return folder / f".{stem}.partial-{os.getpid()}-{uuid.uuid4().hex[:8]}{self.path.suffix}"

    def _error(self, reason: str) -> OutputError:
        return OutputError(f"{self.path}: cannot be written ({reason}); check the free disk space and the options.")

    def _arguments(self) -> list[str]:
        width, height = self.size
        suffix = self.path.suffix.lower()
        threads = str(min(8, os.cpu_count() or 1))  # more cost memory and gain little
        # Convert with the matrix of HD video and say so in the file: without that, players guess.
        yuv = (
            f"scale=out_color_matrix=bt709:out_range=tv:flags={EXACT_SCALING},format=yuv420p,setsar=1,"
            "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
        )
        if suffix in _MP4:
            # 1280x1280 on two cores: veryfast 29 frames/s, faster 19, medium 12, for 10-25 % smaller files.
            codec = ["-vf", yuv, "-c:v", "libx264", "-preset", "veryfast", "-crf", str(self.crf)]
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
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"),
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
        if status != 0:
            raise self._error(last_words(read_log(self._log)))
        if self.audio_from is not None:
            self._add_sound()
        try:
            if self._as_pictures:
                self._move_pictures()
            else:
                os.replace(self._temporary, self.path)
        except OSError as error:
            raise self._error(error.strerror) from error

    def _move_pictures(self) -> None:
        if not self.path.parent.is_dir():
            os.replace(self._temporary, self.path.parent)
            return
        for old in _pictures(self.path):  # the last pictures of a longer earlier run must not follow ours
            old.unlink()
        for new in self._temporary.iterdir():
            os.replace(new, self.path.with_name(new.name))

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
        both = self._hidden(self._temporary.parent)
        start = ["-ss", f"{self.audio_start:.6f}"] if self.audio_start else []
        arguments = [
            *("-nostdin", "-i", url(self._temporary), *LOCAL_ONLY, *start, "-t", f"{float(seconds):.6f}"),
            *("-i", url(self.audio_from), "-map", "0:v:0", "-map", "1:a:0", "-map_chapters", "-1"),
            *("-c:v", "copy", *sound, *self._container(), "-y", url(both)),
            *("-map", "1:a:0", "-f", "null", "-"),  # decodes it as well: copying would not notice damage
        ]
        try:
            with tempfile.TemporaryFile() as log:
                process = launch(arguments, log, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                try:
                    status = process.wait(timeout=60 + 2 * float(seconds))
                except subprocess.TimeoutExpired:
                    return "it takes too long to read"
                finally:
                    stop(process)
                said = read_log(log)
            if status != 0:
                return last_words(said)
            if said.strip():
                self.warnings.append(f"{self.audio_from}: its sound is damaged in places ({last_words(said)})")
            os.replace(both, self._temporary)
        except OSError as error:
            return error.strerror
        finally:
            both.unlink(missing_ok=True)
        return None

    def _discard(self) -> None:
        """Remove what is left of the hidden file or folder."""
        with contextlib.suppress(OSError):
            if self._as_pictures:
                shutil.rmtree(self._temporary, ignore_errors=True)
            else:
                self._temporary.unlink(missing_ok=True)
