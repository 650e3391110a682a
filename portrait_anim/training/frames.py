"""The pictures of the shards as tensors: from decoded files, or all of them in the memory of a GPU that has room."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ..geometry.view import CROP, GAIN
from ..system.files import temporary_folder
from .decoded import DecodedClips, behind, canvases
from .shards import Shard, resized

MATTE = CROP // 2  # px: a matte is smooth
CACHE_GB = 20.0  # of disk for decoded frames: about 1,200 s of video at 512 px and 15 frames/s
_ROOM = 0.6  # of a GPU's free memory may be filled with frames


@dataclass
class Pictures:
    """The pictures of B episodes, all uint8 in 0..255 but the gain.

    photos: (B, K, 3, 512, 512), the canvas first. mattes: (B, K, 256, 256). plates: (B, 3, 512, 512), the background
    behind the canvas. gains: (B, 3, 64, 64) float, by how much the light of the canvas' mirror image was changed; see
    `geometry.view.light_gain`. targets: (B, R, 3, 512, 512).
    """

    photos: Tensor
    mattes: Tensor
    plates: Tensor
    gains: Tensor
    targets: Tensor


def planes(image: np.ndarray) -> Tensor:
    """Return an image (H, W, C) as (C, H, W), without a copy."""
    return torch.from_numpy(image).permute(2, 0, 1)


class FrameStore:
    """The frames of shards on a device. On a GPU with room for them they are decoded once, which takes a minute.

    Elsewhere they are read from decoded files. folder: where these are, None for a temporary one. gigabytes: how large
    it may become.
    """

    def __init__(
        self, shards: list[Shard], device: torch.device, folder: Path | None = None, gigabytes: float = CACHE_GB
    ):
        self.shards, self.device = shards, device
        self._canvases = [canvases(len(shard)) for shard in shards]
        self._resident = self._fits() and self._decode()
        if not self._resident:
            self._temporary = None if folder else temporary_folder()
            self._clips = DecodedClips(folder or Path(self._temporary.name), gigabytes * 1e9)

    def fetch(self, shards: list[int], photos: np.ndarray, targets: np.ndarray) -> Pictures:
        """Return the pictures of episodes: of each the number of its shard, and of its frames.

        photos: (B, K), of which the first is one of `canvases`. targets: (B, R).
        """
        if self._resident:
            return self._picked(shards, photos, targets)
        parts: list[list[Tensor]] = [[], [], [], [], []]
        for n, of_photos, of_targets in zip(shards, photos.tolist(), targets.tolist()):
            frames, mattes = self._clips.frames(self.shards[n])
            plate, gain = self._clips.behind(self.shards[n], of_photos[0])
            images = torch.stack([_image(frames[t]) for t in of_photos + of_targets])
            count, of_mattes = len(of_photos), torch.stack([_matte(mattes[t]) for t in of_photos])
            values = (images[:count], of_mattes, planes(plate), planes(gain), images[count:])
            for part, value in zip(parts, values):
                part.append(value)
        return Pictures(*(torch.stack(part).to(self.device) for part in parts))

    def _picked(self, shards: list[int], photos: np.ndarray, targets: np.ndarray) -> Pictures:
        """Do what `fetch` does, from the device's memory."""
        first = [self._canvases[n].index(t) for n, t in zip(shards, photos[:, 0])]
        frames_at, layers_at = self._frames_at[shards], self._layers_at[shards] + first
        pick = lambda big, at: big[torch.from_numpy(at).to(self.device, non_blocking=True)]
        images = pick(self._images, frames_at[:, None] + np.concatenate([photos, targets], 1))
        mattes = pick(self._mattes, frames_at[:, None] + photos)
        plates, gains = pick(self._plates, layers_at), pick(self._gains, layers_at)
        count = photos.shape[1]
        return Pictures(images[:, :count], mattes, plates, gains, images[:, count:])

    def _fits(self) -> bool:
        if self.device.type != "cuda":
            return False
        needed = sum(map(len, self.shards)) * (3 * CROP**2 + MATTE**2) + sum(map(len, self._canvases)) * 3 * CROP**2
        return needed < _ROOM * torch.cuda.mem_get_info(self.device)[0]

    def _decode(self) -> bool:
        """Fill the device's memory with everything."""
        lengths, layered = [list(map(len, parts)) for parts in (self.shards, self._canvases)]
        self._frames_at, self._layers_at = (np.cumsum([0, *counts])[:-1] for counts in (lengths, layered))
        byte = lambda *shape: torch.empty(shape, dtype=torch.uint8, device=self.device)
        self._images, self._mattes = byte(sum(lengths), 3, CROP, CROP), byte(sum(lengths), MATTE, MATTE)
        self._plates = byte(sum(layered), 3, CROP, CROP)
        self._gains = torch.empty((sum(layered), 3, GAIN, GAIN), device=self.device)

        def fill(shard: int) -> None:
            cv2.setNumThreads(1)
            (frames, mattes), frames_at = self.shards[shard].decode(), self._frames_at[shard]
            for t in range(lengths[shard]):
                self._images[frames_at + t].copy_(_image(frames[t]))
                self._mattes[frames_at + t].copy_(_matte(mattes[t]))
            for n, t in enumerate(self._canvases[shard], self._layers_at[shard]):
                plate, gain = behind(self.shards[shard], frames[t], mattes[t], t)
                self._plates[n].copy_(planes(plate))
                self._gains[n].copy_(planes(gain))

        with ThreadPoolExecutor() as pool:
            list(pool.map(fill, range(len(self.shards))))
        return True


def _image(frame: np.ndarray) -> Tensor:
    return planes(resized(frame, CROP, cv2.INTER_CUBIC))


def _matte(matte: np.ndarray) -> Tensor:
    return torch.from_numpy(resized(matte, MATTE))
