"""Check the names of inputs and outputs before any work is done, and write files that appear only when whole."""

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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError, UsageError

PathLike = str | os.PathLike[str]

FORMATS = ".mp4, .mov, .m4v, .webm, .gif, or PNG pictures: a folder name such as frames/ or out_%05d.png"
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".webm")


NUMBER = re.compile(r"%0?([0-9]*)d")  # stands for a picture's number in the pattern of its name
_PARTIAL = re.compile(r"\..*\.partial-([0-9a-f]{8})-([0-9]+)-[0-9a-f]{8}(\.\w+)?", re.DOTALL)  # machine, process
_ABANDONED = 86_400  # s without a change: the process on another machine that wrote this has surely ended


def check_output(path: PathLike, force: bool = False, picture: bool = False) -> Path:
    """Check that an output could be written to `path`, and return the absolute path to write to.

    The suffix tells the kind of output. A sequence of PNG pictures is meant by a pattern such as `out_%05d.png`, and by
    any name that ends in "/" or is a folder; the pattern of their names is returned, for instance
    `/home/me/frames/%05d.png`. With `picture` a plain `name.png` means one picture.

    Raises UsageError as `check_output_name` does. Raises OutputError if the output exists already (unless `force`), if
    a file would take the name of a folder, or if the folder is missing or not writable.
    """
    pattern = check_output_name(path, picture)
    with _odd_names(path):
        return check_file(path, force) if pattern is None else _check_pattern(path, pattern, force)


def check_output_name(path: PathLike, picture: bool = False) -> Path | None:
    """Check that an output's name says what is to be made, whether or not it could be written there.

    Return the pattern of the pictures' names if a sequence of PNG pictures is meant, else None. Raises UsageError if
    there is no name, or its suffix is missing or unknown.
    """
    with _odd_names(path):
        text, target = os.fspath(path), Path(path)
        only_suffix = re.fullmatch(r"\.\w+", target.name) and not mode_of(target)
        if text.strip() in ("", "-") or (not _names_folder(text) and (text.endswith(".") or only_suffix)):
            raise _no_name(text)
        pattern = pictures_pattern(text)
    if pattern is not None and not (picture and is_picture(pattern)):
        if pattern.name.count("%") != 1 or not NUMBER.search(pattern.name):
            raise UsageError(
                f"{path}: one PNG cannot hold a video (only what a picture as driver gives); use a folder name such as "
                "frames/, or out_%05d.png."
            )
        return pattern
    if not target.suffix:
        raise UsageError(
            f"{path}: does not say what to make; use {path}.mp4 for a video, or {path}/ for a folder of PNG pictures."
        )
    if target.suffix.lower() not in (*VIDEO_SUFFIXES, ".gif", ".png"):
        raise UsageError(f"{path}: unknown kind of output {target.suffix.lower()}; use {FORMATS}.")
    return None


@contextlib.contextmanager
def _odd_names(path) -> Iterator[None]:
    """Raise OutputError for names that the file system does not accept."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # names too long, circles of links, a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path}: cannot be written ({reason}); give another name.") from error


def check_preview(path: PathLike, force: bool = False) -> Path:
    """Do what `check_output` does for the preview of an output, and return the path of its contact sheet."""
    sheet = preview_of(check_output(path, force=True, picture=True))
    if sheet.exists() and not force:
        raise OutputError(f"{sheet}: exists already; use --force to replace it, or another name.")
    return sheet


def preview_of(output: PathLike) -> Path:
    """Return the path of an output's contact sheet: OUTPUT.preview.png beside the output, or beside its folder."""
    with _odd_names(output):
        output = pictures_pattern(str(output)) or Path(output)
    output = output.parent if output.name == "%05d.png" else output
    if not output.name:
        raise _no_name(output)
    return output.with_name(NUMBER.sub("", output.stem) + ".preview.png")


def make_folder(folder: Path) -> None:
    """Make a folder of results if it is missing. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); name another folder.") from error


def check_folder(folder: Path) -> None:
    """Raise OutputError, before any work is done, if a folder of results could not be made. Nothing is left of it."""
    missing = missing_folders(folder)
    make_folder(folder)
    for part in missing:
        part.rmdir()


def missing_folders(folder: Path) -> list[Path]:
    """Return those of a folder and the folders around it that are missing, innermost first."""
    return [part for part in (folder, *folder.parents) if not part.exists()]


def write_whole(path: PathLike, data: bytes) -> None:
    """Write the bytes `data` to a file, whole or not at all, as `atomic_write` does."""
    with atomic_write(path) as partial:
        partial.write_bytes(data)


def check_apart(output: Path, sources: Iterable[PathLike]) -> None:
    """Raise OutputError if writing `output` would replace one of the files `sources`, by whatever name."""
    replaced = pictures(output) if output.suffix.lower() == ".png" and not is_picture(output) else [output]
    for source in sources:
        if any(os.path.exists(source) and os.path.exists(file) and os.path.samefile(source, file) for file in replaced):
            raise OutputError(f"{output}: would replace the input {source}; give the output another name.")


def _no_name(given) -> UsageError:
    return UsageError(f"'{given}' is no name for an output; use {FORMATS}.")


def is_picture(path: Path) -> bool:
    """Tell whether a name is that of a single PNG picture."""
    return path.suffix.lower() == ".png" and "%" not in path.name


def check_file(path: PathLike, force: bool = False) -> Path:
    """Check that a single file of any kind could be written to `path`, and return its absolute path.

    Raises OutputError as `check_output` does.
    """
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
    """Return the pattern of the PNG pictures that an output's name means, or None if it means one file."""
    target = Path(text)
    suffix = target.suffix.lower()
    known = (*VIDEO_SUFFIXES, ".gif", ".png")
    if _names_folder(text) or (suffix not in known and stat.S_ISDIR(mode_of(target))):
        return target / "%05d.png"
    return target if suffix == ".png" else None


