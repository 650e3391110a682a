"""Shards: the files that `prepare` makes of videos and training reads, each with one segment of one person.

A shard is a plain .npz (no pickle). It holds JPEG frames and mattes as bytes with offsets, landmarks (T, 478, 3)
float32 in px of its frames, and a JSON header that says, among other things, how large the frames are.
"""

import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from ..geometry.view import CROP, View
from ..system.files import atomic_write

FORMAT = 2
FIRST_FORMAT, FIRST_SIZE = 1, 256  # the format before this one did not say the size of the frames: they had 256 px


@dataclass
class Shard:
    """A segment of a video in memory.

    frames, mattes: lists of JPEG bytes (uint8 arrays). landmarks: (T, 478, 3) float32 in px of the frames. Pictures and
    points can be had at any size: small frames are enlarged smoothly, large ones are reduced by averaging.
    """

    header: dict
    frames: list[np.ndarray]
    mattes: list[np.ndarray]
    landmarks: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def group(self) -> str:
        """The person. All shards of one person are on the same side of the split into train and held-out."""
        return self.header["group"]

    @property
    def size(self) -> int:
        """The side of the frames in px."""
        return self.header.get("size", FIRST_SIZE)

    @property
    def is_sharp(self) -> bool:
        """Whether the frames have the resolution that the networks work at."""
        return self.size >= CROP

    @property
    def held_out(self) -> bool:
        """Whether the person is one of those who are never trained on."""
        return is_held_out(self.group)

    def image(self, t: int, size: int) -> np.ndarray:
        """Return frame t, (size, size, 3) uint8 RGB."""
        image = cv2.cvtColor(cv2.imdecode(self.frames[t], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return _resized(image, size, cv2.INTER_CUBIC)

    def matte(self, t: int, size: int) -> np.ndarray:
        """Return the person's matte in frame t, (size, size) float32 in 0..1."""
        matte = cv2.imdecode(self.mattes[t], cv2.IMREAD_GRAYSCALE)
        return _resized(matte, size, cv2.INTER_LINEAR).astype(np.float32) / 255

    def points(self, t: int, size: int) -> np.ndarray:
        """Return the landmarks of frame t, (478, 3) float64 in px of a frame of `size` px."""
        return self.landmarks[t].astype(np.float64) * (size / self.size)

    def view(self, t: int) -> View:
        """Return frame t as a photo of the person, in the crop that the networks work on."""
        return View(self.image(t, CROP), self.points(t, CROP), self.matte(t, CROP))


def _resized(image: np.ndarray, size: int, enlarging: int) -> np.ndarray:
    if image.shape[0] == size:
        return image
    how = cv2.INTER_AREA if size < image.shape[0] else enlarging
    return cv2.resize(image, (size, size), interpolation=how)


def is_held_out(group: str) -> bool:
    """Return whether a person is on the held-out side of the fixed split.

    About one person in seven is never trained on, whatever else is in the folder.
    """
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % 7 == 0


def save_shard(path: Path, shard: Shard) -> None:
    """Write a shard to a file, whole or not at all."""
    pack = lambda parts: (np.concatenate(parts), np.cumsum([0] + [len(p) for p in parts]))
    frames, frame_offsets = pack(shard.frames)
    mattes, matte_offsets = pack(shard.mattes)
    with atomic_write(path) as partial, open(partial, "wb") as file:
        np.savez(file, header=np.array(json.dumps(shard.header)), landmarks=shard.landmarks, frames=frames,
                 frame_offsets=frame_offsets, mattes=mattes, matte_offsets=matte_offsets)  # fmt: skip


_UNREADABLE = (  # what NumPy and JSON make of damaged or hostile files
    OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, RecursionError, zipfile.BadZipFile, zlib.error
)  # fmt: skip


def load_shard(path: Path) -> Shard:
    """Read a shard of this format or of the one before. Raises InputError when the file is no shard."""
    try:
        with np.load(path, allow_pickle=False) as z:
            header = json.loads(str(z["header"]))
            if header["format"] not in (FIRST_FORMAT, FORMAT):
                raise InputError(f"{path}: shard format {header['format']} is not {FORMAT}; run prepare again.")
            if not 32 <= header.get("size", FIRST_SIZE) <= 4096:
                raise ValueError(f"frames of {header['size']} px")
            cut = lambda data, offsets: [data[a:b] for a, b in zip(offsets[:-1], offsets[1:])]
            frames = cut(z["frames"], z["frame_offsets"])
            return Shard(header, frames, cut(z["mattes"], z["matte_offsets"]), z["landmarks"])
    except _UNREADABLE as error:
        raise InputError(f"{path}: not a readable shard ({error}); delete it and run prepare again.") from error


def load_shards(folder: Path, held_out: bool) -> list[Shard]:
    """Read all shards of one side of the split in a folder. Raises InputError when there is none."""
    shards = [load_shard(p) for p in sorted(Path(folder).glob("*.npz"))]
    chosen = [s for s in shards if s.held_out == held_out]
    if not chosen:
        side, people = "held-out" if held_out else "training", len({s.group for s in shards})
        raise InputError(
            f"{folder}: no {side} people among its {people}; about one in seven is held out, so make shards of "
            "ten people or more with portrait-anim prepare."
        )
    return chosen
