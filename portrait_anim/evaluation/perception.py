"""What stands behind the learned measures: a perceptual distance between two pictures, and FID between two sets.

Both are named by what they use, because figures of different networks cannot be compared.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks.judges import Inception, Lpips
from ..networks.perceptual import ImageNetFeatures

CELLS = 4  # the features of EfficientNet are averaged in so many cells along each side of a picture


def to_tensor(image: np.ndarray) -> Tensor:
    """Return a picture (H, W, 3) uint8 as the frozen networks take it, (1, 3, H, W) in -1..1."""
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1


class PerceptualDistance:
    """A learned distance of two pictures, or of a part of them.

    alexnet: a file of AlexNet's weights, for LPIPS; see `networks.judges.Lpips`. Without it the distance is the mean
    absolute difference of the features of EfficientNet-Lite0's first five blocks over their mean absolute value, summed
    over three levels.
    """

    def __init__(self, alexnet: Path | None = None):
        self._lpips = Lpips(alexnet) if alexnet else None
        self._net = None if alexnet else ImageNetFeatures()
        self.name = "LPIPS (AlexNet)" if alexnet else "EfficientNet-Lite0, blocks 1 to 5, relative L1"

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, target: np.ndarray, part: np.ndarray | None = None) -> float:
        """Return the distance of an image from a target, both (H, W, 3) uint8.

        part: (H, W) bool, where it is measured; None for everywhere.
        """
        part = np.ones(target.shape[:2], bool) if part is None else part
        weight = torch.from_numpy(part.astype(np.float32))[None, None]
        pooled = lambda level: F.interpolate(weight, level.shape[2:], mode="area")
        a, b = to_tensor(image), to_tensor(target)
        if self._lpips is not None:
            levels = [(distance, torch.ones_like(distance)) for distance in self._lpips.distances(a, b)]
        else:
            assert self._net is not None
            pairs = zip(self._net.features(a), self._net.features(b))
            levels = [((p - q).abs().mean(1, True), q.abs().mean(1, True) + 1e-3) for p, q in pairs]
        total = 0.0
        for distance, scale in levels:
            share = pooled(distance)
            total += float((distance * share).sum() / (scale * share).sum().clamp(min=1e-6))
        return total


class Distribution:
    """Features of whole sets of pictures, between which `frechet_distance` is FID.

    inception: a file of Inception's weights, see `networks.judges.Inception`: 2048 numbers of each picture. Without it
    the features are the 40 channels of EfficientNet-Lite0's fifth block, averaged in 4 x 4 cells of the picture, which
    are 16 samples of each: a few dozen pictures are too few for anything longer.
    """

    def __init__(self, inception: Path | None = None):
        self._inception = Inception(inception) if inception else None
        self._net = None if inception else ImageNetFeatures()
        self.name = "Inception v3" if inception else f"EfficientNet-Lite0, block 5, {CELLS} x {CELLS} cells"

    @torch.inference_mode()
    def features(self, image: np.ndarray) -> np.ndarray:
        """Return the samples of one picture (H, W, 3) uint8: (n, d) float64."""
        if self._inception is not None:
            return self._inception.features(torch.from_numpy(image).permute(2, 0, 1)[None]).double().numpy()
        assert self._net is not None
        cells = F.adaptive_avg_pool2d(self._net.features(to_tensor(image))[-1], CELLS)
        return cells[0].flatten(1).T.double().numpy()


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Frechet distance of the normal distributions of samples a (N, d) and b (M, d).

    It is |mean a - mean b|^2 + tr(A + B - 2 (A B)^(1/2)) with the covariances A and B (Heusel et al., GANs Trained by a
    Two Time-Scale Update Rule, 2017). NaN for less than two samples.
    """
    if min(len(a), len(b)) < 2:
        return float("nan")
    covariances = [np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b)]
    # tr (A B)^(1/2) is the sum of the singular values of A^(1/2) B^(1/2), which are real also where A B is singular.
    roots = []
    for covariance in covariances:
        values, vectors = np.linalg.eigh(covariance)
        roots.append((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)
    together = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
    apart = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(max(0.0, apart + sum(np.trace(c) for c in covariances) - 2 * together))
