"""Collect what was measured for one number of shots, and sum it up: means, intervals, FID, flicker, as tables."""

from collections import defaultdict

import numpy as np

from . import flicker
from .meter import METRICS, TABLES, Meter, reduced
from .pairs import Pair
from .perception import Distribution, frechet_distance
from .reenactment import STILL
from .reference import regions
from .tables import Column, Table

FEW = 24  # pairs of the quick form; means of fewer are rough
SAMPLES = 2000  # of the bootstrap
NOTES = {  # what stands above the tables
    "Whole picture": "FID, SSIM and CSIM are the paper's. FID by {FID by}; perceptual distance by {perceptual by}",
    "Face": "",
    "Edge of the head": "outline is the band around it with hair and ears; residue, what is seen of the photo's head "
    "where there is background; rim, contours that the true frame lacks",
    "Sharpness": "variance of the Laplacian over that of the true frame, the geometric mean",
}


class Results:
    """The values of all pairs and clips of one number of shots.

    values: {method: [{metric: value} of each pair]}. pairs: the pairs, in the same order.
    """

    def __init__(self, meter: Meter, distribution: Distribution):
        self._meter, self._distribution = meter, distribution
        self.pairs: list[Pair] = []
        self.values: dict[str, list[dict[str, float]]] = defaultdict(list)
        self._features: dict[str, list[np.ndarray]] = defaultdict(list)
        self._true: list[np.ndarray] = []
        self._flicker: dict[str, list[dict[str, float]]] = defaultdict(list)
        self._again: dict[str, dict[str, float]] = {}

    def add(self, pair: Pair, pictures: dict[str, np.ndarray], opening: np.ndarray) -> dict[str, dict[str, float]]:
        """Measure the pictures of a pair, and return their values by method.

        opening: where the inside of the mouth is, see `Pair.reference`.
        """
        reference = pair.reference(opening)
        values = {name: self._meter(picture, reference) for name, picture in pictures.items()}
        self.pairs.append(pair)
        self._true.append(self._distribution.features(reference.image))
        for name, picture in pictures.items():
            self.values[name].append(values[name])
            self._features[name].append(self._distribution.features(reduced(picture)))
        return values

    def add_clip(self, run: list[Pair], frames: dict[str, list[np.ndarray]]) -> None:
        """Measure the flicker of consecutive frames of each method, (256, 256, 3) uint8."""
        side = len(frames[STILL][0])
        true = [pair.shard.image(pair.target, side) for pair in run]
        parts = [regions(p.shard.points(p.target, side), p.shard.matte(p.target, side)) for p in run]
        for name in self.values:
            if name != STILL:  # which never flickers
                self._flicker[name].append(flicker.flicker(frames[name], true, parts))

    def repeat(self, pictures: dict[str, np.ndarray], opening: np.ndarray) -> None:
        """Note by how much the figures of the first pair differ when it is made and measured a second time."""
        reference = self.pairs[0].reference(opening)
        for name, picture in pictures.items():
            first, second = self.values[name][0], self._meter(picture, reference)
            apart = {key: abs(second[key] - first[key]) for key in METRICS if np.isfinite(first[key])}
            self._again[name] = {key: _rounded(value) for key, value in apart.items() if value > 0}

    def report(self) -> dict:
        """Return what the JSON file holds of this number of shots.

        "rows": means by method and metric; "intervals": half of the 95 % interval of each mean, by a bootstrap over
        people; "flicker": means over the clips; "repeated": by how much the first pair differed the second time, empty
        where it did not; "each": the values of every pair.
        """
        people = np.array([pair.shard.group for pair in self.pairs])
        table: dict = {"pairs": len(self.pairs), "people": len(set(people)), "rows": {}, "intervals": {}}
        for name, values in self.values.items():
            columns = {key: np.array([value[key] for value in values]) for key in METRICS}
            fid = frechet_distance(*(np.concatenate(x) for x in (self._features[name], self._true)))
            table["rows"][name] = {"fid": _rounded(fid)} | {k: _rounded(mean(k, c)) for k, c in columns.items()}
            table["intervals"][name] = {k: _rounded(_half_interval(k, c, people)) for k, c in columns.items()}
        table["clips"] = max(map(len, self._flicker.values()), default=0)
        table["flicker"] = {
            name: {part: _rounded(_nanmean([clip[part] for clip in clips])) for part in flicker.REGIONS}
            for name, clips in self._flicker.items()
        }
        table["repeated"] = self._again
        table["each"] = [
            {
                "pair": pair.name,
                "person": pair.shard.group,
                "rows": {name: {k: _rounded(v) for k, v in of[n].items()} for name, of in self.values.items()},
            }
            for n, pair in enumerate(self.pairs)
        ]
        return table


