"""The building blocks of our own networks; those of the paper's are in paper.py."""

from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2  # of the leaky ReLU for negative numbers

upsample = partial(F.interpolate, scale_factor=2, mode="nearest")


def unshuffle(x: Tensor, factor: int) -> Tensor:
    """Return what F.pixel_unshuffle gives, in channels_last and in the type that autocast computes in.

    It is one copy of whole rows, several times as fast on a processor as PyTorch's own and a change of layout after it.
    """
    if not x.is_meta and torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    n, c, height, width = x.shape
    if x.is_contiguous():
        cells = x.view(n, c, height // factor, factor, width // factor, factor).permute(0, 2, 4, 1, 3, 5)
    else:
        x = x.permute(0, 2, 3, 1).contiguous()  # nothing is copied of channels_last
        cells = x.view(n, height // factor, factor, width // factor, factor, c).permute(0, 1, 3, 5, 2, 4)
    return cells.reshape(n, height // factor, width // factor, c * factor**2).permute(0, 3, 1, 2)


class Unshuffle(nn.Module):
    """The module that calls `unshuffle`."""

    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return the squares of pixels of x as channels."""
        return unshuffle(x, self.factor)


def conv(
    cin: int,
    cout: int,
    kernel: int = 3,
    stride: int = 1,
    spectral: bool = False,
    bias: bool = True,
    gain: float = 1.0,
    slope: float = SLOPE,
    kind: type[nn.Conv2d] = nn.Conv2d,
) -> nn.Conv2d:
    """Make a convolution that keeps the size at stride 1, with He-initialised weights times `gain`, and bias 0.

    slope is that of the leaky ReLU before it, 1 for none: weights made for a slope of 0.2 where there is none let
    signals grow from layer to layer, and the first steps of training switch the generator's last activation off.
    """
    layer = kind(cin, cout, kernel, stride, kernel // 2, bias=bias)
    nn.init.kaiming_uniform_(layer.weight, a=slope)  # not normal_: on "meta" it takes a second
    layer.weight.data.mul_(gain)
    if bias:
        nn.init.zeros_(layer.bias)
    return spectral_norm(layer) if spectral else layer


def modulate(h: Tensor, psi: Tensor | None) -> Tensor:
    """Give h * (1 + scale) + shift for h (N, C, H, W), or h itself without psi.

    psi is (N, 2C), or (1, 2C) for all: the scales of the channels, then their shifts.
    """
    if psi is None:
        return h
    scale, shift = psi.to(h.dtype)[:, :, None, None].chunk(2, 1)
    return torch.addcmul(shift, h, 1 + scale)


class EnlargingConv(nn.Conv2d):
    """A convolution of the image enlarged to twice its size (nearest): (N, C, H, W) -> (N, C', 2H, 2W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of the enlarged x."""
        return super().forward(upsample(x))


class LeanBlock(nn.Module):
    """A residual block without normalisation: it strides instead of pooling, and psi modulates its first convolution.

    (N, cin, H, W) -> (N, cout, H', W'), where H' is H, H / 2 with resample "down", or 2 H with "up". A modulated
    block takes psi (N, n_coeff) or (1, n_coeff), see `modulate`.
    """

    def __init__(self, cin: int, cout: int, resample: str = "", modulated: bool = False, spectral: bool = False):
        super().__init__()
        self.resample = resample
        self.n_coeff = 2 * cout if modulated else 0
        kind = EnlargingConv if resample == "up" else nn.Conv2d
        self.conv1 = conv(cin, cout, stride=2 if resample == "down" else 1, spectral=spectral, kind=kind)
        self.conv2 = conv(cout, cout, spectral=spectral, gain=0.2)  # starts near the identity
        self.skip = conv(cin, cout, 1, spectral=spectral, slope=1) if cin != cout else nn.Identity()

    def forward(self, x: Tensor, psi: Tensor | None = None) -> Tensor:
        """Return the block's output for x, modulated by psi if given."""
        h = F.leaky_relu(x, SLOPE)  # this and the skip commute with resampling: done where pixels are fewer
        h = modulate(self.conv1(h), psi)
        h = self.conv2(F.leaky_relu_(h, SLOPE))
        x = self.skip(F.avg_pool2d(x, 2) if self.resample == "down" else x)
        return h.add_(upsample(x) if self.resample == "up" else x)


class Encoder(nn.Module):
    """A pyramid of downsampling blocks: the part that the two critics share.

    x (N, cin, H, W), sides multiples of unshuffle << (len(widths) - 1), gives one map per width, finest first; the
    finest has sides H / unshuffle and W / unshuffle.
    """

    def __init__(self, cin: int, widths: tuple[int, ...], unshuffle: int, spectral: bool = False):
        super().__init__()
        first = conv(cin * unshuffle**2, widths[0], slope=1, spectral=spectral)
        self.stem = nn.Sequential(Unshuffle(unshuffle), first)
        self.blocks = nn.ModuleList(LeanBlock(a, b, "down", spectral=spectral) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps of x, finest first."""
        features = [self.stem(x)]
        for block in self.blocks:
            features.append(block(features[-1]))
        return features
