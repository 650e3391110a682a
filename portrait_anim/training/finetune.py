"""Fine-tune the networks on a few photos of one person (arXiv 1905.08233, section 3.3, here on a warped photo).

The source encoder is frozen. psi = P e becomes free and is learned together with G, against D, with the losses of
meta-training. D's row of the person starts as e and is learned, too. With two photos or more, each photo is made from
the others. A single photo is re-posed by the mesh, and G learns to restore it from that. The result is measured on
pairs, or re-posings, that are not learned from, and is never worse there than the person without tuning.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..geometry.view import View
from ..networks.generator import Generator
from ..networks.weights import Weights, load
from ..painting.painter import Painter
from ..painting.person import Person
from ..portrait.portrait import Portrait
from .tuner import FinetuneConfig, Tuner

AUTO_STEPS, AUTO_SECONDS = 80, 110.0  # the budget of "auto": so many steps, in at most so many seconds


@dataclass
class Tuned:
    """The result of fine-tuning.

    generator, psi (1, n): the person, fp32 with the precision of fp16, as a file keeps them. before, after: the loss on
    what was held out. seconds: the duration.
    """

    generator: Generator
    psi: Tensor
    before: float
    after: float
    steps: int
    seconds: float

    @property
    def helped(self) -> bool:
        """Whether tuning gave a lower loss; if not, generator and psi are the untuned ones."""
        return self.after < self.before


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
    """Tune G and psi to the person on these photos (one view each) and return them. The given weights stay as they are.

    Tuning ends after `seconds`; after `steps`, so that the same seed gives the same person; when `should_stop()` is
    true; or when the loss has not improved for a while. weights: with fp32 networks, best with their critic. dtype:
    bf16 where the device is fast at it. `progress` gets the seconds done and the seconds in all, or with `steps` the
    steps; those in all become fewer when it is stopped early.
    """
    begin, total = time.monotonic(), steps or round(seconds)
    spent = lambda: number if steps else min(total - 1, round(time.monotonic() - begin))
    progress(0, total)
    tuner = Tuner(views, weights, seed, device, torch.bfloat16 if dtype == torch.float16 else dtype, config)
    examples, pairs = tuner.examples, config.pairs
    checks = [examples.item(j, held_out=True) for j in range(config.checks)]
    ready = time.monotonic()
    best, before = tuner.start, tuner.measure(checks, tuner.start)
    reserve = time.monotonic() - ready  # s, kept for the last measurement
    after, since, number = before, 0, 0
    with ThreadPoolExecutor(1) as pool:  # makes the next items while the networks learn from these
        make = lambda number: [examples.item(j) for j in range(number * pairs, (number + 1) * pairs)]
        coming = pool.submit(make, 0)
        while since < config.patience:
            ended = number == steps or time.monotonic() - begin + reserve >= seconds
            if stopped := not ended and should_stop():
                total = max(1, spent())
            ended = ended or stopped
            if ended and number != steps:
                progress(total, total)
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
            progress(spent(), total)
        else:  # the loss has not improved for a while
            progress(total, total)
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
    """Return the person of these portraits, fine-tuned within a budget of seconds or "auto".

    When that did not help, the person is untuned and has a note that says so. painter: made of the same weights file.
    """
    views = [portrait.views[0] for portrait in portraits]
    start = load(weights, critic=True)
    steps, seconds = (AUTO_STEPS, AUTO_SECONDS) if budget == "auto" else (None, budget)
    tuned = finetune(views, start, seconds, steps, seed, painter.device, painter.dtype, progress, should_stop)
    if not tuned.helped:
        person = Person.of(portraits, painter)
        warnings = person.notes
        warnings.append("Fine-tuning did not come nearer to the photos than the portrait is without; it was left out.")
        return person
    encoding = replace(painter.encode(portraits[0].views), code=tuned.psi)
    return Person(portraits, painter.with_generator(tuned.generator), encoding, tuned=True)


@contextmanager
def ended_by_interrupt() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C was pressed, for use as a context manager.

    Within the block the first Ctrl-C has no other effect. The next one does what it did before.
    """
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
