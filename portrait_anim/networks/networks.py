"""The three networks: embedder E, generator G and discriminator D, for our model and for the paper's.

Ours ("warp") paints on a photo that the mesh has already warped; the paper's (Zakharov et al., arXiv
1905.08233) paints the whole picture from the landmark drawing. Both are a `ModelConfig` of the same classes:

    e   = E(photo, drawing)       # one vector per photo; the mean over the photos is the person
    psi = G.projection(e)         # all modulation coefficients of G: once per person, or fine-tuned freely
    p   = G(x, psi)               # once per frame: Painting(mask, flow, delta)
    out = p.mask * over(warp(photo, flow + p.flow), plate) + (1 - p.mask) * (x[:, :3] + p.delta)

Colours are in [-1, 1], maps and masks in 0..1, flows and centres in pixels of the `size` x `size` frame.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2  # of the leaky ReLU in lean blocks and in the heads
ATTENTION_DOWN, ATTENTION_UP = 32, 64  # px: the paper's self-attention, in encoders and G's decoder
upsample = partial(F.interpolate, scale_factor=2, mode="nearest")


@dataclass(frozen=True)
class ModelConfig:
    """What it takes to build the networks; kept as JSON in the weights file. The defaults are our model."""

    kind: str = "warp"  # "warp": lean blocks, paints on the warped photo; "paper": its blocks, paints all
    size: int = 256  # side of the frame the model is trained for; G takes any multiple of 16
    embedding: int = 256  # length of e
    in_channels: int = 13  # of G: warped photo 3, drawing 3, maps 6, warped matte 1; the paper: drawing 3
    unshuffle: int = 4  # 4x4 pixels become channels: the first convolution sees 64x64, 1/16 of the cost
    widths: tuple[int, ...] = (64, 128, 256)
    middle: int = 1  # blocks at the coarsest level; with fewer of these than 3 and 2 nothing was lost
    last: int = 1  # blocks at the finest level
    max_flow: float = 16.0  # px; the mesh is rarely more wrong than this
    embedder_size: int = 128
    embedder_unshuffle: int = 2
    embedder_widths: tuple[int, ...] = (48, 96, 192, 256, 256)
    embedder_slope: float = 0.2  # before pooling; the paper's ReLU (0) can die, and did in the first weights
    critic_unshuffle: int = 2
    critic_widths: tuple[int, ...] = (64, 128, 256)
    local_widths: tuple[int, ...] = (32, 64, 128)  # of D's heads on mouth and eyes
    local_side: int = 48  # px of their crops: a mouth, or one eye, in a 256 px frame

    @classmethod
    def paper(cls) -> ModelConfig:
        """The paper's: E 14.9 M, G with P 38.1 M, D 19.6 M parameters without W, 47 GMAC a frame."""
        deep = (64, 128, 256, 512, 512, 512)  # from the pixels as they are: unshuffle etc. are not used
        e = {"embedding": 512, "embedder_size": 256, "embedder_widths": deep, "embedder_slope": 0.0}
        return cls("paper", in_channels=3, widths=deep[:4], middle=4, last=0, critic_widths=deep, **e)

    def __post_init__(self) -> None:
        """Refuse what cannot be built, or only to exhaust the memory: this comes out of files."""
        if self.kind not in ("warp", "paper"):
            raise ValueError(f"kind cannot be {self.kind!r}")
        for field in fields(self)[1:]:
            value, default = getattr(self, field.name), field.default
            if isinstance(default, tuple) and isinstance(value, list):  # JSON has no tuples
                object.__setattr__(self, field.name, value := tuple(value))
            numbers = value if isinstance(value, tuple) else (value,)
            lowest = 0 if field.name in ("middle", "last", "embedder_slope") else 1
            good = type(value) is type(default) and 1 <= len(numbers) <= 10
            if not good or not all(type(n) in (int, float) and lowest <= n <= 4096 for n in numbers):
                raise ValueError(f"{field.name} cannot be {value!r}")


class Painting(NamedTuple):
    """What G adds to a warped photo; the module's docstring says how they make the picture."""

    mask: Tensor  # (N, 1, H, W) in 0..1: 1 keeps the warp, 0 takes the painted colour
    flow: Tensor  # (N, 2, H, W) px, to be added to the backward flow of the mesh
    delta: Tensor  # (N, 3, H, W) in -2..2, to be added to the warped photo


