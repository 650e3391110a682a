"""The sizes in which the portrait can be shown, and the choice among them that holds the rate."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..geometry.warp import Box
from ..media.photo import fit_size
from ..painting.person import Person
from ..painting.renderer import Renderer, box_around, painted_box
from ..portrait.portrait import Portrait

if TYPE_CHECKING:
    from ..motion.causal import CausalRetargeter

SIZES = (1920, 1280, 960, 768, 640, 512, 384)  # px, longer sides to choose from; above them the photo's own
WINDOW_SECONDS, MIN_PICTURES = 2.0, 8  # what a rate is judged by
SPARE = 1.5  # how much faster than needed the pictures must be made before a larger size is tried
PATIENCE = 20.0  # s before a larger size is tried; twice as long each time that it turned out too large


class Pace:
    """Chooses the size of the pictures so that the wanted rate is held. It reads no clock.

    sizes: to choose from, the largest first. rate: pictures/s to hold. threads: how many pictures are made at the same
    time. `index` is the place of the chosen size in `sizes`.
    """

    def __init__(self, sizes: list[int], rate: float, threads: int):
        self.sizes, self.rate, self.index = sizes, rate, 0
        self._threads = threads
        self._made: deque[tuple[float, float]] = deque()
        self._changed = -np.inf  # when the size was chosen
        self._has_grown = False  # whether that was a larger one than before
        self._patience = PATIENCE

    @property
    def size(self) -> int:
        """The chosen size, px of the longer side."""
        return self.sizes[self.index]

    @property
    def capacity(self) -> float | None:
        """How many pictures/s can be made in the current size, None while too few were made to tell."""
        if len(self._made) < MIN_PICTURES:
            return None
        return self._threads / (sum(busy for _, busy in self._made) / len(self._made))

    @property
    def holds(self) -> bool:
        """Whether the rate is held, as far as is known: even the smallest size may be too much."""
        return self.capacity is None or self.capacity >= self.rate

    def note(self, seconds: float, size: int, busy: float) -> None:
        """Note that a picture was ready at a time, of some size, and that it took `busy` seconds of one thread."""
        if size != self.size:  # begun before the choice
            return
        self._made.append((seconds, busy))
        while len(self._made) > MIN_PICTURES and self._made[0][0] < seconds - WINDOW_SECONDS:
            self._made.popleft()
        capacity = self.capacity
        if capacity is None or self._made[-1][0] - self._made[0][0] < WINDOW_SECONDS / 2:
            return
        if capacity < self.rate and self.index < len(self.sizes) - 1:
            if self._has_grown and seconds - self._changed < self._patience:  # it was tried in vain
                self._patience *= 2
            self._choose(min(self.index + (2 if capacity < 0.7 * self.rate else 1), len(self.sizes) - 1), seconds)
        elif capacity > SPARE * self.rate and self.index > 0 and seconds - self._changed > self._patience:
            self._choose(self.index - 1, seconds)

    def _choose(self, index: int, seconds: float) -> None:
        self._has_grown = index < self.index
        self.index, self._changed = index, seconds
        self._made.clear()


@dataclass(frozen=True)
class SizedPortrait:
    """The portrait in one size. size: px of the longer side. portrait: with all photos of the person."""

    size: int
    portrait: Portrait


class RenderersBySize:
    """The renderers of one person in every size. They share the networks and what these know of the person.

    teeth: as of `Renderer`. sizes: px of the longer side, the largest first; the first is that of the person's own
    photo. canvas: the landmarks (478, 3) of the portrait, px of the crop, which are the same in every size.
    """

    def __init__(self, person: Person, teeth: bool = True):
        self._person, self._teeth, photo = person, teeth, person.portraits[0].photo
        own = max(photo.shape[:2])
        self.sizes = [own, *(size for size in SIZES if size < 0.9 * own)]
        self.canvas = person.portraits[0].views[0].landmarks
        self._generator = person.generator()
        self._made = {own: SizedPortrait(own, person.portraits[0])}
        self._making: dict[int, Future] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sizes")

    def nearest(self, size: int) -> SizedPortrait:
        """Return the portrait in a size if it is ready. Otherwise begin to make it, and return the nearest that is."""
        if size not in self._made and size not in self._making:
            self._making[size] = self._pool.submit(self.make, size)
        return self._made[min(list(self._made), key=lambda made: abs(made - size))]

    def make(self, size: int) -> SizedPortrait:
        """Return the portrait in a size, made now unless it is ready."""
        if size not in self._made:
            share = size / self.sizes[0]
            canvas, *others = [_shrunk(portrait, share) for portrait in self._person.portraits]
            for other in others:
                canvas.add(other)
            self._made[size] = SizedPortrait(size, canvas)
        return self._made[size]

    def renderer(self, sized: SizedPortrait, box: Box) -> Renderer:
        """Return what renders the portrait in a size, and paints a box of it."""
        return Renderer.of(sized.portrait, self._generator, box, self._teeth)

    def grown(self, box: Box | None, targets: "CausalRetargeter") -> Box:
        """Return a box to be painted that holds the head of the last target, and the box before (None at first).

        It only grows: what is painted depends a little on its border, and every new box takes the networks a moment.
        """
        x0, y0, x1, y1 = new = painted_box(targets, self._person.portraits[0].views[0])
        if box is None:
            return new
        return box_around((min(x0, box[0]), min(y0, box[1]), max(x1, box[2]), max(y1, box[3])))

    def close(self) -> None:
        """Stop making sizes."""
        self._pool.shutdown(cancel_futures=True)


def _shrunk(portrait: Portrait, share: float) -> Portrait:
    """Return the same portrait with its photo shrunk."""
    photo = fit_size(portrait.photo, max(2, round(share * max(portrait.photo.shape[:2]))))
    return Portrait(photo, portrait.landmarks * (photo.shape[1] / portrait.photo.shape[1]), portrait.background)
