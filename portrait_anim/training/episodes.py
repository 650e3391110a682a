"""Episodes of meta-learning: a few source frames of one clip and a target frame, as crops of the conditioned frame.

The warp does most of a frame right; crops around the mouth, the eyes and the face's border put the training where
the network has something to learn (on a CPU they are worth several times their number of whole frames).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from ..geometry import mesh
from ..geometry.mesh import LEFT_EYE, OUTER_LIPS, RIGHT_EYE, openness
from ..geometry.view import CROP, View, sample
from ..geometry.warp import Warper, condition
from ..portrait import layers
from .prepare import Shard

_CENTRES = np.stack(np.meshgrid(*[np.arange(CROP, dtype=np.float32) + 0.5] * 2), -1)  # of pixels, (256, 256, 2)
_MARGIN = 8  # px: so far from the edge of a crop must the centre of a mouth or an eye be to count as seen


@dataclass(frozen=True)
class EpisodeConfig:
    crop: int = 80  # px: side of the crops, a mouth and its surroundings; 256 gives whole frames
    crops: int = 3  # per pair: mouth, eyes, elsewhere
    embedder_size: int = 128  # px: of the source photos as E takes them
    max_sources: int = 4  # K is drawn from 1..max_sources, 1 most often
    fused: float = 0.4  # share of pairs whose warp is fused from a second photo
    hard_pairs: float = 0.6  # share of pairs whose target is the most different of a few candidates
    bend: float = 4.0  # px, see augment: how far faces are made into those of other people
    palettes: float = 0.4  # share of pairs in the colours of old photos and paintings


def palette(rng: np.random.Generator, strong: bool) -> tuple[np.ndarray, np.ndarray]:
    """A random look: colour matrix (3, 4) for RGB in 0..255, then a tone curve (256,) uint8.

    strong: monochrome, sepia, yellowed varnish, tinted or dim light; else the jitter of ordinary cameras.
    """
    matrix = np.eye(3)
    if strong:
        grey = np.full((3, 3), 1) * np.array([0.299, 0.587, 0.114])
        kind = rng.choice(["monochrome", "sepia", "varnish", "tint"], p=[0.25, 0.2, 0.35, 0.2])
        tone = {"monochrome": (1, 1, 1), "sepia": (1.1, 0.95, 0.72), "varnish": (1.08, 0.92, 0.55)}.get(kind, (1, 1, 1))
        wash = {"monochrome": 1.0, "sepia": rng.uniform(0.7, 1), "varnish": rng.uniform(0.15, 0.7)}.get(kind, 0.0)
        tone = np.array(tone) * rng.uniform(0.9, 1.1, 3) if kind != "monochrome" else np.array(tone)
        if kind == "tint":
            tone = rng.uniform(0.55, 1.15, 3)
        matrix = tone[:, None] * (wash * grey + (1 - wash) * matrix)
        gamma, gain, lift = rng.uniform(0.7, 1.6), rng.uniform(0.6, 1.15), rng.uniform(-8, 25)
    else:
        matrix = matrix * rng.uniform(0.93, 1.07, 3)[:, None]
        gamma, gain, lift = rng.uniform(0.75, 1.3), rng.uniform(0.85, 1.15), rng.uniform(-12, 12)
    curve = np.clip((np.arange(256) / 255) ** gamma * 255 * gain + lift, 0, 255).astype(np.uint8)
    return matrix, curve


class Episodes(Dataset):
    """Endless episodes of shards; item j depends on (seed, j) only, so a resumed run continues exactly."""

    def __init__(self, shards: list[Shard], seed: int = 0, config: EpisodeConfig = EpisodeConfig()):
        self.shards, self.seed, self.config = shards, seed, config
        self._openness = [openness(s.landmarks) for s in shards]
        self.groups = sorted({s.group for s in shards})
        # Long clips count more, but not in proportion: another person teaches more than another minute. So do
        # clips in which mouth and eyes move.
        moves = np.array([o.std(0).sum() for o in self._openness])
        weight = np.array([min(len(s), 120) ** 0.5 for s in shards]) * np.clip(moves / np.median(moves), 0.3, 3)
        self._chance = weight / weight.sum()

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, j: int) -> dict[str, torch.Tensor]:
        cv2.setNumThreads(1)
        rng = np.random.default_rng((self.seed, j))
        number = int(rng.choice(len(self.shards), p=self._chance))
        shard, spread = self.shards[number], self._openness[number]
        source = int(rng.integers(len(shard)))
        candidates = rng.integers(0, len(shard), 5)
        target = int(candidates[0])
        if rng.random() < self.config.hard_pairs:
            target = int(candidates[np.abs(spread[candidates] - spread[source]).sum(1).argmax()])
        more = rng.integers(0, len(shard), int(rng.choice(self.config.max_sources, p=self._source_odds())))
        fused = rng.random() < self.config.fused
        if fused:  # of a few photos the one most like the target: the others would not be used
            candidates = candidates[candidates != target]
            nearest = np.abs(spread[candidates] - spread[target]).sum(1).argsort()[:1]
            more = np.concatenate([candidates[nearest], more])[: self.config.max_sources - 1]
            fused = len(nearest) > 0
        return self._episode(shard, source, target, more, fused, rng)

    def _source_odds(self) -> np.ndarray:
        odds = 0.4 ** np.arange(self.config.max_sources)
        return odds / odds.sum()

    def _episode(
        self, shard: Shard, source: int, target: int, more: np.ndarray, fused: bool, rng: np.random.Generator
    ) -> dict:
        frames = [source, target, *more.tolist()]
        landmarks = [shard.landmarks[t].astype(np.float64) for t in frames]
        mattes = [shard.matte(t) for t in (source, *frames[2 : 2 + fused])]
        pictures, landmarks = augment([*map(shard.image, frames), *mattes], landmarks, rng, self.config.bend)
        images, mattes = pictures[: len(frames)], pictures[len(frames) :]
        if rng.random() < 0.85:
            matrix, curve = palette(rng, rng.random() < self.config.palettes)
            images = [cv2.LUT(cv2.transform(i, matrix), curve) for i in images]
        canvas = View(images[0], landmarks[0], mattes[0])
        views = [canvas, canvas.mirrored()]
        if fused:
            views.append(View(images[2], landmarks[2], mattes[1]).lit_as(canvas))
        plate = layers.plate(canvas.image, canvas.matte)
        corners = crop_corners(landmarks[1], self.config.crop, self.config.crops, rng)
        embedded = [0] + list(range(2, len(images)))  # the target is never embedded
        k, side = self.config.max_sources, self.config.embedder_size
        photos, drawings = (torch.zeros((k, 3, side, side), dtype=torch.uint8) for _ in range(2))
        for n, i in enumerate(embedded):
            photos[n], drawings[n] = embedder_input(images[i], landmarks[i], side)
        return {
            **conditioned_crops(views, plate, images[1], landmarks[1], corners, self.config.crop),
            "sources": photos,  # (K, 3, side, side) uint8, of which `count` are filled
            "drawings": drawings,
            "count": torch.tensor(len(embedded)),
            "person": torch.tensor(self.groups.index(shard.group)),
        }


def conditioned_crops(
    views: list[View],
    plate: np.ndarray,
    image: np.ndarray,
    landmarks: np.ndarray,
    corners: list[tuple[int, int]],
    size: int,
) -> dict[str, torch.Tensor]:
    """What G sees of views moved to a target (image, landmarks), and the target itself, in C crops of size px.

    views: the canvas, its mirror image, then other photos; with V = 3 at least, views of no weight fill up.
    """
    warp = Warper(views).warp(landmarks)
    x = condition(warp, views, plate, landmarks)
    cut = lambda a: _to_tensor(np.stack([a[y : y + size, x0 : x0 + size] for x0, y in corners]))
    padded = lambda parts: torch.stack([*parts, *[torch.zeros_like(parts[0])] * (3 - len(parts))])
    return {
        "x": cut(x),  # (C, 13, size, size) the generator's input
        "target": cut(image),  # (C, 3, size, size) uint8
        "plate": cut(plate),
        "flows": padded([cut(flow) for flow in warp.flows]),  # (V, C, 2, size, size)
        "weights": padded([cut(weight[..., None]) for weight in warp.weights]),  # (V, C, 1, size, size)
        "photos": padded([_to_tensor(view.image) for view in views]),  # (V, 3, 256, 256) uint8
        "mouth": _centres(landmarks, corners, size, [OUTER_LIPS]),  # (C, 1, 2) for D's local heads
        "eyes": _centres(landmarks, corners, size, [RIGHT_EYE, LEFT_EYE]),  # (C, 2, 2)
    }


def _centres(landmarks: np.ndarray, corners: list[tuple[int, int]], size: int, parts: list) -> torch.Tensor:
    """Where the parts of the face are in each crop, (C, K, 2) px; NaN where a crop does not show one."""
    centres = np.stack([landmarks[part, :2].mean(0) for part in parts])[None] - np.array(corners)[:, None]
    outside = (np.abs(centres - size / 2) > size / 2 - _MARGIN).any(-1)
    centres[outside] = np.nan
    return torch.from_numpy(centres.astype(np.float32))


def embedder_input(image: np.ndarray, landmarks: np.ndarray, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Photo and drawing as E takes them, (3, side, side) uint8 each; image: (256, 256, 3) uint8."""
    photo = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return _to_tensor(photo), _to_tensor(mesh.draw_landmarks(landmarks, CROP, side))


