"""Does the painting flicker? `python benchmarks/flicker.py SHARDS [WEIGHTS]`, on held-out people.

21 consecutive frames of a clip drive its first frame. What is measured is the second difference over time within the
face, |a - 2b + c| in 8-bit steps: 0 for what moves evenly, large for what jumps there and back. The clips' own frames
have camera noise and compression in it; the warp has its landmarks'. Painting should add nothing to that.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from portrait_anim.evaluation.meter import SIDE, reduced
from portrait_anim.evaluation.pairs import Pair
from portrait_anim.evaluation.reenactment import reenact
from portrait_anim.painting.painter import Painter
from portrait_anim.training.shards import Shard, load_shards

FRAMES = 21
PEOPLE = 11


def second_difference(frames: list[np.ndarray], faces: list[np.ndarray]) -> float:
    a, b, c = (np.float32(frames[k : len(frames) - 2 + k]) for k in range(3))
    return float(np.abs(a - 2 * b + c)[np.array(faces[1:-1])].mean())


def measure(shard: Shard, painter: Painter) -> list[float]:
    """Second difference of the clip, its warp, and what is painted on that."""
    clip, warp, output, faces = [], [], [], []
    for t in range(1, FRAMES + 1):
        square = reenact(Pair(shard, (0,), t), painter)
        warped, made = reduced(square.warped), reduced(square.image)
        hull = cv2.convexHull(shard.points(t, SIDE)[:468, :2].astype(np.int32))
        faces.append(cv2.fillConvexPoly(np.zeros(made.shape[:2], np.uint8), hull, 1) > 0)
        for frames, frame in zip((clip, warp, output), (shard.image(t, SIDE), warped, made)):
            frames.append(frame)
    return [second_difference(frames, faces) for frames in (clip, warp, output)]


def main(shards: str, weights: str | None = None) -> None:
    longest = {s.group: s for s in sorted(load_shards(Path(shards), held_out=True), key=len) if len(s) > FRAMES}
    groups = sorted(longest)
    chosen = groups[:: max(1, len(groups) // PEOPLE)][:PEOPLE]
    painter = Painter(weights)
    found = np.array([measure(longest[group], painter) for group in chosen])
    print(f"weights {painter.weights.sha256[:8]}, {len(chosen)} people, {FRAMES} frames each")
    for name, values in zip(("clip", "warp", "output"), found.T):
        print(f"{name:6} {values.mean():6.2f}")
    print(f"output calmer than the warp: {int((found[:, 2] <= found[:, 1]).sum())} of {len(chosen)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
