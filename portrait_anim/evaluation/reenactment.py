"""Measures on held-out people: self-reenactment, the first frame (or a few) of a clip driving to its other frames."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from ..errors import InputError
from ..geometry.mesh import LEFT_EYE, OUTER_LIPS, RIGHT_EYE, draw_landmarks, openness
from ..geometry.warp import CROP, View
from ..landmarks.refining import Refiner
from ..landmarks.tracking import MediaPipeTracker
from ..networks.perceptual import FaceNet, centred_cosine, face_chip, perceptual_distance
from ..networks.weights import Weights, load
from ..painting.painter import Painter, choose_precision
from ..painting.renderer import Renderer, Square, to_uint8
from ..portrait import layers
from ..training.finetune import finetune as tune
from ..training.prepare import Shard, load_shards

CPU = torch.device("cpu")
LOCAL = 72  # px: side of the mouth and eyes crops
METRICS = {  # key: (heading, decimals); all but the last three are better when lower
    "l1": ("L1", 2), "mouth_inside": ("inside the mouth", 1), "mouth_l1": ("mouth crop", 2),
    "eyes_l1": ("eyes crop", 2), "mouth_perceptual": ("per-m", 3), "eyes_perceptual": ("per-e", 3), "akd": ("AKD", 2),
    "psnr": ("PSNR", 2), "ssim": ("SSIM", 3), "csim": ("CSIM", 3),
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Frames of one held-out clip: sources (the first is the canvas) and the target."""

    shard: Shard
    sources: tuple[int, ...]
    target: int


def choose_pairs(shards: list[Shard], shots: int = 1, per_clip: int = 2, seed: int = 1) -> list[Pair]:
    """The same pairs for everybody: source the first frame (then the middle one), target the frame of eight whose
    mouth and eyes differ most from it; further sources spread over the clip. Clips too short are left out."""
    rng = np.random.default_rng(seed)
    pairs = []
    for shard in shards:
        opening = openness(shard.landmarks)
        for number in range(per_clip):
            source = 0 if number == 0 else len(shard) // 2
            candidates = rng.integers(0, len(shard), 8)
            target = int(candidates[np.abs(opening[candidates] - opening[source]).sum(1).argmax()])
            others = [
                t for t in np.linspace(0, len(shard) - 1, shots + 2).astype(int).tolist() if t not in (source, target)
            ]
            if len(others) >= shots - 1 and target != source:
                pairs.append(Pair(shard, (source, *others[: shots - 1]), target))
    return pairs


