"""Measure the self-reenactment of held-out people: one or a few frames of a clip are driven to its other frames."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ..errors import InputError
from ..geometry.mesh import draw_landmarks
from ..geometry.view import CROP, View
from ..networks.config import PAPER
from ..networks.weights import Weights, load
from ..painting.painter import Painter, choose_precision, source_input
from ..painting.renderer import Renderer, Square, to_uint8
from ..portrait import layers
from ..training.finetune import finetune as tune
from ..training.shards import load_shards
from .meter import METRICS, SIDE, Meter, reduced
from .pairs import Pair, choose_pairs, choose_tuning_pairs

CPU = torch.device("cpu")


class _Tuner:
    """Fine-tunes persons on the sources of pairs, and keeps the last one."""

    def __init__(self, weights: Path | None, seconds: float, painter: Painter):
        self._weights, self._seconds, self._painter = load(weights, critic=True), seconds, painter
        self._key, self._tuned = None, None
        self.helped: dict[str, int] = {}  # number of shots: how many persons tuning made better

    def __call__(self, pair: Pair) -> tuple[Painter, torch.Tensor]:
        if self._key != (id(pair.shard), pair.sources):
            tuned = tune(pair.photos, self._weights, self._seconds, dtype=choose_precision("auto", CPU))
            self._key = (id(pair.shard), pair.sources)
            self._tuned = self._painter.with_generator(tuned.generator), tuned.psi
            shots = str(len(pair.sources))
            self.helped[shots] = self.helped.get(shots, 0) + tuned.helped
        return self._tuned


def renderer_of(photos: list[View], painter: Painter | None, code: torch.Tensor | None = None) -> Renderer:
    """Return the renderer of a person on these photos, of which the first is the canvas.

    painter: None for the warp alone. code: that of a fine-tuned person, None for that of the source encoder.
    """
    canvas, *others = photos
    views = [canvas, canvas.mirrored(), *(view.lit_as(canvas) for view in others)]
    generator = None
    if painter is not None:
        encoding = painter.encode(views)
        generator = painter.generator_for(encoding if code is None else replace(encoding, code=code))
    return Renderer(views, layers.plate_behind(canvas), generator)


def reenact(pair: Pair, painter: Painter | None, code: torch.Tensor | None = None) -> Square:
    """Return the source of a pair moved to its target, as the networks' square.

    painter, code: as for `renderer_of`.
    """
    return renderer_of(pair.photos, painter, code).square(pair.shard.points(pair.target, CROP))


def reenact_paper(pair: Pair, networks: Weights) -> np.ndarray:
    """Return the target of a pair as painted by a model of the paper's kind, (256, 256, 3) uint8.

    Such a model paints the whole picture from the landmark drawing.
    """
    size = networks.config.size
    views = F.interpolate(torch.cat([source_input(view) for view in pair.photos]), (size, size), mode="area")
    with torch.inference_mode():
        e = networks.embedder(views[:, :3], views[:, 4:]).mean(0, keepdim=True)
        drawing = torch.from_numpy(draw_landmarks(pair.shard.points(pair.target, CROP))).permute(2, 0, 1)[None]
        drawing = F.interpolate(drawing / 127.5 - 1, (size, size), mode="area")
        image = to_uint8(networks.generator(drawing, networks.generator.projection(e))[0].permute(1, 2, 0).numpy())
    return image if size == SIDE else cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def evaluate(
    shards: Path,
    weights: Path | None = None,
    paper: Path | None = None,
    shots: tuple[int, ...] = (1,),
    out: Path | None = None,
    sheet_rows: int = 20,
    finetune: float | None = None,
    people: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict:
    """Measure the held-out people of a folder of shards, and return what the JSON file holds.

    For each number of shots the still photo, the mesh warp and the model are compared with the target. Views are made
    at the networks' size, whatever that of the shards is, and results are measured at 256 px.

    weights: None for those that ship. paper: a weights file of the paper's kind, for one more row. out: the folder for
    evaluation.json, evaluation.md and contact-sheet.png (source, target, warp, model). finetune: seconds of
    fine-tuning, for a row of tuned persons; the pairs are then those of `choose_tuning_pairs` for so many `people`.
    Raises InputError.
    """
    held_out = load_shards(shards, held_out=True)
    painter = Painter(weights, precision="fp32")
    networks = None
    if paper is not None:
        networks = load(paper)
        if networks.config.kind != PAPER:
            raise InputError(f"{paper}: is not a model of the paper's kind; meta-train --paper makes one.")
    meter = Meter(held_out)
    plan = {count: choose_pairs(held_out, count) for count in shots}
    tuner = None
    if finetune is not None:
        tuner = _Tuner(weights, finetune, painter)
        plan = {count: choose_tuning_pairs(held_out, count, people) for count in shots}
    if not all(plan.values()):
        raise InputError(
            f"{shards}: the clips of its held-out people are too short for so many photos; "
            "make shards of longer clips with portrait-anim prepare."
        )
    total, done, sheet = sum(map(len, plan.values())), 0, []
    report = {"people": len({s.group for s in held_out}), "weights": painter.weights.sha256[:8], "shots": {}}
    for count, pairs in plan.items():
        rows: dict[str, list[dict[str, float]]] = {}
        for pair in pairs:
            square = reenact(pair, painter)
            warped, made, target = reduced(square.warped), reduced(square.image), pair.image(pair.target)
            pictures = {"still photo": pair.image(pair.sources[0]), "mesh warp": warped, "model": made}
            if networks is not None:
                pictures["the paper's configuration"] = reenact_paper(pair, networks)
            if tuner is not None:
                pictures["fine-tuned"] = reduced(reenact(pair, *tuner(pair)).image)
            mouth, points = square.mouth[::2, ::2], pair.shard.points(pair.target, SIDE)
            for name, picture in pictures.items():
                rows.setdefault(name, []).append(meter(picture, target, points, mouth))
            if count == min(shots) and done % max(1, len(pairs) // sheet_rows) == 0 and len(sheet) < sheet_rows:
                shown = [pictures["still photo"], target, warped, made]
                sheet.append(np.concatenate(shown + [pictures[k] for k in ("fine-tuned",) if k in pictures], 1))
            done += 1
            progress(done, total)
        means = {n: {k: round(float(np.nanmean([m[k] for m in ms])), 4) for k in METRICS} for n, ms in rows.items()}
        report["shots"][str(count)] = {"pairs": len(pairs), "rows": means}
        if tuner is not None:
            report["people"] = len({pair.shard.group for pair in pairs})
            report["shots"][str(count)]["people helped by fine-tuning"] = tuner.helped[str(count)]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "evaluation.json").write_text(json.dumps(report, indent=1))
        (out / "evaluation.md").write_text(to_markdown(report))
        half = -(-len(sheet) // 2)
        blank = np.zeros_like(sheet[0])
        columns = [np.concatenate(part + [blank] * (half - len(part))) for part in (sheet[:half], sheet[half:])]
        cv2.imwrite(str(out / "contact-sheet.png"), np.concatenate(columns, 1)[..., ::-1])
    return report


def to_markdown(report: dict) -> str:
    """Return the tables of a report as Markdown."""
    lines = []
    for count, table in report["shots"].items():
        lines += [
            f"T = {count}: {table['pairs']} pairs of {report['people']} held-out people, weights {report['weights']}",
            "",
        ]
        lines += ["| | " + " | ".join(h for h, _ in METRICS.values()) + " |", "|---" * (len(METRICS) + 1) + "|"]
        for name, row in table["rows"].items():
            lines.append(f"| {name} | " + " | ".join(f"{row[k]:.{d}f}" for k, (_, d) in METRICS.items()) + " |")
        lines.append("")
    return "\n".join(lines)
