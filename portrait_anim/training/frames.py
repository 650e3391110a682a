"""The pictures of the shards as tensors: decoded when they are asked for, or once for all on a device with memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from ..geometry.view import CROP, GAIN, View
from ..portrait import layers
from .shards import Shard

MATTE = CROP // 2  # px: a matte is smooth
CANVASES = 8  # frames of a shard that may be an episode's canvas: a background must be made for each
_KEPT = 48  # backgrounds that are kept when pictures are decoded on demand
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


def canvases(length: int) -> list[int]:
    """Return the frames of a shard of so many that may be a canvas, spread over it."""
    return sorted(set(np.linspace(0, length - 1, min(CANVASES, length)).round().astype(int).tolist()))


def behind(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Return a view's plate (512, 512, 3) uint8, and the gain (64, 64, 3) of its mirror image."""
    return layers.plate_behind(view), view.mirrored().gain


def planes(image: np.ndarray) -> Tensor:
    """Return an image (H, W, C) as (C, H, W), without a copy."""
    return torch.from_numpy(image).permute(2, 0, 1)


class FrameStore:
    """The frames of shards on a device. On a GPU with room for them they are decoded once, which takes a minute."""

    def __init__(self, shards: list[Shard], device: torch.device):
        self.shards, self.device = shards, device
        self._canvases = [canvases(len(shard)) for shard in shards]
        self._layers = lru_cache(_KEPT)(self._made_layers)
        self._resident = self._fits() and self._decode()

    def fetch(self, shards: list[int], photos: np.ndarray, targets: np.ndarray) -> Pictures:
        """Return the pictures of episodes: of each the number of its shard, and of its frames.

        photos: (B, K), of which the first is one of `canvases`. targets: (B, R).
        """
        frames = np.concatenate([photos, targets], 1)
        first = [self._canvases[n].index(t) for n, t in zip(shards, photos[:, 0])]
        if self._resident:
            frames_at, layers_at = self._frames_at[shards], self._layers_at[shards]
            pick = lambda big, at: big[torch.from_numpy(at).to(self.device, non_blocking=True)]
            images, mattes = pick(self._images, frames_at[:, None] + frames), pick(self._mattes, frames_at + photos.T)
            plates, gains = (pick(big, layers_at + first) for big in (self._plates, self._gains))
            mattes = mattes.transpose(0, 1)
        else:
            load = lambda picture, numbers: torch.stack(
                [torch.stack([picture(n, t) for t in of_shard]) for n, of_shard in zip(shards, numbers.tolist())]
            )
            images, mattes = load(self._image, frames), load(self._matte, photos)
            plates, gains = (torch.stack(parts) for parts in zip(*map(self._layers, shards, first)))
            images, mattes, plates, gains = (a.to(self.device) for a in (images, mattes, plates, gains))
        count = photos.shape[1]
        return Pictures(images[:, :count], mattes, plates, gains, images[:, count:])

    def _image(self, shard: int, t: int) -> Tensor:
        return planes(self.shards[shard].image(t, CROP))

    def _matte(self, shard: int, t: int) -> Tensor:
        return torch.from_numpy((self.shards[shard].matte(t, MATTE) * 255).round().astype(np.uint8))

    def _made_layers(self, shard: int, canvas: int) -> tuple[Tensor, Tensor]:
        plate, gain = behind(self.shards[shard].view(self._canvases[shard][canvas]))
        return planes(plate), planes(gain)

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
            write = lambda big, at, picture, count: [big[at + t].copy_(picture(shard, t)) for t in range(count)]
            write(self._images, self._frames_at[shard], self._image, lengths[shard])
            write(self._mattes, self._frames_at[shard], self._matte, lengths[shard])
            for t in range(layered[shard]):
                plate, gain = self._made_layers(shard, t)
                self._plates[self._layers_at[shard] + t].copy_(plate)
                self._gains[self._layers_at[shard] + t].copy_(gain)

        with ThreadPoolExecutor() as pool:
            list(pool.map(fill, range(len(self.shards))))
        return True
