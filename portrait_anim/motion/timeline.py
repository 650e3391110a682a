"""When each frame of the motion is shown: faster, slower, there and back, again."""

from collections.abc import Iterable

import numpy as np

from ..errors import UsageError
from ..geometry.smoothing import Crossfade

MIN_SPEED, MAX_SPEED, MAX_LOOPS = 0.1, 10.0, 1000


def check_timeline(speed: float, loop: int) -> None:
    """Raises UsageError for values out of range."""
    if not MIN_SPEED <= speed <= MAX_SPEED:
        raise UsageError(f"--speed {speed:g} is out of range; choose {MIN_SPEED:g} to {MAX_SPEED:g}, 1 is as it was.")
    if not 1 <= loop <= MAX_LOOPS:
        raise UsageError(f"--loop {loop} is out of range; choose 1 (once) to {MAX_LOOPS}.")


class Timeline:
    """The targets of every frame of the video, from those of every frame of the driver.

    targets: sequence of (478, 3), one per driver frame, at fps. cuts: driver frames where a new shot begins; they are
    eased over, as is the seam of a loop. speed: driver frames per frame of the video. pingpong: there and back, so
    that the last frame is followed by the first. loop: how often all that is shown. start: (478, 3) landmarks from
    which the first frames ease, for a driver that does not move by itself. Raises UsageError.
    """

    def __init__(
        self,
        targets,
        fps: float,
        cuts: Iterable[int] = (),
        speed: float = 1.0,
        pingpong: bool = False,
        loop: int = 1,
        start: np.ndarray | None = None,
    ):
        check_timeline(speed, loop)
        self._targets = Crossfade(targets, fps, cuts)
        once = np.arange(0, len(targets) - 1 + 1e-6, speed)
        if pingpong:
            once = np.concatenate([once, once[-2:0:-1]])
        self._places = np.tile(once, loop)  # driver frame of each frame, between two of them where speed asks for it
        seams = [] if pingpong else range(len(once), len(self._places), len(once))
        self._shown = Crossfade(_At(self._targets, self._places), fps, seams)
        if start is not None:
            self._shown = Crossfade(self._shown, fps, start=start, seconds=1.0)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, t: int) -> np.ndarray:
        """Target landmarks (478, 3) of frame t."""
        return self._shown[t]


class _At:
    """Targets at places between frames."""

    def __init__(self, targets, places: np.ndarray):
        self._targets, self._places = targets, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, t: int) -> np.ndarray:
        first = int(self._places[t])
        share = self._places[t] - first
        if share < 1e-6:
            return self._targets[first]
        return (1 - share) * self._targets[first] + share * self._targets[first + 1]
