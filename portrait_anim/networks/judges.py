"""Networks of the usual published measures, from the user's own files: AlexNet for LPIPS, Inception for FID.

Their weights are in no package. Without them `evaluation` measures by the networks that the extra `train` installs.
"""

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import InputError


class Lpips(nn.Module):
    """LPIPS, version 0.1, with AlexNet (Zhang et al., The Unreasonable Effectiveness of Deep Features, CVPR 2018).

    alexnet: a state dict of AlexNet in torchvision's layout (.pth or .safetensors). The five small layers that weigh
    its channels are read from the installed package `lpips`, which is not imported and needs no torchvision. Raises
    InputError.
    """

    # Channels, kernel, stride and padding of the convolutions; behind the first two their output is pooled.
    LAYERS = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
    MEAN, DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pictures in -1..1

    def __init__(self, alexnet: Path) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(self.MEAN)[:, None, None])
        self.register_buffer("deviation", torch.tensor(self.DEVIATION)[:, None, None])
        state = {name: value for name, value in _read_state(alexnet).items() if value.ndim == 4}
        before, self.convs = 3, nn.ModuleList()
        for channels, size, stride, padding in self.LAYERS:
            conv = nn.Conv2d(before, channels, size, stride, padding)
            self.convs.append(conv)
            before = channels
        shapes = [tuple(conv.weight.shape) for conv in self.convs]
        if [tuple(weight.shape) for weight in state.values()] != shapes:
            raise InputError(f"{alexnet}: does not hold AlexNet in torchvision's layout; give such a state dict.")
        everything = _read_state(alexnet)
        for conv, name in zip(self.convs, state):
            conv.weight.data = state[name].float()
            conv.bias.data = everything[name.removesuffix("weight") + "bias"].float()
        heads = _read_state(_package_weights())
        self.heads = [heads[f"lin{n}.model.1.weight"].float() for n in range(len(self.LAYERS))]
        self.requires_grad_(False)

    def distances(self, image: Tensor, target: Tensor) -> list[Tensor]:
        """Return the weighted squared distances of the features at each level, (N, 1, h, w).

        image, target: (N, 3, H, W) in -1..1. LPIPS is the sum of their means.
        """
        pairs = zip(self._features(image), self._features(target), self.heads)
        return [((a - b) ** 2 * head).sum(1, keepdim=True) for a, b, head in pairs]

    def _features(self, x: Tensor) -> list[Tensor]:
        x, maps = (x - self.mean) / self.deviation, []
        for n, conv in enumerate(self.convs):
            x = F.relu(conv(F.max_pool2d(x, 3, 2) if n in (1, 2) else x))
            maps.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
        return maps


class Inception(nn.Module):
    """The features (N, 2048) of Inception v3 by which FID is defined.

    path: the network as TorchScript that takes uint8 pictures of any size and `return_features=True`, as published with
    StyleGAN and clean-fid under the name inception-2015-12-05.pt. Raises InputError.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            self.net = torch.jit.load(str(path), map_location="cpu").eval()
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"{path}: is not Inception as TorchScript; give the file inception-2015-12-05.pt of StyleGAN."
            ) from error

    def features(self, pictures: Tensor) -> Tensor:
        """Return the features of pictures (N, 3, H, W) uint8."""
        return self.net(pictures, return_features=True)


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    except Exception as error:  # the two readers raise anything
        raise InputError(f"{path}: cannot be read as weights; give a state dict (.pth or .safetensors).") from error


def _package_weights() -> Path:
    spec = importlib.util.find_spec("lpips")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("The package lpips, needed for LPIPS, is missing: pip install --no-deps lpips")
    return Path(spec.submodule_search_locations[0], "weights", "v0.1", "alex.pth")
