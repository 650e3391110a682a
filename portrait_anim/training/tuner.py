"""One run of fine-tuning: G, psi and their moving average, D and its row of the person, and one step of learning."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..geometry.view import View
from ..networks.critic import Discriminator
from ..networks.generator import Generator
from ..networks.perceptual import FaceNet, perceptual_distance
from ..networks.weights import Weights
from ..painting.painter import Painter, source_input
from . import losses
from .batches import Batch, collate, make_batch
from .frames import Pictures
from .losses import LossWeights, half
from .pairs import PairsConfig, TrainingPairs, stacked
from .steps import Made, encode, paint

Item = tuple[dict, Pictures]


@dataclass(frozen=True)
class FinetuneConfig:
    """How a person is tuned."""

    pairs: int = 1  # a step; each has several boxes
    margin: int = 16  # px along the boxes' border that no loss looks at
    learning_rate: float = 3e-5  # of G; 1e-4 comes nearer to the photos, and its landmarks less near
    psi_rate: float = 3e-4
    single: float = 0.3  # times these rates for one photo: it tells nothing of other expressions
    critic_rate: float = 2e-4
    critic_every: int = 3  # D is asked, and learns, on every n-th step only
    average: float = 0.97  # of the moving average over steps
    share: float = 0.5  # of the way to that average that is gone: half of it has most of the gain, without the losses
    clip_norm: float = 10.0
    local_side: int = 128  # px, as in meta-training
    check_every: int = 50  # steps between measurements on what is held out
    checks: int = 4  # held-out items
    patience: int = 3  # measurements without a better one that end the tuning
    weights: LossWeights = LossWeights(sharp_local=1.4)  # with which fine-tuning was measured
    examples: PairsConfig = field(default_factory=PairsConfig)


class Tuner:
    """State of one run. The source encoder is frozen, and so is P: psi = P e is learned in its place."""

    def __init__(
        self,
        views: list[View],
        weights: Weights,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        config: FinetuneConfig,
    ):
        self.config, self.device, self.dtype = config, device, dtype
        precision = "fp32" if dtype == torch.float32 else "bf16"
        self.examples = TrainingPairs(views, Painter(weights, device.type, precision), seed, config.examples)
        own = lambda network: copy.deepcopy(network).to(device, torch.float32, memory_format=torch.channels_last)
        self.source = own(weights.source).eval().requires_grad_(False)
        self.generator = own(weights.generator).train()
        self.critic = own(_critic(weights, seed)).train()
        with torch.no_grad():
            last = torch.channels_last
            each = [self.source(source_input(view).to(device, memory_format=last))[1] for view in views]
            e = torch.stack(each).mean(0)
            self.psi = torch.nn.Parameter(self.generator.projection(e))
        self.person = torch.nn.Parameter(e.clone())  # with w0 of the critic: w' of the paper
        self.generator.projection.requires_grad_(False)
        network = [p for p in self.generator.parameters() if p.requires_grad]
        self.tuned = [*network, self.psi]
        share = config.single if len(views) == 1 else 1.0
        rates = [(network, config.learning_rate), ([self.psi], config.psi_rate)]
        rates = [{"params": params, "lr": share * rate} for params, rate in rates]
        self.optimiser = torch.optim.Adam(rates, betas=(0.5, 0.99))
        self.faces = FaceNet().to(device, dtype)
        self.critics = [*self.critic.parameters(), self.person]
        self.critic_optimiser = torch.optim.Adam(self.critics, config.critic_rate, (0.0, 0.99))
        self.start = [p.detach().clone() for p in self.tuned]
        self.average = [p.clone() for p in self.start]

    def step(self, number: int, items: list[Item]) -> None:
        """Learn from items. Raises FloatingPointError when the networks have gone astray."""
        made = self._forward(self._batch(items))
        terms = self._terms(number, made)
        every = self.config.critic_every
        adversarial = number % every == 0
        if adversarial:
            person, seen = self.person.expand(len(made.target), -1), (made.image, made.target, made.drawing)
            with self._autocast():
                terms |= losses.generator_adversarial(
                    self.critic, *seen, person.detach(), self.config.weights, every, made.centres
                )
        self._update(self.optimiser, self.tuned, sum(terms.values()))
        if adversarial:
            with self._autocast():
                loss = losses.critic_loss(self.critic, *seen, person, made.centres)
            self._update(self.critic_optimiser, self.critics, loss)
        keep = min(self.config.average, (number + 1) / (number + 4))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.tuned], 1 - keep)

    def reached(self) -> list[Tensor]:
        """Return G and psi between untuned and tuned (WiSE-FT, Wortsman et al., CVPR 2022)."""
        return list(torch._foreach_lerp(self.start, self.average, self.config.share))

    @torch.no_grad()
    def measure(self, items: list[Item], values: list[Tensor]) -> float:
        """Return the loss of the generator with `values`, rounded as a file rounds them, on held-out items."""
        learning = [p.detach().clone() for p in self.tuned]
        self._set([value.half().float() for value in values])
        total = 0.0
        for number, item in enumerate(items):
            terms = self._terms(number, self._forward(self._batch([item])))
            total += float(terms["image"] + terms["face"])
        self._set(learning)
        return total / len(items)

    def result(self, values: list[Tensor]) -> tuple[Generator, Tensor]:
        """Return the generator and psi with `values`, rounded as a file rounds them, on the CPU."""
        self._set([value.half().float() for value in values])
        return self.generator.eval().requires_grad_(False).cpu(), self.psi.detach().cpu()

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        torch._foreach_copy_(self.tuned, values)

    def _batch(self, items: list[Item]) -> Batch:
        episodes, pictures = zip(*items)
        pictures = Pictures(*(part.to(self.device) for part in vars(stacked(list(pictures))).values()))
        return make_batch(collate(list(episodes)), pictures, self.device, len(items))

    def _forward(self, batch: Batch) -> Made:
        with torch.no_grad(), self._autocast():
            features, _ = encode(self.source, batch)
        made = paint(self.generator, batch, features, self.psi, self.config.margin, self._autocast)
        if not all(part.isfinite().all() for part in made.painting):
            raise FloatingPointError("fine-tuning diverged")
        return made

    def _terms(self, number: int, made: Made) -> dict[str, Tensor]:
        """Return the weighted losses without D."""
        shares, count = self.config.weights, len(made.target)
        terms = losses.pixel_losses(made.composite, made.painting, made.target, made.x, count, shares)
        seen, real_seen = losses.jittered(number, half(made.image), half(made.target))
        with self._autocast():
            terms["face"] = shares.face * perceptual_distance(self.faces, seen, real_seen)
            side = min(self.config.local_side, *made.image.shape[2:])
            terms |= losses.local_losses(
                number, made.image, made.target, made.centres, count, side, self.faces, None, shares
            )[0]
        return terms

    def _autocast(self):
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def _update(self, optimiser: torch.optim.Optimizer, parameters: list, loss: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        optimiser.step()


def _critic(weights: Weights, seed: int) -> Discriminator:
    """Return the weights' own critic, or a new one: its features are a measure of likeness even untrained."""
    if weights.critic is not None:
        return weights.critic
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Discriminator(weights.config)
