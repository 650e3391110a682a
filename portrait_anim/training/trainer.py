"""The state of a training run and one step of it: E or the source encoder, G and D (arXiv 1905.08233, section 3.2)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..networks.config import PAPER, ModelConfig
from ..networks.embedder import Embedder
from ..networks.generator import Generator
from ..networks.paper import PaperGenerator
from ..networks.perceptual import FaceNet, ImageNetFeatures, VGGFeatures, perceptual_distance
from ..networks.source import SourceEncoder
from ..networks.weights import parts_of
from ..painting.painter import multiplies_in_bf16
from . import losses
from .adversary import FeatureAdversary, Judged, PaperAdversary
from .batches import Batch, make_batch
from .episodes import EpisodeConfig, Episodes
from .frames import CACHE_GB, FrameStore
from .losses import Close, LossWeights, half
from .shards import Shard
from .steps import Made, embed, encode, paint, paint_paper


@dataclass(frozen=True)
class TrainConfig:
    """How a run trains. The defaults are for a GPU; `for_cpu` gives those for a processor."""

    batch: int = 8  # episodes a step and process; each has EpisodeConfig.targets boxes
    margin: int = 0  # px along the boxes' border that no loss looks at
    learning_rate: float = 3e-4
    critic_rate: float = 1e-3
    warm_up: int = 200  # steps of rising learning rate
    steps: int | None = None  # in all: the learning rate falls to 0 by then, as a cosine
    plan_minutes: float | None = None  # the same by time, of all slices together; with neither the rate stays
    ema: float = 0.999
    clip_norm: float = 10.0
    adversarial_after: int = 4000  # steps of phase 1
    source_every: int = 1  # the source encoder learns on every n-th step only; on the others it costs a third
    look_every: int = 1  # the ImageNet losses of whole boxes on every n-th step only
    local_side: int = 192  # px: side of the squares around mouth and eyes that perceptual losses look at
    settle_every: int = 16  # steps after which the state is rounded to what a checkpoint holds, see `checkpoints`
    vgg19: Path | None = None  # files of the paper's perceptual networks, which nobody may ship
    vggface: Path | None = None
    seed: int = 0
    bf16: bool = True
    weights: LossWeights = field(default_factory=LossWeights)
    episodes: EpisodeConfig = field(default_factory=EpisodeConfig)

    @classmethod
    def for_cpu(cls, **changes) -> TrainConfig:
        """Return steps of eight boxes, where what costs most is done less often; bf16 where the processor has it."""
        own = dict(batch=2, margin=16, source_every=3, look_every=2, local_side=128, settle_every=8)
        return cls(**own | dict(bf16=multiplies_in_bf16(), episodes=EpisodeConfig.for_cpu()) | changes)


class Trainer:
    """State of one run: networks, optimisers, EMA and the counters that make resuming exact.

    cache, cache_gb: the folder for decoded frames (None: a temporary one), and how large it may become. planned: the
    seconds of the run that count for the learning rate of a run planned by time.
    """

    def __init__(
        self,
        shards: list[Shard],
        model: ModelConfig = ModelConfig(),
        config: TrainConfig = TrainConfig(),
        device: torch.device = torch.device("cpu"),
        cache: Path | None = None,
        cache_gb: float = CACHE_GB,
    ):
        torch.manual_seed(config.seed)
        self.model, self.config, self.device = model, config, device
        self.is_paper = model.kind == PAPER
        self.episodes = Episodes(shards, config.seed, config.batch, config.episodes)
        self.shards, self.store = shards, FrameStore(shards, device, cache, cache_gb)
        ready = lambda network: network.to(device, memory_format=torch.channels_last)
        self.generator = ready(PaperGenerator(model) if self.is_paper else Generator(model))
        self.encoder = ready(Embedder(model) if self.is_paper else SourceEncoder(model))
        if self.is_paper:
            people = len(self.episodes.groups)
            self.adversary = PaperAdversary(model, people, config.weights, device, config.critic_rate)
        else:
            self.adversary = FeatureAdversary(self.generator.out.weight, config.weights, device, config.critic_rate)
        self.painters = [*self.generator.parameters(), *self.encoder.parameters()]
        self.optimiser = torch.optim.Adam(self.painters, config.learning_rate, (0.9, 0.99), fused=True)
        self.average = [p.detach().clone() for p in self.painters]
        dtype = torch.bfloat16 if config.bf16 else torch.float32
        self.faces, self.looks = (network.to(device, dtype) for network in (FaceNet(), ImageNetFeatures()))
        files = {"vgg19": config.vgg19, "vggface": config.vggface}
        self.vgg = {n: VGGFeatures(file, n == "vggface").to(device, dtype) for n, file in files.items() if file}
        self.step, self.seconds, self.planned = 0, 0.0, 0.0
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)

    # ---------------------------------------------------------------- one step

    def batch_of(self, episodes: dict[str, Tensor]) -> Batch:
        """Return collated episodes with their pictures, on the device."""
        numbers = (episodes[name].numpy() for name in ("photos", "targets"))
        pictures = self.store.fetch(episodes["shard"].tolist(), *numbers)
        return make_batch(episodes, pictures, self.device, self.episodes.sharp)

    def train_step(self, episodes: dict[str, Tensor]) -> dict[str, Tensor]:
        """Make one update of G and the encoder, and in phase 2 of D. Returns the loss terms, on the device."""
        config, share = self.config, self._rate_share()
        for optimiser, rate in ((self.optimiser, config.learning_rate), (self.adversary.optimiser, config.critic_rate)):
            optimiser.param_groups[0]["lr"] = rate * share
        batch = self.batch_of(episodes)
        made, e = self._forward(batch, self.step % config.source_every == 0)
        terms, close = self._terms(made, batch.sharp * batch.boxes)
        judged = Judged(batch, made, e, close, terms)
        adversarial = self.step >= config.adversarial_after
        if adversarial:
            with self.autocast():
                terms = terms | self.adversary.terms(judged)
        self._update(self.optimiser, self.painters, sum(terms.values()))
        if adversarial:
            with self.autocast():
                own = self.adversary.loss(judged)
            if own is not None:
                self._update(self.adversary.optimiser, list(self.adversary.network.parameters()), own[1])
                terms |= dict([own])
        self.step += 1
        keep = min(self.config.ema, self.step / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.painters], 1 - keep)
        with torch.no_grad():
            if made.x is not None:
                terms["l1 warp"] = (made.x[:, :3] - made.target).abs().mean()
            terms["l1"] = (made.image - made.target).abs().mean()
        return {name: value.detach() for name, value in terms.items()}

    def _forward(self, batch: Batch, encoder_learns: bool = True) -> tuple[Made, Tensor]:
        """Return what is painted of a batch, and e (B, n)."""
        if self.is_paper:
            with self.autocast():
                e = embed(self.encoder, batch)
                psi = self.generator.projection(e)
            return paint_paper(self.generator, batch, psi.repeat_interleave(batch.boxes, 0), self.autocast), e
        with torch.set_grad_enabled(encoder_learns), self.autocast():
            features, e = encode(self.encoder, batch)
        psi = self.generator.projection(e).repeat_interleave(batch.boxes, 0)
        return paint(self.generator, batch, features, psi, self.config.margin, self.autocast), e

    def _terms(self, made: Made, sharp: int) -> tuple[dict[str, Tensor], Close | None]:
        """Return the weighted losses that need no D, and what the closest look compared."""
        config, shares, close = self.config, self.config.weights, None
        looks = self.looks if self.step % config.look_every == 0 else None
        if self.is_paper:
            terms = {"image": shares.image * (made.image - made.target).abs().mean()}
            image, target = losses.jittered(self.step, made.image, made.target)
        else:
            terms = losses.pixel_losses(made.composite, made.painting, made.target, made.x, sharp, shares)
            image, target = losses.jittered(self.step, half(made.image), half(made.target))
        with self.autocast():
            terms["face"] = shares.face * perceptual_distance(self.faces, image, target)
            if looks is not None:
                terms["look"] = shares.look * perceptual_distance(looks, image, target)
            for name, net in self.vgg.items():
                terms[name] = getattr(shares, name) * perceptual_distance(net, image, target, relative=False)
            if not self.is_paper:
                side = min(config.local_side, *made.image.shape[2:])
                local, close = losses.local_losses(
                    self.step, made.image, made.target, made.centres, sharp, side, self.faces, self.looks, shares
                )
                terms |= local
        return terms, close

    def _rate_share(self) -> float:
        """Return the share of the learning rates at this step."""
        config, rise = self.config, min(1.0, (self.step + 1) / self.config.warm_up)
        if config.steps is None and config.plan_minutes is None:
            return rise
        gone = self.step / config.steps if config.steps else self.planned / (60 * config.plan_minutes)
        return rise * (1 + math.cos(math.pi * min(1.0, gone))) / 2

    def autocast(self):
        """Within it networks compute in bf16, if the run does."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.bf16)

    def _update(self, optimiser: torch.optim.Optimizer, parameters: list[nn.Parameter], loss: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        learning = [p for p in parameters if p.grad is not None]  # the same in all processes
        if self.world > 1:  # the mean gradient of all of them, in one message
            flat = torch.cat([p.grad.reshape(-1) for p in learning])
            dist.all_reduce(flat)
            for p, grad in zip(learning, flat.div_(self.world).split([p.numel() for p in learning])):
                p.grad.copy_(grad.view_as(p))
        norm = nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        optimiser.found_inf = (~norm.isfinite()).float()  # then the step is left out, without waiting for the device
        optimiser.step()

    # ---------------------------------------------------------------- what ships

    @torch.no_grad()
    def averaged(self) -> dict[str, nn.Module]:
        """Return copies of the networks with the averaged weights, on the CPU, by the names of a weights file."""
        encoder, generator = networks = [copy.deepcopy(network) for network in (self.encoder, self.generator)]
        for p, mean in zip([*generator.parameters(), *encoder.parameters()], self.average):
            p.copy_(mean)
        return {name: network.cpu().eval() for name, network in zip(parts_of(self.model), networks)}
