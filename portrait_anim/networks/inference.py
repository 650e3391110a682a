"""The generator made ready to paint one person: the same function of its input, computed with less work.

Modulation is folded into the weights (psi is one and the same in all frames), upsampling into the convolution after it,
activations and sums into the convolution before them. On processors with oneDNN weights are laid out for it once.
"""

from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .networks import SLOPE, EnlargingConv, Generator, LeanBlock, Painting, upsample


def _packs(like: Tensor) -> bool:
    """Whether torch has its convolutions for laid-out weights here: what its compiler uses, and no public function."""
    operators = torch.ops.mkldnn
    there = torch.backends.mkldnn.is_available() and hasattr(operators, "_convolution_pointwise_")
    if like.device.type != "cpu" or not there:
        return False
    test = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}.get(like.dtype)
    return test is None or getattr(operators, test, bool)()


class _Conv:
    """A convolution, then, if wanted, the leaky ReLU or a sum. weight: (O, I, k, k) and bias (O,), fp32."""

    def __init__(self, weight: Tensor, bias: Tensor, like: Tensor, stride: int = 1, padding: int | None = None):
        padding = weight.shape[2] // 2 if padding is None else padding
        self._place = [padding] * 2, [stride] * 2, [1, 1], 1  # of padding, stride, dilation, groups
        self._weight, self._bias = weight.to(like, memory_format=torch.channels_last), bias.to(like)
        self._packs = _packs(like)
        self._packed: tuple[torch.Size | None, Tensor] = None, self._weight

    def _packed_for(self, size: torch.Size) -> Tensor:
        """The weight laid out for inputs of this size: in a layout that suits another it is laid out anew at every
        call, which may take three times as long as the convolution."""
        known, packed = self._packed
        if known != size:
            weight = self._weight.to_mkldnn()
            packed = torch._C._nn.mkldnn_reorder_conv2d_weight(weight, *self._place, list(size))
            self._packed = size, packed
        return packed

    def __call__(self, x: Tensor, activated: bool = False) -> Tensor:
        if self._packs:
            how = ("leaky_relu", [SLOPE], "") if activated else ("none", [], "")
            weight = self._packed_for(x.shape)
            return torch.ops.mkldnn._convolution_pointwise(x, weight, self._bias, *self._place, *how)
        padding, stride, *_ = self._place
        h = F.conv2d(x, self._weight, self._bias, stride, padding)
        return F.leaky_relu_(h, SLOPE) if activated else h

    def add_to(self, total: Tensor, x: Tensor) -> Tensor:
        """total plus the convolution of x, in the memory of total."""
        if self._packs:
            how, weight = ("add", 1.0, None, [], None), self._packed_for(x.shape)
            return torch.ops.mkldnn._convolution_pointwise_.binary(total, x, weight, self._bias, *self._place, *how)
        return total.add_(self(x))


