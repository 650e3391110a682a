"""Save the motion of a driver to a small file, and load it again.

The file is an .npz without pickle, so it is safe to load whoever made it. Landmarks are rounded to steps of 1/2000 of
the face's height, which is less than the tracker's noise, and stored as differences between frames. These compress
well, to about 0.6 KB for each frame.
"""

import io
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..errors import InputError, PortraitAnimError, UsageError
from ..geometry.mesh import N_LANDMARKS, face_height
from ..landmarks.following import MotionTrack
from ..media.reading import MAX_FPS, MIN_FPS
from ..system.files import PathLike, atomic_write, check_file
from ..system.sequences import ArrayFile, block_ranges, blocks

FORMAT = 1
MAX_FRAMES = 100_000  # more than an hour
_STEPS = 2000  # per face height
_RANGE = 16_000  # steps within which all landmarks lie, so that differences fit into 16 bits
_POINTS = (N_LANDMARKS, 3)
_LIMIT = 1e6  # px, more than the side of any frame


def check_motion_output(path: PathLike, force: bool = False) -> Path:
    """Check that a motion could be saved to `path`, and return its absolute path.

    Raises UsageError if the name does not end in .npz, and OutputError as `check_output` does.
    """
    if Path(path).suffix.lower() != ".npz":
        raise UsageError(f"--save-motion {path}: a saved motion is an .npz file; give it such a name.")
    return check_file(path, force)


def save_motion(path: PathLike, track: MotionTrack) -> None:
    """Write a track to a file, whole or not at all.

    Raises UsageError if it has more than MAX_FRAMES frames, and OutputError if the file cannot be written.
    """
    if len(track) > MAX_FRAMES:
        raise UsageError(f"{path}: {len(track)} frames are too many for a saved motion; use --end, {MAX_FRAMES} fit.")
    farthest = max(float(np.abs(part).max()) for part in blocks(track.landmarks))
    step = max(face_height(np.median(track.landmarks[:1000], 0)) / _STEPS, farthest / _RANGE)
    places = lambda landmarks: np.round(landmarks / step).astype(np.int32)
    first = places(track.landmarks[0])
    arrays = {
        "format": np.int64(FORMAT),
        "first": first,
        "step": np.float64(step),
        "fps": np.array([track.fps.numerator, track.fps.denominator], np.int64),
        "size": np.array(track.size, np.int64),
        "found": track.found,
        "cuts": np.array(track.cuts, np.int64),
        "n_faces": np.int64(track.n_faces),
        "rest": np.zeros((0, 3)) if track.rest is None else track.rest.astype(np.float64),
    }
    with atomic_write(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.asarray(value), allow_pickle=False)
        with archive.open("changes.npy", "w", force_zip64=True) as file:  # as np.savez would write it, but in parts
            shape = (len(track) - 1, *_POINTS)
            np.lib.format.write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": shape})
            last = np.empty((0, *_POINTS), np.int32)
            for part in blocks(track.landmarks):
                now = places(part)
                file.write(np.diff(np.concatenate([last, now]), axis=0).astype("<i2").tobytes())
                last = now[-1:]


