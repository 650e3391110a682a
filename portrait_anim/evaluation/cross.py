"""Measure motion transfer between different held-out people: one person's clip drives another's portrait.

The landmarks are tracked again on the rendered frames and compared with the driver's.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from ..geometry.mesh import EDGES, LEFT_EYE, MEAN_FACE, RIGHT_EYE, face_height, openness
from ..geometry.pose import estimate_poses
from ..geometry.shape_model import POINTS_68, fit_68
from ..geometry.view import CROP
from ..landmarks.following import MotionTrack
from ..motion.retarget import Retargeter
from ..painting.painter import Painter
from ..system.files import check_folder, make_folder, write_whole
from ..training.prepare import PrepareConfig
from ..training.shards import Shard, load_shards
from . import motion
from .likeness import Likeness
from .meter import reduced
from .motion import compare, find_again, summary
from .reenactment import renderer_of
from .reference import SIDE
from .report import Report
from .tables import Column, Table, shown

FRAMES = 60  # how many frames of every driver are used
NOISE = 4.0  # of 255, standard deviation of the noise that is added to a still driver, as of a camera
WANTED = {  # what a result should reach
    "blink_f1": ">= .85", "lips_f1": ">= .85", "yaw": ">= .95", "pitch": ">= .95", "roll": ">= .95", "jitter": "<= 1",
    "wobble": "< .3", "csim": "own driver's - .05",
}  # fmt: skip
COLUMNS = (
    *motion.COLUMNS,
    Column("csim_own", "CSIM, own driver", 3, "high"),
    Column("wobble", "scale wobble of a still driver, %", 2),
)
MODEL, PORTRAIT = "model", "portrait"


def choose_cross_pairs(shards: list[Shard], count: int = 20) -> list[tuple[Shard, Shard]]:
    """Return at most `count` pairs (portrait, driver), in which the longest clip of a person drives another person.

    They are the same in every run on the same shards.
    """
    best: dict[str, Shard] = {}
    for shard in shards:
        if len(shard) > len(best.get(shard.group, ())):
            best[shard.group] = shard
    people = [best[group] for group in sorted(best)]
    drivers = [shard for shard in people if len(shard) >= FRAMES]
    pairs = []
    for number, portrait in enumerate(people):
        others = [d for d in drivers if d.group != portrait.group]
        if others:
            pairs.append((portrait, others[(number * 7 + 3) % len(others)]))
    return pairs[:: max(1, len(pairs) // count)][:count]


def portrait_frame(shard: Shard) -> int:
    """Return the number of the frame that stands for a photo: the one whose mouth and eyes are as usual in the clip."""
    opening = openness(shard.landmarks)
    return int(np.abs(opening - np.median(opening, 0)).sum(1).argmin())


def at_measures(shard: Shard) -> np.ndarray:
    """Return the landmarks of a shard's first FRAMES frames at the size of the measures, (T, 478, 3) float32."""
    return shard.landmarks[:FRAMES] * np.float32(SIDE / shard.size)


def as_track(landmarks: np.ndarray) -> MotionTrack:
    """Return landmarks (T, 478, 3), in px of the measures, as the track of a driver."""
    fps = Fraction(PrepareConfig.fps).limit_denominator(1000)
    return MotionTrack(landmarks.astype(np.float32), (SIDE, SIDE), fps, np.ones(len(landmarks), bool))


def render(portrait: Shard, track: MotionTrack, painter: Painter | None, every: int = 1) -> Iterator[np.ndarray]:
    """Yield frames (512, 512, 3) uint8 of a portrait, one frame of a shard, moved by a track.

    painter: None for the warp alone. every: the step from one rendered frame of the track to the next.
    """
    canvas = portrait.view(portrait_frame(portrait))
    renderer = renderer_of([canvas], painter)
    targets = Retargeter(track, canvas.landmarks)
    for t in range(0, len(targets), every):
        yield renderer.square(targets[t]).image


def still_wobble(portrait: Shard, driver: Shard, painter: Painter | None) -> float:
    """Return the relative deviation, in %, of the head's size under a driver who is still but filmed with noise."""
    rng = np.random.default_rng(0)
    image = driver.image(0, SIDE).astype(np.float32)
    noisy = [np.clip(image + rng.normal(0, NOISE, image.shape), 0, 255).astype(np.uint8) for _ in range(30)]
    landmarks = find_again(noisy)
    if not np.isfinite(landmarks).all():
        return float("nan")
    made = find_again(map(reduced, render(portrait, as_track(landmarks), painter)))
    made = made[np.isfinite(made[:, 0, 0])]
    scale = estimate_poses(made, MEAN_FACE).scale
    return 100 * float(scale.std() / scale.mean())


def shape_model_errors(shards: list[Shard], per_clip: int = 4) -> dict:
    """Return the errors of the model that completes 68 points to 478, on held-out frames, in % of the face's height.

    They are {"3D": {"all", "mouth", "eyes"}, "2D": {...}}: from points with and without depth.
    """
    parts = {"all": np.arange(468), "mouth": np.unique(EDGES["lips"]), "eyes": np.concatenate([RIGHT_EYE, LEFT_EYE])}
    report = {}
    for name, dimensions in (("3D", 3), ("2D", 2)):
        errors = []
        for shard in shards:
            for t in np.linspace(0, len(shard) - 1, per_clip).astype(int):
                points = shard.points(t, SIDE)
                fitted = fit_68(points[POINTS_68, :dimensions])
                errors.append(100 * np.linalg.norm((fitted - points)[:, :2], axis=1) / face_height(points))
        report[name] = {part: round(float(np.mean(errors, 0)[points].mean()), 3) for part, points in parts.items()}
    return report


