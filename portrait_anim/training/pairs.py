"""What fine-tuning learns from: the photos of one person, each made from the others, or one photo from itself."""

from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from ..geometry.mesh import openness
from ..geometry.view import View, light_gain, relight
from ..geometry.warp import over
from ..painting.painter import Painter
from ..painting.renderer import Renderer
from ..portrait import layers
from .episodes import augment, conditioned_crops, crop_corners, palette
from .reposing import repose


@dataclass(frozen=True)
class PairsConfig:
    crop: int = 80  # px, as in meta-training
    crops: int = 6  # per item: mouth, eyes, elsewhere
    max_sources: int = 8  # photos that a target is made from, as far as there are: as many as in use


class TrainingPairs:
    """Items to learn from, made of one person's photos; item j depends on (seed, j) only. painter: not yet tuned."""

    def __init__(self, views: list[View], painter: Painter, seed: int, config: PairsConfig = PairsConfig()):
        self.views, self.seed, self.config = views, seed, config
        self._generator = painter.generator_for(painter.embed_person(views))
        self._plates = [layers.plate(v.image, v.matte) for v in views]
        self._lit: dict[tuple[int, int], np.ndarray] = {}
        self.kept_back = self._most_usual() if len(views) > 2 else None  # never a target when learning

    def _most_usual(self) -> int:
        """The photo whose expression is most like the others': tuning misses it least."""
        opening = np.stack([openness(v.landmarks) for v in self.views])
        return int(np.abs(opening[:, None] - opening[None]).sum((1, 2)).argmin())

    def item(self, j: int, held_out: bool = False) -> dict[str, Tensor]:
        """The crops of a pair, see conditioned_crops. held_out: one to measure with, never learned from."""
        rng = np.random.default_rng((self.seed, held_out, j))
        sources, plate, target = self._reposed(rng) if len(self.views) == 1 else self._pair(rng, held_out)
        pictures = [*(v.image for v in sources), target.image, plate]
        count, size = len(pictures), self.config.crop
        pictures, points = augment(
            [*pictures, *(v.matte for v in sources)], [v.landmarks for v in (*sources, target)], rng
        )
        if not held_out:
            matrix, curve = palette(rng, strong=False)
            pictures[:count] = [cv2.LUT(cv2.transform(i, matrix), curve) for i in pictures[:count]]
        canvas, *others = (View(*parts) for parts in zip(pictures, points[:-1], pictures[count:]))
        corners = crop_corners(points[-1], size, self.config.crops, rng)
        views, image, plate = [canvas, canvas.mirrored(), *others], *pictures[count - 2 : count]
        return conditioned_crops(views, plate, image, points[-1], corners, size)

    def _pair(self, rng: np.random.Generator, held_out: bool) -> tuple[list[View], np.ndarray, View]:
        """Sources, the canvas first, its plate, and the target: another photo as if taken where the canvas was."""
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
        """The only photo in another pose, its plate, and the photo itself; or the two the other way round.

        It is painted as the untuned G does: warped alone, it could be restored by a warp alone, and G would learn to
        paint nothing. And what G paints where the photo's own expression asks for nothing, as in an opened mouth, it
        shall not forget: else it is worse at each expression but the photo's.
        """
        view, plate = self.views[0], self._plates[0]
        views, pose = [view, view.mirrored()], repose(view.landmarks, rng)
        square = Renderer(views, plate, self._generator).square(pose)
        warp, matte = square.warp, np.ascontiguousarray(square.x[..., 12])
        image = np.zeros(view.image.shape, np.float32)
        for n, v in enumerate(views):  # Lanczos: G shall undo the warp, not a blur that no photo has
            moved = cv2.remap(v.image, warp.flows[n] - 0.5, None, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
            image += warp.weights[n][..., None] * moved
        image = over(image, matte, plate) + square.added * 127.5
        posed = View(image.round().clip(0, 255).astype(np.uint8), pose, matte)
        return ([posed], plate, view) if rng.random() < 0.5 else ([view], plate, posed)
