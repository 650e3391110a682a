"""Self-reenactment of held-out people: one or a few frames of a clip are driven to its other frames."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ..geometry.mesh import draw_landmarks
from ..geometry.view import CROP, View
from ..networks.weights import Weights, load
from ..painting.painter import Painter, choose_precision, source_input
from ..painting.renderer import Renderer, Square, to_uint8
from ..portrait import layers
from ..training.finetune import finetune as tune
from ..training.shards import resized
from .pairs import Pair

STILL, WARP, MODEL, OTHER, PAPER, TUNED = (
    "still photo", "mesh warp", "model", "other weights", "the paper's configuration", "fine-tuned"
)  # fmt: skip
CPU = torch.device("cpu")


def renderer_of(photos: list[View], painter: Painter | None, code: torch.Tensor | None = None) -> Renderer:
    """Return the renderer of a person on these photos, of which the first is the canvas.

    painter: None for the warp alone. code: that of a fine-tuned person, None for that of the source encoder.
    """
    canvas, *others = photos
    views = [canvas, canvas.mirrored(), *(view.lit_as(canvas) for view in others)]
    generator = None
    if painter is not None:
        encoding = painter.encode(views)
        generator = painter.generator_for(encoding if code is None else replace(encoding, code=code))
    return Renderer(views, layers.plate_behind(canvas), generator)


def reenact(pair: Pair, painter: Painter | None, code: torch.Tensor | None = None) -> Square:
    """Return the source of a pair moved to its target, as the networks' square.

    painter, code: as for `renderer_of`.
    """
    return renderer_of(pair.photos, painter, code).square(pair.shard.points(pair.target, CROP))


def reenact_paper(pair: Pair, networks: Weights) -> np.ndarray:
    """Return the target of a pair as painted by a model of the paper's kind, square, at that model's size.

    Such a model paints the whole picture from the landmark drawing.
    """
    size = networks.config.size
    views = F.interpolate(torch.cat([source_input(view) for view in pair.photos]), (size, size), mode="area")
    with torch.inference_mode():
        e = networks.embedder(views[:, :3], views[:, 4:]).mean(0, keepdim=True)
        drawing = torch.from_numpy(draw_landmarks(pair.shard.points(pair.target, CROP))).permute(2, 0, 1)[None]
        drawing = F.interpolate(drawing / 127.5 - 1, (size, size), mode="area")
        return to_uint8(networks.generator(drawing, networks.generator.projection(e))[0].permute(1, 2, 0).numpy())


class Methods:
    """Makes the picture of a pair by each of the methods that are compared.

    painter, other: of the weights, and of others to compare them with. paper: networks of the paper's kind. finetune:
    seconds for which persons are fine-tuned, from the weights file of the painter.

    helped: {number of shots: of how many persons tuning gave a better one}.
    """

    def __init__(
        self,
        painter: Painter,
        other: Painter | None = None,
        paper: Weights | None = None,
        finetune: float | None = None,
        weights: Path | None = None,
    ):
        self._painters = {MODEL: painter} | ({OTHER: other} if other else {})
        self._paper, self._seconds = paper, finetune
        self._start = load(weights, critic=True) if finetune is not None else None
        self.helped: dict[int, int] = {}
        self.forget()

    def forget(self) -> None:
        """Forget the person who was made last, so that a second look makes everything anew."""
        self._key: tuple | None = None
        self._renderers: dict[str, Renderer] = {}

    def __call__(self, pair: Pair) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the pictures (S, S, 3) uint8 by the name of the method, and the opening (512, 512) bool of the mouth.

        Pairs with the same sources share what is made of these, if they follow one another.
        """
        key = (id(pair.shard), pair.sources)
        if key != self._key:
            self._key, self._renderers = key, self._made(pair)
        target = pair.shard.points(pair.target, CROP)
        squares = {name: renderer.square(target) for name, renderer in self._renderers.items()}
        pictures = {STILL: pair.shard.image(pair.sources[0], CROP), WARP: squares[MODEL].warped}
        pictures |= {name: square.image for name, square in squares.items()}
        if self._paper is not None:
            pictures[PAPER] = resized(reenact_paper(pair, self._paper), CROP, cv2.INTER_CUBIC)
        return pictures, squares[MODEL].mouth

    def _made(self, pair: Pair) -> dict[str, Renderer]:
        photos = pair.photos
        made = {name: renderer_of(photos, painter) for name, painter in self._painters.items()}
        if self._start is not None:
            assert self._seconds is not None
            tuned = tune(photos, self._start, self._seconds, dtype=choose_precision("auto", CPU))
            made[TUNED] = renderer_of(photos, self._painters[MODEL].with_generator(tuned.generator), tuned.psi)
            shots = len(pair.sources)
            self.helped[shots] = self.helped.get(shots, 0) + tuned.helped
        return made
