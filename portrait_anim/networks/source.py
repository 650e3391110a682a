"""The source encoder S: what the generator gets to know of the photos."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import SLOPE, LeanBlock, Unshuffle, conv, upsample
from .config import ModelConfig

SOURCE_CHANNELS = 7  # photo 3 in -1..1, matte 1 in 0..1, landmark drawing 3 in -1..1


class SourceEncoder(nn.Module):
    """Look at a view, which is a photo or its mirror image, and give its features and the vector e of the person.

    It runs once per view, before the first frame, and costs 4.9 GMAC; with the default config it has 4.1 M parameters.
    A residual pyramid goes down from 128 to 16 px and a light path comes up again, so that the fine features, too,
    know what they are part of. The mean of e over the photos takes the place of the paper's embedding; mirror images do
    not count.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        widths, outs = config.source_widths, config.feature_widths[::-1]
        first = conv(SOURCE_CHANNELS * config.unshuffle**2, widths[0], slope=1)
        self.stem = nn.Sequential(Unshuffle(config.unshuffle), first, LeanBlock(widths[0], widths[0]))
        self.downs = nn.ModuleList(nn.Sequential(LeanBlock(a, b, "down"), LeanBlock(b, b)) for a, b in pairwise(widths))
        self.tops = nn.ModuleList(conv(a, b, 1, slope=1) for a, b in pairwise((widths[-1], *outs)))
        self.sides = nn.ModuleList(conv(a, b, slope=1) for a, b in zip(widths[-2::-1], outs))
        self.out = nn.Linear(widths[-1], config.embedding)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Give the features and e of views x (N, 7, 512, 512), channels as SOURCE_CHANNELS says.

        Features: (N, 16, 128, 128), (N, 48, 64, 64) and (N, 96, 32, 32), unbounded; e: (N, embedding).
        """
        levels = [self.stem(x)]
        for down in self.downs:
            levels.append(down(levels[-1]))
        h = coarsest = levels.pop()
        features = []
        for top, side in zip(self.tops, self.sides):
            h = upsample(top(h)) + side(levels.pop())
            features.append(h)
        return features[::-1], self.out(F.leaky_relu(coarsest, SLOPE).mean((2, 3)))
