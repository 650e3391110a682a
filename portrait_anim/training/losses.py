"""What meta-learning and fine-tuning minimise, on crops of the conditioned frame.

The composite here is the differentiable twin of `compose.paint_box`, which runs when animating.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.warp import CROP
from ..networks.networks import Discriminator, Painting

JITTER = 8  # px


@dataclass(frozen=True)
class LossWeights:
    """Weights of the sum. Colours are in [-1, 1]; feature distances are relative (see perceptual.feature_distance)."""

    image: float = 10.0  # L1 of the composite
    inside: float = 4.0  # how many times more of it inside mouth and eyes, which a warp knows nothing of
    warp: float = 2.0  # L1 of the refined warp alone: the residual flow learns where the mask hides it
    paint: float = 3.0  # L1 of the painting alone: it must be ready before the mask calls on it
    face: float = 4.0  # FaceNet features: identity and the parts of a face
    look: float = 1.0  # ImageNet features: texture
    vgg19: float = 0.15  # the paper's, on features of Caffe's scale; for who has the networks
    vggface: float = 0.025
    smooth_flow: float = 0.02
    keep: float = 0.02  # prefers the warp where both are as good
    adversarial: float = 0.1
    features: float = 4.0  # feature matching, times `adversarial`
    match: float = 0.3  # L_MCH: the discriminator's row of a person is E's vector of them


@dataclass
class Composite:
    """image: the composite. refined: the warp with the residual flow. painted: warp + colour residual. (N, 3, h, w)."""

    image: Tensor
    refined: Tensor
    painted: Tensor


def to_unit(image: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -1..1, channels last."""
    return (image.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def compose(batch: dict[str, Tensor], painting: Painting) -> Composite:
    """The picture from a painting of the crops of a batch of episodes (see Episodes; B pairs of C crops, N = B C)."""
    flows, weights = batch["flows"], batch["weights"]  # (B, V, C, 2, h, w), (B, V, C, 1, h, w)
    pairs, views, crops, _, height, width = flows.shape
    residual = painting.flow.unflatten(0, (pairs, crops))
    x = batch["x"].flatten(0, 1)
    refined = torch.zeros(())
    for v in range(views):
        photo = to_unit(batch["photos"][:, v])
        grid = (
            ((flows[:, v] + residual) * (2 / CROP) - 1).permute(0, 1, 3, 4, 2).reshape(pairs, crops * height, width, 2)
        )
        moved = F.grid_sample(photo, grid, mode="bilinear", padding_mode="border", align_corners=False)
        moved = moved.unflatten(2, (crops, height)).transpose(1, 2)  # (B, C, 3, h, w)
        refined = refined + weights[:, v] * moved
    matte, plate = x[:, 12:13], to_unit(batch["plate"].flatten(0, 1))
    refined = plate + matte * (refined.flatten(0, 1) - plate)
    painted = x[:, :3] + painting.delta
    return Composite(painting.mask * refined + (1 - painting.mask) * painted, refined, painted)


def jittered(step: int, *images: Tensor) -> list[Tensor]:
    """The same cut-out of all images (N, C, h, w), JITTER px smaller, each step at another place.

    Perceptual networks have strides, and so has G: did they always meet alike, G would learn to please them by a
    pattern of the strides' size.
    """
    y, x = np.random.default_rng(step).integers(0, JITTER + 1, 2)
    height, width = (side - JITTER for side in images[0].shape[2:])
    return [image[:, :, y : y + height, x : x + width] for image in images]


def total_variation(flow: Tensor) -> Tensor:
    return (flow[:, :, 1:] - flow[:, :, :-1]).abs().mean() + (flow[..., 1:] - flow[..., :-1]).abs().mean()


def pixel_losses(
    made: Composite, painting: Painting, target: Tensor, inside: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """Weighted terms that need no other network. inside: (N, 1, h, w), 1 inside mouth and eyes."""
    l1 = lambda image: (image - target).abs().mean()
    extra = ((made.image - target).abs().mean(1, keepdim=True) * inside).mean()
    return {
        "image": weights.image * (l1(made.image) + weights.inside * extra),
        "warp": weights.warp * l1(made.refined),
        "paint": weights.paint * l1(made.painted),
        "smooth_flow": weights.smooth_flow * total_variation(painting.flow),
        "keep": weights.keep * (1 - painting.mask).mean(),
    }


def generator_adversarial(
    critic: Discriminator,
    image: Tensor,
    target: Tensor,
    drawing: Tensor,
    person: Tensor,
    weights: LossWeights,
    every: int = 1,
    **centres,
) -> dict[str, Tensor]:
    """Weighted hinge term and feature matching for G: the critic is held fixed. every: times as much of both, for who
    asks D on every n-th step only."""
    critic.requires_grad_(False)
    scores, features = critic(image, drawing, person, **centres)
    with torch.no_grad():
        _, real = critic(target, drawing, person, **centres)
    critic.requires_grad_(True)
    score = -sum(s.float().mean() for s in scores) / len(scores)
    matching = sum((a.float() - b.float()).abs().mean() for a, b in zip(features, real))
    terms = {"score": weights.adversarial * score, "features": weights.adversarial * weights.features * matching}
    return {name: every * term for name, term in terms.items()}


def critic_loss(
    critic: Discriminator, image: Tensor, target: Tensor, drawing: Tensor, person: Tensor, **centres
) -> Tensor:
    """Hinge loss of D on real and made crops, averaged over its heads."""
    double = {k: torch.cat([c, c]) for k, c in centres.items()}
    scores, _ = critic(
        torch.cat([target, image.detach()]), torch.cat([drawing, drawing]), torch.cat([person, person]), **double
    )
    loss = torch.zeros(())
    for score in scores:
        real, made = score.float().chunk(2)
        loss = loss + F.relu(1 - real).mean() + F.relu(1 + made).mean()
    return loss / len(scores)
