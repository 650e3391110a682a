"""Quality by apparent skin tone on held-out people: `python benchmarks/skin_tone.py SHARDS [WEIGHTS]`.

Skin tone is the individual typology angle, ITA = atan((L* - 50) / b*), of the cheeks in five frames of a clip; people
whose cheeks show no skin colour (b* below 3: monochrome clips, blue light) are left out. It is a tone as filmed, with
its light and camera, not a person's. People, not pairs, are averaged; +- is half of a 95 % bootstrap interval.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from portrait_anim.evaluation.meter import SIDE, Meter, reduced
from portrait_anim.evaluation.pairs import choose_pairs
from portrait_anim.evaluation.reenactment import reenact
from portrait_anim.painting.painter import Painter
from portrait_anim.training.shards import Shard, load_shards

CHEEKS = (50, 280, 101, 330)  # landmarks
MEASURES = ("l1", "mouth_inside", "mouth_perceptual", "eyes_perceptual", "akd", "csim")


def skin(shard: Shard) -> np.ndarray:
    """L*, a*, b* of the cheeks."""
    found = []
    for t in np.linspace(0, len(shard) - 1, 5).astype(int):
        lab = cv2.cvtColor(shard.image(t, SIDE).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        for x, y in np.clip(np.round(shard.points(t, SIDE)[list(CHEEKS), :2]), 5, 250).astype(int):
            found.append(np.median(lab[y - 5 : y + 6, x - 5 : x + 6].reshape(-1, 3), 0))
    return np.median(found, 0)


def main(shards: str, weights: str | None = None) -> None:
    held_out = load_shards(Path(shards), held_out=True)
    colour = {}
    for shard in held_out:
        colour.setdefault(shard.group, []).append(skin(shard))
    colour = {group: np.mean(values, 0) for group, values in colour.items()}
    ita = {group: np.degrees(np.arctan2(lab[0] - 50, lab[2])) for group, lab in colour.items() if lab[2] >= 3}
    meter, painter, results = Meter(held_out), Painter(weights), {}
    for pair in choose_pairs(held_out):
        if pair.shard.group in ita:
            square = reenact(pair, painter)
            target, points = pair.image(pair.target), pair.shard.points(pair.target, SIDE)
            pictures = (reduced(square.warped), reduced(square.image))
            both = [meter(picture, target, points, square.mouth[::2, ::2]) for picture in pictures]
            results.setdefault(pair.shard.group, []).append([[m[key] for key in MEASURES] for m in both])
    people = sorted(results, key=ita.get)
    means = {group: np.nanmean(results[group], 0) for group in people}  # (2, measures)
    rng = np.random.default_rng(0)
    print(f"weights {painter.weights.sha256[:8]}; left out for lack of skin colour: {len(colour) - len(ita)}")
    print("| tone | ITA | people | picture | " + " | ".join(MEASURES) + " |")
    print("|---" * (len(MEASURES) + 4) + "|")
    for name, third in zip(("darker", "middle", "lighter"), np.array_split(people, 3)):
        values = np.stack([means[group] for group in third])
        drawn = np.nanmean(values[rng.integers(0, len(third), (2000, len(third)))], 1)
        spread = np.subtract(*np.nanpercentile(drawn, (97.5, 2.5), axis=0)) / 2
        for row, picture in enumerate(("mesh warp", "model")):
            cells = [f"{m:.2f} +-{s:.2f}" for m, s in zip(np.nanmean(values, 0)[row], spread[row])]
            span = f"{ita[third[0]]:.0f} to {ita[third[-1]]:.0f}"
            print(f"| {name} | {span} | {len(third)} | {picture} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(*sys.argv[1:])
