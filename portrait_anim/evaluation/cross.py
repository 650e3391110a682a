"""Measures of motion transfer between different people, all held out: one person's clip drives another's portrait.

The landmarks are found again on what was rendered and compared with the driver's.
"""

import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from ..geometry.expressions import features
from ..geometry.mesh import EDGES, LEFT_EYE, MEAN_FACE, RIGHT_EYE, face_height, openness
from ..geometry.pose import canonical, estimate_poses, euler_angles
from ..geometry.shape_model import POINTS_68, fit_68
from ..geometry.warp import View
from ..landmarks.following import MotionTrack
from ..landmarks.tracking import MediaPipeTracker
from ..motion.retarget import Retargeter
from ..painting.painter import Painter
from ..painting.renderer import Renderer
from ..portrait import layers
from ..training.prepare import PrepareConfig, Shard, load_shards
from .reenactment import Meter

FRAMES = 60  # of every driver
BLINK = 0.6  # lids count as closed when their gap is below this share of the clip's usual one
# Gap of the lips over the mouth's width: the driver's are closed below the first and open above the last; frames
# between say nothing. The result's are closed below the middle one.
LIPS_CLOSED, LIPS_MADE, LIPS_OPEN = 0.03, 0.05, 0.07
NOISE = 4.0  # of 255: deviation of the still driver's pixels, as of a camera's
METRICS = {  # key: (heading, decimals, target)
    "blink_f1": ("blink F1", 2, ">= .85"), "lips_f1": ("lip-closure F1", 2, ">= .85"),
    "mouth": ("mouth opening r", 3, ""), "yaw": ("yaw r", 3, ">= .95"), "pitch": ("pitch r", 3, ">= .95"),
    "roll": ("roll r", 3, ">= .95"), "gaze": ("gaze error, % of eye width", 1, ""),
    "jitter": ("jitter ratio", 2, "<= 1"), "wobble": ("scale wobble of a still driver, %", 2, "< .3"),
    "csim": ("CSIM to the portrait", 3, "own driver's - .05"), "csim_own": ("CSIM, own driver", 3, ""),
    "lost": ("frames without a face, %", 1, ""),
}  # fmt: skip


def choose_cross_pairs(shards: list[Shard], count: int = 20) -> list[tuple[Shard, Shard]]:
    """The same pairs (portrait, driver) for everybody: the longest clip of each person drives another person."""
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
    """The frame that stands for a photo: mouth and eyes as they usually are in the clip."""
    opening = openness(shard.landmarks)
    return int(np.abs(opening - np.median(opening, 0)).sum(1).argmin())


def as_track(landmarks: np.ndarray) -> MotionTrack:
    """Landmarks of a shard (T, 478, 3) as a driver."""
    fps = Fraction(PrepareConfig.fps).limit_denominator(1000)
    return MotionTrack(landmarks.astype(np.float32), (256, 256), fps, np.ones(len(landmarks), bool))


def render(portrait: Shard, track: MotionTrack, painter: Painter | None, every: int = 1) -> Iterator[np.ndarray]:
    """The portrait, one frame of a shard, moved by a track: frames (256, 256, 3) uint8."""
    t = portrait_frame(portrait)
    canvas = View(portrait.image(t), portrait.landmarks[t].astype(np.float64), portrait.matte(t))
    generator = painter.generator_for(painter.embed_person([canvas])) if painter else None
    renderer = Renderer([canvas, canvas.mirrored()], layers.plate(canvas.image, canvas.matte), generator)
    targets = Retargeter(track, canvas.landmarks)
    for t in range(0, len(targets), every):
        yield renderer.square(targets[t]).image


def find_again(frames: list[np.ndarray]) -> np.ndarray:
    """Landmarks (T, 478, 3) of frames, NaN where no face is found."""
    tracker = MediaPipeTracker(video=True, max_faces=1)
    try:
        found = [tracker.faces(frame) for frame in frames]
    finally:
        tracker.close()
    return np.stack([f[0].landmarks if f else np.full((478, 3), np.nan) for f in found])


