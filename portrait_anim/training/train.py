"""Meta-learning: E, G and D on episodes of many people (arXiv 1905.08233, section 3.2, on a warped photo).

Phase 1 learns without D; phase 2, after `adversarial_after` steps, with it. What ships is the moving average (EMA)
of G and E. A run's folder holds checkpoint.pt (everything to continue exactly), log.jsonl and samples-*.png.
"""

import json
import math
import pickle
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..errors import InputError
from ..networks import weights
from ..networks.networks import Discriminator, Embedder, Generator, ModelConfig
from ..networks.perceptual import FaceNet, ImageNetFeatures, VGGFeatures, perceptual_distance
from ..painting.painter import multiplies_in_bf16
from ..system.files import atomic_write
from . import losses
from .episodes import EpisodeConfig, Episodes, embedder_input
from .losses import LossWeights, to_unit
from .prepare import Shard, load_shards

CHECKPOINT_FORMAT = 1


@dataclass(frozen=True)
class TrainConfig:
    batch: int = 8  # pairs a step and process; each gives EpisodeConfig.crops crops
    learning_rate: float = 3e-4
    critic_rate: float = 4e-4
    warm_up: int = 300  # steps of rising learning rate
    steps: int | None = None  # in all: the learning rate falls to 0 by then, as a cosine; None: it stays, no end
    ema: float = 0.999
    clip_norm: float = 10.0
    adversarial_after: int = 4000  # steps of phase 1
    critic_every: int = 3  # phase 2 asks D, and trains it, on every n-th step only: it is half of a step's cost
    look_every: int = 2  # the ImageNet loss on every n-th step, on one crop per pair: a third of its cost
    vgg19: Path | None = None  # files of the paper's perceptual networks, which nobody may ship
    vggface: Path | None = None
    seed: int = 0
    bf16: bool = field(default_factory=multiplies_in_bf16)  # elsewhere it is many times slower than fp32
    weights: LossWeights = field(default_factory=LossWeights)
    episodes: EpisodeConfig = field(default_factory=EpisodeConfig)


class _Window(Dataset):
    """The episodes from `start` on, this process' share of them."""

    def __init__(self, episodes: Episodes, start: int, rank: int, world: int):
        self.episodes, self.start, self.rank, self.world = episodes, start, rank, world

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, j: int) -> dict[str, Tensor]:
        return self.episodes[(self.start + j) * self.world + self.rank]


