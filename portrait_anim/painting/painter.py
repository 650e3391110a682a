"""Run the networks on one person: the features of their photos once, then a painting per frame."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import UsageError
from ..geometry.mesh import draw_landmarks
from ..geometry.view import CROP, View
from ..networks.devices import check_device, check_precision
from ..networks.generator import Generator
from ..networks.inference import PersonGenerator, SourceFeatures
from ..networks.weights import Weights, load
from .conditioning import CELL, N_CHANNELS, STRIDE, Condition, carried


def choose_device(device: str = "auto") -> torch.device:
    """Return the device of that name, or the fastest one for "auto".

    Raises UsageError when it is unknown or not available.
    """
    check_device(device)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return torch.device(next(d for d in ("cuda", "mps", "cpu") if there[d]))
    here = ["auto", *(name for name in there if there[name])]
    if not there[device]:
        raise UsageError(f"--device {device} is not available on this machine; choose {', '.join(here)}.")
    return torch.device(device)


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the floating-point type of a precision: "fp32", "bf16", "fp16" or "auto".

    "auto" means bf16 on processors that multiply in it, fp16 on GPUs, fp32 elsewhere. Raises UsageError.
    """
    check_precision(precision)
    if precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if device.type == "cpu":
        return torch.bfloat16 if multiplies_in_bf16() else torch.float32
    return torch.float16


def multiplies_in_bf16() -> bool:
    """Return whether this machine's processor can multiply in bf16."""
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


@dataclass(frozen=True)
class Encoding:
    """What the source encoder knows of one person.

    features: per view a list of its levels, float32 arrays (128, 128, 16), (64, 64, 48) and (32, 32, 96). code: (1, n),
    the whole modulation of the generator, which the paper calls psi.
    """

    features: list[list[np.ndarray]]
    code: torch.Tensor


class Painter:
    """The networks of a weights file, on a device and in a precision.

    weights: a file, weights that are loaded already, or None for those that ship. Raises InputError or UsageError.
    """

    def __init__(self, weights: str | Path | Weights | None = None, device: str = "auto", precision: str = "auto"):
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        self.weights = weights if isinstance(weights, Weights) else load(weights)
        config, name = self.weights.config, weights if isinstance(weights, str | Path) else "weights"
        if self.weights.source is None:
            raise UsageError(f"{name}: these weights paint without a warp and cannot animate; use the shipped ones.")
        if (config.size, config.in_channels, config.unshuffle, config.stride) != (CROP, N_CHANNELS, CELL, STRIDE):
            raise UsageError(f"{name}: these networks have another frame than animate can use; use the shipped ones.")
        self._source = SourceFeatures(self.weights.source, self.device, self.dtype)

    def with_generator(self, generator: Generator) -> "Painter":
        """Return a copy of this painter with another generator, such as fine-tuning makes."""
        other = copy.copy(self)
        other.weights = self.weights._replace(generator=generator)
        return other

    @torch.inference_mode()
    def encode(self, views: list[View]) -> Encoding:
        """Return the features of the views, of which the first is the canvas, and the code of the person.

        The code is the projection of the mean of the embeddings over the photos; mirror images do not count.
        """
        features, embeddings = [], []
        for view in views:
            levels, e = self._source(source_input(view))
            features.append([level[0].permute(1, 2, 0).float().contiguous().cpu().numpy() for level in levels])
            if not view.is_mirror:
                embeddings.append(e.float().cpu())
        return Encoding(features, self.weights.generator.projection(torch.stack(embeddings).mean(0)))

    def generator_for(self, encoding: Encoding) -> "ConditionedGenerator":
        """Return the generator conditioned on a person, which paints them frame by frame."""
        own = [torch.from_numpy(level).permute(2, 0, 1)[None] for level in encoding.features[0]]
        generator = PersonGenerator(self.weights.generator, encoding.code, own, self.device, self.dtype)
        return ConditionedGenerator(generator, encoding.features)


def source_input(view: View) -> torch.Tensor:
    """Return a view as the source encoder takes it, (1, 7, 512, 512): photo, matte and landmark drawing."""
    drawing = draw_landmarks(view.landmarks)
    x = np.dstack([view.image / np.float32(127.5) - 1, view.matte, drawing / np.float32(127.5) - 1])
    return torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1)[None]


@dataclass(frozen=True)
class ConditionedGenerator:
    """The generator conditioned on one person. It may be used by several threads at the same time.

    generator: in its run-time form. features: of every view, see `Encoding`.
    """

    generator: PersonGenerator
    features: list[list[np.ndarray]]

    def paint(self, seen: Condition) -> np.ndarray:
        """Return the painting of a box, (h, w, 7) float32: mask, residual flow 2, colour 3 and change of the matte.

        The sides of the box are multiples of 32 px, and its place is one of 16 px.
        """
        planes = lambda a: torch.from_numpy(a)[None].permute(0, 3, 1, 2)
        moved = [planes(level) for level in carried(self.features, seen)]
        painting = self.generator(planes(seen.cells), (seen.box[1], seen.box[0]), moved)
        return np.ascontiguousarray(painting[0].permute(1, 2, 0).cpu().numpy())
