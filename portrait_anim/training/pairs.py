"""Make the pairs that fine-tuning learns from: each photo of a person from the others, or a single one from itself."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from ..geometry.mesh import openness
from ..geometry.view import View, light_gain, relight
from ..geometry.warp import over
from ..painting.painter import Painter
from ..painting.renderer import Renderer
from ..portrait import layers
from .augmentation import Augmentation, AugmentationConfig
from .episodes import EpisodeConfig, describe
from .frames import MATTE, Pictures, planes
from .reposing import repose


def _boxes() -> EpisodeConfig:
    change = AugmentationConfig(turn=10.0, bend=0.0, palettes=0.0, lit=0.0)
    return EpisodeConfig(side=288, targets=2, change=change)


@dataclass(frozen=True)
class PairsConfig:
    """How pairs are made.

    boxes: what is painted of a pair, and how its pictures are changed.
    """

    boxes: EpisodeConfig = field(default_factory=_boxes)
    max_sources: int = 8  # most photos that a target is made from, as many as when animating


class TrainingPairs:
    """Episodes to learn from, made of one person's photos. Item j depends only on `seed` and j.

    painter: the networks, with the generator before tuning.
    """

    def __init__(self, views: list[View], painter: Painter, seed: int, config: PairsConfig = PairsConfig()):
        self.views, self.seed, self.config = views, seed, config
        self._plates = [layers.plate_behind(view) for view in views]
        self._lit: dict[tuple[int, int], np.ndarray] = {}
        self.kept_back = self._most_usual() if len(views) > 2 else None  # a target only when measuring
        if len(views) == 1:
            both = [views[0], views[0].mirrored()]
            self._renderer = Renderer(both, self._plates[0], painter.generator_for(painter.encode(both)))
            self._both = both

    def _most_usual(self) -> int:
        """Return the index of the photo whose expression is most like the others': tuning misses it least."""
        opening = np.stack([openness(v.landmarks) for v in self.views])
        return int(np.abs(opening[:, None] - opening[None]).sum((1, 2)).argmin())

    def item(self, j: int, held_out: bool = False) -> tuple[dict, Pictures]:
        """Return one episode and its pictures.

        held_out: whether the episode is one to measure with, which is never learned from.
        """
        rng = np.random.default_rng((self.seed, held_out, j))
        sources, plate, target = self._reposed(rng) if len(self.views) == 1 else self._pair(rng, held_out)
        boxes = self.config.boxes
        change = Augmentation.draw(rng, boxes.change)
        numbers = change.numbers()
        if held_out:
            numbers |= {"colours": np.eye(3, dtype=np.float32), "tone": np.array([1, 1, 0], np.float32)}
        points = [change.moved(view.landmarks) for view in sources]
        wanted = [change.moved(target.landmarks)] * boxes.targets
        pictures = Pictures(
            torch.stack([planes(view.image) for view in sources])[None],
            torch.stack([_small_matte(view) for view in sources])[None],
            planes(plate)[None],
            planes(sources[0].mirrored().gain)[None],
            planes(target.image).expand(1, boxes.targets, -1, -1, -1),
        )
        episode = describe(points, [True] * len(points), wanted, boxes, rng)
        # psi is learned, and needs no e: the source encoder looks only at photos that the warp takes something from.
        episode["present"][1:] = False
        return {**episode, **numbers}, pictures

    def _pair(self, rng: np.random.Generator, held_out: bool) -> tuple[list[View], np.ndarray, View]:
        """Return the sources (the canvas first), the plate of the canvas, and the target.

        The target is another photo, in the light and before the background of the canvas.
        """
        everyone = range(len(self.views))
        target = self.kept_back if held_out and self.kept_back is not None else None
        if target is None:
            target = int(rng.choice([n for n in everyone if n != self.kept_back]))
        rest = rng.permutation([n for n in everyone if n != target])[: self.config.max_sources].tolist()
        canvas = rest[0]
        photo, matte = self._in_light_of(canvas, target), self.views[target].matte
        image = over(photo.astype(np.float32), matte, self._plates[canvas]).round().astype(np.uint8)
        sources = [View(self._in_light_of(canvas, n), self.views[n].landmarks, self.views[n].matte) for n in rest]
        return sources, self._plates[canvas], View(image, self.views[target].landmarks, matte)

    def _in_light_of(self, canvas: int, other: int) -> np.ndarray:
        if canvas == other:
            return self.views[other].image
        if (canvas, other) not in self._lit:
            view = self.views[other]
            self._lit[canvas, other] = relight(view.image, light_gain(self.views[canvas], view))
        return self._lit[canvas, other]

    def _reposed(self, rng: np.random.Generator) -> tuple[list[View], np.ndarray, View]:
        """Return the only photo in another pose as source, its plate, and the photo itself as target, or the reverse.

        The other pose is painted by the untuned G. If it were only warped, a warp alone could restore it, and G would
        learn to paint nothing. G would also forget what it paints where the photo's own expression asks for nothing, as
        in an opened mouth, and become worse at every expression but the photo's.
        """
        view, plate, pose = self.views[0], self._plates[0], repose(self.views[0].landmarks, rng)
        square = self._renderer.square(pose)
        painted = square.painted[1:-1, 1:-1]
        image, residual = np.zeros(view.image.shape, np.float32), painted[..., 8:10]
        for other, flow, weight in zip(self._both, square.seen.flows, square.seen.weights):
            if flow is not None:  # Lanczos, so that G learns to undo the warp, not a blur that no photo has
                at = flow + residual - np.float32(0.5)
                moved = cv2.remap(other.image, at, None, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
                image += weight[..., None] * moved
        matte = np.clip(square.seen.matte + painted[..., 7], 0, 1)
        image = over(image, matte, plate.astype(np.float32)) + painted[..., 3:6]
        posed = View(np.rint(np.clip(image, 0, 255)).astype(np.uint8), pose, matte)
        return ([posed], plate, view) if rng.random() < 0.5 else ([view], plate, posed)


def _small_matte(view: View) -> torch.Tensor:
    small = cv2.resize(view.matte, (MATTE, MATTE), interpolation=cv2.INTER_AREA)
    return torch.from_numpy((small * 255).round().astype(np.uint8))


def stacked(items: list[Pictures]) -> Pictures:
    """Return the pictures of several episodes as one."""
    parts = zip(*(vars(item).values() for item in items))
    return Pictures(*(torch.cat(part) for part in parts))
