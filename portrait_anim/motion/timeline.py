"""Change when each frame of the motion is shown: faster, slower, there and back, several times."""

from collections.abc import Iterable

import numpy as np

from ..errors import UsageError
from ..geometry.smoothing import Crossfade, LandmarkSequence

MIN_SPEED, MAX_SPEED, MAX_LOOPS = 0.1, 10.0, 1000


def check_timeline(speed: float, loop: int) -> None:
    """Raise UsageError if the speed or the number of loops is out of range."""
    if not MIN_SPEED <= speed <= MAX_SPEED:
        raise UsageError(f"--speed {speed:g} is out of range; choose {MIN_SPEED:g} to {MAX_SPEED:g}, 1 is as it was.")
    if not 1 <= loop <= MAX_LOOPS:
        raise UsageError(f"--loop {loop} is out of range; choose 1 (once) to {MAX_LOOPS}.")


class Timeline:
    """The target landmarks of each frame of the video, made from those of each frame of the driver.

    Cuts of the driver and the seams between loops become crossfades.

    targets: (478, 3) for each frame of the driver, at fps. cuts: frames of the driver where a new shot begins. speed:
    driver frames per frame of the video. pingpong: show the motion there and back, so that the last frame continues
    into the first. loop: how often all of that is shown. start: landmarks (478, 3) from which the first frames fade,
    for a driver that does not move by itself.

    Raises UsageError if speed or loop is out of range.
    """

    def __init__(
        self,
        targets: LandmarkSequence,
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
        self._places = np.tile(once, loop)  # for each frame its driver frame, which may lie between two of them
        seams = [] if pingpong else range(len(once), len(self._places), len(once))
        self._shown = Crossfade(_Resampled(self._targets, self._places), fps, seams)
        if start is not None:
            self._shown = Crossfade(self._shown, fps, start=start, seconds=1.0)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, t: int) -> np.ndarray:
        """Return the target landmarks (478, 3) of frame t of the video."""
        return self._shown[t]


class _Resampled:
    """Landmarks at places (T,) between the frames of a sequence, interpolated linearly."""

    def __init__(self, targets: LandmarkSequence, places: np.ndarray):
        self._targets, self._places = targets, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, t: int) -> np.ndarray:
        first = int(self._places[t])
        share = self._places[t] - first
        if share < 1e-6:
            return self._targets[first]
        return (1 - share) * self._targets[first] + share * self._targets[first + 1]
