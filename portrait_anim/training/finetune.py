"""Few-shot fine-tuning on the photos of one person (arXiv 1905.08233, section 3.3, on a warped photo).

E is frozen. psi = P e is freed and learned together with G, against D, whose row of the person is e at first and
learned, too; with the losses of meta-training. Two photos or more: each photo is made from the others. One photo: it
is re-posed by the mesh, and G learns to restore it from that. What is learned is measured on pairs, or re-posings, that
are not learned from, and what is returned is never worse there than the person without tuning.
"""

from __future__ import annotations

import copy
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..geometry.warp import View
from ..networks.networks import Discriminator, Generator
from ..networks.perceptual import FaceNet, perceptual_distance
from ..networks.weights import Weights, load
from ..painting.painter import Painter, embed
from ..painting.person import Person
from ..portrait.portrait import Portrait
from . import losses
from .losses import LossWeights, to_unit
from .pairs import PairsConfig, TrainingPairs

AUTO_STEPS, AUTO_SECONDS = 80, 110.0  # "auto": so many steps, and at most so many seconds


@dataclass(frozen=True)
class FinetuneConfig:
    pairs: int = 2  # a step
    learning_rate: float = 3e-5  # of G; 1e-4 comes nearer to the photos, and its landmarks less near
    psi_rate: float = 3e-4
    single: float = 0.3  # times these rates for one photo: it tells nothing of other expressions
    critic_rate: float = 2e-4
    critic_every: int = 3  # D is asked, and learns, on every n-th step only
    average: float = 0.97  # of the moving average over steps
    share: float = 0.5  # of the way to that average that is gone: half of it has most of the gain, without the losses
    clip_norm: float = 10.0
    check_every: int = 50  # steps between measurements on what is held out
    checks: int = 4  # held-out items
    patience: int = 3  # measurements without a better one that end the tuning
    weights: LossWeights = LossWeights()
    examples: PairsConfig = field(default_factory=PairsConfig)


@dataclass
class Tuned:
    """generator, psi (1, n): the person, fp32 with fp16's precision, as a file keeps them. before, after: loss on what
    was held out. helped: False when nothing was better than no tuning, and generator and psi are untuned."""

    generator: Generator
    psi: Tensor
    before: float
    after: float
    steps: int
    seconds: float

    @property
    def helped(self) -> bool:
        return self.after < self.before


