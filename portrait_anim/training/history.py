"""The history of a run: a log of JSON lines, and one picture of every loss and every held-out figure over time."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path

from ..system.files import atomic_write

LOGGED = 30.0  # s between lines
_COLUMNS = 5
_BESIDES = ("step", "seconds", "time")  # numbers of a line that are no measure
NO_MATPLOTLIB = "losses.png is not drawn, because matplotlib is missing: pip install 'portrait-anim[train]'."


class Log:
    """Writes the log of a run. Lines are means over the reports since the last one.

    step: where the run goes on. Lines of later steps, which an interrupted run has left, are taken out.
    """

    def __init__(self, path: Path, step: int):
        self.path, self._reports, self._written = path, [], time.monotonic()
        rows = read_log(path)
        kept = [row for row in rows if row["step"] <= step]
        if len(kept) < len(rows):
            with atomic_write(path) as partial:
                partial.write_text("".join(json.dumps(row) + "\n" for row in kept))

    def add(self, report: dict, done: bool) -> None:
        """Take a report of losses into account, and write a line if it is time, or if the run is done."""
        self._reports.append(report)
        if done or time.monotonic() - self._written >= LOGGED:
            keys = {key: None for row in self._reports for key in row}
            values = {key: [row[key] for row in self._reports if key in row] for key in keys}
            self.write({key: float(f"{sum(v) / len(v):.5g}") for key, v in values.items()} | {"step": report["step"]})
            self._reports, self._written = [], time.monotonic()

    def write(self, row: dict) -> None:
        """Write one line."""
        with open(self.path, "a") as log:
            log.write(json.dumps(row) + "\n")


def read_log(path: Path) -> list[dict]:
    """Return the lines of a log that are whole."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
            rows += [row] if isinstance(row["step"], int) else []
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a run that was killed
    return rows


def can_plot() -> bool:
    """Tell whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def plot(rows: list[dict], path: Path) -> None:
    """Draw every number of a log's lines over the steps, the held-out figures last and in another colour."""
    from matplotlib.figure import Figure

    keys = list({key: None for row in rows for key in row if key not in _BESIDES})
    keys.sort(key=lambda key: key.startswith("held-out"))
    height = -(-len(keys) // _COLUMNS)
    figure = Figure((4 * _COLUMNS, 2.4 * height), layout="constrained")
    for number, key in enumerate(keys, 1):
        axes = figure.add_subplot(height, _COLUMNS, number)
        points = [(row["step"], row[key]) for row in rows if key in row]
        held_out = key.startswith("held-out")
        axes.plot(*zip(*points), color="tab:red" if held_out else "tab:blue", marker="o" if held_out else "", ms=3)
        if not held_out and len(points) > 20:  # single losses jump: this is what to look at
            axes.plot([p[0] for p in points], _smoothed([p[1] for p in points]), color="black")
        axes.set_title(key, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=80)


def _smoothed(values: list[float]) -> list[float]:
    keep, mean, made = 1 - 4 / len(values), values[0], []
    for value in values:
        mean = keep * mean + (1 - keep) * value
        made.append(mean)
    return made
