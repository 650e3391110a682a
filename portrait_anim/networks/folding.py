"""Convolutions and blocks made ready for use: the same functions, computed with less work.

Modulation is folded into the weights (psi is one and the same in all frames), upsampling into the convolution after
it, activations and sums into the convolution before them. On processors with oneDNN the weights are laid out for it
once for each size of the picture. Activations are channels_last throughout.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import SLOPE, EnlargingConv, LeanBlock, upsample

SIZES = 8  # of inputs for which a convolution keeps laid-out weights: the box of the head takes few in one video


def packs(like: Tensor) -> bool:
    """Tell whether torch can run convolutions on laid-out weights for the device and type of `like`.

    These are operators that torch's own compiler uses and that are not documented.
    """
    operators = torch.ops.mkldnn
    there = torch.backends.mkldnn.is_available() and hasattr(operators, "_convolution_pointwise_")
    if like.device.type != "cpu" or not there:
        return False
    test = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}.get(like.dtype)
    return test is None or getattr(operators, test, bool)()


class _LaidOut:
    """Keeps the weight of a convolution laid out for oneDNN, by the size of the input, for the last few sizes.

    In a layout that suits another size oneDNN lays it out anew at every call, which may take three times as long as the
    convolution.
    """

    def __init__(self) -> None:
        self._packed: dict[torch.Size, Tensor] = {}

    def _lay_out(self, size: torch.Size) -> Tensor:
        raise NotImplementedError

    def _packed_for(self, size: torch.Size) -> Tensor:
        """Give the weight laid out for inputs of this size."""
        packed = self._packed.get(size)
        if packed is None:
            packed = self._lay_out(size)
            # A new dict, as several threads may be here; the oldest size goes.
            self._packed = dict([*self._packed.items(), (size, packed)][-SIZES:])
        return packed


class FoldedConv(_LaidOut):
    """A convolution, then, if wanted, the leaky ReLU or a sum.

    weight is (O, I, k, k) and bias (O,), both fp32; `like` is an empty tensor of the device and type to compute in.
    """

    def __init__(self, weight: Tensor, bias: Tensor, like: Tensor, stride: int = 1, padding: int | None = None):
        super().__init__()
        padding = weight.shape[2] // 2 if padding is None else padding
        self._place = [padding] * 2, [stride] * 2, [1, 1], 1  # of padding, stride, dilation, groups
        self._weight, self._bias = weight.to(like, memory_format=torch.channels_last), bias.to(like)
        self._packs = packs(like)

    def __call__(self, x: Tensor, activated: bool = False) -> Tensor:
        """Return the convolution of x, followed by the leaky ReLU if `activated`."""
        if self._packs:
            how = ("leaky_relu", [SLOPE], "") if activated else ("none", [], "")
            weight = self._packed_for(x.shape)
            return torch.ops.mkldnn._convolution_pointwise(x, weight, self._bias, *self._place, *how)
        padding, stride, *_ = self._place
        h = F.conv2d(x, self._weight, self._bias, stride, padding)
        return F.leaky_relu_(h, SLOPE) if activated else h

    def add_to(self, total: Tensor, x: Tensor) -> Tensor:
        """Add the convolution of x to `total`, in its memory."""
        if self._packs:
            how, weight = ("add", 1.0, None, [], None), self._packed_for(x.shape)
            return torch.ops.mkldnn._convolution_pointwise_.binary(total, x, weight, self._bias, *self._place, *how)
        return total.add_(self(x))

    def _lay_out(self, size: torch.Size) -> Tensor:
        return torch._C._nn.mkldnn_reorder_conv2d_weight(self._weight.to_mkldnn(), *self._place, list(size))


class FoldedEnlargingConv(FoldedConv):
    """A 3x3 convolution of an image enlarged twice (nearest), computed before it is enlarged.

    Each of the four pixels that come of one sees only 2x2 different pixels, so 4/9 of the multiplications do. It
    gives (N, C, 2H + 2, 2W + 2): a border of zeros is around the picture, as the padding of the next convolution.
    """

    def __init__(self, weight: Tensor, bias: Tensor, like: Tensor):
        # Rows of the kernel that fall on the same pixel are added. A 2x2 window gives the later pixel of its first
        # row and the earlier one of its second.
        fall = torch.tensor([[[1.0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1]]], device=weight.device)
        weight = torch.einsum("pyr,qxs,oirs->pqoiyx", fall, fall, weight)
        super().__init__(weight.flatten(0, 2), bias.repeat(4), like, padding=1)

    def __call__(self, x: Tensor, activated: bool = False) -> Tensor:
        """Return the convolution of the enlarged x, followed by the leaky ReLU if `activated`."""
        h = super().__call__(x, activated)  # (N, 4C, H+1, W+1)
        n, c, height, width = h.shape
        h = h.permute(0, 2, 3, 1).unflatten(3, (2, 2, c // 4)).permute(0, 1, 3, 2, 4, 5)
        h = h.reshape(n, 2 * height, 2 * width, c // 4).permute(0, 3, 1, 2)
        for border in (h[:, :, 0], h[:, :, -1], h[..., 0], h[..., -1]):
            border.zero_()
        return h


class FoldedBlock:
    """A LeanBlock, modulated by psi (1, 2C) or not. It works in the memory of its input if it keeps the size.

    after: a 1x1 convolution of the result, (O, C, 1, 1), without bias: it costs nothing, as it is folded into the last
    convolution and the skip.
    """

    def __init__(self, block: LeanBlock, psi: Tensor | None, like: Tensor, after: Tensor | None = None):
        self._resample = block.resample
        weight, bias = parameters(block.conv1)
        if psi is not None:  # conv * (1 + scale) + shift
            scale, shift = psi[0].chunk(2)
            weight, bias = weight * (1 + scale[:, None, None, None]), bias * (1 + scale) + shift
        up = isinstance(block.conv1, EnlargingConv)
        self._conv1 = (
            FoldedEnlargingConv(weight, bias, like) if up else FoldedConv(weight, bias, like, block.conv1.stride[0])
        )
        weight, bias = _followed_by(after, *parameters(block.conv2))
        self._conv2 = FoldedConv(weight, bias, like, padding=0 if up else 1)
        self._skip = None
        if not isinstance(block.skip, nn.Identity):
            self._skip = FoldedConv(*_followed_by(after, *parameters(block.skip)), like)
        elif after is not None:
            self._skip = FoldedConv(after, after.new_zeros(len(after)), like)

    def __call__(self, x: Tensor, beside: tuple[FoldedConv, Tensor] | None = None) -> Tensor:
        """Give the block of x; beside: and to it, added, a convolution of something else of the result's size."""
        h = self._conv1(F.leaky_relu(x, SLOPE), activated=True)
        x = F.avg_pool2d(x, 2) if self._resample == "down" else x
        x = self._skip(x) if self._skip else x
        x = upsample(x) if self._resample == "up" else x
        x = beside[0].add_to(x, beside[1]) if beside else x
        return self._conv2.add_to(x, h)


