"""Learn what expressions do to a face, for the built-in motions: shards -> portrait_anim/geometry/data/expressions.npz.

python scripts/make_expressions.py SHARDS

For every frame of the training people the landmarks, with the head's pose taken out, are compared with the person's
own median face. Linear regression explains that difference by a few features (how far the mouth is open, how wide it
is, ...; see geometry.expressions.features): what belongs to one feature, over all people, is its expression.
"""

import sys
from pathlib import Path

import numpy as np

from portrait_anim.geometry.anatomy import EYES_AND_BROWS
from portrait_anim.geometry.expressions import FEATURES, MIRRORED, features
from portrait_anim.geometry.mesh import FLIP, MEAN_FACE
from portrait_anim.geometry.pose import canonical, estimate_poses
from portrait_anim.training.shards import load_shards

MAX_TURN = 25.0  # degrees: landmarks of the far side are guesses beyond


def distance_to(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(MEAN_FACE[:, None] - MEAN_FACE[None, points], axis=-1).min(1)


def main(shards: str) -> None:
    offsets, causes, rests = [], [], []
    for shard in load_shards(Path(shards), held_out=False):
        pose = estimate_poses(shard.landmarks, MEAN_FACE)
        turn = np.degrees(np.arccos(np.clip((np.trace(pose.rotation, axis1=1, axis2=2) - 1) / 2, -1, 1)))
        shapes = canonical(shard.landmarks, pose)[turn < MAX_TURN].astype(np.float64)
        if len(shapes) < 12:
            continue
        shapes = np.concatenate([shapes, shapes[:, FLIP] * [-1, 1, 1]])  # faces are symmetric on average
        middle = np.median(shapes, 0)
        offsets.append((shapes - middle)[::2])
        causes.append((features(shapes) - features(middle))[::2])
        rests.append(middle)
    x, y = np.concatenate(causes), np.concatenate(offsets)
    scale = x.std(0)
    z = x / scale
    weights = np.linalg.solve(z.T @ z + 1e-3 * len(z) * np.eye(len(FEATURES)), z.T @ y.reshape(len(y), -1))
    expressions = (weights / scale[:, None]).reshape(len(FEATURES), 478, 3)
    mirrored = expressions[MIRRORED][:, FLIP] * [-1, 1, 1]
    signs = np.array([-1.0 if name == "gaze_x" else 1.0 for name in FEATURES])[:, None, None]
    expressions = (expressions + signs * mirrored) / 2
    upper = np.exp(-((distance_to(EYES_AND_BROWS) / 0.12) ** 2))[:, None]
    for name in ("lid_r", "lid_l", "brows", "gaze_x", "gaze_y"):  # what eyes do says nothing about the jaw
        expressions[FEATURES.index(name)] *= upper
    people = np.var([features(rest) for rest in rests], 0)
    trust = scale**2 / (scale**2 + people)  # a wide mouth may be a smile or that person's own
    for name in ("open", "gaze_x", "gaze_y"):  # nobody's shape, however long a clip shows it
        trust[FEATURES.index(name)] = 1
    rest = np.median(rests, 0)
    rest = (rest + rest[FLIP] * [-1, 1, 1]) / 2
    explained = 1 - ((y - np.tensordot(x, expressions, 1)) ** 2).sum() / (y**2).sum()
    print(f"{len(y)} frames, {explained:.0%} of the variance explained")
    for name, deviation, share in zip(FEATURES, scale, trust):
        print(f"  {name:8} standard deviation {deviation:.4f} face heights, {share:.0%} of all its variance")
    out = Path(__file__).parent.parent / "portrait_anim" / "geometry" / "data" / "expressions.npz"
    np.savez_compressed(
        out, rest=rest.astype(np.float16), expressions=expressions.astype(np.float16), trust=trust.astype(np.float16)
    )
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
