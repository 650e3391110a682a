"""The generator made ready to paint: the same function of its input, computed with less work."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .networks import Generator


class FoldedStem(nn.Module):
    """PixelUnshuffle and the convolution after it, with the convolution's inputs in the order in which pixels lie in
    memory (channels last): whole rows of a block are copied, not single numbers."""

    def __init__(self, fold: int, conv: nn.Conv2d):
        super().__init__()
        self.fold, self.padding, self.bias = fold, conv.padding, conv.bias
        weight = conv.weight.detach().unflatten(1, (-1, fold, fold))  # (O, C, dy, dx, 3, 3)
        self.weight = _frozen(weight.permute(0, 2, 3, 1, 4, 5).flatten(1, 3))

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        k = self.fold
        x = x.permute(0, 2, 3, 1).unflatten(2, (-1, k)).unflatten(1, (-1, k))  # (N, H/k, k, W/k, k, C)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(n, height // k, width // k, k * k * c).permute(0, 3, 1, 2)
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)


class FoldedUpsampling(nn.Module):
    """A 3x3 convolution of an image enlarged twice (nearest), computed before it is enlarged: each of the four pixels
    that come of one sees only 2x2 different pixels, so 4/9 of the multiplications do."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        # Rows of the kernel that fall on the same pixel are added. A 2x2 window gives the later pixel of its first
        # row and the earlier one of its second.
        fall = torch.tensor([[[1.0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1]]], device=conv.weight.device)
        weight = torch.einsum("pyr,qxs,oirs->pqoiyx", fall, fall, conv.weight.detach().float())
        self.weight = _frozen(weight.flatten(0, 2).to(conv.weight.dtype))
        self.bias = _frozen(conv.bias.detach().repeat(4))

    def forward(self, x: Tensor) -> Tensor:
        h = F.conv2d(x, self.weight, self.bias, padding=1)  # (N, 4C, H+1, W+1)
        n, c, height, width = h.shape
        h = h.permute(0, 2, 3, 1).unflatten(3, (2, 2, c // 4)).permute(0, 1, 3, 2, 4, 5)
        h = h.reshape(n, 2 * height, 2 * width, c // 4).permute(0, 3, 1, 2)
        return h[:, :, 1:-1, 1:-1]


def _frozen(weight: Tensor) -> nn.Parameter:
    if weight.dim() == 4:
        weight = weight.contiguous(memory_format=torch.channels_last)
    return nn.Parameter(weight, requires_grad=False)


def folded(generator: Generator) -> Generator:
    """A copy of our generator for inference; the paper's as it is. Its weights no longer fit a weights file."""
    if generator.paper:
        return generator
    generator = copy.deepcopy(generator)
    stem = generator.encoder.stem
    generator.encoder.stem = nn.Sequential(FoldedStem(generator.config.unshuffle, stem[1]), *stem[2:])
    for block in generator.ups:
        block.conv1 = FoldedUpsampling(block.conv1)
    return generator