def _names_folder(text: str) -> bool:
    return text.endswith(("/", os.sep))


def _check_pattern(path, target: Path, force: bool) -> Path:
    """Do what `check_output` does for PNG pictures. Their folder may be missing, but not the folder around it."""
    folder = target.parent.resolve()
    if not force and pictures(folder / target.name):
        raise OutputError(f"{path}: pictures of that name exist already; use --force to replace them.")
    _check_folder(path, folder if mode_of(folder) else folder.parent)
    return folder / target.name


def mode_of(path: Path) -> int:
    """Return the `st_mode` of what is at `path`, or 0 if nothing is.

    Unlike `Path.exists` it raises OSError when that cannot be known, for instance without the permission to look.
    """
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


def is_missing(path: PathLike) -> bool:
    """Tell whether there is surely no file of this name; what else is wrong with it is said when it is read."""
    try:
        return not mode_of(Path(path))
    except (OSError, ValueError):
        return False


def check_input(path: PathLike) -> None:
    """Raise InputError if there is no file of this name, or if it is an address on the internet."""
    if not is_missing(path):
        return
    if address := re.match(r"([A-Za-z][\w+.-]+):/+(.+)", os.fspath(path)):  # a Path has lost one of its slashes
        raise InputError(f"{address[1]}://{address[2]}: is an address, not a file; fetch it and give a local file.")
    raise InputError(f"{path}: no such file; check the name.")


def pictures(pattern: Path) -> list[Path]:
    """Return the existing files whose names match a pattern such as `folder/out_%05d.png`, here with five digits."""
    if not stat.S_ISDIR(mode_of(pattern.parent)):
        return []
    before, width, after = NUMBER.split(pattern.name)
    digits = f"[0-9]{{{int(width)}}}" if width else "[0-9]+"
    name = re.compile(re.escape(before) + digits + re.escape(after))
    return [file for file in pattern.parent.iterdir() if name.fullmatch(file.name)]


@contextlib.contextmanager
def temporary_faults() -> Iterator[None]:
    """Raise OutputError in place of any OSError of the `with` block, in which temporary files are made or used."""
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or "the folder for temporary files"
        raise OutputError(
            f"{folder}: cannot be used ({error.strerror}); free space there, or name a folder by TMPDIR."
        ) from error


def temporary_file(buffering: int = -1) -> Any:
    """Open a file for reading and writing bytes that has no name and is gone when it is closed, or the process ends.

    buffering: as of `open`. Raises OutputError if no folder for temporary files can be written to.
    """
    with temporary_faults():
        return tempfile.TemporaryFile(buffering=buffering)


def temporary_folder() -> tempfile.TemporaryDirectory:
    """Make a folder for temporary files, which goes with its content at the end of a `with` block, or of the process.

    Raises OutputError if that is not possible.
    """
    with temporary_faults():
        return tempfile.TemporaryDirectory(prefix="portrait-anim-")


# ---- temporary files beside their targets ----


def partial_path(target: Path, suffix: str = "") -> Path:
    """Return a new hidden name beside `target` for a file that is not whole yet.

    The name holds the machine and the process, so that `sweep` can tell whether its writer is still running.
    """
    stem = target.stem[:40]  # a name near the file system's limit must not pass it
    return target.with_name(f".{stem}.partial-{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{suffix}")


@contextlib.contextmanager
def atomic_write(path: PathLike, suffix: str = "") -> Iterator[Path]:
    """Write a file so that it appears at `path` only when it is whole.

    The `with` block gets a temporary name beside `path`, with the given suffix, to write to. At the end of the block
    the temporary file takes the name `path`. After an exception nothing is left of it, and what was at `path` before
    stays. Raises OutputError in place of any OSError.
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
    """Remove the temporary files that killed processes left in a folder, but none that is still being written."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            match = _PARTIAL.fullmatch(entry.name)
            if match and _is_abandoned(match[1], int(match[2]), entry):
                remove(Path(entry.path))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let only one process at a time be in a `with` block for this folder; the others wait.

    On systems without file locks it does nothing.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def remove(path: Path) -> None:
    """Delete a file or folder if it exists and can be deleted; otherwise do nothing."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@functools.cache
def _machine() -> str:
    """Return an identifier of what process numbers are counted in: the computer, or the container on it."""
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
