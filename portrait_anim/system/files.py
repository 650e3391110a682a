"""Outputs: what may be written where, found out before any work is done, and files that appear only when whole."""

import contextlib
import functools
import hashlib
import os
import platform
import re
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from ..errors import OutputError, UsageError

FORMATS = ".mp4, .mov, .m4v, .webm, .gif, or PNG pictures: a folder name such as frames/ or out_%05d.png"
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".webm")
NUMBER = re.compile(r"%0?([0-9]*)d")  # of a PNG picture in its name
_PARTIAL = re.compile(r"\..*\.partial-([0-9a-f]{8})-([0-9]+)-[0-9a-f]{8}(\.\w+)?", re.DOTALL)  # machine, process
_ABANDONED = 86_400  # s without a change: the process on another machine that wrote this has surely ended


def check_output(path, force: bool = False, picture: bool = False) -> Path:
    """Say early whether a result could be written to `path`, without doing any work.

    Returns the absolute path to write to; for PNG pictures the pattern of their names (`frames/%05d.png`).
    PNG pictures are meant by `out_%05d.png`, and by any name that ends in "/", has no suffix or is a folder. With
    `picture` a plain name.png is one picture.

    Raises UsageError for an unknown suffix or no name at all, OutputError when there is something already (unless
    `force`), the name is that of a folder, or the folder is missing or not writable.
    """
    with _odd_names(path):
        return _check(path, os.fspath(path), force, picture)


