"""The decoded frames of shards in files that are memory-mapped: a single frame of any clip is there at once.

A video must be decoded from its beginning. For every frame that is drawn that would take longer than learning from it,
and decoded frames of many clips do not fit into memory. So each clip is decoded once, into a file of a folder that is
bounded: when it is full, the clips that were used longest ago are deleted. The system keeps in memory what it can.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import OutputError
from ..geometry.view import CROP, GAIN, View
from ..portrait import layers
from ..system.files import atomic_write
from .shards import Shard, resized

_OPEN = 64  # clips whose maps are kept open
CANVASES = 8  # frames of a shard that may be an episode's canvas: a background must be made for each
_VERSION = 1  # of what is in the files


@dataclass
class Clip:
    """The pictures of a shard, all in one file.

    frames: (T, S, S, 3), mattes: (T, M, M), plates: (C, 512, 512, 3), the backgrounds of the canvases, all uint8.
    gains: (C, 64, 64, 3) float32, by how much the light of the canvases' mirror images was changed.
    """

    frames: np.ndarray
    mattes: np.ndarray
    plates: np.ndarray
    gains: np.ndarray


def canvases(length: int) -> list[int]:
    """Return the frames of a shard of so many that may be a canvas, spread over it."""
    return sorted(set(np.linspace(0, length - 1, min(CANVASES, length)).round().astype(int).tolist()))


def decoded(shard: Shard) -> Clip:
    """Decode a shard, and make the backgrounds of its canvases. Raises InputError when it is damaged."""
    frames, mattes = shard.decode()
    plates, gains = [], []
    for t in canvases(len(shard)):
        matte = resized(mattes[t], CROP).astype(np.float32) / 255
        view = View(resized(frames[t], CROP, cv2.INTER_CUBIC), shard.points(t, CROP), matte)
        plates.append(layers.plate_behind(view))
        gains.append(view.mirrored().gain)
    return Clip(frames, mattes, np.stack(plates), np.stack(gains).astype(np.float32))


class DecodedClips:
    """A folder of decoded clips, which several processes may use at the same time.

    limit: bytes that the files may take.
    """

    def __init__(self, folder: Path, limit: float):
        self.folder, self._limit = folder, limit
        self._open: OrderedDict[int, tuple[Shard, Clip]] = OrderedDict()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error

    def __call__(self, shard: Shard) -> Clip:
        """Return the pictures of a shard. Raises InputError when it is damaged, OutputError when the disk is full."""
        key = id(shard)
        if key not in self._open:
            self._open[key] = shard, self._read(shard, self.folder / _name(shard))
        self._open.move_to_end(key)
        if len(self._open) > _OPEN:
            self._open.popitem(last=False)
        return self._open[key][1]

    def _read(self, shard: Shard, path: Path) -> Clip:
        while True:
            try:
                os.utime(path)  # it is used now
                return _mapped(shard, path)
            except FileNotFoundError:  # not decoded yet, or deleted meanwhile by another process
                self._decode(shard, path)

    def _decode(self, shard: Shard, path: Path) -> None:
        clip = decoded(shard)
        try:
            with atomic_write(path) as partial, open(partial, "wb") as file:
                for part in vars(clip).values():
                    file.write(np.ascontiguousarray(part).data)
        except (OSError, OutputError) as error:
            raise _unwritable(self.folder, error) from error
        self._make_room(path)

    def _make_room(self, newest: Path) -> None:
        files = []
        for path in self.folder.glob("*.clip"):
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


def _unwritable(folder: Path, error: Exception) -> OutputError:
    reason = getattr(error, "strerror", None) or error
    return OutputError(f"{folder}: decoded frames cannot be written there ({reason}); give --cache another folder.")


def _name(shard: Shard) -> str:
    digest = hashlib.sha256(shard.video + shard.mattes + shard.landmarks.tobytes())
    return f"{digest.hexdigest()[:20]}-{_VERSION}.clip"


def _mapped(shard: Shard, path: Path) -> Clip:
    count, side, matte, layered = len(shard), shard.size, shard.header["matte_size"], len(canvases(len(shard)))
    shapes = [(count, side, side, 3), (count, matte, matte), (layered, CROP, CROP, 3), (layered, GAIN, GAIN, 3)]
    kinds, at, parts = (np.uint8, np.uint8, np.uint8, np.float32), 0, []
    whole = np.memmap(path, np.uint8, "c")  # PyTorch warns of arrays that it must not write to
    for shape, kind in zip(shapes, kinds):
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        parts.append(whole[at : at + size].view(kind).reshape(shape))
        at += size
    return Clip(*parts)
