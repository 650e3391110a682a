"""The measure of weights: which pairs are made, by which methods, and what is reported of them."""

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from ..geometry.view import CROP
from ..networks.config import PAPER as PAPERS_KIND
from ..networks.weights import Weights, load
from ..painting.painter import Painter
from ..system.files import check_folder, make_folder, write_whole
from ..training.shards import Shard, load_shards
from .flicker import FRAMES
from .meter import METRICS, Meter, reduced
from .pairs import Pair, choose_pairs, choose_tuning_pairs
from .perception import Distribution
from .reenactment import MODEL, OTHER, STILL, Methods
from .report import Report
from .results import FEW, Results, notes_of, tables_of, to_markdown

SHOTS = (1, 8, 32)  # as in the paper's Table 1
TRUE = "true frame"
SHEET = 20  # rows of the contact sheet


@dataclass(frozen=True)
class Extent:
    """How much is measured. pairs, clips: at most so many for each number of shots. shots: where none are asked for."""

    pairs: int
    clips: int
    shots: tuple[int, ...]


WHOLE, QUICK = Extent(96, 8, SHOTS), Extent(FEW, 3, (1,))


def evaluate(
    shards: Path,
    weights: Path | None = None,
    against: Path | None = None,
    paper: Path | None = None,
    shots: tuple[int, ...] | None = None,
    quick: bool = False,
    finetune: float | None = None,
    people: int | None = None,
    out: Path | None = None,
    report: Path | None = None,
    inception: Path | None = None,
    alexnet: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict:
    """Measure the held-out people of a folder of shards, and return what the JSON file holds.

    For each number of shots the still photo, the mesh warp and the model are compared with the true frames. Pictures
    are made at the networks' size, whatever that of the shards is, and measured at 256 px. The pairs are the same in
    every run on every machine.

    weights: None for those that ship. against: other weights, for a row of their own. paper: a weights file of the
    paper's kind, likewise. shots: None for 1, 8 and 32, as far as the clips are long enough. quick: fewer pairs, with
    one shot unless others are asked for. finetune: seconds of fine-tuning, for a row of tuned persons; the pairs are
    then those of `choose_tuning_pairs` for so many `people`. out: the folder for evaluation.json, evaluation.md and
    contact-sheet.png. report: the folder for the page. inception, alexnet: weights for FID and LPIPS, see `perception`.
    Raises InputError.
    """
    held_out = load_shards(shards, held_out=True)
    extent = QUICK if quick else WHOLE
    plan = _plan(held_out, shots or extent.shots, extent, finetune is not None, people)
    if not plan:
        asked = ", ".join(map(str, shots or extent.shots))
        raise InputError(f"{shards}: no held-out clip is long enough for {asked} photos; prepare longer clips.")
    if out is not None:
        check_folder(out)
    painter = Painter(weights, precision="fp32")
    other = Painter(against, precision="fp32") if against is not None else None
    methods = Methods(painter, other, _of_papers_kind(paper), finetune, weights)
    meter, distribution = Meter(alexnet), Distribution(inception)
    names = {"weights": painter.weights.sha256[:8]} | ({"other weights": other.weights.sha256[:8]} if other else {})
    result: dict = {"people": len({s.group for s in held_out}), **names}
    result |= {"quick": quick, "FID by": distribution.name, "perceptual by": meter.perceptual.name, "shots": {}}
    rivals = () if other is None else (MODEL, OTHER)
    sheet = []
    done, total = 0, sum(map(len, plan.values()))
    with Report(report, rivals) if report is not None else nullcontext() as page:
        for count, pairs in plan.items():
            results, group = Results(meter, distribution), f"T = {count}"
            kept = pairs[:: max(1, len(pairs) // SHEET)][:SHEET] if count == min(plan) else []
            for pair, run in _with_runs(pairs, extent.clips):
                pictures, opening = methods(pair)
                values, shown = results.add(pair, pictures, opening), _shown(pair, pictures)
                if page is not None:
                    page.add_item(group, pair.name, shown, values)
                if pair in kept:
                    sheet.append(np.concatenate([reduced(picture) for picture in shown.values()], 1))
                if run:
                    moments = [_shown(moment, methods(moment)[0]) for moment in run]
                    frames = {name: [moment[name] for moment in moments] for name in shown}
                    results.add_clip(run, {name: list(map(reduced, of_name)) for name, of_name in frames.items()})
                    if page is not None:
                        page.add_clip(group, pair.name, frames)
                done += 1
                progress(done, total)
            helped = {} if finetune is None else {"people helped by fine-tuning": methods.helped[count]}
            methods.forget()
            results.repeat(*methods(pairs[0]))
            result["shots"][str(count)] = results.report() | helped
        if out is not None:
            make_folder(out)
            write_whole(out / "evaluation.json", json.dumps(result, indent=1).encode())
            write_whole(out / "evaluation.md", to_markdown(result).encode())
            write_whole(out / "contact-sheet.png", cv2.imencode(".png", _sheet(sheet)[..., ::-1])[1].tobytes())
        if page is not None:
            tables = [table for count in result["shots"] for table in tables_of(result, count)]
            right = MODEL if other is None else OTHER
            columns, worst = [*METRICS.values()], "outline_perceptual"
            page.write("Held-out people", notes_of(result), tables, columns, TRUE, right, right, worst)
    return result


def _with_runs(pairs: list[Pair], limit: int) -> Iterator[tuple[Pair, list[Pair]]]:
    """Yield the pairs in their order, each with the consecutive frames that are made after it.

    Such a run is made for at most `limit` people, of their sharpest clip, after its first pair.
    """
    best: dict[str, Pair] = {}
    for pair in pairs:
        so_far = best.get(pair.shard.group)
        if _run(pair) and (so_far is None or pair.shard.size > so_far.shard.size):
            best[pair.shard.group] = pair
    sharpest = sorted(best, key=lambda group: (-best[group].shard.size, group))[:limit]
    for pair in pairs:
        yield pair, _run(pair) if pair.shard.group in sharpest and pair is best[pair.shard.group] else []


def _shown(pair: Pair, pictures: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the pictures of a pair with the true frame, at its own sharpness, behind the photo."""
    rest = {name: picture for name, picture in pictures.items() if name != STILL}
    return {STILL: pictures[STILL], TRUE: pair.shard.image(pair.target, CROP), **rest}


def _plan(
    held_out: list[Shard], shots: tuple[int, ...], extent: Extent, tuning: bool, people: int | None
) -> dict[int, list[Pair]]:
    """Return the pairs for each number of shots, without those for which the clips are too short."""
    plan = {
        count: choose_tuning_pairs(held_out, count, people)
        if tuning
        else choose_pairs(held_out, count, 2, extent.pairs)
        for count in shots
    }
    return {count: pairs for count, pairs in plan.items() if pairs}


def _run(pair: Pair) -> list[Pair]:
    """Return consecutive frames with the sources of a pair, from the one behind the canvas; none if there are few."""
    first = pair.sources[0] + 1
    if len(pair.shard) < first + FRAMES:
        return []
    return [Pair(pair.shard, pair.sources, t) for t in range(first, first + FRAMES)]


def _of_papers_kind(path: Path | None) -> Weights | None:
    networks = load(path) if path is not None else None
    if networks is not None and networks.config.kind != PAPERS_KIND:
        raise InputError(f"{path}: is not a model of the paper's kind; meta-train --paper makes one.")
    return networks


def _sheet(rows: list[np.ndarray]) -> np.ndarray:
    """Return rows of pictures in two columns."""
    half = -(-len(rows) // 2)
    blank = np.zeros_like(rows[0])
    columns = [np.concatenate(part + [blank] * (half - len(part))) for part in (rows[:half], rows[half:])]
    return np.concatenate(columns, 1)
