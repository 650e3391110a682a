"""One forward pass for both kinds of model: what the networks make of a batch, and what the losses compare."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks.embedder import Embedder
from ..networks.generator import Generator, Painting
from ..networks.paper import PaperGenerator
from ..networks.source import SourceEncoder
from .batches import Batch
from .conditioning import Composite, carried, compose, condition, cut


@dataclass
class Made:
    """What was made of the N boxes of a batch, within the margin: (N, c, h, w), colours in -1..1.

    image, target, drawing: 3 channels each. centres: (N, 4, 2) px. Of our kind of model also x, the generator's input;
    composite; painting.
    """

    image: Tensor
    target: Tensor
    drawing: Tensor
    centres: Tensor
    x: Tensor | None = None
    composite: Composite | None = None
    painting: Painting | None = None


def encode(source: SourceEncoder, batch: Batch) -> tuple[list[Tensor], Tensor]:
    """Look at the views of a batch: features of each level, (B, V, C, s, s), and e of each person, (B, n) float32."""
    shape = batch.views.shape[:2]
    if batch.seen is None:
        features, e = source(batch.source())
    else:  # each view costs as much as a few boxes of the generator
        rows = batch.seen.flatten().nonzero()[:, 0].to(batch.views.device)
        features, e = source(batch.source(rows))
        fill = lambda a: a.new_zeros((shape.numel(), *a.shape[1:])).index_copy(0, rows, a)
        features, e = [fill(level) for level in features], fill(e)
    share = (batch.present / batch.present.sum(1, keepdim=True))[..., None]
    e = (e.float().unflatten(0, shape) * share).sum(1)
    return [level.unflatten(0, shape) for level in features], e


def embed(embedder: Embedder, batch: Batch) -> Tensor:
    """The same of the paper's kind: e of each person, (B, n) float32."""
    size, rows = embedder.config.size, batch.present.flatten().nonzero()[:, 0]
    small = lambda a: F.interpolate(a.flatten(0, 1)[rows], (size, size), mode="area")
    e = embedder(small(batch.views[:, :, :3]), small(batch.drawings)).float()
    total = e.new_zeros((len(batch.present), e.shape[1])).index_add(0, rows // batch.present.shape[1], e)
    return total / batch.present.sum(1, keepdim=True)


def paint(generator: Generator, batch: Batch, features: list[Tensor], psi: Tensor, margin: int, autocast) -> Made:
    """Paint the boxes of a batch. psi: (N, n) or (1, n).

    margin: px along the boxes' border that the losses leave out, since the networks see nothing beyond it. At the
    border of the crop it is so at run time, too: whole frames have no margin.
    """
    with torch.no_grad():
        seen = condition(batch.warps, batch.views, batch.plate, batch.drawing)
    moved = carried(features, seen, generator.config.unshuffle)
    own = [cut(level[:, 0], batch.warps).contiguous(memory_format=torch.channels_last) for level in features]
    with autocast():
        painting = generator(seen.x, moved, own, psi)
    composite = compose(seen, batch.views, batch.plate, painting)
    inner = lambda a: a[..., margin : a.shape[2] - margin, margin : a.shape[3] - margin]
    composite = Composite(inner(composite.image), inner(composite.refined), inner(composite.painted))
    return Made(
        composite.image,
        inner(batch.target),
        inner(batch.drawing),
        batch.centres - margin,
        inner(seen.x),
        composite,
        Painting(*map(inner, painting)),
    )


def paint_paper(generator: PaperGenerator, batch: Batch, psi: Tensor, autocast) -> Made:
    """Paint whole frames with the paper's generator, at its own size."""
    size = generator.config.size
    target, drawing = (F.interpolate(a, (size, size), mode="area") for a in (batch.target, batch.drawing))
    with autocast():
        image = generator(drawing, psi)
    return Made(image.float(), target, drawing, batch.centres * (size / batch.warps.side))
