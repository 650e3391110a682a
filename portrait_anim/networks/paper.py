"""The paper's generator and its building blocks (Zakharov et al., arXiv 1905.08233).

It is there to be trained by whoever has VoxCeleb2 and GPUs, and as the baseline of our tables.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .blocks import conv, modulate, upsample
from .config import ModelConfig

ATTENTION_DOWN, ATTENTION_UP = 32, 64  # px: where encoders and the generator's decoder have self-attention


class PaperBlock(nn.Module):
    """The paper's residual block (BigGAN's), with ReLU, average pooling, spectral norm and, in G, instance norm.

    (N, cin, H, W) -> (N, cout, H', W') with resample "", "down" or "up" as in LeanBlock. norm is "", "instance" (with
    its own scale and shift) or "adaptive" (they come in psi (N, n_coeff): AdaIN). first: the block reads the picture
    itself, and does not begin with an activation.
    """

    def __init__(self, cin: int, cout: int, resample: str = "", norm: str = "", first: bool = False):
        super().__init__()
        self.resample, self.first = resample, first
        self.coeffs = (2 * cin, 2 * cout) if norm == "adaptive" else (0, 0)
        self.n_coeff = sum(self.coeffs)
        self.norm1 = nn.InstanceNorm2d(cin, affine=norm == "instance") if norm else nn.Identity()
        self.norm2 = nn.InstanceNorm2d(cout, affine=norm == "instance") if norm else nn.Identity()
        self.conv1 = conv(cin, cout, spectral=True, bias=not norm)
        self.conv2 = conv(cout, cout, spectral=True, bias=not norm)
        same = cin == cout and not resample
        self.skip = nn.Identity() if same else conv(cin, cout, 1, spectral=True)

    def forward(self, x: Tensor, psi: Tensor | None = None) -> Tensor:
        """Return the block's output for x, modulated by psi if given."""
        psi1, psi2 = (None, None) if psi is None else psi.split(self.coeffs, 1)
        h = x if self.first else F.relu(modulate(self.norm1(x), psi1))
        h = self.conv1(upsample(h) if self.resample == "up" else h)
        h = self.conv2(F.relu(modulate(self.norm2(h), psi2)))
        if self.resample == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        x = self.skip(x)
        return h + (upsample(x) if self.resample == "up" else x)


class SelfAttention(nn.Module):
    """Let every position of (N, width, H, W) look at all others (SAGAN, arXiv 1805.08318).

    Keys and values are at half the resolution. It starts as the identity (gamma = 0).
    """

    def __init__(self, width: int):
        super().__init__()
        self.query, self.key = (conv(width, width // 8, 1, spectral=True) for _ in range(2))
        self.value = conv(width, width // 2, 1, spectral=True)
        self.out = conv(width // 2, width, 1, spectral=True)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return x with what each position takes from the others added."""
        q = self.query(x).flatten(2)  # (N, C/8, HW)
        k = F.max_pool2d(self.key(x), 2).flatten(2)  # (N, C/8, HW/4)
        v = F.max_pool2d(self.value(x), 2).flatten(2)  # (N, C/2, HW/4)
        attention = (q.transpose(1, 2) @ k).softmax(-1)  # (N, HW, HW/4)
        h = (v @ attention.transpose(1, 2)).unflatten(2, x.shape[2:])  # (N, C/2, H, W)
        return x + self.gamma * self.out(h)


class PaperEncoder(nn.Module):
    """The downsampling part of each of the paper's networks.

    x (N, cin, H, W) gives one map per width, finest first; the first has sides H / 2 and W / 2. `size` is the side of
    the frame that the model is for, which says at which level attention is. norm is that of the blocks after the first.
    """

    def __init__(self, cin: int, widths: tuple[int, ...], size: int, norm: str = ""):
        super().__init__()
        blocks: list[nn.Module] = [PaperBlock(cin, widths[0], "down", first=True)]
        blocks += [PaperBlock(a, b, "down", norm=norm) for a, b in pairwise(widths)]
        for level, width in enumerate(widths):
            if size >> (level + 1) == ATTENTION_DOWN:
                blocks[level] = nn.Sequential(blocks[level], SelfAttention(width))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps of x, finest first."""
        features = []
        for block in self.blocks:
            features.append(x := block(x))
        return features


class PaperGenerator(nn.Module):
    """Paint the whole picture from the landmark drawing alone: an encoder and a decoder without skips.

    With P it has 38.1 M parameters, and a frame of 256x256 px takes 47 GMAC.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        widths, outs = config.widths, config.widths[::-1]  # the decoder has a level for each of the encoder's
        fine, coarse = widths[0], widths[-1]
        adaptive = {"norm": "adaptive"}
        self.encoder = PaperEncoder(config.in_channels, widths, config.size, "instance")
        self.middle = nn.ModuleList(PaperBlock(coarse, coarse, **adaptive) for _ in range(config.middle))
        self.ups = nn.ModuleList(PaperBlock(a, b, "up", **adaptive) for a, b in pairwise((coarse, *outs)))
        sides = [config.size >> level for level in range(len(outs))][::-1]
        self.attention = nn.ModuleList(
            SelfAttention(width) if side == ATTENTION_UP else nn.Identity() for width, side in zip(outs, sides)
        )
        self.out = conv(fine, 3, spectral=True)
        self.coeffs = [block.n_coeff for block in (*self.middle, *self.ups)]
        self.coeffs.append(2 * fine)  # of the normalisation before the last convolution
        self.projection = nn.Linear(config.embedding, sum(self.coeffs))  # P
        nn.init.uniform_(self.projection.weight, -0.035, 0.035)  # standard deviation 0.02
        nn.init.zeros_(self.projection.bias)
        spectral_norm(self.projection)

    def forward(self, x: Tensor, psi: Tensor) -> Tensor:
        """Give pictures (N, 3, H, W) in -1..1 for drawings x (N, 3, H, W) in -1..1, sides in multiples of 16 px.

        psi = projection(e) is (N, n) or, for all, (1, n).
        """
        parts = iter(psi.split(self.coeffs, 1))
        h = self.encoder(x)[-1]
        for block in self.middle:
            h = block(h, next(parts))
        for up, attention in zip(self.ups, self.attention):
            h = attention(up(h, next(parts)))
        return torch.tanh(self.out(F.relu(modulate(F.instance_norm(h), next(parts)))))
