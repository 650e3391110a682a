"""The networks in the form that animates one person: the same functions, fast on a processor.

SourceFeatures looks at the photos once; PersonGenerator then paints frames, or boxes of them.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from .folding import FoldedBlock, FoldedConv, FoldedStem, parameters
from .generator import N_PAINTED, Generator
from .source import SourceEncoder


class PersonGenerator:
    """The generator with psi (1, n) and the canvas' own features of one person, on a device and in a precision.

    own: the features of the canvas for the whole frame, (1, 16, 128, 128), (1, 48, 64, 64) and (1, 96, 32, 32). Several
    threads may call it at the same time. The first box of each size takes twice as long as those after it.

    Nine tenths of the multiplications of the plain generator are left. They take most of the time, at the speed that
    the processor can multiply at: of 13 ms for a box of 352x416 px, in bf16 on one core of an AMD EPYC, 10 ms.
    """

    def __init__(self, generator: Generator, psi: Tensor, own: list[Tensor], device: torch.device, dtype: torch.dtype):
        self._config = config = generator.config
        self._like = like = torch.empty(0, device=device, dtype=dtype)
        psi = psi.detach().float().split(generator.coeffs, 1)
        n_middle, n_ups = len(generator.middle), len(generator.ups)
        _, conv, block = generator.stem
        self._stem, self._first = FoldedStem(conv, config.unshuffle, like), FoldedBlock(block, None, like)
        self._downs = [FoldedBlock(block, None, like) for block in generator.downs]
        self._inject, self._own = [], []  # a convolution of both features is the sum of two, and one never changes
        for inject, still in zip(generator.inject, own):
            weight, bias = parameters(inject)
            of_carried, of_own = weight.chunk(2, 1)
            self._inject.append(FoldedConv(of_carried, torch.zeros_like(bias), like))
            added = F.conv2d(still.detach().to(weight), of_own, bias)
            self._own.append(added.to(like, memory_format=torch.channels_last))
        self._middle = [FoldedBlock(block, part, like) for block, part in zip(generator.middle, psi)]
        self._ups, self._beside = [], []  # the convolution that merges what comes up with what it skips is two, too
        for up, merge, part in zip(generator.ups, generator.merges, psi[n_middle:]):
            weight, bias = parameters(merge)
            of_up, of_skip = weight.chunk(2, 1)
            self._ups.append(FoldedBlock(up, part, like, after=of_up))
            self._beside.append(FoldedConv(of_skip, bias, like))
        self._last = FoldedBlock(generator.last, psi[n_middle + n_ups], like)
        self._out, self._scale, self._shift = _folded_out(generator, like)

    @torch.inference_mode()
    def __call__(self, cells: Tensor, place: tuple[int, int], carried: list[Tensor]) -> Tensor:
        """Paint the box of cells (1, k^2 in_channels, h/k, w/k) at `place`, y and x in px of the frame.

        The cells are squares of k x k px, k = 4, whose channels are in the order (dy, dx, channel): uint8, 0 for -1 and
        255 for 1.

        What comes back is (1, 7, h, w) fp32, channels_last: the parts of a Painting side by side, see `split_painting`.

        Sides are multiples of 32 px, the place is one of 16 px. carried holds the features that the warp has carried
        into the box: (1, 16, h/4, w/4), (1, 48, h/8, w/8) and (1, 96, h/16, w/16), of any type. Any layout will do;
        quickest is channels_last.
        """
        h, skips = self._first(self._stem(cells)), []
        for level, (inject, down) in enumerate(zip(self._inject, self._downs)):
            moved = carried[level].to(self._like, memory_format=torch.channels_last)
            top, left = (side // self._config.unshuffle >> level for side in place)
            h.add_(self._own[level][:, :, top : top + h.shape[2], left : left + h.shape[3]])
            skips.append(inject.add_to(h, moved))
            h = down(h)
        for block in self._middle:
            h = block(h)
        for up, beside in zip(self._ups, self._beside):
            h = up(h, (beside, skips.pop()))
        h = self._out(F.silu(self._last(h), inplace=True)).permute(0, 2, 3, 1).float()  # (1, h/4, w/4, 4 * 4 * 7)
        h = torch.addcmul(self._shift, torch.sigmoid_(h), self._scale, out=h)
        k = self._config.unshuffle
        n, height, width, _ = h.shape
        h = h.unflatten(3, (k, -1)).transpose(2, 3).reshape(n, height * k, width * k, N_PAINTED)
        return h.permute(0, 3, 1, 2)


class SourceFeatures:
    """The source encoder on a device and in a precision, to be called once per view.

    It is not folded: laying weights out for oneDNN would take longer than the one or two calls that it is made for.
    """

    def __init__(self, source: SourceEncoder, device: torch.device, dtype: torch.dtype):
        self._device, self._dtype = device, dtype
        self._source = copy.deepcopy(source).to(device, dtype, memory_format=torch.channels_last).eval()

    @torch.no_grad()  # not inference_mode: training and fine-tuning, too, may go on with what it gives
    def __call__(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Give the features and e, as SourceEncoder does, of views x (N, 7, 512, 512); in fp32, channels_last."""
        features, e = self._source(x.to(self._device, self._dtype, memory_format=torch.channels_last))
        return [f.to(torch.float32, memory_format=torch.channels_last) for f in features], e.float()


def _folded_out(generator: Generator, like: Tensor) -> tuple[FoldedConv, Tensor, Tensor]:
    """Give the last convolution, and by what to multiply the sigmoid of its result, and what then to add.

    tanh(x) = 2 sigmoid(2 x) - 1, which takes a fifth of the time. Its channels come in the order in which the pixels
    will lie in memory: (dy, dx, channel), so that rows of pixels are copied and not single numbers.
    """
    weight, bias = parameters(generator.out)
    most = torch.tensor([0.5, *[generator.config.max_flow] * 2, 2, 2, 2, 1], device=weight.device)
    inside = torch.tensor([1.0, *[2.0] * 6], device=weight.device)
    k = generator.config.unshuffle
    by_pixel = lambda a: a.unflatten(0, (N_PAINTED, k * k)).transpose(0, 1)
    weight = by_pixel(weight) * inside[:, None, None, None]
    bias = by_pixel(bias) * inside
    bias[:, 0] += 1  # the mask starts near 1
    shift = -most
    shift[0] = 0
    spread = lambda a: a.repeat(k * k).to(like.device)
    return FoldedConv(weight.flatten(0, 1), bias.flatten(), like), spread(2 * most), spread(shift)
