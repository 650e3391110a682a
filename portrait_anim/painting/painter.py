"""The networks at work: a person's vector once, then a painting per frame."""

import copy
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from ..errors import UsageError, unknown
from ..geometry.mesh import draw_landmarks
from ..geometry.warp import CROP, N_CHANNELS, View
from ..networks.inference import PersonGenerator
from ..networks.networks import Embedder, Generator, Painting
from ..networks.weights import Weights, load

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def choose_device(device: str = "auto") -> torch.device:
    """Raises UsageError when the device is unknown or not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return torch.device(next(d for d in ("cuda", "mps", "cpu") if there[d]))
    here = ["auto", *(name for name in there if there[name])]
    if device not in there:
        raise unknown("--device", device, here)
    if not there[device]:
        raise UsageError(f"--device {device} is not available on this machine; choose {', '.join(here)}.")
    return torch.device(device)


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """auto: bf16 on processors that multiply in it, fp16 on GPUs, fp32 elsewhere. Raises UsageError."""
    if precision not in PRECISIONS:
        raise unknown("--precision", precision, PRECISIONS)
    if precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if device.type == "cpu":
        return torch.bfloat16 if multiplies_in_bf16() else torch.float32
    return torch.float16


def multiplies_in_bf16() -> bool:
    """Whether this machine's processor does."""
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def embed(embedder: Embedder, views: list[View], device: torch.device) -> torch.Tensor:
    """e of the person on these photos, one view each: the mean of E over them, (1, embedding)."""
    size = embedder.config.embedder_size
    photos = np.stack([cv2.resize(v.image, (size, size), interpolation=cv2.INTER_AREA) for v in views])
    drawings = np.stack([draw_landmarks(v.landmarks, CROP, size) for v in views])
    to_input = lambda a: torch.from_numpy(a).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    return embedder(to_input(photos), to_input(drawings)).mean(0, keepdim=True)


class Painter:
    """E and G of a weights file (or loaded already). E is put on the device at once, G with the person it is folded
    with, see `generator_for`. Raises InputError or UsageError."""

    def __init__(self, weights: str | Path | Weights | None = None, device: str = "auto", precision: str = "auto"):
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        self.weights = weights if isinstance(weights, Weights) else load(weights)
        if self.weights.config.in_channels != N_CHANNELS:
            raise UsageError(f"{weights}: these weights paint without a warp and cannot animate; use the shipped ones.")
        self._embedder = self.weights.embedder.to(self.device)  # once per photo: fp32 costs nothing

    def with_generator(self, generator: Generator) -> "Painter":
        """The same with another generator, as fine-tuning makes it."""
        other = copy.copy(self)
        other.weights = self.weights._replace(generator=generator)
        return other

    @torch.inference_mode()
    def embed_person(self, views: list[View]) -> torch.Tensor:
        """Return the code of the person on these photos, one view each: (1, n), all modulation of the generator.

        It is the projection of the mean of the embeddings over the photos; the paper calls it psi.
        """
        e = embed(self._embedder, views, self.device)
        return self.weights.generator.projection(e.cpu())

    def generator_for(self, code: torch.Tensor) -> "ConditionedGenerator":
        """Return the generator conditioned on a person's code, which paints them frame by frame."""
        return ConditionedGenerator(PersonGenerator(self.weights.generator, code, self.device, self.dtype))


@dataclass(frozen=True)
class ConditionedGenerator:
    """The generator conditioned on one person. It may be used by several threads at the same time."""

    generator: PersonGenerator

    def paint(self, x: np.ndarray) -> Painting:
        """x (h, w, 13) of `condition`, or a box of it with sides and place in multiples of 16 px, gives mask (h, w),
        flow (h, w, 2) and delta (h, w, 3)."""
        x = torch.from_numpy(np.ascontiguousarray(x))[None].permute(0, 3, 1, 2)
        mask, flow, delta = (part[0].permute(1, 2, 0).cpu().numpy() for part in self.generator(x))
        return Painting(mask[..., 0], flow, delta)