def mean(metric: str, values: np.ndarray) -> float:
    """Return the mean of a metric's values (N,) that are finite: the geometric one of ratios, whose goal is 1."""
    if METRICS[metric].goal == "one":
        return float(np.exp(_nanmean(np.log(np.maximum(values, 1e-3)))))
    return _nanmean(values)


def _nanmean(values) -> float:
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def _half_interval(metric: str, values: np.ndarray, people: np.ndarray) -> float:
    """Return half of the 95 % interval of a mean, by drawing people, not pairs: those of one person are alike."""
    rng = np.random.default_rng(0)
    per_person = np.array([mean(metric, values[people == person]) for person in sorted(set(people))])
    per_person = per_person[np.isfinite(per_person)]
    if len(per_person) < 3:
        return float("nan")
    drawn = per_person[rng.integers(0, len(per_person), (SAMPLES, len(per_person)))].mean(1)
    return float(np.diff(np.percentile(drawn, [2.5, 97.5]))[0] / 2)


def _rounded(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def tables_of(report: dict, shots: str) -> list[Table]:
    """Return the tables of one number of shots of a report of `protocol.evaluate`."""
    of_shots = report["shots"][shots]
    made = []
    for caption, columns in TABLES.items():
        first = (Column("fid", "FID", 3),) if caption == "Whole picture" else ()
        title, note = f"T = {shots}. {caption}", NOTES[caption].format(**report)
        made.append(Table(title, note, (*first, *columns), of_shots["rows"], of_shots["intervals"]))
    if of_shots["flicker"]:
        note = f"over the clip's own, {flicker.FRAMES} consecutive frames of {of_shots['clips']} clips"
        columns = tuple(Column(part, part, 2) for part in flicker.REGIONS)
        made.append(Table(f"T = {shots}. Flicker", note, columns, of_shots["flicker"]))
    return made


def notes_of(report: dict) -> list[str]:
    """Return sentences on what was measured, and on how far two runs on the same weights differ."""
    against = f", against {report['other weights']}" if "other weights" in report else ""
    form = " The quick form." if report["quick"] else ""
    notes = [f"Weights {report['weights']}{against}, {report['people']} held-out people.{form}"]
    for shots, of_shots in report["shots"].items():
        helped = of_shots.get("people helped by fine-tuning")
        tuned = "" if helped is None else f" Fine-tuning helped {helped} of them."
        few = f" Fewer than {FEW} pairs: the means are rough." if of_shots["pairs"] < FEW else ""
        notes.append(
            f"T = {shots}: {of_shots['pairs']} pairs of {of_shots['people']} people.{few}{tuned} "
            f"The first pair, made and measured a second time, {_said(of_shots['repeated'])}."
        )
    return notes


def _said(repeated: dict[str, dict[str, float]]) -> str:
    apart = [
        f"{name} by " + ", ".join(f"{METRICS[key].heading} {value:.4g}" for key, value in values.items())
        for name, values in repeated.items()
        if values
    ]
    return "differed: " + "; ".join(apart) if apart else "gave the same figures to the last digit"


def to_markdown(report: dict) -> str:
    """Return notes and tables of a report of `protocol.evaluate` as Markdown."""
    made = [table.markdown() for shots in report["shots"] for table in tables_of(report, shots)]
    return "\n\n".join(["\n".join(notes_of(report)), *made]) + "\n"