class Trainer:
    """State of one run: networks, optimisers, EMA and the counters that make resuming exact."""

    def __init__(self, shards: list[Shard], model: ModelConfig = ModelConfig(), config: TrainConfig = TrainConfig()):
        torch.manual_seed(config.seed)
        self.model, self.config = model, config
        self.episodes = Episodes(shards, config.seed, config.episodes)
        last = torch.channels_last
        self.generator = Generator(model).to(memory_format=last)
        self.embedder = Embedder(model).to(memory_format=last)
        self.critic = Discriminator(model, n_videos=len(self.episodes.groups)).to(memory_format=last)
        painters = [*self.generator.parameters(), *self.embedder.parameters()]
        self.painters = painters
        self.optimiser = torch.optim.Adam(painters, config.learning_rate, (0.9, 0.99), fused=True)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), config.critic_rate, (0.0, 0.99), fused=True)
        self.average = [p.detach().clone() for p in painters]
        dtype = torch.bfloat16 if config.bf16 else torch.float32
        self.faces, self.looks = FaceNet().to(dtype), ImageNetFeatures().to(dtype)
        files = {"vgg19": config.vgg19, "vggface": config.vggface}
        self.vgg = {name: VGGFeatures(file, name == "vggface").to(dtype) for name, file in files.items() if file}
        self.step, self.seconds = 0, 0.0
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)

    # ---------------------------------------------------------------- one step

    def embed(self, batch: dict[str, Tensor]) -> Tensor:
        """e of each pair: the mean of E over its source photos, (B, embedding)."""
        count = batch["count"]
        filled = torch.arange(batch["sources"].shape[1])[None] < count[:, None]  # (B, K)
        e = self.embedder(to_unit(batch["sources"][filled]), to_unit(batch["drawings"][filled]))
        rows = filled.nonzero()[:, 0]
        total = torch.zeros(len(count), e.shape[1], dtype=e.dtype).index_add(0, rows, e)
        return (total / count[:, None]).float()

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """One update of G and E, and in phase 2 of D. Returns the loss terms."""
        config, shares = self.config, self.config.weights
        share = self._rate_share()
        for group, rate in ((self.optimiser, config.learning_rate), (self.critic_optimiser, config.critic_rate)):
            group.param_groups[0]["lr"] = rate * share
        crops = batch["x"].shape[1]
        x = batch["x"].flatten(0, 1).contiguous(memory_format=torch.channels_last)
        target, drawing = to_unit(batch["target"].flatten(0, 1)), x[:, 3:6]
        with self._autocast():
            e = self.embed(batch)
            psi = self.generator.projection(e).repeat_interleave(crops, 0)
            painting = self.generator(drawing if self.model.kind == "paper" else x, psi)
        if self.model.kind == "paper":
            image = painting.float()
            terms = {"image": shares.image * (image - target).abs().mean()}
        else:
            made = losses.compose(batch, painting)
            inside = x[:, 6:8].sum(1, keepdim=True)
            terms = losses.pixel_losses(made, painting, target, inside, shares)
            image = made.image
        image = image.contiguous(memory_format=torch.channels_last)
        seen, real_seen = losses.jittered(self.step, image, target)
        with self._autocast():
            terms["face"] = shares.face * perceptual_distance(self.faces, seen, real_seen)
            if self.step % config.look_every == 0:
                rows = torch.arange(len(batch["x"])) * crops + (self.step // config.look_every) % crops
                terms["look"] = shares.look * perceptual_distance(self.looks, seen[rows], real_seen[rows])
            for name, net in self.vgg.items():
                terms[name] = getattr(shares, name) * perceptual_distance(net, seen, real_seen, relative=False)
        adversarial = self.step >= config.adversarial_after and self.step % config.critic_every == 0
        if adversarial:
            person = batch["person"].repeat_interleave(crops, 0)
            local = {part: batch[part].flatten(0, 1) for part in ("mouth", "eyes")}
            with self._autocast():
                terms |= losses.generator_adversarial(
                    self.critic, image, target, drawing, person, shares, config.critic_every, **local
                )
            terms["match"] = shares.match * (e - self.critic.videos(batch["person"]).detach()).abs().mean()
        self._update(self.optimiser, self.painters, sum(terms.values()))
        if adversarial:
            with self._autocast():
                loss = losses.critic_loss(self.critic, image, target, drawing, person, **local)
            loss = loss + shares.match * (e.detach() - self.critic.videos(batch["person"])).abs().mean()
            self._update(self.critic_optimiser, list(self.critic.parameters()), loss)
            terms["critic"] = loss
        self.step += 1
        keep = min(self.config.ema, self.step / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.painters], 1 - keep)
        terms["l1 warp"] = (x[:, :3] - target).abs().mean()
        terms["l1"] = (image - target).abs().mean()
        return {k: float(v.detach()) for k, v in terms.items()}

    def _rate_share(self) -> float:
        """Of the learning rates, at this step."""
        rise = min(1.0, (self.step + 1) / self.config.warm_up)
        steps = self.config.steps
        return rise if steps is None else rise * (1 + math.cos(math.pi * min(1.0, self.step / steps))) / 2

    def _autocast(self):
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.bf16)

    def _update(self, optimiser: torch.optim.Optimizer, parameters: list[nn.Parameter], loss: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.world > 1:  # the mean gradient of all processes, in one message
            grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
            flat = torch.cat([g.reshape(-1) for g in grads])
            dist.all_reduce(flat)
            for p, g in zip(parameters, flat.div_(self.world).split([g.numel() for g in grads])):
                p.grad = g.view_as(p).clone(memory_format=torch.preserve_format)
        nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        optimiser.step()

    @torch.no_grad()
    def standardise(self) -> None:
        """Give e mean 0 and deviation 1 over people, without changing what G does, and D's rows W that e.

        An average over a photo's pixels hardly differs between people: left alone, e becomes a constant and is
        ignored. (Data-dependent initialisation as in LSUV, Mishkin and Matas, ICLR 2016.)
        """
        side = self.config.episodes.embedder_size
        first = {shard.group: shard for shard in reversed(self.episodes.shards)}
        photos, drawings = zip(*(embedder_input(s.image(0), s.landmarks[0], side) for _, s in sorted(first.items())))
        e = self.embedder(*(to_unit(torch.stack(images)) for images in (photos, drawings)))
        mean = e.mean(0)
        spread = e.std(0, correction=0).clamp(min=1e-3 * float(mean.abs().mean()))
        out, projection = self.embedder.out, self.generator.projection
        projection.bias += projection.weight @ mean
        projection.weight *= spread
        out.weight /= spread[:, None]
        out.bias.sub_(mean).div_(spread)
        self.critic.videos.weight.copy_((e - mean) / spread)
        self.average = [p.detach().clone() for p in self.painters]

    # ---------------------------------------------------------------- checkpoints

    def averaged(self) -> tuple[Generator, Embedder]:
        """Copies of G and E with the averaged weights: what is evaluated and shipped."""
        generator, embedder = Generator(self.model), Embedder(self.model)
        for network, current in ((generator, self.generator), (embedder, self.embedder)):
            network.load_state_dict(current.state_dict())  # for the buffers of spectral norm
        with torch.no_grad():
            for p, mean in zip([*generator.parameters(), *embedder.parameters()], self.average):
                p.copy_(mean)
        return generator.eval(), embedder.eval()

    def start_from(self, start: weights.Weights) -> None:
        """Take G and E of a weights file of the same model."""
        self.generator.load_state_dict(start.generator.state_dict())
        self.embedder.load_state_dict(start.embedder.state_dict())
        self.average = [p.detach().clone() for p in self.painters]

    def save(self, path: Path) -> None:
        """Everything that a later process needs to continue exactly."""
        state = {
            "format": CHECKPOINT_FORMAT, "model": asdict(self.model), "groups": self.episodes.groups,
            "step": self.step, "seconds": self.seconds, "random": torch.get_rng_state(), "average": self.average,
            **{name: getattr(self, name).state_dict() for name in self._PARTS},
        }  # fmt: skip
        with atomic_write(path) as partial:
            torch.save(state, partial)

    _PARTS = ("generator", "embedder", "critic", "optimiser", "critic_optimiser")

    def load(self, path: Path) -> None:
        """Continue a saved run. Raises InputError when it belongs to another model or other people."""
        try:
            state = torch.load(path, weights_only=True)
            same = state["format"] == CHECKPOINT_FORMAT and ModelConfig(**state["model"]) == self.model
            if not same or state["groups"] != self.episodes.groups:
                raise InputError(f"{path}: made with another model or other shards; give --out another folder.")
            for name in self._PARTS:
                getattr(self, name).load_state_dict(state[name])
            self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]
            torch.set_rng_state(state["random"])
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            kind = type(error).__name__
            raise InputError(f"{path}: not a readable checkpoint ({kind}); delete it to start again.") from error


