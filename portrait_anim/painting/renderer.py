"""The one renderer: a person's views and the target landmarks give a frame.

The command, its preview, both evaluations, fine-tuning and the benchmarks all make their frames here,
either as the square that the networks work on or as the whole photo at its own resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..geometry.mesh import OVAL
from ..geometry.view import CROP, View, sample
from ..geometry.warp import WHOLE, Box, Warp, Warper
from .compose import compose_frame, paint_box
from .conditioning import PLACE, STRIDE, Condition, condition
from .mouth_inside import MouthInside
from .palette import MouthPalette, keep_grey
from .texture import keep_texture

if TYPE_CHECKING:
    from ..motion.causal import CausalRetargeter
    from ..motion.retarget import Retargeter
    from ..portrait.portrait import Portrait
    from .painter import ConditionedGenerator

_MARGINS = np.arange(1.4, 1.81, 0.1)  # sizes that a head with its hair may have, over that of the face's oval
_BELOW = 1.45  # the same downwards, where the neck is


@dataclass(frozen=True)
class Square:
    """One frame as the networks see it, in a box of the crop.

    warp: the geometry. seen: the generator's input. painted: see `compose.paint_box` and `texture.keep_texture`.
    """

    warp: Warp
    seen: Condition
    painted: np.ndarray

    @property
    def warped(self) -> np.ndarray:
        """The picture as the mesh alone warps it, (h, w, 3) uint8."""
        return np.rint(self.seen.warped).astype(np.uint8)

    @property
    def image(self) -> np.ndarray:
        """The finished picture, (h, w, 3) uint8."""
        picture = self.painted[1:-1, 1:-1]
        return np.rint(np.clip(picture[..., :3] + picture[..., 3:6], 0, 255)).astype(np.uint8)

    @property
    def mouth(self) -> np.ndarray:
        """Where the inside of the mouth is, (h, w) bool."""
        return self.seen.mouth


class Renderer:
    """Renders one person for any target landmarks. It may be used by several threads at the same time.

    views: the photos in crop coordinates, of which the first is the canvas. plate: (512, 512, 3) uint8, the background
    behind the person. generator: conditioned on the person, None for the warp alone. box: the part of the crop that it
    paints. portrait: needed only for frames at the photo's own resolution; see `Renderer.of`. teeth: whether a mouth
    that is closed in all views has teeth when it opens.
    """

    def __init__(
        self,
        views: list[View],
        plate: np.ndarray,
        generator: ConditionedGenerator | None = None,
        box: Box = WHOLE,
        portrait: Portrait | None = None,
        teeth: bool = True,
    ):
        self._views, self._plate, self._generator, self._box = views, plate, generator, box
        self._portrait = portrait
        self._warper = portrait.warper() if portrait else Warper(views)
        self._palette = MouthPalette.of(views[0])
        self._mouth = MouthInside.of(views[0], teeth)

    @classmethod
    def of(
        cls,
        portrait: Portrait,
        generator: ConditionedGenerator | None = None,
        box: Box = WHOLE,
        teeth: bool = True,
    ) -> Renderer:
        """Return the renderer of a portrait, which can make whole frames."""
        return cls(portrait.views, portrait.plate, generator, box, portrait, teeth)

    def square(self, target: np.ndarray) -> Square:
        """Return the frame for target landmarks (478, 3), px of the crop, as the networks' square."""
        warp = self._warper.warp(target)
        seen = condition(warp, self._views, self._plate, target, self._box)
        painting = self._generator.paint(seen) if self._generator else None
        painted = paint_box(seen, self._views, self._plate, painting)
        if painting is not None:
            keep_texture(painted)
            self._mouth.paint(painted, seen, warp.unknown, target)
            if self._palette is not None:
                self._palette.apply(painted, seen.mouth)
            if self._views[0].is_grey:
                keep_grey(painted)
        return Square(warp, seen, painted)

    def frame(self, target: np.ndarray) -> np.ndarray:
        """Return the whole photo with the head moved to target landmarks (478, 3), px of the crop: (H, W, 3) uint8."""
        if self._portrait is None:
            raise ValueError("a renderer without a portrait makes squares only")
        square = self.square(target)
        return compose_frame(self._portrait, square.warp, square.painted, self._box)


def painted_box(targets: Retargeter | CausalRetargeter, canvas: View) -> Box:
    """Return the part of the crop that the networks paint: the head with its hair, wherever it is in the targets.

    The rest the warp does right. There is one box for all frames, because what the networks paint depends a little on
    how far away the box's border is. canvas: the view whose head it is.
    """
    return box_around(targets.extent(_head_size(canvas), _BELOW))


def box_around(extent: tuple[float, float, float, float]) -> Box:
    """Return the smallest box of the crop that the networks can paint and that holds an extent (x0, y0, x1, y1) px."""
    low, high = np.split(np.clip(extent, 0, CROP), 2)
    low = np.floor(low / PLACE) * PLACE
    size = np.ceil((high - low) / STRIDE) * STRIDE
    low = np.minimum(low, CROP - size)
    return (*low.astype(int).tolist(), *(low + size).astype(int).tolist())


def _head_size(view: View) -> float:
    """Return how large the head with its hair is, over the size of the face's oval: about 1.45 to 1.85."""
    oval = view.landmarks[OVAL, :2]
    above = oval[oval[:, 1] < oval[:, 1].mean()]  # what is below are neck and shoulders
    reach = 1.4
    for margin in _MARGINS:
        at = oval.mean(0) + (above - oval.mean(0)) * margin
        if sample(view.matte, at[None].astype(np.float32)).mean() > 0.3:
            reach = margin
    return reach + 0.05


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Return colours of -1..1 as 0..255."""
    return np.clip(np.round((image + 1) * 127.5), 0, 255).astype(np.uint8)