def conv(
    cin: int, cout: int, kernel: int = 3, stride=1, spectral=False, bias=True, gain=1.0, slope=SLOPE, kind=nn.Conv2d
) -> nn.Conv2d:
    """slope: of the leaky ReLU before it, 1 for none. Weights made for 0.2 where there is none let signals grow from
    layer to layer, and the first steps of training switch G's last activation off: the way to less noise."""
    layer = kind(cin, cout, kernel, stride, kernel // 2, bias=bias)
    nn.init.kaiming_uniform_(layer.weight, a=slope)  # not normal_: on "meta" it takes a second
    layer.weight.data.mul_(gain)
    if bias:
        nn.init.zeros_(layer.bias)
    return spectral_norm(layer) if spectral else layer


def modulate(h: Tensor, psi: Tensor | None) -> Tensor:
    """h * (1 + scale) + shift for h (N, C, H, W); psi (N, 2C) holds the scales, then the shifts."""
    if psi is None:
        return h
    scale, shift = psi.to(h.dtype)[:, :, None, None].chunk(2, 1)
    return torch.addcmul(shift, h, 1 + scale)


class EnlargingConv(nn.Conv2d):
    """A convolution of the image at twice its size."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(upsample(x))


class LeanBlock(nn.Module):
    """Our residual block: no normalisation, stride for pooling, modulated after the first convolution."""

    def __init__(self, cin: int, cout: int, resample="", modulated=False, spectral=False):
        super().__init__()
        self.resample = resample  # "", "down" or "up"
        self.n_coeff = 2 * cout if modulated else 0
        kind = EnlargingConv if resample == "up" else nn.Conv2d
        self.conv1 = conv(cin, cout, stride=2 if resample == "down" else 1, spectral=spectral, kind=kind)
        self.conv2 = conv(cout, cout, spectral=spectral, gain=0.2)  # starts near the identity
        self.skip = conv(cin, cout, 1, spectral=spectral, slope=1) if cin != cout else nn.Identity()

    def forward(self, x: Tensor, psi: Tensor | None = None) -> Tensor:
        h = F.leaky_relu(x, SLOPE)  # this and the skip commute with resampling: done where pixels are fewer
        h = modulate(self.conv1(h), psi)
        h = self.conv2(F.leaky_relu_(h, SLOPE))
        x = self.skip(F.avg_pool2d(x, 2) if self.resample == "down" else x)
        return h.add_(upsample(x) if self.resample == "up" else x)


class PaperBlock(nn.Module):
    """The paper's residual block (BigGAN's): ReLU, average pooling, spectral norm, and in G instance norm."""

    def __init__(self, cin: int, cout: int, resample="", norm="", first=False):
        super().__init__()
        self.resample, self.first = resample, first  # first: it reads the picture itself
        # norm: "", "instance" (its own scale and shift) or "adaptive" (they come in psi: AdaIN)
        self.coeffs = (2 * cin, 2 * cout) if norm == "adaptive" else (0, 0)
        self.n_coeff = sum(self.coeffs)
        self.norm1 = nn.InstanceNorm2d(cin, affine=norm == "instance") if norm else nn.Identity()
        self.norm2 = nn.InstanceNorm2d(cout, affine=norm == "instance") if norm else nn.Identity()
        self.conv1 = conv(cin, cout, spectral=True, bias=not norm)
        self.conv2 = conv(cout, cout, spectral=True, bias=not norm)
        same = cin == cout and not resample
        self.skip = nn.Identity() if same else conv(cin, cout, 1, spectral=True)

    def forward(self, x: Tensor, psi: Tensor | None = None) -> Tensor:
        psi1, psi2 = (None, None) if psi is None else psi.split(self.coeffs, 1)
        h = x if self.first else F.relu(modulate(self.norm1(x), psi1))
        h = self.conv1(upsample(h) if self.resample == "up" else h)
        h = self.conv2(F.relu(modulate(self.norm2(h), psi2)))
        if self.resample == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        x = self.skip(x)
        return h + (upsample(x) if self.resample == "up" else x)


class SelfAttention(nn.Module):
    """SAGAN's: keys and values at half the resolution; starts as the identity (gamma = 0)."""

    def __init__(self, width: int):
        super().__init__()
        self.query, self.key = (conv(width, width // 8, 1, spectral=True) for _ in range(2))
        self.value = conv(width, width // 2, 1, spectral=True)
        self.out = conv(width // 2, width, 1, spectral=True)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        q = self.query(x).flatten(2)  # (N, C/8, HW)
        k = F.max_pool2d(self.key(x), 2).flatten(2)  # (N, C/8, HW/4)
        v = F.max_pool2d(self.value(x), 2).flatten(2)  # (N, C/2, HW/4)
        attention = (q.transpose(1, 2) @ k).softmax(-1)  # (N, HW, HW/4)
        h = (v @ attention.transpose(1, 2)).unflatten(2, x.shape[2:])  # (N, C/2, H, W)
        return x + self.gamma * self.out(h)


class Encoder(nn.Module):
    """The downsampling part of each network: outputs of the stem (ours) and of every block, finest first."""

    def __init__(self, config: ModelConfig, cin: int, widths: tuple[int, ...], fold: int, **options: Any):
        super().__init__()
        if config.kind == "paper":  # options: norm
            self.stem = None
            blocks = [PaperBlock(cin, widths[0], "down", first=True)]
            blocks += [PaperBlock(a, b, "down", **options) for a, b in pairwise(widths)]
            for i, width in enumerate(widths):
                if config.size >> (i + 1) == ATTENTION_DOWN:
                    blocks[i] = nn.Sequential(blocks[i], SelfAttention(width))
        else:  # options: spectral
            self.stem = nn.Sequential(nn.PixelUnshuffle(fold), conv(cin * fold**2, widths[0], slope=1, **options))
            blocks = [LeanBlock(a, b, "down", **options) for a, b in pairwise(widths)]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [x := self.stem(x)] if self.stem else []
        for block in self.blocks:
            features.append(x := block(x))
        return features


class Generator(nn.Module):
    """G(x, psi). x: (N, in_channels, H, W), multiples of 16; psi = projection(e): (N, n) or, for all, (1, n).

    Ours is a U-Net that returns a `Painting`; its last layer starts at zero, so that untrained it is exactly
    the mesh warp. The paper's has no skips and returns the picture itself, (N, 3, H, W) in [-1, 1].
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.paper = config.kind == "paper"
        fine, coarse = config.widths[0], config.widths[-1]
        if self.paper:
            block, norm = partial(PaperBlock, norm="adaptive"), {"norm": "instance"}
            outs = config.widths[::-1]  # of the decoder's levels
        else:
            block, norm = partial(LeanBlock, modulated=True), {}
            outs = config.widths[-2::-1]
        self.encoder = Encoder(config, config.in_channels, config.widths, config.unshuffle, **norm)
        self.middle = nn.ModuleList(block(coarse, coarse) for _ in range(config.middle))
        self.ups = nn.ModuleList(block(a, b, "up") for a, b in pairwise((coarse, *outs)))
        self.last = nn.ModuleList(block(fine, fine) for _ in range(config.last))
        self.coeffs = [b.n_coeff for b in (*self.middle, *self.ups, *self.last)]
        self.coeffs += [2 * fine] * self.paper  # of the normalisation before its last convolution
        self.projection = nn.Linear(config.embedding, sum(self.coeffs))  # P
        nn.init.uniform_(self.projection.weight, -0.035, 0.035)  # standard deviation 0.02
        nn.init.zeros_(self.projection.bias)
        if self.paper:
            sides = [config.size >> i for i in range(len(outs))][::-1]
            merges = [SelfAttention(c) if s == ATTENTION_UP else nn.Identity() for c, s in zip(outs, sides)]
            self.out = conv(fine, 3, spectral=True)
            spectral_norm(self.projection)
        else:
            merges = [conv(2 * c, c, 1, slope=1) for c in outs]
            self.out = conv(fine, 6 * config.unshuffle**2, gain=0.0)
            self.encoder.stem.append(LeanBlock(fine, fine))
        self.merges = nn.ModuleList(merges)

    def forward(self, x: Tensor, psi: Tensor) -> Painting | Tensor:
        parts = iter(psi.split(self.coeffs, 1))
        features = self.encoder(x)
        h = features[-1]
        for block in self.middle:
            h = block(h, next(parts))
        for up, merge, skip in zip(self.ups, self.merges, [*features[-2::-1], None]):
            h = up(h, next(parts))
            h = merge(h if self.paper else torch.cat([h, skip], 1))
        for block in self.last:
            h = block(h, next(parts))
        if self.paper:
            return torch.tanh(self.out(F.relu(modulate(F.instance_norm(h), next(parts)))))
        h = F.pixel_shuffle(self.out(F.silu(h)), self.config.unshuffle)
        h = h.to(torch.float32, memory_format=torch.contiguous_format)  # strided planes: tanh 4 times slower
        mask, (flow, delta) = torch.sigmoid(h[:, :1] + 1), torch.tanh(h[:, 1:]).split([2, 3], 1)
        return Painting(mask, flow * self.config.max_flow, delta * 2)


class Embedder(nn.Module):
    """E(photo, drawing), both (N, 3, embedder_size, embedder_size) in [-1, 1], gives e: (N, embedding)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, 6, config.embedder_widths, config.embedder_unshuffle)
        width = config.embedder_widths[-1]
        self.out = nn.Identity() if config.kind == "paper" else nn.Linear(width, config.embedding)

    def forward(self, photo: Tensor, drawing: Tensor) -> Tensor:
        h = F.leaky_relu(self.encoder(torch.cat([photo, drawing], 1))[-1], self.config.embedder_slope)
        return self.out(h.sum((2, 3)) if self.config.kind == "paper" else h.mean((2, 3)))


class PatchHead(nn.Module):
    """A score for each position of h (N, width, H, W), conditioned on the person's vector: (N, 1, H, W)."""

    def __init__(self, width: int, embedding: int):
        super().__init__()
        self.conv = conv(width, width, spectral=True)
        self.score = conv(width, 1, 1, spectral=True)
        self.person = spectral_norm(nn.Linear(embedding, width))

    def forward(self, h: Tensor, person: Tensor) -> Tensor:
        v = F.leaky_relu(self.conv(F.leaky_relu(h, SLOPE)), SLOPE)
        return self.score(v) + (v * self.person(person)[:, :, None, None]).mean(1, keepdim=True)


class LocalHead(nn.Module):
    """A small discriminator of crops around centres (N, K, 2), x and y in px; NaN: nothing to see there."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.side = config.local_side
        self.encoder = Encoder(config, 6, config.local_widths, config.critic_unshuffle, spectral=True)
        self.head = PatchHead(config.local_widths[-1], config.embedding)

    def forward(self, x: Tensor, person: Tensor, centres: Tensor) -> tuple[Tensor, list[Tensor]]:
        seen = centres.isfinite().all(-1)  # (N, K)
        rows = seen.nonzero()[:, 0]
        limit = centres.new_tensor([x.shape[3], x.shape[2]]) - self.side
        corners = (centres[seen] - self.side / 2).round().minimum(limit).clamp(min=0).int().tolist()
        cuts = [x[r, :, b : b + self.side, a : a + self.side] for r, (a, b) in zip(rows.tolist(), corners)]
        features = self.encoder(torch.stack(cuts))
        return self.head(features[-1], person[rows]), features


class Discriminator(nn.Module):
    """D(photo, drawing, person, mouth, eyes) gives (scores, features); no sigmoid, the losses are hinges.

    photo, drawing: (N, 3, H, W), multiples of 16. person: W_i itself, (N, embedding), or the index i of a
    training video, (N,), whose W_i is learned (L_MCH pulls it towards e). The first score is the paper's
    <v, W_i + w0> + b, (N,); ours adds a map of patches and, with centres (N, K, 2) given, mouth and eyes.
    """

    def __init__(self, config: ModelConfig, n_videos: int = 0):
        super().__init__()
        self.config = config
        self.paper = config.kind == "paper"
        width, n = config.critic_widths[-1], config.embedding
        spectral = {} if self.paper else {"spectral": True}  # the paper's blocks always have it
        self.encoder = Encoder(config, 6, config.critic_widths, config.critic_unshuffle, **spectral)
        self.final = PaperBlock(width, n) if self.paper else LeanBlock(width, n, "down", spectral=True)
        self.linear = spectral_norm(nn.Linear(n, 1))  # w0 and b
        # W, as rows; without spectral norm, for they must reach e; as short as an untrained e
        self.videos = nn.Embedding(n_videos, n, _weight=torch.randn(n_videos, n) / 11) if n_videos else None
        self.patch = None if self.paper else PatchHead(width, n)
        self.mouth, self.eyes = (None if self.paper else LocalHead(config) for _ in range(2))

    def forward(self, photo: Tensor, drawing: Tensor, person: Tensor, mouth=None, eyes=None):
        person = person if person.is_floating_point() else self.videos(person)
        x = torch.cat([photo, drawing], 1)
        features = self.encoder(x)
        features.append(self.final(features[-1]))
        v = F.relu(features[-1])
        v = v.sum((2, 3)) if self.paper else v.mean((2, 3))  # the size of a crop must not set its score's
        scores = [(v * person).sum(1) + self.linear(v)[:, 0]]
        scores += [] if self.paper else [self.patch(features[-2], person)]
        for head, centres in ((self.mouth, mouth), (self.eyes, eyes)):
            if head is not None and centres is not None and centres.isfinite().all(-1).any():
                score, more = head(x, person, centres)
                scores.append(score)
                features += more
        return scores, features
