"""The decoded frames of shards in files that are memory-mapped: a single frame of any clip is there at once.

A video must be decoded from its beginning. For every frame that is drawn that would take longer than learning from it,
and decoded frames of many clips do not fit into memory. So each clip is decoded once, into a file of a folder that is
bounded: when it is full, the clips that were used longest ago are deleted. The system keeps in memory what it can.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ..errors import OutputError
from ..geometry.view import CROP, GAIN, View
from ..portrait import layers
from ..system.files import atomic_write
from .shards import Shard, resized

_OPEN = 512  # files whose maps are kept open
CANVASES = 8  # frames of a shard that may be an episode's canvas: a background must be made for each
_VERSION = 1  # of what is in the files

Parts = tuple[np.ndarray, ...]


def canvases(length: int) -> list[int]:
    """Return the frames of a shard of so many that may be a canvas, spread over it."""
    return sorted(set(np.linspace(0, length - 1, min(CANVASES, length)).round().astype(int).tolist()))


def behind(shard: Shard, frame: np.ndarray, matte: np.ndarray, t: int) -> Parts:
    """Return the plate behind frame t, (512, 512, 3) uint8, and the light of its mirror image.

    frame, matte: those of the shard. The light is the gain by which it was changed, (64, 64, 3) float32.
    """
    soft = resized(matte, CROP).astype(np.float32) / 255
    view = View(resized(frame, CROP, cv2.INTER_CUBIC), shard.points(t, CROP), soft)
    return layers.plate_behind(view), view.mirrored().gain.astype(np.float32)


class DecodedClips:
    """A folder of decoded clips, and of backgrounds, which several processes may use at the same time.

    limit: bytes that the files may take.
    """

    def __init__(self, folder: Path, limit: float):
        self.folder, self._limit = folder, limit
        self._open: OrderedDict[tuple[int, int], tuple[Shard, Parts]] = OrderedDict()
        self._names: dict[int, tuple[Shard, str]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error

    def frames(self, shard: Shard) -> Parts:
        """Return the frames (T, S, S, 3) and the mattes (T, M, M) of a shard, uint8.

        Raises InputError when it is damaged, OutputError when the disk is full.
        """
        count, side, matte = len(shard), shard.size, shard.header["matte_size"]
        shapes = [((count, side, side, 3), np.uint8), ((count, matte, matte), np.uint8)]
        return self._parts(shard, -1, shapes, shard.decode)

    def behind(self, shard: Shard, t: int) -> Parts:
        """Return what the function `behind` does of frame t."""

        def make() -> Parts:
            frames, mattes = self.frames(shard)
            return behind(shard, frames[t], mattes[t], t)

        return self._parts(shard, t, [((CROP, CROP, 3), np.uint8), ((GAIN, GAIN, 3), np.float32)], make)

    def _parts(self, shard: Shard, t: int, shapes: list, make: Callable[[], Parts]) -> Parts:
        key = id(shard), t
        if key not in self._open:
            path = self.folder / f"{self._name(shard)}{'' if t < 0 else f'-{t}'}.raw"
            self._open[key] = shard, self._read(path, shapes, make)
        self._open.move_to_end(key)
        if len(self._open) > _OPEN:
            self._open.popitem(last=False)
        return self._open[key][1]

    def _read(self, path: Path, shapes: list, make: Callable[[], Parts]) -> Parts:
        while True:
            try:
                os.utime(path)  # it is used now
                return _mapped(path, shapes)
            except FileNotFoundError:  # not made yet, or deleted meanwhile by another process
                self._write(path, make())

    def _write(self, path: Path, parts: Parts) -> None:
        try:
            with atomic_write(path) as partial, open(partial, "wb") as file:
                for part in parts:
                    file.write(np.ascontiguousarray(part).data)
        except (OSError, OutputError) as error:
            raise _unwritable(self.folder, error) from error
        self._make_room(path)

    def _make_room(self, newest: Path) -> None:
        files = []
        for path in self.folder.glob("*.raw"):
            try:
                files.append((path.stat(), path))
            except OSError:  # another process has deleted it
                continue
        surplus = sum(stat.st_size for stat, _ in files) - self._limit
        for stat, path in sorted(files, key=lambda entry: entry[0].st_mtime_ns):
            if surplus <= 0:
                break
            if path != newest:
                path.unlink(missing_ok=True)  # maps of it that are open stay good
                surplus -= stat.st_size

    def _name(self, shard: Shard) -> str:
        if id(shard) not in self._names:
            digest = hashlib.sha256(shard.video + shard.mattes + shard.landmarks.tobytes()).hexdigest()
            self._names[id(shard)] = shard, f"{digest[:20]}-v{_VERSION}"
        return self._names[id(shard)][1]


def _unwritable(folder: Path, error: Exception) -> OutputError:
    reason = getattr(error, "strerror", None) or error
    return OutputError(f"{folder}: decoded frames cannot be written there ({reason}); give --cache another folder.")


def _mapped(path: Path, shapes: list) -> Parts:
    whole = np.memmap(path, np.uint8, "c")  # PyTorch warns of arrays that it must not write to
    at, parts = 0, []
    for shape, kind in shapes:
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        parts.append(whole[at : at + size].view(kind).reshape(shape))
        at += size
    return tuple(parts)
