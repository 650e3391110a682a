"""Episodes of meta-learning: one or a few photos of a clip, and target frames that they are warped to.

What is made here, by worker processes, holds no pixels: numbers of frames, the geometry of the warp, landmark drawings
and the numbers of a random change. Frames are fetched, changed and warped on the device, see `frames` and `batches`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch.utils.data import Dataset

from ..geometry import mesh
from ..geometry.mesh import LEFT_EYE, OUTER_LIPS, RIGHT_EYE, openness
from ..geometry.view import CROP, View
from ..geometry.warp import Warper
from ..painting.conditioning import STRIDE
from .augmentation import Augmentation, AugmentationConfig
from .conditioning import AROUND, warp_numbers
from .decoded import canvases
from .shards import Shard

_BLANK = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True)
class EpisodeConfig:
    """What an episode consists of. The defaults are for a GPU; `for_cpu` gives those for a processor."""

    side: int = CROP  # px of the boxes of the crop that are painted; CROP for whole frames
    targets: int = 3  # R: frames that are painted from the same photos
    photos: int = 2  # K: photos of the person at most, of which the first is the canvas
    several: float = 0.35  # share of episodes with more photos than one
    sharp: float = 0.625  # share of a batch that is of 512 px clips, as far as there are both kinds
    candidates: int = 7  # frames of which a target is chosen
    expressive: float = 0.36  # share of targets whose mouth and eyes differ most from the canvas
    wide: float = 0.14  # share whose mouth is open widest
    closed: float = 0.08  # share whose eyes are closed most
    turned: float = 0.27  # share whose head is turned most differently; the rest is any frame
    edges: float = 0.35  # share of boxes, if not whole frames, around the edge of the head; the others show the face
    change: AugmentationConfig = field(default_factory=AugmentationConfig)

    @classmethod
    def for_cpu(cls) -> EpisodeConfig:
        """Boxes of a fifth of a frame, and few episodes with another photo: each costs a run of the source encoder."""
        return cls(side=224, targets=4, several=0.15, edges=0.25, wide=0.2)


class Episodes(Dataset):
    """Endless episodes of shards; item j depends on (seed, j) only, so that a resumed run continues exactly.

    Of every `batch` items in a row a fixed number is of 512 px clips: the shapes of what is computed never change.
    """

    def __init__(self, shards: list[Shard], seed: int = 0, batch: int = 1, config: EpisodeConfig = EpisodeConfig()):
        self.seed, self.batch, self.config = seed, batch, config
        self.groups = sorted({s.group for s in shards})
        self._person = [self.groups.index(s.group) for s in shards]
        self._landmarks = [s.landmarks * np.float32(CROP / s.size) for s in shards]
        self._openness = [openness(points) for points in self._landmarks]
        self._turn = [head_turn(points) for points in self._landmarks]
        # Long clips count more, but not in proportion: another person teaches more than another minute. So do
        # clips in which mouth, eyes and head move; clips of the same person share their weight in part.
        moves, turns = (np.array([values.std(0).sum() for values in of]) for of in (self._openness, self._turn))
        lively = sum(values / max(float(np.median(values)), 1e-6) for values in (moves, turns)) / 2
        clips = np.bincount(self._person)[self._person]
        weight = np.array([min(len(s), 120) ** 0.5 for s in shards]) * np.clip(lively, 0.3, 3)
        weight /= clips**0.5
        sharp = np.array([s.is_sharp for s in shards])
        self.sharp = batch if sharp.all() else round(config.sharp * batch) if sharp.any() else 0  # episodes of a batch
        shares = [weight * sharp, weight * ~sharp]
        self._chance = [share / share.sum() if share.any() else share for share in shares]

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, j: int) -> dict:
        rng = np.random.default_rng((self.seed, j))
        number = int(rng.choice(len(self._landmarks), p=self._chance[int(j % self.batch >= self.sharp)]))
        landmarks = self._landmarks[number]
        source = int(rng.choice(canvases(len(landmarks))))
        targets = [self._target(number, source, rng) for _ in range(self.config.targets)]
        count = self.config.photos
        photos = [source, *rng.integers(0, len(landmarks), count - 1).tolist()]
        present = [True, *[rng.random() < self.config.several and t not in targets for t in photos[1:]]]
        change = Augmentation.draw(rng, self.config.change)
        points = [change.moved(landmarks[t]) for t in photos]
        wanted = [change.moved(landmarks[t]) for t in targets]
        episode = describe(points, present, wanted, self.config, rng)
        return {
            "shard": number,
            "photos": np.array(photos),
            "targets": np.array(targets),
            "person": self._person[number],
            **episode,
            **change.numbers(),
        }

    def _target(self, number: int, source: int, rng: np.random.Generator) -> int:
        """Draw a frame: one unlike the source in mouth and eyes, or in the head's turn, or any."""
        config, opening, turn = self.config, self._openness[number], self._turn[number]
        some = rng.integers(0, len(opening), config.candidates)
        unlike = lambda values: np.abs(values[some] - values[source]).sum(1)
        choices = [
            (config.expressive, lambda: unlike(opening)),
            (config.wide, lambda: opening[some, 0]),
            (config.closed, lambda: -opening[some, 2:].sum(1)),
            (config.turned, lambda: unlike(turn)),
        ]
        draw = rng.random()
        for share, value in choices:
            if draw < share:
                return int(some[value().argmax()])
            draw -= share
        return int(some[0])


