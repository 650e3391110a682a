"""Shards: the files that `prepare` makes of videos and training reads, each with one segment of one person.

A shard is a plain .npz (no pickle) of about 0.2 MB for 72 frames of 512 px: the frames and the mattes as HEVC videos,
the landmarks as whole numbers, of which the changes from frame to frame are compressed, and a JSON header.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import cv2
import numpy as np

from ..errors import InputError
from ..geometry.mesh import N_LANDMARKS
from ..geometry.view import CROP, View
from ..media.clips import decode_clip, encode_clip
from ..system.files import atomic_write

FORMAT = 3
STEPS = 4096  # of landmarks along a side of the frame: 1/8 px at 512 px
QUALITY, MATTE_QUALITY = 24, 30  # constant rate factors of the two videos
MOST_FRAMES = 1024  # of a shard; more is taken for a damaged file
_RECENT_BYTES = 400_000_000  # of decoded clips are kept in memory


@dataclass(eq=False)
class Shard:
    """A segment of a video in memory, compressed; it is decoded when a picture of it is asked for.

    header: "group" (the person), "frames", "size" and "matte_size" (the sides of frames and mattes in px), and, if the
    side of the split is named, "test". video, mattes: bytes for `media.clips`. landmarks: (T, 478, 3) float32 in px of
    the frames. Pictures and points can be had at any size: small frames are enlarged smoothly, large ones are reduced
    by averaging.
    """

    header: dict
    video: bytes
    mattes: bytes
    landmarks: np.ndarray

    def __len__(self) -> int:
        return len(self.landmarks)

    @property
    def group(self) -> str:
        """The person. All shards of one person are on the same side of the split into train and held-out."""
        return self.header["group"]

    @property
    def size(self) -> int:
        """The side of the frames in px."""
        return self.header["size"]

    @property
    def is_sharp(self) -> bool:
        """Whether the frames have the resolution that the networks work at."""
        return self.size >= CROP

    @property
    def held_out(self) -> bool:
        """Whether the person is one of those who are never trained on: as the header says, or else as drawn."""
        named = self.header.get("test")
        return is_held_out(self.group) if named is None else named

    def decode(self) -> tuple[np.ndarray, np.ndarray]:
        """Decode all frames (T, S, S, 3) and mattes (T, M, M), uint8. Raises InputError."""
        try:
            frames = decode_clip(self.video, len(self), self.size)
            return frames, decode_clip(self.mattes, len(self), self.header["matte_size"], grey=True)
        except ValueError as error:
            raise InputError(
                f"The shard of {self.header.get('video')} is damaged ({error}); delete it and run prepare again."
            ) from error

    def image(self, t: int, size: int) -> np.ndarray:
        """Return frame t, (size, size, 3) uint8 RGB."""
        return resized(_RECENT(self)[0][t], size, cv2.INTER_CUBIC)

    def matte(self, t: int, size: int) -> np.ndarray:
        """Return the person's matte in frame t, (size, size) float32 in 0..1."""
        return resized(_RECENT(self)[1][t], size).astype(np.float32) / 255

    def points(self, t: int, size: int) -> np.ndarray:
        """Return the landmarks of frame t, (478, 3) float64 in px of a frame of `size` px."""
        return self.landmarks[t].astype(np.float64) * (size / self.size)

    def view(self, t: int) -> View:
        """Return frame t as a photo of the person, in the crop that the networks work on."""
        return View(self.image(t, CROP), self.points(t, CROP), self.matte(t, CROP))


class _Recent:
    """The clips that were decoded last: who asks for one frame asks for others."""

    def __init__(self, limit: int):
        self._limit, self._clips, self._lock = limit, OrderedDict(), Lock()

    def __call__(self, shard: Shard) -> tuple[np.ndarray, np.ndarray]:
        key = id(shard)
        with self._lock:
            kept = self._clips.pop(key, None)
            if kept is None or kept[0] is not shard:
                kept = (shard, shard.decode())
            self._clips[key] = kept
            while (
                len(self._clips) > 1 and sum(a.nbytes for _, clip in self._clips.values() for a in clip) > self._limit
            ):
                self._clips.popitem(last=False)
        return kept[1]


_RECENT = _Recent(_RECENT_BYTES)