def evaluate_cross(
    shards: Path,
    weights: Path | None = None,
    out: Path | None = None,
    report: Path | None = None,
    pairs: int = 20,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict:
    """Measure motion transfer on the held-out people of a folder of shards, and return what the JSON file holds.

    weights: None for those that ship. out: the folder for cross.json, cross.md and cross.png, which shows of each pair
    the portrait, then driver and result at three moments. report: the folder for the page. pairs: how many are
    measured. Raises InputError.
    """
    held_out = load_shards(shards, held_out=True)
    plan = choose_cross_pairs(held_out, pairs)
    if not plan:
        raise InputError(
            f"{shards}: holds no two held-out people of whom one has a clip of {FRAMES} frames or more; "
            "make shards of more people with portrait-anim prepare."
        )
    if out is not None:
        check_folder(out)
    painter, likeness = Painter(weights), Likeness()
    rows, compared, sheet = [], [], []
    with Report(report) if report is not None else nullcontext() as page:
        for done, (portrait, driver) in enumerate(plan, 1):
            clip, photo = at_measures(driver), portrait_frame(portrait)
            large = list(render(portrait, as_track(clip), painter))
            frames = [reduced(frame) for frame in large]
            clips = compare(clip, find_again(frames))
            same = likeness.embed(portrait.image(photo, SIDE), portrait.points(photo, SIDE))
            own = [reduced(frame) for frame in render(portrait, as_track(at_measures(portrait)), painter, 6)]
            row = {"portrait": portrait.group, "driver": driver.group, **summary([clips])}
            row["csim"], row["csim_own"] = (likeness.mean(same, some, find_again(some)) for some in (frames[::6], own))
            row["wobble"] = still_wobble(portrait, driver, painter) if done % 4 == 1 else float("nan")
            rows.append(row)
            compared.append(clips)
            moments = np.linspace(0, len(frames) - 1, 4).astype(int)[1:].tolist()
            shows = {PORTRAIT: portrait.image(photo, CROP)}
            for number, t in enumerate(moments, 1):
                shows |= {f"driver {number}": driver.image(t, CROP), f"result {number}": large[t]}
            sheet.append(np.concatenate([reduced(picture) for picture in shows.values()], 1))
            if page is not None:
                name = f"{portrait.group} by {driver.group}"
                page.add_item("all", name, shows, {MODEL: {column.key: row[column.key] for column in COLUMNS}})
                page.add_clip(
                    "all", name, {"driver": [driver.image(t, CROP) for t in range(len(large))], "result": large}
                )
            progress(done, len(plan))
        mean = lambda key: float(np.nanmean([row[key] for row in rows]))
        means = {**summary(compared), **{key: mean(key) for key in ("csim", "csim_own", "wobble")}}
        tidy = lambda row: {k: _rounded(v) if isinstance(v, float) else v for k, v in row.items()}
        result = {
            "weights": painter.weights.sha256[:8],
            "pairs": len(plan),
            "frames": sum(len(c["blinks"][1]) for c in compared),
            "blink frames": int(sum(c["blinks"][1].sum() for c in compared)),
            "closed-lips frames": int(sum(c["lips"][1].sum() for c in compared)),
            "means": tidy(means),
            "rows": [tidy(row) for row in rows],
            "shape model": shape_model_errors(held_out),
        }
        if out is not None:
            make_folder(out)
            write_whole(out / "cross.json", json.dumps(result, indent=1).encode())
            write_whole(out / "cross.md", to_markdown(result).encode())
            write_whole(out / "cross.png", cv2.imencode(".png", np.concatenate(sheet)[..., ::-1])[1].tobytes())
        if page is not None:
            table = Table("Motion from one person to another", "over all frames", COLUMNS, {MODEL: result["means"]})
            title, notes = "One person drives another", [_heading(result)]
            page.write(title, notes, [table], COLUMNS, PORTRAIT, "result 2", MODEL, "csim")
    return result


def _rounded(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def _heading(report: dict) -> str:
    return (
        f"{report['pairs']} held-out pairs of different people, {report['frames']} frames "
        f"({report['blink frames']} of blinks, {report['closed-lips frames']} with closed lips), "
        f"weights {report['weights']}"
    )


def to_markdown(report: dict) -> str:
    """Return the tables of a report as Markdown."""
    lines = [_heading(report), "", "| | measured | wanted |", "|---|---|---|"]
    for column in COLUMNS:
        value = shown(report["means"][column.key], column.decimals)
        lines.append(f"| {column.heading} | {value} | {WANTED.get(column.key, '')} |")
    lines += [
        "",
        "68 points -> 478, error in % of the face's height",
        "",
        "| | all | mouth | eyes |",
        "|---|---|---|---|",
    ]
    for kind, errors in report["shape model"].items():
        lines.append(f"| from {kind} | {errors['all']:.2f} | {errors['mouth']:.2f} | {errors['eyes']:.2f} |")
    return "\n".join(lines)