class FoldedStem(_LaidOut):
    """PixelUnshuffle and the convolution after it, on cells of pixels in 256 steps from -1 to 1.

    The convolution's inputs are in the order (dy, dx, channel), in which the pixels of a cell lie in memory. Processors
    that multiply in bf16 multiply bytes twice as fast, and a photo has no more than bytes to begin with: there the
    weights are rounded to 8 bits, too, each output's by its largest. This moves a finished picture by 0.1 of 255.
    """

    def __init__(self, conv: nn.Conv2d, unshuffle: int, like: Tensor):
        super().__init__()
        weight, bias = parameters(conv)
        weight = weight.unflatten(1, (-1, unshuffle, unshuffle)).permute(0, 2, 3, 1, 4, 5)  # (O, dy, dx, C, 3, 3)
        weight = weight.flatten(1, 3) / 127.5  # of inputs in -127.5..127.5
        self._in_bytes = like.dtype == torch.bfloat16 and packs(like) and hasattr(torch.ops.onednn, "qconv2d_pointwise")
        if not self._in_bytes:
            self._like, self._conv = like, FoldedConv(weight, bias, like)
            return
        self._scale = weight.abs().amax((1, 2, 3)).clamp(min=1e-12) / 127
        self._weight = (weight / self._scale[:, None, None, None]).round().to(torch.int8)
        self._bias = bias + 0.5 * weight.sum((1, 2, 3))  # bytes less 128 are half a step too small
        self._zero = torch.zeros(len(bias), dtype=torch.int64)
        self._place = [1, 1], [1, 1], [1, 1], 1  # stride, padding, dilation, groups

    def __call__(self, cells: Tensor) -> Tensor:
        """Return the convolution of cells (N, C k^2, H, W) uint8, channels_last."""
        if not self._in_bytes:
            return self._conv(cells.to(self._like.device, self._like.dtype).sub_(127.5))
        weight = self._packed_for(cells.shape), self._scale, self._zero, self._bias
        return torch.ops.onednn.qconv2d_pointwise(
            cells, 1.0, 128, *weight, *self._place, 1.0, 0, torch.bfloat16, "none", [], ""
        )

    def _lay_out(self, size: torch.Size) -> Tensor:
        return torch.ops.onednn.qconv_prepack(self._weight, self._scale, 1.0, 128, *self._place, list(size))


def parameters(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Give weight and bias of a convolution, in fp32."""
    return conv.weight.detach().float(), conv.bias.detach().float()


def _followed_by(after: Tensor | None, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Fold a 1x1 convolution `after` (O, C, 1, 1) into the convolution before it."""
    if after is None:
        return weight, bias
    after = after[:, :, 0, 0]
    return torch.einsum("oc,ciyx->oiyx", after, weight), after @ bias