def _ignore_signals(worker: int) -> None:
    """Ctrl-C goes to every process of a terminal: the workers leave it to the trainer, which saves first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def meta_train(
    shards: Path,
    out: Path,
    minutes: float | None = None,
    workers: int = 1,
    model: ModelConfig = ModelConfig(),
    config: TrainConfig = TrainConfig(),
    init: Path | None = None,
    checkpoint_minutes: float = 3.0,
    evaluate_minutes: float = 15.0,
    progress: Callable[[dict], None] = lambda report: None,
    sample: Callable[["Trainer", Path], dict] | None = None,
) -> Trainer:
    """Train on the shards of folder `shards` into folder `out`, continuing what is there.

    Runs for `minutes` (None: until stopped); SIGTERM and Ctrl-C save a checkpoint and return. init: a weights file
    to start a new run from, with its model. progress gets step, losses and examples/s about every 2 s;
    sample(trainer, out) is called every evaluate_minutes and at the end. Under torchrun every process takes its
    share of the episodes and gradients are averaged.
    """
    start = weights.load(init) if init else None
    trainer = Trainer(load_shards(shards, held_out=False), start.config if start else model, config)
    if start:
        trainer.start_from(start)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    elif trainer.model.kind == "warp":
        trainer.standardise()
    if config.steps is not None and trainer.step >= config.steps:
        return trainer
    window = _Window(trainer.episodes, trainer.step * config.batch, trainer.rank, trainer.world)
    loader = DataLoader(
        window,
        config.batch,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_ignore_signals,
    )
    stop: list[int] = []
    handlers = {s: signal.signal(s, lambda number, _: stop.append(number)) for s in (signal.SIGTERM, signal.SIGINT)}
    begin, first = time.monotonic(), trainer.seconds
    saved = evaluated = shown = begin
    recent: list[dict[str, float]] = []
    try:
        for batch in loader:
            recent.append(trainer.train_step(batch))
            now = time.monotonic()
            trainer.seconds = first + now - begin
            done = bool(stop) or trainer.step == config.steps or (minutes is not None and now - begin >= minutes * 60)
            if trainer.world > 1:  # all stop together
                flag = torch.tensor(float(done))
                dist.all_reduce(flag, dist.ReduceOp.MAX)
                done = bool(flag)
            if trainer.rank == 0:
                if now - shown > 2 or done:
                    rate = len(recent) * config.batch * config.episodes.crops * trainer.world / (now - shown)
                    means = {k: sum(r.get(k, 0) for r in recent) / sum(k in r for r in recent) for k in recent[-1]}
                    progress({"step": trainer.step, "seconds": trainer.seconds, "crops/s": rate, **means})
                    recent, shown = [], now
                if now - saved > checkpoint_minutes * 60 or done:
                    trainer.save(checkpoint)
                    saved = now
                if sample and (now - evaluated > evaluate_minutes * 60 or done):
                    report = {"step": trainer.step, "seconds": round(trainer.seconds), **sample(trainer, out)}
                    with open(out / "log.jsonl", "a") as log:
                        log.write(json.dumps(report) + "\n")
                    progress(report)
                    evaluated = shown = time.monotonic()
            if done:
                break
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return trainer
