"""Sequences with an array for each frame of a video, of any length, which need no more memory than a few of the frames.

An hour of landmarks is half a gigabyte, and the way from a driver to its video needs them several times over. So they
lie in files, and whatever looks at all of them goes block by block.
"""

import math
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from .files import temporary_faults, temporary_file

BLOCK = 256  # frames that are looked at together: 1.5 MB of landmarks


class ArrayFile:
    """A sequence of float32 arrays of one shape in a temporary file without a name, which nothing can leave behind.

    It is read like an array, but only by frame and by range: `[t]` and `[a:b]` return copies. In the same places it can
    be written to; the new values may be of any shape that numpy would broadcast. Several threads may read and write at
    once, but only one may add to it.

    shape: of each array. length: the number of arrays at first, all of them zero.

    Raises OutputError, now or later, if the folder for temporary files cannot be written to, or is full.
    """

    def __init__(self, shape: tuple[int, ...], length: int = 0):
        self._shape, self._length = tuple(shape), length
        self._size = 4 * math.prod(shape)  # bytes
        self._lock = threading.Lock()
        self._file = temporary_file(buffering=0)  # so that faults come with the call that causes them
        weakref.finalize(self, self._file.close)
        with temporary_faults():
            self._file.truncate(length * self._size)

    @classmethod
    def of(cls, parts: Iterable[np.ndarray]) -> "ArrayFile":
        """Make a sequence of its parts, (n, ...) each, of which there is at least one."""
        made = None
        for part in parts:
            made = cls(part.shape[1:]) if made is None else made
            made.extend(part)
        if made is None:
            raise ValueError("a sequence of no parts has no shape")
        return made

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array that holds all of it, (T, ...)."""
        return (self._length, *self._shape)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[np.ndarray]:
        for part in blocks(self):
            yield from part

    def __getitem__(self, key: Any) -> np.ndarray:
        first, last = self._range(key)
        values = np.empty((last - first, *self._shape), np.float32)
        view = values.reshape(-1).view(np.uint8).data
        with self._lock, temporary_faults():
            self._file.seek(first * self._size)
            while view:
                view = view[self._file.readinto(view) :]
        return values if isinstance(key, slice) else values[0]

    def __setitem__(self, key: Any, values: Any) -> None:
        first, last = self._range(key)
        values = np.broadcast_to(values, (last - first, *self._shape))
        for a, b in block_ranges(last - first):
            self._write(first + a, values[a:b])

    def append(self, value: np.ndarray) -> None:
        """Add one array at the end."""
        self.extend(value[None])

    def extend(self, values: np.ndarray) -> None:
        """Add arrays (n, ...) at the end."""
        self._write(self._length, np.broadcast_to(values, (len(values), *self._shape)))
        self._length += len(values)

    def _range(self, key: Any) -> tuple[int, int]:
        """Return the first place and the one after the last that an index means. Raises IndexError beyond the end."""
        if isinstance(key, slice):
            first, last, step = key.indices(self._length)
            if step != 1:
                raise ValueError("an ArrayFile is read frame after frame")
            return first, max(first, last)
        t = range(self._length)[key]
        return t, t + 1

    def _write(self, first: int, values: np.ndarray) -> None:
        view = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8).data
        with self._lock, temporary_faults():
            self._file.seek(first * self._size)
            while view:
                view = view[self._file.write(view) :]


class FrameSequence(Protocol):
    """What arrays (T, ...) and ArrayFiles have in common: their length, and values by frame and by range."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> Any: ...


def block_ranges(length: int) -> list[tuple[int, int]]:
    """Split the frames 0 to length - 1 into ranges (first, last + 1) of BLOCK frames at most, all about as long."""
    count = -(-length // BLOCK)
    return [(length * n // count, length * (n + 1) // count) for n in range(count)]


def blocks(values: FrameSequence) -> Iterator[np.ndarray]:
    """Yield all values (T, ...) of a sequence, (n, ...) at a time."""
    for a, b in block_ranges(len(values)):
        yield values[a:b]


def by_blocks(function: Callable[[np.ndarray], np.ndarray], values: FrameSequence) -> np.ndarray:
    """Return the (T, ...) values of a function for the frames of a sequence. It gets (n, ...) of them at a time."""
    return np.concatenate([function(part) for part in blocks(values)])