@contextlib.contextmanager
def _odd_names(path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # names too long, circles of links, a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path}: cannot be written ({reason}); give another name.") from error


def check_preview(path, force: bool = False) -> Path:
    """`check_output` for the preview of an output: the name of its contact sheet, OUTPUT.preview.png beside it."""
    sheet = preview_of(check_output(path, force=True, picture=True))
    if sheet.exists() and not force:
        raise OutputError(f"{sheet}: exists already; use --force to replace it, or another name.")
    return sheet


def preview_of(output: str | Path) -> Path:
    """OUTPUT.preview.png beside an output; that of frames/ is beside the folder."""
    output = pictures_pattern(str(output)) or Path(output)
    output = output.parent if output.name == "%05d.png" else output
    if not output.name:
        raise _no_name(output)
    return output.with_name(NUMBER.sub("", output.stem) + ".preview.png")


def write_whole(path: str | Path, data: bytes) -> None:
    """A file of these bytes, by `atomic_write`."""
    with atomic_write(path) as partial:
        partial.write_bytes(data)


def check_apart(output: Path, sources: list) -> None:
    """Raises OutputError when the output would replace one of the inputs, by whatever name."""
    replaced = pictures(output) if output.suffix.lower() == ".png" and not is_picture(output) else [output]
    for source in sources:
        if any(os.path.exists(source) and os.path.exists(file) and os.path.samefile(source, file) for file in replaced):
            raise OutputError(f"{output}: would replace the input {source}; give the output another name.")


def _check(path, text: str, force: bool, picture: bool) -> Path:
    target = Path(text)
    suffix = target.suffix.lower()
    named_folder = _names_folder(text)
    only_suffix = re.fullmatch(r"\.\w+", target.name) and not mode_of(target)
    if text.strip() in ("", "-") or (not named_folder and (text.endswith(".") or only_suffix)):
        raise _no_name(text)
    pattern = pictures_pattern(text)
    if pattern is not None and not (picture and is_picture(pattern)):
        return _check_pattern(path, pattern, force)
    if suffix not in (*VIDEO_SUFFIXES, ".gif", ".png"):
        raise UsageError(f"{path}: unknown kind of output {suffix}; use {FORMATS}.")
    return check_file(path, force)


def _no_name(given) -> UsageError:
    return UsageError(f"'{given}' is no name for an output; use {FORMATS}.")


def is_picture(path: Path) -> bool:
    """Whether a name is that of a single PNG picture."""
    return path.suffix.lower() == ".png" and "%" not in path.name


def check_file(path, force: bool = False) -> Path:
    """`check_output` for a single file of any kind."""
    with _odd_names(path):
        target = Path(path).resolve()
        mode = mode_of(target)
        if mode and not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not an ordinary file"
            raise OutputError(f"{path}: is {kind}; give the name of a file.")
        if mode and not force:
            raise OutputError(f"{path}: exists already; use --force to replace it, or another name.")
        _check_folder(path, target.parent)
        return target


def pictures_pattern(text: str) -> Path | None:
    """The pattern of the PNG pictures that an output's name means, None when it means one file."""
    target = Path(text)
    suffix = target.suffix.lower()
    known = (*VIDEO_SUFFIXES, ".gif", ".png")
    if _names_folder(text) or not suffix or (suffix not in known and stat.S_ISDIR(mode_of(target))):
        return target / "%05d.png"
    return target if suffix == ".png" else None


def _names_folder(text: str) -> bool:
    return text.endswith(("/", os.sep))


def _check_pattern(path, target: Path, force: bool) -> Path:
    """`check_output` for PNG pictures. Their folder may be missing, the one around it not."""
    if target.name.count("%") != 1 or not NUMBER.search(target.name):
        raise UsageError(
            f"{path}: one PNG cannot hold a video (only what a picture as driver gives); use a folder name such as "
            "frames/, or out_%05d.png."
        )
    folder = target.parent.resolve()
    if not force and pictures(folder / target.name):
        raise OutputError(f"{path}: pictures of that name exist already; use --force to replace them.")
    _check_folder(path, folder if mode_of(folder) else folder.parent)
    return folder / target.name


def mode_of(path: Path) -> int:
    """What is there, as in `stat`, 0 for nothing. Unlike Path.exists it says so when that cannot be known."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _check_folder(path, folder: Path) -> None:
    mode = mode_of(folder)
    if mode and not stat.S_ISDIR(mode):
        raise OutputError(f"{folder}: is a file, not a folder; give another name.")
    if not mode:
        raise OutputError(f"{path}: there is no folder {folder}; create it first.")
    try:  # asking the system for permissions is not enough: read-only disks, network folders, root
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{path}: cannot write to {folder} ({error.strerror}); use another folder.") from error


def pictures(pattern: Path) -> list[Path]:
    """Existing files named as `pattern` (folder/out_%05d.png) says, with exactly so many digits."""
    if not stat.S_ISDIR(mode_of(pattern.parent)):
        return []
    before, width, after = NUMBER.split(pattern.name)
    digits = f"[0-9]{{{int(width)}}}" if width else "[0-9]+"
    name = re.compile(re.escape(before) + digits + re.escape(after))
    return [file for file in pattern.parent.iterdir() if name.fullmatch(file.name)]


# ---- temporary files beside their targets ----


def partial_path(target: Path, suffix: str = "") -> Path:
    """A new name beside target for what is not whole yet; `sweep` knows whose it is."""
    stem = target.stem[:40]  # a name near the file system's limit must not pass it
    return target.with_name(f".{stem}.partial-{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{suffix}")


@contextlib.contextmanager
def atomic_write(path: str | Path, suffix: str = "") -> Iterator[Path]:
    """The name to write to inside the `with` block, with that suffix; at its end that file, whole, gets the name path.

    After an exception nothing is left, and what was there before stays. An OSError becomes an OutputError.
    """
    path = Path(path)
    sweep(path.parent)
    partial = partial_path(path, suffix)
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); check the folder and its space.") from error
    finally:
        remove(partial)


def sweep(folder: Path) -> None:
    """Remove what killed runs left in folder, never what a living run is writing there."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            match = _PARTIAL.fullmatch(entry.name)
            if match and _is_abandoned(match[1], int(match[2]), entry):
                remove(Path(entry.path))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait for other processes that are in such a block for this folder; where there are no locks, don't."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def remove(path: Path) -> None:
    """Delete a file or folder, if it is there and can be deleted."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@functools.cache
def _machine() -> str:
    """Tells apart where process numbers mean different things: computers, and containers that share a folder."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


def _is_abandoned(machine: str, pid: int, entry: os.DirEntry) -> bool:
    if machine != _machine():
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED
    with contextlib.suppress(PermissionError, OverflowError):
        try:
            if os.name != "nt":  # there, this would end it
                os.kill(pid, 0)
        except ProcessLookupError:
            return True
    return False