def resized(image: np.ndarray, size: int, enlarging: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Return a square picture at another size: reduced by averaging, or enlarged as `enlarging` says."""
    if image.shape[0] == size:
        return image
    how = cv2.INTER_AREA if size < image.shape[0] else enlarging
    return cv2.resize(image, (size, size), interpolation=how)


def is_held_out(group: str) -> bool:
    """Return whether a person is on the held-out side of the fixed split.

    About one person in seven is never trained on, whatever else is in the folder.
    """
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % 7 == 0


def make_shard(header: dict, frames: np.ndarray, mattes: np.ndarray, landmarks: np.ndarray) -> Shard:
    """Compress a segment.

    header: what is known of it, at least "group". frames: (T, S, S, 3) uint8 RGB. mattes: (T, M, M) uint8. landmarks:
    (T, 478, 3) px.
    """
    header = {**header, "frames": len(frames), "size": frames.shape[1], "matte_size": mattes.shape[1], "steps": STEPS}
    video, matte_video = encode_clip(frames, QUALITY), encode_clip(mattes, MATTE_QUALITY)
    return Shard({"format": FORMAT, **header}, video, matte_video, landmarks.astype(np.float32))


def save_shard(path: Path, shard: Shard) -> None:
    """Write a shard to a file, whole or not at all."""
    # Along time, because the change of one coordinate is much like its last change.
    whole = np.rint(shard.landmarks * (shard.header["steps"] / shard.size)).astype(np.int64)
    changes = np.diff(whole, axis=0, prepend=0).clip(-(2**15), 2**15 - 1).astype("<i2").transpose(1, 2, 0)
    as_bytes = lambda data: np.frombuffer(data, np.uint8)
    with atomic_write(path) as partial, open(partial, "wb") as file:
        np.savez(file, header=np.array(json.dumps(shard.header)), video=as_bytes(shard.video),
                 mattes=as_bytes(shard.mattes), landmarks=as_bytes(lzma.compress(changes.tobytes())))  # fmt: skip


_UNREADABLE = (  # what NumPy, JSON and the unpackers make of damaged or hostile files
    OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, RecursionError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError,
)  # fmt: skip


def load_shard(path: Path) -> Shard:
    """Read a shard. Raises InputError when the file is no shard, or one of an earlier version."""
    try:
        with np.load(path, allow_pickle=False) as z:
            header = json.loads(str(z["header"]))
            if header["format"] != FORMAT:
                raise InputError(
                    f"{path}: shard format {header['format']} is not {FORMAT}; delete it and run prepare again."
                )
            _check(header)
            data = {name: z[name].tobytes() for name in ("video", "mattes", "landmarks")}
        whole = unpack_landmarks(data["landmarks"], header["frames"])
        landmarks = whole.astype(np.float32) * np.float32(header["size"] / header["steps"])
        return Shard(header, data["video"], data["mattes"], landmarks)
    except _UNREADABLE as error:
        raise InputError(f"{path}: not a readable shard ({error}); delete it and run prepare again.") from error


def _check(header: dict) -> None:
    limits = {"frames": (1, MOST_FRAMES), "size": (32, 4096), "matte_size": (16, 4096), "steps": (32, 2**15)}
    for name, (low, high) in limits.items():
        if type(header[name]) is not int or not low <= header[name] <= high:
            raise ValueError(f"{name} {header[name]!r}")
    if not isinstance(header["group"], str) or header.get("test") not in (None, True, False):
        raise ValueError("group or test is of another type")


def unpack_landmarks(data: bytes, count: int) -> np.ndarray:
    """Return landmarks as whole numbers (T, 478, 3) int32, of the compressed changes of `count` frames."""
    size = 2 * count * N_LANDMARKS * 3
    unpacked = lzma.LZMADecompressor().decompress(data, size + 1)  # never more memory than these take
    if len(unpacked) != size:
        raise ValueError(f"landmarks of {len(unpacked)} bytes, not {size}")
    changes = np.frombuffer(unpacked, "<i2").reshape(N_LANDMARKS, 3, count).transpose(2, 0, 1)
    return changes.cumsum(0, dtype=np.int32)


def find_shards(folder: Path) -> list[Path]:
    """Return the files of all shards in a folder. Raises InputError when there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that portrait-anim prepare has made.")
    found = sorted(folder.glob("*.npz"))
    if not found:
        raise InputError(f"{folder}: holds no shards; make them of videos first, by portrait-anim prepare.")
    return found


def load_shards(folder: Path, held_out: bool) -> list[Shard]:
    """Read all shards of one side of the split in a folder. Raises InputError when there is none."""
    shards = [load_shard(path) for path in find_shards(Path(folder))]
    chosen = [s for s in shards if s.held_out == held_out]
    if not chosen:
        side, people = "held-out" if held_out else "training", len({s.group for s in shards})
        raise InputError(
            f"{folder}: no {side} people among its {people}; about one in seven is held out, so make shards of "
            "ten people or more with portrait-anim prepare, or name the side of each in the file for --groups."
        )
    return chosen