def choose_tuning_pairs(shards: list[Shard], shots: int, people: int | None = None, targets: int = 4) -> list[Pair]:
    """For fine-tuning, which takes a minute a person: of `people` of them (None: all) the longest clip, its sources
    spread over it, and targets away from all sources that differ most from the canvas and from one another."""
    longest = {s.group: s for s in sorted(shards, key=len) if len(s) >= 4 * shots + targets}
    groups = sorted(longest)
    pairs = []
    for group in groups[:: max(1, len(groups) // (people or len(groups)))][:people]:
        shard, opening = longest[group], openness(longest[group].landmarks)
        sources = tuple(np.linspace(0, len(shard) - 1, shots + 1).astype(int)[:shots].tolist())
        rest = np.array([t for t in range(len(shard)) if min(abs(t - s) for s in sources) > 1])
        distance = np.abs(opening[rest] - opening[0]).sum(1)
        for _ in range(targets):
            target = int(rest[distance.argmax()])
            distance = np.minimum(distance, np.abs(opening[rest] - opening[target]).sum(1))
            pairs.append(Pair(shard, sources, target))
    return pairs


class _Tuner:
    """Persons fine-tuned on the sources of pairs, one kept at a time."""

    def __init__(self, weights: Path | None, seconds: float, painter: Painter):
        self._weights, self._seconds, self._painter = load(weights, critic=True), seconds, painter
        self._key, self._tuned = None, None
        self.helped: dict[str, int] = {}  # how many persons were better for it

    def __call__(self, pair: Pair) -> tuple[Painter, torch.Tensor]:
        if self._key != (id(pair.shard), pair.sources):
            tuned = tune(photos_of(pair), self._weights, self._seconds, dtype=choose_precision("auto", CPU))
            self._key = (id(pair.shard), pair.sources)
            self._tuned = self._painter.with_generator(tuned.generator), tuned.psi
            shots = str(len(pair.sources))
            self.helped[shots] = self.helped.get(shots, 0) + tuned.helped
        return self._tuned


def photos_of(pair: Pair) -> list[View]:
    """The views of a pair's sources."""
    shard = pair.shard
    return [View(shard.image(t), shard.landmarks[t].astype(np.float64), shard.matte(t)) for t in pair.sources]


def reenact(pair: Pair, painter: Painter | None, code: torch.Tensor | None = None) -> Square:
    """Return the source of a pair moved to its target, as the networks' square.

    painter: None for the warp alone. code: of a fine-tuned person; None for the one that is embedded from the
    sources.
    """
    canvas, *others = photos_of(pair)
    views = [canvas, canvas.mirrored(), *(view.lit_as(canvas) for view in others)]
    generator = None
    if painter is not None:
        generator = painter.generator_for(painter.embed_person([canvas, *others]) if code is None else code)
    renderer = Renderer(views, layers.plate(canvas.image, canvas.matte), generator)
    return renderer.square(pair.shard.landmarks[pair.target].astype(np.float64))


def reenact_paper(pair: Pair, networks) -> np.ndarray:
    """The picture of a model of the paper's kind, painted whole from the landmark drawing."""
    size = networks.config.embedder_size
    to_input = lambda a: torch.from_numpy(np.stack(a)).permute(0, 3, 1, 2).float() / 127.5 - 1
    photos = [cv2.resize(pair.shard.image(t), (size, size), interpolation=cv2.INTER_AREA) for t in pair.sources]
    drawings = [draw_landmarks(pair.shard.landmarks[t], CROP, size) for t in pair.sources]
    with torch.inference_mode():
        e = networks.embedder(to_input(photos), to_input(drawings)).mean(0, keepdim=True)
        drawing = to_input([draw_landmarks(pair.shard.landmarks[pair.target])])
        return to_uint8(networks.generator(drawing, networks.generator.projection(e))[0].permute(1, 2, 0).numpy())


class Meter:
    """The measures of one picture against its target. mean: embedding of all the shards' people, to centre CSIM."""

    def __init__(self, shards: list[Shard]):
        self.net = FaceNet()
        self.tracker, self.refiner = MediaPipeTracker(max_faces=1), Refiner()
        self.mean = torch.cat([self.embed(s.image(0), s.landmarks[0]) for s in shards]).mean(0)

    def __call__(self, image: np.ndarray, pair: Pair, mouth: np.ndarray) -> dict[str, float]:
        """mouth: (256, 256) bool, the inside of the mouth in the target's pose. Not measurable: NaN."""
        from skimage.metrics import structural_similarity

        target, points = pair.shard.image(pair.target), pair.shard.landmarks[pair.target]
        error = np.abs(image.astype(np.float32) - target).mean(-1)
        squared = ((image.astype(np.float32) - target) ** 2).mean()
        result = {"l1": error.mean(), "psnr": 10 * np.log10(255**2 / max(squared, 1e-6))}
        result["mouth_inside"] = error[mouth].mean() if mouth.sum() > 20 else np.nan
        for name, part in (("mouth", OUTER_LIPS), ("eyes", np.concatenate([RIGHT_EYE, LEFT_EYE]))):
            x, y = np.clip(np.round(points[part, :2].mean(0) - LOCAL / 2), 0, CROP - LOCAL).astype(int)
            cut = np.s_[y : y + LOCAL, x : x + LOCAL]
            result[f"{name}_l1"] = error[cut].mean()
            pictures = (_to_tensor(i[cut]) for i in (image, target))
            result[f"{name}_perceptual"] = perceptual_distance(self.net, *pictures).item()
        result["ssim"] = structural_similarity(image, target, channel_axis=-1)
        result["csim"] = self.likeness(self.embed(target, points), image, points)
        found = self.tracker.faces(image)
        result["akd"] = np.nan
        if found:
            landmarks = self.refiner(image, found[0].landmarks)
            result["akd"] = np.linalg.norm((landmarks - points)[:468, :2], axis=1).mean()
        return {key: float(value) for key, value in result.items()}

    def likeness(self, embedding: torch.Tensor, image: np.ndarray, landmarks: np.ndarray) -> float:
        """Centred cosine of a picture's face with an embedding."""
        return centred_cosine(self.embed(image, landmarks), embedding, self.mean).item()

    @torch.inference_mode()
    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> torch.Tensor:
        """Face embedding of a picture with its landmarks."""
        return self.net.embed(_to_tensor(face_chip(image, landmarks)))


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1


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
    """Tables on the held-out people of folder shards: still photo, mesh warp, the model; for each number of shots.

    weights: None for those that ship. paper: a weights file of the paper's kind for one more row. out: folder for
    evaluation.json, evaluation.md and contact-sheet.png (source, target, warp, model). finetune: seconds, for a row
    of persons fine-tuned so long, on pairs of their own of so many people. Returns what the JSON holds.
    """
    held_out = load_shards(shards, held_out=True)
    painter = Painter(weights, precision="fp32")
    networks = None
    if paper is not None:
        networks = load(paper)
        if networks.config.kind != "paper":
            raise InputError(f"{paper}: is not a model of the paper's kind; meta-train --paper makes one.")
    meter = Meter(held_out)
    plan = {count: choose_pairs(held_out, count) for count in shots}
    tuner = None
    if finetune is not None:
        tuner = _Tuner(weights, finetune, painter)
        plan = {count: choose_tuning_pairs(held_out, count, people) for count in shots}
    total, done, sheet = sum(map(len, plan.values())), 0, []
    report = {"people": len({s.group for s in held_out}), "weights": painter.weights.sha256[:8], "shots": {}}
    for count, pairs in plan.items():
        rows: dict[str, list[dict[str, float]]] = {}
        for pair in pairs:
            square = reenact(pair, painter)
            warped, made, mouth = square.warped, square.image, square.x[..., 6] > 0.5
            pictures = {"still photo": pair.shard.image(pair.sources[0]), "mesh warp": warped, "model": made}
            if networks is not None:
                pictures["the paper's configuration"] = reenact_paper(pair, networks)
            if tuner is not None:
                pictures["fine-tuned"] = reenact(pair, *tuner(pair)).image
            for name, picture in pictures.items():
                rows.setdefault(name, []).append(meter(picture, pair, mouth))
            if count == min(shots) and done % max(1, len(pairs) // sheet_rows) == 0 and len(sheet) < sheet_rows:
                shown = [pictures["still photo"], pair.shard.image(pair.target), warped, made]
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
    """The tables of a report."""
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


def training_samples(trainer, out: Path, held_out: list[Shard]) -> dict:
    """What meta_train calls at every evaluation: a PNG of held-out samples by the averaged weights, and their L1."""
    painter = Painter(Weights(*trainer.averaged(), trainer.model, {}, ""), precision="fp32")
    rows, errors = [], []
    for pair in choose_pairs(held_out, per_clip=1)[:: max(1, len(held_out) // 12)][:12]:
        square = reenact(pair, painter)
        warped, made, target = square.warped, square.image, pair.shard.image(pair.target)
        errors.append([np.abs(i.astype(float) - target).mean() for i in (warped, made)])
        rows.append(np.concatenate([pair.shard.image(pair.sources[0]), target, warped, made], 1))
    cv2.imwrite(str(out / f"samples-{trainer.step:07d}.png"), np.concatenate(rows)[..., ::-1])
    warp, model = np.mean(errors, 0)
    return {"held-out L1 warp": round(float(warp), 3), "held-out L1": round(float(model), 3)}
