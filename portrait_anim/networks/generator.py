"""The generator G: what it adds to a photo that the mesh has warped."""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import LeanBlock, Unshuffle, conv
from .config import ModelConfig

N_PAINTED = 7  # channels of a Painting


class Painting(NamedTuple):
    """What the generator adds to a warped photo; the docstring of the package says how it makes the picture."""

    mask: Tensor  # (N, 1, H, W) in 0..1: 1 keeps the warped pixels, 0 takes the painted colour
    flow: Tensor  # (N, 2, H, W) px, within +-max_flow, to be added to the backward flow of the mesh
    colour: Tensor  # (N, 3, H, W) in -2..2, to be added to the warped photo, whose colours are in -1..1
    matte: Tensor  # (N, 1, H, W) in -1..1, to be added to the warped matte


def split_painting(painted: Tensor) -> Painting:
    """Return the Painting whose parts lie side by side in painted (N, 7, H, W)."""
    return Painting(*painted.split([1, 2, 3, 1], 1))


class Generator(nn.Module):
    """Paint a frame: a U-Net of 4.8 M parameters and 5.0 GMAC for 512x512 px.

    At each level but the coarsest two feature maps join it by a 1x1 convolution: those that the warp has carried from
    the views to where they are in this frame, and the canvas' own, unmoved, which show what is beside and behind.
    psi = projection(e) modulates the blocks of the middle and of the way up. The last layer starts at zero: untrained,
    the painting has no flow, no colour and no change of the matte, so that the picture is exactly the warp.

    Nothing in it depends on the place or on the size of what it sees. It therefore takes, instead of the whole frame,
    any box of it whose sides and place are multiples of `config.stride` (32 px), with the same boxes of the features.
    From 256 px inside the border of the box it then gives exactly what it gives for the whole frame. Nearer to it the
    zeros beyond the border show: on portraits the colours differ by 0.2 of 255 (rms) from 128 px on, by 1 at 64 to 96
    px, by 2 at 16 to 48 px and by 5 in the outermost 8 px. A box should therefore stay where it is from frame to frame.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        widths, outs = config.widths, config.widths[-2::-1]
        fine, coarse = widths[0], widths[-1]
        first = conv(config.in_channels * config.unshuffle**2, fine, slope=1)
        self.stem = nn.Sequential(Unshuffle(config.unshuffle), first, LeanBlock(fine, fine))
        self.inject = nn.ModuleList(conv(2 * f, w, 1, slope=1, gain=0.3) for f, w in zip(config.feature_widths, widths))
        self.downs = nn.ModuleList(LeanBlock(a, b, "down") for a, b in pairwise(widths))
        self.middle = nn.ModuleList(LeanBlock(coarse, coarse, modulated=True) for _ in range(config.middle))
        self.ups = nn.ModuleList(LeanBlock(a, b, "up", modulated=True) for a, b in pairwise((coarse, *outs)))
        self.merges = nn.ModuleList(conv(2 * c, c, 1, slope=1) for c in outs)
        self.last = LeanBlock(fine, fine, modulated=True)
        self.out = conv(fine, N_PAINTED * config.unshuffle**2, gain=0.0)
        self.coeffs = [block.n_coeff for block in (*self.middle, *self.ups, self.last)]  # lengths of psi's parts
        self.projection = nn.Linear(config.embedding, sum(self.coeffs))  # P of the paper
        nn.init.uniform_(self.projection.weight, -0.035, 0.035)  # standard deviation 0.02
        nn.init.zeros_(self.projection.bias)

    def forward(self, x: Tensor, carried: list[Tensor], own: list[Tensor], psi: Tensor) -> Painting:
        """Give the Painting, fp32, of x (N, in_channels, H, W), with sides in multiples of 32 px.

        x holds the warped photo over the plate 3 and the landmark drawing 3, both in -1..1, the maps 6, and the warped
        matte 1. carried and own are lists of (N, 16, H/4, W/4), (N, 48, H/8, W/8) and (N, 96, H/16, W/16). psi is
        (N, n) or, for all, (1, n).
        """
        parts = iter(psi.split(self.coeffs, 1))
        h, skips = self.stem(x), []
        for inject, down, moved, still in zip(self.inject, self.downs, carried, own):
            h = h + inject(torch.cat([moved, still], 1))
            skips.append(h)
            h = down(h)
        for block in self.middle:
            h = block(h, next(parts))
        for up, merge in zip(self.ups, self.merges):
            h = merge(torch.cat([up(h, next(parts)), skips.pop()], 1))
        h = self.out(F.silu(self.last(h, next(parts))))
        h = F.pixel_shuffle(h, self.config.unshuffle)
        h = h.to(torch.float32, memory_format=torch.contiguous_format)  # strided planes: tanh 4 times slower
        mask, (flow, colour, matte) = torch.sigmoid(h[:, :1] + 1), torch.tanh(h[:, 1:]).split([2, 3, 1], 1)
        return Painting(mask, flow * self.config.max_flow, colour * 2, matte)