def angles(landmarks: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll (T, 3) in degrees."""
    return np.degrees(euler_angles(estimate_poses(landmarks, MEAN_FACE).rotation))


def lid_opening(shapes: np.ndarray) -> np.ndarray:
    """Gap of the lids over the eye's width, mean of both eyes, of canonical shapes: (T,)."""
    gap = lambda a, b: np.linalg.norm((shapes[:, a] - shapes[:, b])[:, :2], axis=-1)
    width = lambda a, b: np.linalg.norm(shapes[:, a] - shapes[:, b], axis=-1)
    right = (gap(160, 144) + gap(159, 145) + gap(158, 153)) / 3 / width(33, 133)
    left = (gap(387, 373) + gap(386, 374) + gap(385, 380)) / 3 / width(362, 263)
    return (right + left) / 2


def mouth_opening(shapes: np.ndarray) -> np.ndarray:
    """Gap of the lips over the mouth's width, of canonical shapes: (T,)."""
    return np.maximum(0, shapes[:, 14, 1] - shapes[:, 13, 1]) / np.linalg.norm(shapes[:, 61] - shapes[:, 291], axis=-1)


def gaze(shapes: np.ndarray) -> np.ndarray:
    """Where the irises look, in eye widths from the middle of the eye, of canonical shapes: (T, 2)."""
    width = np.linalg.norm(shapes[:, [33, 362]] - shapes[:, [133, 263]], axis=-1).mean(1)
    return features(shapes)[:, -2:] / width[:, None]


def acceleration(landmarks: np.ndarray) -> float:
    """Mean second difference of the landmarks, of the face's height."""
    height = np.linalg.norm(landmarks[:, 10, :2] - landmarks[:, 152, :2], axis=-1).mean()
    return float(np.linalg.norm(np.diff(landmarks[:, :468, :2], 2, axis=0), axis=-1).mean() / height)


def f1(made: np.ndarray, wanted: np.ndarray) -> float:
    """F1 over frames; NaN when it is neither wanted nor made."""
    both = 2 * (made & wanted).sum()
    total = made.sum() + wanted.sum()
    return float(both / total) if total else float("nan")


def compare(driver: np.ndarray, made: np.ndarray) -> dict:
    """The measures of one clip: landmarks (T, 478, 3) of the driver and found again, NaN where lost.

    "blinks" and "lips" are pairs of (T',) bool, made and wanted; "turns" are pairs of angles (T', 3) about their means.
    """
    here = np.isfinite(made[:, 0, 0])
    d, o = driver[here].astype(np.float64), made[here]
    shapes = [canonical(x, estimate_poses(x, MEAN_FACE)).astype(np.float64) for x in (o, d)]
    lids, mouths = ([measure(s) for s in shapes] for measure in (lid_opening, mouth_opening))
    closed = [gap < BLINK * np.percentile(gap, 80) for gap in lids]
    clear = (mouths[1] < LIPS_CLOSED) | (mouths[1] > LIPS_OPEN)
    both_open = ~closed[0] & ~closed[1]
    looks = [g - np.median(g, 0) for g in (gaze(s[both_open]) for s in shapes)]
    return {
        "blinks": closed,
        "lips": [mouths[0][clear] < LIPS_MADE, mouths[1][clear] < LIPS_CLOSED],
        "turns": [a - a.mean(0) for a in (angles(o), angles(d))],
        "mouth": [m - m.mean() for m in mouths],
        "gaze": 100 * float(np.linalg.norm(looks[0] - looks[1], axis=1).mean()),
        "jitter": acceleration(o) / acceleration(d),
        "lost": 100 * float(1 - here.mean()),
    }


def summary(clips: list[dict]) -> dict[str, float]:
    """The measures over clips: F1 and correlations over all their frames, the rest as means."""
    join = lambda key: [np.concatenate(side) for side in zip(*(clip[key] for clip in clips))]
    made, wanted = join("turns")
    turns = [float(np.corrcoef(made[:, n], wanted[:, n])[0, 1]) for n in range(3)]
    result = {
        "blink_f1": f1(*join("blinks")),
        "lips_f1": f1(*join("lips")),
        **dict(zip(("yaw", "pitch", "roll"), turns)),
    }
    result["mouth"] = float(np.corrcoef(*join("mouth"))[0, 1])
    return {**result, **{key: float(np.mean([c[key] for c in clips])) for key in ("gaze", "jitter", "lost")}}


def still_wobble(portrait: Shard, driver: Shard, painter: Painter | None) -> float:
    """Relative deviation, in %, of the head's size under a driver who does not move but is filmed with noise."""
    rng = np.random.default_rng(0)
    image = driver.image(0).astype(np.float32)
    noisy = [np.clip(image + rng.normal(0, NOISE, image.shape), 0, 255).astype(np.uint8) for _ in range(30)]
    landmarks = find_again(noisy)
    if not np.isfinite(landmarks).all():
        return float("nan")
    made = find_again(list(render(portrait, as_track(landmarks), painter)))
    made = made[np.isfinite(made[:, 0, 0])]
    scale = estimate_poses(made, MEAN_FACE).scale
    return 100 * float(scale.std() / scale.mean())


def shape_model_errors(shards: list[Shard], per_clip: int = 4) -> dict:
    """Errors of the 68 -> 478 model on held-out frames, % of the face's height, with and without depth:
    {"3D": {"all", "mouth", "eyes"}, "2D": ...}."""
    parts = {"all": np.arange(468), "mouth": np.unique(EDGES["lips"]), "eyes": np.concatenate([RIGHT_EYE, LEFT_EYE])}
    report = {}
    for name, dimensions in (("3D", 3), ("2D", 2)):
        errors = []
        for shard in shards:
            for t in np.linspace(0, len(shard) - 1, per_clip).astype(int):
                points = shard.landmarks[t].astype(np.float64)
                fitted = fit_68(points[POINTS_68, :dimensions])
                errors.append(100 * np.linalg.norm((fitted - points)[:, :2], axis=1) / face_height(points))
        report[name] = {part: round(float(np.mean(errors, 0)[points].mean()), 3) for part, points in parts.items()}
    return report


def evaluate_cross(
    shards: Path,
    weights: Path | None = None,
    out: Path | None = None,
    pairs: int = 20,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict:
    """Measure motion transfer on held-out people of a folder of shards. weights: None for those that ship.

    out: folder for cross.json, cross.md and cross.png (portrait, then driver and result at three moments of each
    pair). Returns what the JSON holds. Raises InputError.
    """
    held_out = load_shards(shards, held_out=True)
    painter, meter = Painter(weights), Meter(held_out)
    plan = choose_cross_pairs(held_out, pairs)
    rows, compared, sheet = [], [], []
    for done, (portrait, driver) in enumerate(plan, 1):
        clip = driver.landmarks[:FRAMES]
        frames = list(render(portrait, as_track(clip), painter))
        clips = compare(clip, find_again(frames))
        photo = portrait_frame(portrait)
        same = meter.embed(portrait.image(photo), portrait.landmarks[photo])
        likeness = lambda pictures, points: float(
            np.nanmean([meter.likeness(same, p, q) for p, q in zip(pictures, points) if np.isfinite(q).all()])
        )
        own = list(render(portrait, as_track(portrait.landmarks[:FRAMES]), painter, 6))
        row = {"portrait": portrait.group, "driver": driver.group, **summary([clips])}
        row["csim"], row["csim_own"] = likeness(frames[::6], find_again(frames[::6])), likeness(own, find_again(own))
        row["wobble"] = still_wobble(portrait, driver, painter) if done % 4 == 1 else float("nan")
        rows.append(row)
        compared.append(clips)
        moments = np.linspace(0, len(frames) - 1, 4).astype(int)[1:]
        sheet.append(
            np.concatenate([portrait.image(photo), *[i for t in moments for i in (driver.image(t), frames[t])]], 1)
        )
        progress(done, len(plan))
    mean = lambda key: float(np.nanmean([row[key] for row in rows]))
    means = {**summary(compared), **{key: mean(key) for key in ("csim", "csim_own", "wobble")}}
    tidy = lambda row: {k: _rounded(v) if isinstance(v, float) else v for k, v in row.items()}
    report = {
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
        out.mkdir(parents=True, exist_ok=True)
        (out / "cross.json").write_text(json.dumps(report, indent=1))
        (out / "cross.md").write_text(to_markdown(report))
        cv2.imwrite(str(out / "cross.png"), np.concatenate(sheet)[..., ::-1])
    return report


def _rounded(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def to_markdown(report: dict) -> str:
    """The tables of a report."""
    lines = [
        f"{report['pairs']} held-out pairs of different people, {report['frames']} frames "
        f"({report['blink frames']} of blinks, {report['closed-lips frames']} with closed lips), "
        f"weights {report['weights']}",
        "",
        "| | measured | wanted |",
        "|---|---|---|",
    ]
    for key, (heading, decimals, wanted) in METRICS.items():
        value = report["means"][key]
        lines.append(f"| {heading} | {'-' if value is None else f'{value:.{decimals}f}'} | {wanted} |")
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
