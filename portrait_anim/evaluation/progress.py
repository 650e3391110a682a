"""Held-out people while training: figures of fixed pairs, and pictures of the same pairs through time."""

from pathlib import Path

import cv2
import numpy as np

from ..networks.weights import Weights
from ..painting.painter import Painter
from ..training.shards import Shard
from ..training.trainer import Trainer
from .meter import METRICS, SIDE, Meter, reduced
from .pairs import choose_pairs
from .reenactment import reenact

PAIRS = 12
COLUMNS = 8  # most moments in the picture through time


class ProgressSamples:
    """Measures the averaged weights of a run on fixed pairs of held-out people.

    `meta_train` calls it now and then; not for models of the paper's kind, which cannot be reenacted from a warp.
    """

    def __init__(self, held_out: list[Shard]):
        pairs = choose_pairs(held_out, per_clip=1)
        self.pairs = pairs[:: max(1, len(pairs) // PAIRS)][:PAIRS]
        self._meter = Meter([pair.shard for pair in self.pairs])

    def __call__(self, trainer: Trainer, out: Path) -> dict[str, float]:
        """Write samples-STEP.png and through-time.png into a folder, and return the mean figures.

        The rows of both are pairs. The first has source, target, warp and model; the second source, target, and the
        model of several moments, the latest last.
        """
        painter = Painter(Weights(trainer.model, {}, "", **trainer.averaged()), "cpu", "fp32")
        rows, found, warp = [], [], []
        for pair in self.pairs:
            square = reenact(pair, painter)
            warped, made, target = reduced(square.warped), reduced(square.image), pair.image(pair.target)
            found.append(self._meter(made, target, pair.shard.points(pair.target, SIDE), square.mouth[::2, ::2]))
            warp.append(np.abs(warped.astype(float) - target).mean())
            rows.append(np.concatenate([pair.image(pair.sources[0]), target, warped, made], 1))
        cv2.imwrite(str(out / f"samples-{trainer.step:07d}.png"), np.concatenate(rows)[..., ::-1])
        self._through_time(out, trainer.step)
        figures = {f"held-out {METRICS[key][0]}": _mean([row[key] for row in found]) for key in METRICS}
        return {"held-out L1 warp": _mean(warp)} | {k: round(v, 4) for k, v in figures.items() if np.isfinite(v)}

    def _through_time(self, out: Path, step: int) -> None:
        sheets = sorted(out.glob("samples-*.png"))
        sheets = [sheet for sheet in sheets if sheet.stem[8:].isdigit() and int(sheet.stem[8:]) <= step]
        chosen = sorted(set(np.linspace(0, len(sheets) - 1, min(COLUMNS, len(sheets))).round().astype(int)))
        columns: list[np.ndarray] = []
        for n in chosen:
            sheet = cv2.imread(str(sheets[n]))
            if sheet is None or sheet.shape != (len(self.pairs) * SIDE, 4 * SIDE, 3):
                continue  # of other people, or damaged
            columns += [] if columns else [sheet[:, : 2 * SIDE]]
            made = sheet[:, 3 * SIDE :].copy()
            label = f"step {int(sheets[n].stem[8:])}"
            for colour, width in (((0, 0, 0), 4), ((255, 255, 255), 1)):
                cv2.putText(made, label, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, width, cv2.LINE_AA)
            columns.append(made)
        cv2.imwrite(str(out / "through-time.png"), np.concatenate(columns, 1))


def _mean(values: list[float]) -> float:
    """Return the mean of what could be measured, NaN if nothing could."""
    good = [value for value in values if np.isfinite(value)]
    return round(float(np.mean(good)), 4) if good else float("nan")