class _Tuner:
    """State of one run: G, psi and their moving average, D and its row of the person, their optimisers."""

    def __init__(
        self, views: list[View], weights: Weights, seed: int, device: torch.device, dtype: torch.dtype, config
    ):
        self.config, self.device, self.dtype = config, device, dtype
        precision = "fp32" if dtype == torch.float32 else "bf16"
        untuned = Painter(weights, device.type, precision)
        self.examples = TrainingPairs(views, untuned, seed, config.examples)
        last = torch.channels_last
        self.generator = copy.deepcopy(weights.generator).to(device, torch.float32, memory_format=last).train()
        self.critic = _critic(weights, seed).to(device, memory_format=last).train()
        with torch.no_grad():
            e = embed(weights.embedder.to(device), views, device)
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

    def step(self, number: int, items: list[dict[str, Tensor]]) -> None:
        batch = self._collate(items)
        made, painting, target, drawing = self._forward(batch, self.psi)
        terms = self._terms(number, batch, made, painting, target)
        every = self.config.critic_every
        adversarial = number % every == 0
        if adversarial:
            local = {part: batch[part].flatten(0, 1) for part in ("mouth", "eyes")}
            image = made.image.contiguous(memory_format=torch.channels_last)
            person = self.person.expand(len(target), -1)
            with self._autocast():
                terms |= losses.generator_adversarial(
                    self.critic, image, target, drawing, person.detach(), self.config.weights, every, **local
                )
        self._update(self.optimiser, self.tuned, sum(terms.values()))
        if adversarial:
            with self._autocast():
                loss = losses.critic_loss(self.critic, image, target, drawing, person, **local)
            self._update(self.critic_optimiser, self.critics, loss)
        keep = min(self.config.average, (number + 1) / (number + 4))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.tuned], 1 - keep)

    def reached(self) -> list[Tensor]:
        """G and psi between untuned and tuned (WiSE-FT, Wortsman et al., CVPR 2022)."""
        return list(torch._foreach_lerp(self.start, self.average, self.config.share))

    @torch.no_grad()
    def measure(self, items: list[dict[str, Tensor]], values: list[Tensor]) -> float:
        """Loss of the generator with `values`, rounded as a file rounds them, on held-out items."""
        learning = [p.detach().clone() for p in self.tuned]
        self._set([value.half().float() for value in values])
        total = 0.0
        for number, item in enumerate(items):
            batch = self._collate([item])
            made, painting, target, _ = self._forward(batch, self.psi)
            terms = self._terms(number, batch, made, painting, target)
            total += float(terms["image"] + terms["face"])
        self._set(learning)
        return total / len(items)

    def result(self, values: list[Tensor]) -> tuple[Generator, Tensor]:
        self._set([value.half().float() for value in values])
        return self.generator.eval().requires_grad_(False).cpu(), self.psi.detach().cpu()

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        torch._foreach_copy_(self.tuned, values)

    def _terms(self, number: int, batch: dict[str, Tensor], made, painting, target: Tensor) -> dict[str, Tensor]:
        """Weighted losses without D."""
        inside = batch["x"].flatten(0, 1)[:, 6:8].sum(1, keepdim=True)
        terms = losses.pixel_losses(made, painting, target, inside, self.config.weights)
        seen, real_seen = losses.jittered(number, made.image, target)
        with self._autocast():
            terms["face"] = self.config.weights.face * perceptual_distance(self.faces, seen, real_seen)
        return terms

    def _collate(self, items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {k: v.to(self.device) for k, v in torch.utils.data.default_collate(items).items()}

    def _forward(self, batch: dict[str, Tensor], psi: Tensor) -> tuple:
        x = batch["x"].flatten(0, 1).contiguous(memory_format=torch.channels_last)
        with self._autocast():
            painting = self.generator(x, psi)
        if not all(part.isfinite().all() for part in painting):  # and sampling at such places would be a crash
            raise FloatingPointError("fine-tuning diverged")
        return losses.compose(batch, painting), painting, to_unit(batch["target"].flatten(0, 1)), x[:, 3:6]

    def _autocast(self):
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def _update(self, optimiser: torch.optim.Optimizer, parameters: list, loss: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        optimiser.step()


def _critic(weights: Weights, seed: int) -> Discriminator:
    """The weights' own, or a new one: its features are a measure of likeness even untrained."""
    if weights.critic is not None:
        return copy.deepcopy(weights.critic)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Discriminator(weights.config)


def finetune(
    views: list[View],
    weights: Weights,
    seconds: float,
    steps: int | None = None,
    seed: int = 0,
    device: torch.device = torch.device("cpu"),
    dtype: torch.dtype = torch.float32,
    progress: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
    config: FinetuneConfig = FinetuneConfig(),
) -> Tuned:
    """Tune G and psi to the person on these photos (one view each) and return them; weights stay as they are.

    weights: with fp32 networks, best with their critic. It ends after `steps`, then the same seed gives the same
    person; after `seconds`; when should_stop() says so; or when nothing has got better for a while. dtype: bf16 where
    the device is fast at it. progress gets what is done of the seconds, or of the steps, and all of it.
    """
    begin = time.monotonic()
    progress(0, steps or round(seconds))
    tuner = _Tuner(views, weights, seed, device, torch.bfloat16 if dtype == torch.float16 else dtype, config)
    examples, pairs = tuner.examples, config.pairs
    checks = [examples.item(j, held_out=True) for j in range(config.checks)]
    ready = time.monotonic()
    best, before = tuner.start, tuner.measure(checks, tuner.start)
    reserve = time.monotonic() - ready  # s: what the last measurement will take
    after, since, number = before, 0, 0
    with ThreadPoolExecutor(1) as pool:  # makes the next items while the networks learn from these
        make = lambda number: [examples.item(j) for j in range(number * pairs, (number + 1) * pairs)]
        coming = pool.submit(make, 0)
        while since < config.patience:
            ended = number == steps or time.monotonic() - begin + reserve >= seconds or should_stop()
            try:
                if number and (ended or number % config.check_every == 0):
                    reached = tuner.reached()
                    value = tuner.measure(checks, reached)
                    since += 1
                    if value < after:
                        best, after, since = reached, value, 0
                if ended:
                    break
                items = coming.result()
                coming = pool.submit(make, number + 1)
                tuner.step(number, items)
            except FloatingPointError:
                break  # the best so far is kept
            number += 1
            progress(*((number, steps) if steps else (round(time.monotonic() - begin), round(seconds))))
        coming.cancel()
    generator, psi = tuner.result(best)
    return Tuned(generator, psi, before, after, number, time.monotonic() - begin)


def tune_person(
    portraits: list[Portrait],
    painter: Painter,
    weights: str | Path | None,
    budget: str | float = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Person:
    """The person of these portraits, fine-tuned by a budget of seconds or "auto"; untuned, with a note, when that did
    not help. painter: made of the same weights file."""
    views = [portrait.views[0] for portrait in portraits]
    start = load(weights, critic=True)
    steps, seconds = (AUTO_STEPS, AUTO_SECONDS) if budget == "auto" else (None, budget)
    tuned = finetune(views, start, seconds, steps, seed, painter.device, painter.dtype, progress, should_stop)
    if not tuned.helped:
        person = Person.of(portraits, painter)
        warnings = person.notes
        warnings.append("Fine-tuning did not come nearer to the photos than the portrait is without; it was left out.")
        return person
    return Person(portraits, painter.with_generator(tuned.generator), tuned.psi, tuned=True)


@contextmanager
def ended_by_interrupt() -> Iterator[Callable[[], bool]]:
    """Within it the first Ctrl-C only makes the yielded function true; the next one is what it was before."""
    asked: list[int] = []
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous in (signal.SIG_IGN, None):
        yield lambda: False
        return

    def first(number, frame) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, first)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, previous)