def describe(
    photos: list[np.ndarray],
    present: list[bool],
    targets: list[np.ndarray],
    config: EpisodeConfig,
    rng: np.random.Generator,
) -> dict:
    """Return an episode's geometry: photos and targets are landmarks (478, 3) in px of the changed crop.

    The views are the canvas, its mirror image, and the other photos that are present. For photos that are not, there
    are views of no weight. Of each target one box is chosen, in which lie the `centres` (4, 2): mouth, right and left
    eye, and a place on the head's edge.
    """
    unseen = lambda points, is_mirror=False: View(_BLANK, points, _BLANK, is_mirror)
    views = [unseen(photos[0]), unseen(mesh.mirrored_landmarks(photos[0], CROP), True)]
    views += [unseen(points) for points, there in zip(photos[1:], present[1:]) if there]
    slots = [0, 1, *[2 + n for n, there in enumerate(present[1:]) if there]]
    warper = Warper(views, AROUND)
    parts, drawings, corners, centres = [], [], [], []
    for points in targets:
        places = _places(points, rng)
        x, y = corner = _corner(places, config, rng)
        numbers = warp_numbers(warper, points, (x, y, x + config.side, y + config.side))
        parts.append({name: _spread(name, value, slots, 1 + len(photos)) for name, value in numbers.items()})
        drawing = mesh.draw_landmarks(points)[y : y + config.side, x : x + config.side]
        drawings.append(np.ascontiguousarray(drawing.transpose(2, 0, 1)))
        corners.append(corner)
        centres.append(places - corner)
    stacked = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    used = stacked.pop("used").any(0)
    sources = [mesh.draw_landmarks(points).transpose(2, 0, 1) for points in photos]
    return {
        **stacked,
        "used": used,  # (V,) bool: whether any box sees the view
        "present": np.array(present),
        "drawings": np.stack(drawings),  # (R, 3, h, w) uint8
        "source_drawings": np.stack(sources),  # (K, 3, 512, 512) uint8
        "corners": np.array(corners),  # (R, 2) px
        "centres": np.stack(centres).astype(np.float32),  # (R, 4, 2) px of the box
    }


def head_turn(landmarks: np.ndarray) -> np.ndarray:
    """Return how far the head is turned to the side and nods, (T, 2), of landmarks (T, 478, 3)."""
    across, down = landmarks[:, 454] - landmarks[:, 234], landmarks[:, 152] - landmarks[:, 10]
    return np.stack([axis[:, 2] / np.linalg.norm(axis, axis=1) for axis in (across, down)], 1)


def _spread(name: str, value: np.ndarray, slots: list[int], count: int) -> np.ndarray:
    """Give what has an entry for each view one for each of `count` slots, 0 where no view is."""
    if name not in ("maps", "shifts", "weights", "used") or len(value) == count:
        return value
    spread = np.zeros((count, *value.shape[1:]), value.dtype)
    spread[slots] = value
    return spread


def _places(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the places (4, 2) that losses look at closely: mouth, right and left eye, somewhere at the head's edge."""
    middle = points[:468, :2].mean(0)
    edge = middle + (points[rng.choice(mesh.OVAL), :2] - middle) * rng.uniform(0.9, 1.6)
    return np.stack([*(points[part, :2].mean(0) for part in (OUTER_LIPS, RIGHT_EYE, LEFT_EYE)), edge])


def _corner(places: np.ndarray, config: EpisodeConfig, rng: np.random.Generator) -> np.ndarray:
    """Choose the upper left corner (x, y) of a box: around the face, or a place on the head's edge."""
    mouth, right, left, edge = places
    if rng.random() < config.edges:
        centre = 0.7 * edge + 0.3 * mouth
    else:
        centre = (mouth + (right + left) / 2) / 2 + rng.uniform(-24, 24, 2)
    corner = np.round((centre - config.side / 2) / STRIDE)
    return (np.clip(corner, 0, (CROP - config.side) // STRIDE) * STRIDE).astype(int)
