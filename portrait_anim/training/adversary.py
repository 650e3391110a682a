"""The adversaries in meta-training: what they ask of the generator, and how they learn.

Both have the same two methods: `terms` gives the losses of G, `loss` that of the adversary, after G's step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..networks.config import ModelConfig
from ..networks.critic import Discriminator, FeatureCritic
from . import losses
from .batches import Batch
from .conditioning import blurred
from .losses import Close, LossWeights
from .steps import Made

_RAMP = 150  # steps in which the critic's share rises to its full size
_FIRST = 30  # steps in which the critic learns alone
_MEASURE_EVERY = 24  # steps between measurements of gradients
_BLUR = 4.0  # px, sigma: how far around mouth and eyes the critic counts


@dataclass
class Judged:
    """What an adversary judges: a step's batch and what was made of it.

    e: (B, n). close: the squares that perceptual losses looked at, None if no clip resolves them. terms: the other
    losses of G.
    """

    batch: Batch
    made: Made
    e: Tensor
    close: Close | None
    terms: dict[str, Tensor]


class FeatureAdversary:
    """FeatureCritic for our kind of model: mouths, eyes and edges of 512 px clips, compared with the truth.

    The critic's gradient is held at a fixed share of that of all other terms, where it enters the last layer of G:
    its scores have no scale of their own, and by hand the share was wrong by a factor of 100 or more.

    strength: by what its term is multiplied for that, measured now and then. steps: for which it has been at work.
    """

    def __init__(self, last: nn.Parameter, weights: LossWeights, device: torch.device, rate: float):
        self.last, self.weights = last, weights
        self.network = FeatureCritic().to(device, memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), rate, (0.5, 0.99), weight_decay=0.01, fused=True)
        self.strength = torch.zeros((), device=device)
        self.steps = 0

    def terms(self, judged: Judged) -> dict[str, Tensor]:
        """Return the critic's term for G. All processes must call it in the same steps."""
        if judged.close is None:
            return {}
        self.steps += 1
        if self.steps == 1:
            self._calibrate(judged.close)
        self.network.requires_grad_(False)
        with torch.no_grad():
            real = self.network(_maps(judged.close.real), self._drawing(judged))
        term = losses.above(self.network(_maps(judged.close.made), self._drawing(judged)), real, self._places(judged))
        self.network.requires_grad_(True)
        if self.steps == 1 or self.steps % _MEASURE_EVERY == 0:
            self._measure(term, sum(judged.terms.values()))
        ramp = min(1.0, max(0, self.steps - _FIRST) / _RAMP)
        return {"critic": self.weights.critic * ramp * self.strength * term}

    def loss(self, judged: Judged) -> tuple[str, Tensor] | None:
        """Return the critic's own loss, with its name in the log."""
        if judged.close is None:
            return None
        drawing = self._drawing(judged)
        made = self.network([level.detach() for level in _maps(judged.close.made)], drawing)
        real = self.network(_maps(judged.close.real), drawing)
        loss = losses.above(real, made, self._places(judged))
        sizes = sum((p**2).mean() + (q**2).mean() for p, q in zip(made, real))
        return "critic's own", loss + 0.002 * sizes  # else all scores could drift together

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept beside network and optimiser."""
        return {"strength": self.strength, "steps": torch.tensor(self.steps)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take what `state` gave."""
        self.strength.copy_(state["strength"])
        self.steps = int(state["steps"])

    def _drawing(self, judged: Judged) -> Tensor:
        return judged.close.cut(judged.made.drawing)

    def _places(self, judged: Judged) -> Tensor:
        """Return how much each place of the squares counts: most inside mouth and eyes."""
        inside = judged.made.x[:, 6:8].sum(1, keepdim=True)
        return judged.close.cut(0.02 + 4 * blurred(inside, _BLUR))

    def _calibrate(self, close: Close) -> None:
        self.network.calibrate(_maps(close.real))
        _mean(self.network.scale)

    def _measure(self, term: Tensor, others: Tensor) -> None:
        norm = lambda loss: torch.autograd.grad(loss, self.last, retain_graph=True)[0].norm()
        now = _mean((norm(others) / (norm(term) + 1e-9)).clamp(max=1e4))
        self.strength.copy_(now if self.steps == 1 else self.strength**0.7 * now**0.3)


def _maps(features: list[Tensor]) -> list[Tensor]:
    """Return the maps that FeatureCritic looks at: without FaceNet's first, which shows little but edges."""
    return features[:3] + features[4:]


def _mean(value: Tensor) -> Tensor:
    """Set a value to its mean over all processes, and return it."""
    if dist.is_initialized():
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value


class PaperAdversary:
    """The paper's projection discriminator, with the hinge loss, feature matching and L_MCH."""

    def __init__(self, model: ModelConfig, people: int, weights: LossWeights, device: torch.device, rate: float):
        self.weights = weights
        self.network = Discriminator(model, n_videos=people).to(device, memory_format=torch.channels_last)
        self.optimiser = torch.optim.Adam(self.network.parameters(), rate, (0.0, 0.99), fused=True)

    def terms(self, judged: Judged) -> dict[str, Tensor]:
        """Return the terms for G and the embedder."""
        made, person = judged.made, judged.batch.person.repeat_interleave(judged.batch.boxes)
        terms = losses.generator_adversarial(
            self.network, made.image, made.target, made.drawing, person, self.weights, centres=made.centres
        )
        return terms | {"match": self._match(judged.e, self.network.videos(judged.batch.person).detach())}

    def loss(self, judged: Judged) -> tuple[str, Tensor]:
        """Return the discriminator's own loss, with its name in the log."""
        made, person = judged.made, judged.batch.person.repeat_interleave(judged.batch.boxes)
        loss = losses.critic_loss(self.network, made.image, made.target, made.drawing, person, made.centres)
        return "critic's own", loss + self._match(judged.e.detach(), self.network.videos(judged.batch.person))

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept beside network and optimiser: nothing."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take what `state` gave."""

    def _match(self, e: Tensor, rows: Tensor) -> Tensor:
        return self.weights.match * (e - rows).abs().mean()
