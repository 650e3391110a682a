"""The losses that meta-learning and fine-tuning minimise, on boxes of the crop. Colours are in -1 to 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..networks.critic import Discriminator, crops
from ..networks.generator import Painting
from ..networks.perceptual import feature_distance, perceptual_distance
from .conditioning import Composite, blurred

JITTER = 8  # px
_EDGE_BLUR = 6.0  # px, sigma: the width of what counts as the edge of the head


@dataclass(frozen=True)
class LossWeights:
    """The weights of the terms in the sum. Feature distances are relative, see `perceptual.feature_distance`."""

    image: float = 8.0  # L1 of the picture, weighted by place: see `place_weights`
    warp: float = 2.0  # L1 of the refined warp alone, so that flow and matte learn under colour, too
    paint: float = 3.0  # L1 with all of the colour, which must be good before the mask uses it
    smooth_flow: float = 0.02
    keep: float = 0.02  # prefers the warp where both are as good
    matte: float = 0.02  # prefers the matte that the warp brings
    face: float = 3.0  # FaceNet features of the frame at 256 px: identity and the parts of a face
    look: float = 1.0  # ImageNet features of the same: texture
    face_local: float = 4.0  # FaceNet features of mouth and eyes at half the resolution
    sharp_local: float = 2.4  # both networks on mouth and eyes at 512 px, where the clip resolves them
    vgg19: float = 0.15  # the paper's weight, for features of Caffe's scale; only if the user has the networks
    vggface: float = 0.025
    critic: float = 0.3  # of FeatureCritic: the share of its gradient beside that of all other terms together
    adversarial: float = 0.15  # of the discriminator, which fine-tuning and the paper's kind of model have
    features: float = 4.0  # feature matching, times `adversarial`
    match: float = 0.3  # L_MCH: the discriminator's row of a person is the embedder's vector of them


def half(image: Tensor) -> Tensor:
    """Return an image (N, C, h, w) at half its size: 256 px for the whole crop."""
    return F.avg_pool2d(image, 2)


def jittered(step: int, *images: Tensor) -> list[Tensor]:
    """Return the same cut-out of all images (N, C, h, w), JITTER px smaller, at another place in each step.

    Perceptual networks have strides, and so has G. If these always met in the same way, G would learn to please the
    networks by a pattern of the strides' size.
    """
    y, x = np.random.default_rng(step).integers(0, JITTER + 1, 2)
    height, width = (side - JITTER for side in images[0].shape[2:])
    return [image[:, :, y : y + height, x : x + width] for image in images]


def place_weights(x: Tensor) -> Tensor:
    """Return how much each pixel matters, (N, 1, h, w), from the generator's input x (N, 13, h, w).

    Mouth and eyes matter most, since a warp knows nothing of their inside; then the edge of the head, and the rings
    next to the face.
    """
    inside, depth = x[:, 6:8].sum(1, keepdim=True), x[:, 8:9]
    near = blurred(x[:, 12:13], _EDGE_BLUR)
    return 0.3 + 1.2 * (1 - depth) + 4 * near * (1 - near) + 7 * inside


def pixel_losses(
    made: Composite, painting: Painting, target: Tensor, x: Tensor, sharp: int, weights: LossWeights
) -> dict[str, Tensor]:
    """Return the weighted terms that need no other network.

    sharp: how many of the boxes, the first ones, are of 512 px clips. The others are compared at half the size.
    """
    inside = x[:, 6:8].sum(1, keepdim=True)
    count = len(target)

    def l1(image: Tensor, places: Tensor) -> Tensor:
        total = torch.zeros((), device=image.device)
        for rows, size in ((slice(0, sharp), lambda a: a), (slice(sharp, count), half)):
            if number := len(range(*rows.indices(count))):
                error = (size(image[rows]) - size(target[rows])).abs() * size(places[rows])
                total = total + error.mean() * (number / count)
        return total

    return {
        "image": weights.image * l1(made.image, place_weights(x)),
        "warp": weights.warp * l1(made.refined, torch.ones_like(inside)),
        "paint": weights.paint * l1(made.painted, 0.4 + inside),
        "smooth_flow": weights.smooth_flow * total_variation(painting.flow),
        "keep": weights.keep * (1 - painting.mask).mean(),
        "matte": weights.matte * painting.matte.abs().mean(),
    }


def total_variation(flow: Tensor) -> Tensor:
    """Return the mean difference of neighbouring pixels of a flow (N, 2, h, w)."""
    return (flow[:, :, 1:] - flow[:, :, :-1]).abs().mean() + (flow[..., 1:] - flow[..., :-1]).abs().mean()


@dataclass
class Close:
    """What frozen networks see of M squares of full resolution, of what was made and of the truth.

    made, real: feature maps, of ImageNetFeatures if it was asked, then of FaceNet. cut: cuts the same squares out of
    images (N, C, h, w).
    """

    made: list[Tensor]
    real: list[Tensor]
    cut: Callable[[Tensor], Tensor]


def local_losses(
    step: int, image: Tensor, target: Tensor, centres: Tensor, sharp: int, side: int,
    faces: nn.Module, looks: nn.Module | None, weights: LossWeights,
) -> tuple[dict[str, Tensor], Close | None]:  # fmt: skip
    """Return the weighted perceptual terms of squares of `side` px around the mouth and one of the eyes.

    looks: with it there is also a square at the head's edge. centres: (N, 4, 2) px: mouth, right eye, left eye, head's
    edge. sharp: as in `pixel_losses`; of these boxes the terms at full resolution are, and what they compared.
    """
    rng = np.random.default_rng((1, step))
    eye, moved = int(rng.integers(1, 3)), torch.from_numpy(rng.integers(-JITTER, JITTER + 1, 2)).to(centres)

    def squares(images: Tensor, rows: slice, places: tuple[int, ...]) -> Tensor:
        return torch.cat([crops(images[rows], centres[rows, n] + moved, side) for n in places])

    made, real = (half(squares(a, slice(None), (0, eye))) for a in (image, target))
    terms = {"face_local": weights.face_local * perceptual_distance(faces, made, real)}
    if not sharp:
        return terms, None
    places = (0, eye) if looks is None else (0, eye, 3)
    cut = lambda images: squares(images, slice(0, sharp), places)
    see = lambda squares: [level for net in (looks, faces) if net is not None for level in net.features(squares)]
    with torch.no_grad():
        seen = see(cut(target))
    close = Close(see(cut(image)), seen, cut)
    terms["sharp_local"] = weights.sharp_local * feature_distance(close.made, close.real)
    return terms, close


def above(better: list[Tensor], worse: list[Tensor], places: Tensor) -> Tensor:
    """Return how far the scores `better` fail to be above those of the same places in `worse`.

    better, worse: maps (N, 1, h, w). places: (N, 1, H, W), how much each place counts.
    """
    total = torch.zeros((), device=places.device)
    for high, low in zip(better, worse):
        share = F.adaptive_avg_pool2d(places, high.shape[2:])
        total = total + (F.softplus(low - high) * share).sum() / share.sum()
    return total / len(better)


def generator_adversarial(
    critic: Discriminator,
    image: Tensor,
    target: Tensor,
    drawing: Tensor,
    person: Tensor,
    weights: LossWeights,
    every: int = 1,
    centres: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the weighted hinge term and feature matching for G, while the critic is held fixed.

    every: the factor by which both count more, for a caller that asks D only on every n-th step.
    """
    critic.requires_grad_(False)
    with parametrize.cached():
        scores, features = critic(image, drawing, person, centres)
        with torch.no_grad():
            _, real = critic(target, drawing, person, centres)
    critic.requires_grad_(True)
    score = -sum(s.float().mean() for s in scores) / len(scores)
    matching = sum((a.float() - b.float()).abs().mean() for a, b in zip(features, real))
    terms = {"score": weights.adversarial * score, "features": weights.adversarial * weights.features * matching}
    return {name: every * term for name, term in terms.items()}


def critic_loss(
    critic: Discriminator,
    image: Tensor,
    target: Tensor,
    drawing: Tensor,
    person: Tensor,
    centres: Tensor | None = None,
) -> Tensor:
    """Return the hinge loss of D on real and made pictures, averaged over its heads."""
    twice = lambda a: None if a is None else torch.cat([a, a])
    with parametrize.cached():
        scores, _ = critic(torch.cat([target, image.detach()]), twice(drawing), twice(person), twice(centres))
    loss = torch.zeros((), device=image.device)
    for score in scores:
        real, made = score.float().chunk(2)
        loss = loss + F.relu(1 - real).mean() + F.relu(1 + made).mean()
    return loss / len(scores)
