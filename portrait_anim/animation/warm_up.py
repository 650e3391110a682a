"""Loading the networks in the background while portrait and driver are read."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..networks import weights as weights_file
from ..system.threads import gc_paused, single_threaded_libraries

if TYPE_CHECKING:
    from ..painting.painter import Painter


class LazyPainter:
    """The networks of an Animator, loaded when they are needed first, or in the background before that.

    weights: a weights file, None for those that ship. device, precision: as of `Painter`.
    """

    def __init__(self, weights: str | Path | None, device: str, precision: str):
        self.weights = weights
        self.chosen = (weights, device, precision) != (None, "auto", "auto")  # something may be wrong with a choice
        self._options = (weights, device, precision)
        self._painter: Painter | None = None
        self._loading: Future | None = None

    def get(self) -> "Painter | None":
        """Return the networks, None when there are no weights. Raises InputError or UsageError."""
        if self._painter is None and (self.weights is not None or weights_file.find_default() is not None):
            from ..painting.painter import Painter

            with single_threaded_libraries():
                self._painter = Painter(*self._options)
        return self._painter

    def load_in_background(self) -> Future:
        """Return the future of `get`, which a thread loads and warms up from the first call on.

        After a failure it is tried again.
        """
        if self._loading is None or (self._loading.done() and self._loading.exception()):
            self._loading = ThreadPoolExecutor(1).submit(self._make_ready)
        return self._loading

    def _make_ready(self) -> "Painter | None":
        """Load the networks and render one frame of a grey picture.

        The first pass of a network is slow, and compiled code must be loaded, or compiled on a machine where it never
        was.
        """
        with gc_paused():
            from ..geometry.mesh import MEAN_FACE
            from ..painting.person import Person
            from ..painting.renderer import Renderer
            from ..portrait.portrait import Portrait

            painter = self.get()
        # glibc gives memory back, to take it again page by page for the next frame, until it has seen a block as large
        # freed: 31 MB, of 32 that it learns from (mallopt(3), M_MMAP_THRESHOLD). It is a tenth of the rendering.
        np.empty(31 << 20, np.uint8)
        side, turn = 128, np.array([[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]])  # turned: the mirrored view is used, too
        grey = Portrait(
            np.full((side, side, 3), 128, np.uint8), MEAN_FACE @ turn.T * (side / 2.2) + (side / 2, side / 2, 0), "warp"
        )
        centre = grey.views[0].landmarks.mean(0)
        front = (grey.views[0].landmarks - centre) @ turn + centre
        with single_threaded_libraries():
            Renderer.of(grey, Person.of([grey], painter).generator()).frame(front)
        return painter
