"""Meta-learning from shards: the loop around `trainer`, with checkpoints, samples and a clean end.

Phase 1 learns without D; phase 2, after `adversarial_after` steps, with it. What ships is the moving average (EMA) of
G and the encoder. A run's folder holds checkpoint.pt (everything to continue exactly), log.jsonl and samples-*.png.
"""

from __future__ import annotations

import json
import os
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

from ..errors import UsageError
from ..geometry.view import CROP
from ..networks import weights
from ..networks.config import PAPER, ModelConfig
from ..painting.painter import choose_device
from ..system.signals import ENDING
from . import checkpoints
from .batches import collate
from .episodes import Episodes
from .shards import load_shards
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


def join_processes(device: str) -> torch.device:
    """Return the device to train on, as the option says it; under torchrun, join its other processes.

    Raises UsageError.
    """
    if device == "mps":
        raise UsageError("--device mps: training there has not been tried; choose auto, cpu or cuda.")
    chosen = choose_device(device)
    if chosen.type == "mps":
        chosen = torch.device("cpu")
    if "RANK" in os.environ:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        if chosen.type == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
            chosen = torch.device("cuda", torch.cuda.current_device())
    return chosen


def own_config(device: torch.device, paper: bool = False, **changes) -> TrainConfig:
    """Return the configuration that suits a device. paper: for the paper's networks, which see whole frames."""
    config = TrainConfig(**changes) if device.type == "cuda" else TrainConfig.for_cpu(**changes)
    if paper:
        whole = replace(config.episodes, side=CROP, targets=1)
        config = replace(config, margin=0, source_every=1, critic_every=1, episodes=whole)
    return config


def meta_train(
    shards: Path,
    out: Path,
    minutes: float | None = None,
    workers: int = 1,
    model: ModelConfig = ModelConfig(),
    config: TrainConfig | None = None,
    init: Path | None = None,
    device: torch.device = torch.device("cpu"),
    checkpoint_minutes: float = 3.0,
    evaluate_minutes: float = 15.0,
    progress: Callable[[dict], None] = lambda report: None,
    sample: Callable[[Trainer, Path], dict] | None = None,
) -> Trainer:
    """Train on the shards of folder `shards` into folder `out`, continuing what is there.

    It runs for `minutes` (None: until stopped); SIGTERM, SIGHUP and Ctrl-C save a checkpoint and return. config: None
    for that of the device. init: a weights file to start a new run from, with its model. progress gets step, losses and
    frames/s about every 2 s; sample(trainer, out) is called every evaluate_minutes and at the end. Under torchrun every
    process takes its share of the episodes, and gradients are averaged.
    """
    cv2.setNumThreads(1)  # before processes are forked: OpenCV's threads do not come along, and it would wait for them
    start = weights.load(init, critic=True) if init else None
    config = config or own_config(device, model.kind == PAPER)
    trainer = Trainer(load_shards(shards, held_out=False), start.config if start else model, config, device)
    _begin(trainer, out, start)
    if config.steps is not None and trainer.step >= config.steps:
        return trainer
    clock = _Clock(minutes, checkpoint_minutes, evaluate_minutes, trainer)
    with _asked_to_stop() as stop:
        for episodes in _loader(trainer, workers):
            clock.add(trainer.train_step(episodes))
            done = _all_agree(trainer, bool(stop) or trainer.step == config.steps or clock.over())
            if trainer.rank == 0:
                clock.report(progress, done)
                if clock.due("save", done):
                    checkpoints.save(trainer, out / "checkpoint.pt")
                if sample and clock.due("sample", done):
                    report = {"step": trainer.step, "seconds": round(trainer.seconds), **sample(trainer, out)}
                    with open(out / "log.jsonl", "a") as log:
                        log.write(json.dumps(report) + "\n")
                    progress(report)
                    clock.rest()
            if done:
                break
    return trainer


def _begin(trainer: Trainer, out: Path, start: weights.Weights | None) -> None:
    """Continue the run in a folder, or begin one there."""
    out.mkdir(parents=True, exist_ok=True)
    torch.backends.cudnn.benchmark = True  # shapes on a GPU never change
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        checkpoints.load(trainer, checkpoint)
    elif start:
        checkpoints.start_from(trainer, start)
    elif not trainer.is_paper:
        checkpoints.standardise(trainer)


def _loader(trainer: Trainer, workers: int) -> DataLoader:
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


def _all_agree(trainer: Trainer, done: bool) -> bool:
    """Tell whether any process is done: all stop together."""
    if trainer.world == 1:
        return done
    flag = torch.tensor(float(done), device=trainer.device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


class _Clock:
    """Says what is due, and sums up what the steps since the last report gave."""

    def __init__(self, minutes: float | None, save: float, sample: float, trainer: Trainer):
        self._trainer, self._minutes, self._first = trainer, minutes, trainer.seconds
        self._every = {"save": 60 * save, "sample": 60 * sample}
        self._begin = self._shown = time.monotonic()
        self._last = dict.fromkeys(self._every, self._begin)
        self._recent: list[dict[str, Tensor]] = []

    def add(self, terms: dict[str, Tensor]) -> None:
        self._recent.append(terms)
        self._trainer.seconds = self._first + time.monotonic() - self._begin

    def over(self) -> bool:
        return self._minutes is not None and time.monotonic() - self._begin >= 60 * self._minutes

    def due(self, what: str, done: bool) -> bool:
        """Tell whether it is time to save or to sample; if so, the next time is counted from now."""
        now = time.monotonic()
        if not done and now - self._last[what] < self._every[what]:
            return False
        self._last[what] = now
        return True

    def rest(self) -> None:
        """Leave what was done since the last report out of the next frames/s."""
        self._shown = self._last["sample"] = time.monotonic()

    def report(self, progress: Callable[[dict], None], done: bool) -> None:
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
