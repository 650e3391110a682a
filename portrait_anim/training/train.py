"""Meta-learning from shards: the loop around `trainer`, with checkpoints, samples and a clean end.

Phase 1 learns without D; phase 2, after `adversarial_after` steps, with it. What ships is the moving average (EMA) of
G and the encoder. A run's folder holds checkpoint.pt (everything to continue exactly), log.jsonl, losses.png, and the
pictures of samples.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..geometry.view import CROP
from ..networks import weights
from ..networks.config import PAPER, ModelConfig
from ..system.files import make_folder
from ..system.signals import ENDING
from ..system.threads import cores
from . import checkpoints
from .batches import collate
from .episodes import Episodes
from .frames import CACHE_GB
from .history import Log, can_plot, plot, read_log
from .processes import joined
from .shards import find_shards, load_shards
from .trainer import TrainConfig, Trainer

SHOWN = 2.0  # s between reports


class _Window(Dataset):
    """The episodes from `start` on, this process' share of them: batch by batch, so that each has its sharp ones."""

    def __init__(self, episodes: Episodes, start: int, rank: int, world: int):
        self.episodes, self.start, self.rank, self.world = episodes, start, rank, world

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, j: int) -> dict:
        number, place = divmod(j, self.episodes.batch)
        return self.episodes[((self.start + number) * self.world + self.rank) * self.episodes.batch + place]


def _ignore_signals(worker: int) -> None:
    """Leave Ctrl-C, which goes to every process of a terminal, to the trainer, which saves first."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def own_config(device: torch.device, paper: bool = False, **changes) -> TrainConfig:
    """Return the configuration that suits a device. paper: for the paper's networks, which see whole frames."""
    config = TrainConfig(**changes) if device.type == "cuda" else TrainConfig.for_cpu(**changes)
    if paper:
        whole = replace(config.episodes, side=CROP, targets=1)
        config = replace(config, margin=0, source_every=1, critic_rate=4e-4, settle_every=2, episodes=whole)
    return config


def meta_train(
    shards: Path,
    out: Path,
    minutes: float | None = None,
    workers: int | None = None,
    model: ModelConfig = ModelConfig(),
    config: TrainConfig | None = None,
    init: Path | None = None,
    device: torch.device = torch.device("cpu"),
    processes: int = 1,
    cache: Path | None = None,
    cache_gb: float = CACHE_GB,
    checkpoint_minutes: float = 0.75,
    evaluate_minutes: float = 15.0,
    progress: Callable[[dict], None] = lambda report: None,
    sample: Callable[[Trainer, Path], dict] | None = None,
) -> Trainer:
    """Train on the shards of folder `shards` into folder `out`, continuing what is there.

    It runs for `minutes` (None: until stopped), whatever the run's whole plan in `config` is; SIGTERM, SIGHUP and
    Ctrl-C save and return. A run in several such slices is the same as one in one piece, if it has as many processes.

    workers: processes that make episodes, None for what suits the device. config: None for that of the device. init: a
    weights file to start a new run from, with its model. processes: how many train together on this machine; under
    torchrun they are there already. Each takes its share of the episodes, and gradients are averaged. cache: the folder
    for decoded frames, None for `decoded` in that of the shards; cache_gb: how large it may become. progress gets step,
    losses and frames/s about every 2 s. sample(trainer, out) is called every evaluate_minutes and at the end of a
    slice.

    Raises UsageError, InputError, OutputError, PortraitAnimError.
    """
    find_shards(shards)
    make_folder(out)
    given = (shards, out, minutes, workers, model, config, init, cache or shards / "decoded", cache_gb)
    rest = (checkpoint_minutes, evaluate_minutes)
    with joined(device, processes, _follow, *given, device, *rest) as place:
        return _train(*given, place, *rest, progress, sample)


def _follow(*given) -> None:
    """Do what `meta_train` does in another process than the first."""
    _train(*given, lambda report: None, None)


def _train(
    shards: Path, out: Path, minutes: float | None, workers: int | None, model: ModelConfig, config: TrainConfig | None,
    init: Path | None, cache: Path, cache_gb: float, device: torch.device, checkpoint_minutes: float,
    evaluate_minutes: float, progress: Callable[[dict], None], sample: Callable[[Trainer, Path], dict] | None,
) -> Trainer:  # fmt: skip
    cv2.setNumThreads(1)  # before processes are forked: OpenCV's threads do not come along, and it would wait for them
    start = weights.load(init, critic=True) if init else None
    config = config or own_config(device, model.kind == PAPER)
    model = start.config if start else model
    trainer = Trainer(load_shards(shards, held_out=False), model, config, device, cache, cache_gb)
    _begin(trainer, out, start)
    clock = _Clock(minutes, checkpoint_minutes, evaluate_minutes, trainer)
    if clock.plan_is_over() or (config.steps is not None and trainer.step >= config.steps):
        return trainer
    log = Log(out / "log.jsonl", trainer.step) if trainer.rank == 0 else None
    kept = checkpoints.settle(trainer)
    with _asked_to_stop() as stop:
        for episodes in _loader(trainer, workers):
            terms = trainer.train_step(episodes)
            clock.add(terms if log is not None else None)
            ended = trainer.step == config.steps or clock.plan_is_over()
            settled = ended or trainer.step % config.settle_every == 0
            if settled:
                trainer.planned = _of_the_first(trainer, trainer.seconds)
                kept = checkpoints.settle(trainer)
            done = _any_of_all(trainer, bool(stop) or ended or (settled and clock.over()))
            if log is not None:
                clock.report(lambda report: (progress(report), log.add(report, done)), done)
                if done or (settled and clock.due("save")):
                    checkpoints.save(kept, out / "checkpoint.pt")
                if sample and ((done and not stop) or clock.due("sample")):  # who says stop does not want to wait
                    report = {"step": trainer.step, "seconds": round(trainer.seconds), **sample(trainer, out)}
                    log.write(report)
                    progress(report)
                    if can_plot():
                        plot(read_log(log.path), out / "losses.png")
                    clock.rest()
            if done:
                break
    return trainer