def crop_corners(landmarks: np.ndarray, size: int, crops: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Upper left corners (x, y) of the crops: mouth, eyes, then the face, its border, anywhere."""
    mouth = landmarks[OUTER_LIPS, :2].mean(0) + rng.normal(0, 8, 2)
    eyes = landmarks[np.concatenate([RIGHT_EYE, LEFT_EYE]), :2].mean(0) + rng.normal(0, 10, 2)
    centres = [mouth, eyes]
    while len(centres) < crops:
        if rng.random() < 0.5:
            centres.append(landmarks[rng.choice(mesh.OVAL), :2] + rng.normal(0, 12, 2))
        else:
            centres.append(rng.uniform(size / 2, CROP - size / 2, 2))
    corners = np.clip(np.round(np.array(centres[:crops]) - size / 2), 0, CROP - size).astype(int)
    return [(int(x), int(y)) for x, y in corners]


def augment(images: list, landmarks: list, rng: np.random.Generator, bend: float = 0.0) -> tuple[list, list]:
    """Every second time flipped, and a small rotation, scale and shift, the same for all pictures and mattes: clips
    are cut alike, users' photos are not. bend: greatest standard deviation, px, of a smooth random field (5 x 5 nodes)
    by which the pictures are bent, and stretched in proportion: a face bent smoothly is the face of somebody else."""
    if rng.random() < 0.5:
        images = [np.ascontiguousarray(i[:, ::-1]) for i in images]
        landmarks = [mesh.mirrored_landmarks(p, CROP) for p in landmarks]
    scale, angle, shift = rng.uniform(0.85, 1.2), rng.uniform(-10, 10), rng.uniform(-12, 12, 2)
    stretch, nodes = np.exp(rng.normal(0, bend / 60)), rng.normal(0, rng.uniform(0, 1) * bend, (5, 5, 2))
    if rng.random() < 0.1:
        return images, landmarks
    matrix = cv2.getRotationMatrix2D((0, 0), angle, scale)
    matrix[:, :2] *= (stretch**0.5, stretch**-0.5)
    matrix[:, 2] = CROP / 2 + shift - matrix[:, :2].sum(1) * CROP / 2
    # A pixel shows what is `field` px away from it in the turned picture.
    field = cv2.resize(nodes.astype(np.float32), (CROP, CROP), interpolation=cv2.INTER_CUBIC)
    back = cv2.invertAffineTransform(matrix).astype(np.float32)
    flow = (_CENTRES + field) @ back[:, :2].T + (back[:, 2] - 0.5)
    turn = lambda image: cv2.remap(image, flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    moved = []
    for points in landmarks:
        points = points.copy()
        points[:, :2] = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        points[:, 2] *= scale
        place = points[:, :2]
        for _ in range(8):  # the pixel that shows them: place + field(place) = points
            place = points[:, :2] - sample(field, place[None].astype(np.float32))[0]
        points[:, :2] = place
        moved.append(points)
    return [turn(i) for i in images], moved


def _to_tensor(array: np.ndarray) -> torch.Tensor:
    """(..., H, W, C) -> (..., C, H, W), same dtype."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, -3)))