def load_motion(path: PathLike) -> MotionTrack:
    """Load a saved motion.

    Raises InputError if the file is missing, is no saved motion, has another version, or holds values that make no
    sense.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(path, archive)
    except (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, MemoryError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(
            f"{path}: not a readable saved motion ({reason}); make one with animate --save-motion."
        ) from error
    except Exception as error:  # broken files also lead to errors of zlib's and struct's own kinds
        if isinstance(error, PortraitAnimError):
            raise
        raise InputError(f"{path}: the saved motion is damaged ({error}); make it anew.") from error


def _read(path: PathLike, archive: zipfile.ZipFile) -> MotionTrack:
    """Read and check the arrays of a file. Raises ValueError for values that make no sense."""
    whole = lambda name: int(_array(archive, name, "i", ()))
    if (version := whole("format")) != FORMAT:
        raise InputError(
            f"{path}: saved motion of format {version}, this program reads {FORMAT}; "
            f"{'update portrait-anim' if version > FORMAT else 'make it anew with animate --save-motion'}."
        )
    first = _array(archive, "first", "i", _POINTS)
    count = _header(archive, "changes", "i", (None, *_POINTS))[0] + 1
    step = float(_array(archive, "step", "f", ()))
    numerator, denominator = _array(archive, "fps", "i", (2,)).tolist()
    width, height = _array(archive, "size", "i", (2,)).tolist()
    found = _array(archive, "found", "b", (count,))
    cuts = _array(archive, "cuts", "i", (None,))
    rest = _array(archive, "rest", "f", (None, 3))
    if not (0 < step < _LIMIT and denominator > 0 and MIN_FPS <= numerator / denominator <= MAX_FPS):
        raise ValueError("impossible step or frame rate")
    if min(width, height) < 1 or max(width, height) > _LIMIT or len(rest) not in (0, N_LANDMARKS) or not found.any():
        raise ValueError("impossible size, or no face in it")
    if len(cuts) and not (0 < cuts.min() and cuts.max() < count and (np.diff(cuts) > 0).all()):
        raise ValueError("impossible cuts")
    landmarks = ArrayFile(_POINTS)
    for places in _places(archive, first, count - 1):
        faces = (places * step).astype(np.float32)
        _check_faces(faces)
        landmarks.extend(faces)
    if len(rest):
        _check_faces(rest[None])
    fps = Fraction(numerator, denominator)
    n_faces = max(1, whole("n_faces"))
    return MotionTrack(
        landmarks, (width, height), fps, found, n_faces, tuple(cuts.tolist()), rest if len(rest) else None
    )


def _places(archive: zipfile.ZipFile, first: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Yield the places (n, 478, 3) int64 of all landmarks, in steps, from those of the first frame and `count` changes.

    Raises ValueError if there are fewer or more.
    """
    place = first.astype(np.int64)
    yield place[None]
    with archive.open("changes.npy") as file:
        np.lib.format.read_magic(file)
        _, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if is_fortran:
            raise ValueError("changes are of an unknown kind")
        for a, b in block_ranges(count):
            data = file.read((b - a) * place.size * dtype.itemsize)
            places = place + np.cumsum(np.frombuffer(data, dtype).reshape(-1, *_POINTS), axis=0, dtype=np.int64)
            yield places
            place = places[-1]
        if file.read(1):  # which also checks the checksum
            raise ValueError("changes are too many")


def _check_faces(landmarks: np.ndarray) -> None:
    """Raise ValueError if landmarks (n, 478, 3), px, cannot be faces."""
    heights = np.linalg.norm(landmarks[:, 10] - landmarks[:, 152], axis=1)
    if not np.isfinite(landmarks).all() or np.abs(landmarks).max() > _LIMIT or not (heights > 1e-3).all():
        raise ValueError("landmarks that are no face")


def _array(archive: zipfile.ZipFile, name: str, kind: str, shape: tuple) -> np.ndarray:
    """Read one array of the file, after `_header` has checked it."""
    _header(archive, name, kind, shape)
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _header(archive: zipfile.ZipFile, name: str, kind: str, shape: tuple) -> tuple[int, ...]:
    """Return the shape of one array of the file, after checking that it is not larger than it may be.

    kind: of its dtype, "i", "f" or "b". shape: as expected, with None for any length. Raises ValueError if the array is
    missing or different.
    """
    try:
        entry = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise ValueError(f"{name} is missing") from None
    longest = MAX_FRAMES * N_LANDMARKS * 3 * 2 + 1024
    if entry.file_size > longest:
        raise ValueError(f"{name} is too large")
    with archive.open(entry) as file:
        start = file.read(min(entry.file_size, 1024))
    header = io.BytesIO(start)
    if np.lib.format.read_magic(header) != (1, 0):
        raise ValueError(f"{name} is of an unknown kind")
    stated, _, dtype = np.lib.format.read_array_header_1_0(header)
    expected = int(np.prod([int(n) for n in stated], dtype=object)) * dtype.itemsize + header.tell()
    fits = len(stated) == len(shape) and all(b is None or a == b for a, b in zip(stated, shape))
    if dtype.kind != kind or not fits or expected != entry.file_size:
        raise ValueError(f"{name} has the wrong shape")
    return stated