def _begin(trainer: Trainer, out: Path, start: weights.Weights | None) -> None:
    """Continue the run in a folder, or begin one there."""
    torch.backends.cudnn.benchmark = True  # shapes on a GPU never change
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        checkpoints.load(trainer, checkpoint)
    elif start:
        checkpoints.start_from(trainer, start)
    elif not trainer.is_paper:
        checkpoints.standardise(trainer)


def _loader(trainer: Trainer, workers: int | None) -> DataLoader:
    if workers is None:  # a processor has nothing to gain: geometry is a twentieth of a step
        workers = max(1, cores() // trainer.world - 2) if trainer.device.type == "cuda" else 0
    window = _Window(trainer.episodes, trainer.step, trainer.rank, trainer.world)
    return DataLoader(
        window,
        trainer.config.batch,
        num_workers=workers,
        collate_fn=collate,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_ignore_signals,
        pin_memory=trainer.device.type == "cuda",
    )


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Within it SIGTERM, Ctrl-C and a terminal that is closed only put their number into the list."""
    stop: list[int] = []
    handlers = {s: signal.signal(s, lambda number, _: stop.append(number)) for s in ENDING}
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _any_of_all(trainer: Trainer, done: bool) -> bool:
    """Tell whether any process is done: all stop together."""
    if trainer.world == 1:
        return done
    flag = torch.tensor(float(done), device=trainer.device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def _of_the_first(trainer: Trainer, value: float) -> float:
    """Return what the first process gives."""
    if trainer.world == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=trainer.device)
    dist.broadcast(shared, 0)
    return float(shared)


class _Clock:
    """Says what is due, and sums up what the steps since the last report gave."""

    def __init__(self, minutes: float | None, save: float, sample: float, trainer: Trainer):
        self._trainer, self._minutes, self._first = trainer, minutes, trainer.seconds
        self._every = {"save": 60 * save, "sample": 60 * sample}
        self._begin = self._shown = self._block = time.monotonic()
        self._last = dict.fromkeys(self._every, self._begin)
        self._recent: list[dict[str, Tensor]] = []

    def add(self, terms: dict[str, Tensor] | None) -> None:
        """Count a step. terms: what it gave, None in a process that reports nothing: there it would pile up."""
        if terms is not None:
            self._recent.append(terms)
        self._trainer.seconds = self._first + time.monotonic() - self._begin

    def plan_is_over(self) -> bool:
        """Tell whether a run that is planned by time has had it, as of the last time that all processes agreed."""
        plan = self._trainer.config.plan_minutes
        return plan is not None and self._trainer.planned >= 60 * plan

    def over(self) -> bool:
        """Tell, at the end of a block of steps, whether another one would take longer than the slice may."""
        now = time.monotonic()
        block, self._block = now - self._block, now
        return self._minutes is not None and now + block - self._begin >= 60 * self._minutes

    def due(self, what: str) -> bool:
        """Tell whether it is time to save or to sample; if so, the next time is counted from now."""
        now = time.monotonic()
        if now - self._last[what] < self._every[what]:
            return False
        self._last[what] = now
        return True

    def rest(self) -> None:
        """Leave what was done since the last report out of the next frames/s."""
        self._shown = self._last["sample"] = time.monotonic()

    def report(self, progress: Callable[[dict], object], done: bool) -> None:
        """Report the means of the recent steps, every few seconds: only then the device is waited for."""
        trainer, now = self._trainer, time.monotonic()
        if now - self._shown < SHOWN and not done:
            return
        terms = {key: [float(r[key]) for r in self._recent if key in r] for r in self._recent for key in r}
        frames = len(self._recent) * trainer.config.batch * trainer.config.episodes.targets * trainer.world
        rate = frames / (time.monotonic() - self._shown)
        means = {key: sum(values) / len(values) for key, values in terms.items()}
        progress({"step": trainer.step, "seconds": trainer.seconds, "frames/s": rate, **means})
        self._recent, self._shown = [], time.monotonic()
