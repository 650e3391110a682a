"""Save the motion of a driver to a small file, and load it again.

The file is an .npz without pickle, so it is safe to load whoever made it. Landmarks are rounded to steps of 1/2000 of
the face's height, which is less than the tracker's noise, and stored as differences between frames. These compress
well, to about 0.6 KB for each frame.
"""

import io
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..errors import InputError, UsageError
from ..geometry.mesh import N_LANDMARKS, face_height
from ..landmarks.following import MotionTrack
from ..media.reading import MAX_FPS, MIN_FPS
from ..system.files import PathLike, check_file, write_whole

FORMAT = 1
MAX_FRAMES = 100_000  # an hour: 290 MB in memory
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
    landmarks = track.landmarks
    step = max(face_height(np.median(landmarks[:1000], 0)) / _STEPS, float(np.abs(landmarks).max()) / _RANGE)
    places = np.round(landmarks / step).astype(np.int32)
    arrays = {
        "format": np.int64(FORMAT),
        "first": places[0],
        "changes": np.diff(places, axis=0).astype(np.int16),
        "step": np.float64(step),
        "fps": np.array([track.fps.numerator, track.fps.denominator], np.int64),
        "size": np.array(track.size, np.int64),
        "found": track.found,
        "cuts": np.array(track.cuts, np.int64),
        "n_faces": np.int64(track.n_faces),
        "rest": np.zeros((0, 3)) if track.rest is None else track.rest.astype(np.float64),
    }
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    write_whole(path, file.getvalue())


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
        if isinstance(error, InputError):
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
    changes = _array(archive, "changes", "i", (None, *_POINTS))
    count = len(changes) + 1
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
    landmarks = np.empty((count, *_POINTS), np.float32)
    place = first.astype(np.int64)
    landmarks[0] = place * step
    for t in range(1, count):
        place += changes[t - 1]
        landmarks[t] = place * step
    faces = [landmarks, rest[None]] if len(rest) else [landmarks]
    for face in faces:
        heights = np.linalg.norm(face[:, 10] - face[:, 152], axis=1)
        if not np.isfinite(face).all() or np.abs(face).max() > _LIMIT or not (heights > 1e-3).all():
            raise ValueError("landmarks that are no face")
    fps = Fraction(numerator, denominator)
    n_faces = max(1, whole("n_faces"))
    return MotionTrack(
        landmarks, (width, height), fps, found, n_faces, tuple(cuts.tolist()), rest if len(rest) else None
    )


def _array(archive: zipfile.ZipFile, name: str, kind: str, shape: tuple) -> np.ndarray:
    """Read one array of the file, after checking that it is not larger than it may be.

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
    with archive.open(entry) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