class _EnlargingConv(_Conv):
    """A 3x3 convolution of an image enlarged twice (nearest), computed before it is enlarged: each of the four pixels
    that come of one sees only 2x2 different pixels, so 4/9 of the multiplications do."""

    def __init__(self, weight: Tensor, bias: Tensor, like: Tensor):
        # Rows of the kernel that fall on the same pixel are added. A 2x2 window gives the later pixel of its first
        # row and the earlier one of its second.
        fall = torch.tensor([[[1.0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1]]], device=weight.device)
        weight = torch.einsum("pyr,qxs,oirs->pqoiyx", fall, fall, weight)
        super().__init__(weight.flatten(0, 2), bias.repeat(4), like, padding=1)

    def __call__(self, x: Tensor, activated: bool = False) -> Tensor:
        h = super().__call__(x, activated)  # (N, 4C, H+1, W+1)
        n, c, height, width = h.shape
        h = h.permute(0, 2, 3, 1).unflatten(3, (2, 2, c // 4)).permute(0, 1, 3, 2, 4, 5)
        h = h.reshape(n, 2 * height, 2 * width, c // 4).permute(0, 3, 1, 2)
        return h[:, :, 1:-1, 1:-1]


class _Block:
    """A LeanBlock, modulated by psi (1, 2C) or not."""

    def __init__(self, block: LeanBlock, psi: Tensor | None, like: Tensor):
        weight, bias = _parameters(block.conv1)
        if psi is not None:  # conv * (1 + scale) + shift
            scale, shift = psi[0].chunk(2)
            weight, bias = weight * (1 + scale[:, None, None, None]), bias * (1 + scale) + shift
        if isinstance(block.conv1, EnlargingConv):
            self._conv1 = _EnlargingConv(weight, bias, like)
        else:
            self._conv1 = _Conv(weight, bias, like, block.conv1.stride[0])
        self._conv2 = _Conv(*_parameters(block.conv2), like)
        self._skip = None if isinstance(block.skip, nn.Identity) else _Conv(*_parameters(block.skip), like)
        self._resample = block.resample

    def __call__(self, x: Tensor) -> Tensor:
        """In the memory of x, if it keeps the size."""
        h = self._conv1(F.leaky_relu(x, SLOPE), activated=True)
        x = F.avg_pool2d(x, 2) if self._resample == "down" else x
        x = self._skip(x) if self._skip else x
        return self._conv2.add_to(upsample(x) if self._resample == "up" else x, h)


class _Stem(_Conv):
    """PixelUnshuffle and the convolution after it, with the convolution's inputs in the order in which pixels lie in
    memory (channels last): whole rows of a block are copied, not single numbers."""

    def __init__(self, conv: nn.Conv2d, fold: int, like: Tensor):
        weight, bias = _parameters(conv)
        weight = weight.unflatten(1, (-1, fold, fold)).permute(0, 2, 3, 1, 4, 5)  # (O, dy, dx, C, 3, 3)
        super().__init__(weight.flatten(1, 3), bias, like)
        self._fold = fold

    def __call__(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        k = self._fold
        x = x.permute(0, 2, 3, 1).unflatten(2, (-1, k)).unflatten(1, (-1, k))  # (N, H/k, k, W/k, k, C)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(n, height // k, width // k, k * k * c).permute(0, 3, 1, 2)
        return super().__call__(x)


class PersonGenerator:
    """Our G with the psi (1, n) of one person, on a device and in a precision.

    Called with x (N, in_channels, H, W), it gives what G gives: a Painting, fp32.
    """

    def __init__(self, generator: Generator, psi: Tensor, device: torch.device, dtype: torch.dtype):
        self._config = config = generator.config
        self._like = like = torch.empty(0, device=device, dtype=dtype)
        psi = psi.float().split(generator.coeffs, 1)
        middle, ups = len(generator.middle), len(generator.ups)
        modulated = chain(generator.middle, generator.ups, generator.last)
        blocks = [_Block(block, coefficients, like) for block, coefficients in zip(modulated, psi)]
        self._middle, self._ups, self._last = blocks[:middle], blocks[middle : middle + ups], blocks[middle + ups :]
        _, conv, block = generator.encoder.stem
        self._stem, self._first = _Stem(conv, config.unshuffle, like), _Block(block, None, like)
        self._downs = [_Block(block, None, like) for block in generator.encoder.blocks]
        self._merges = []  # of an up's output and of what it skips: a convolution of both is the sum of two
        for merge in generator.merges:
            weight, bias = _parameters(merge)
            above, beside = weight.chunk(2, 1)
            self._merges.append((_Conv(above, bias, like), _Conv(beside, torch.zeros_like(bias), like)))
        weight, bias = _parameters(generator.out)
        mask = config.unshuffle**2  # channels; the rest is for tanh(x) = 2 sigmoid(2 x) - 1, which takes a fifth of it
        weight = torch.cat([weight[:mask], 2 * weight[mask:]])
        self._out = _Conv(weight, torch.cat([bias[:mask] + 1, 2 * bias[mask:]]), like)

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Painting:
        features = [self._first(self._stem(x.to(self._like)))]
        for block in self._downs:
            features.append(block(features[-1]))
        h = features.pop()
        for block in self._middle:
            h = block(h)
        for up, (above, beside) in zip(self._ups, self._merges):
            h = above.add_to(beside(features.pop()), up(h))
        for block in self._last:
            h = block(h)
        h = F.pixel_shuffle(self._out(F.silu(h)), self._config.unshuffle)
        h = h.to(torch.float32, memory_format=torch.contiguous_format)  # strided planes take 4 times as long
        mask, flow, delta = torch.sigmoid_(h).split([1, 2, 3], 1)
        most = self._config.max_flow
        return Painting(mask, flow.mul_(2 * most).sub_(most), delta.mul_(4).sub_(2))


def _parameters(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    return conv.weight.detach().float(), conv.bias.detach().float()
