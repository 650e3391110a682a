"""Values over time made smooth: filters, limits without an edge, jumps eased over."""

from collections.abc import Iterable

import numpy as np

EASE_SECONDS = 0.4  # a cut or the seam of a loop is moved over in this time


def soft_limit(value: np.ndarray, limit: float | np.ndarray) -> np.ndarray:
    """value (..., ) unchanged up to 60 % of limit, then bent towards it. limit: above 0, broadcast against value."""
    start = 0.6 * limit
    over = np.maximum(np.abs(value) - start, 0)
    return np.sign(value) * (np.minimum(np.abs(value), start) + (limit - start) * np.tanh(over / (limit - start)))


def smoothstep(t: np.ndarray) -> np.ndarray:
    """0 at t <= 0, 1 at t >= 1, flat at both ends."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def one_euro(values: np.ndarray, fps: float, min_cutoff: float, beta: float, cuts: Iterable[int] = ()) -> np.ndarray:
    """Smooth values (T, ...) in time: the One-Euro filter (Casiez et al., CHI 2012), forwards and backwards.

    Still values are smoothed at min_cutoff Hz, moving ones less, by beta Hz per unit/s. Both directions together
    leave no delay. The filter starts anew at every frame of cuts.
    """
    out = np.zeros(values.shape, np.float32)
    for a, b in split_at_cuts(len(values), cuts):
        for x, result in ((values[a:b], out[a:b]), (values[a:b][::-1], out[a:b][::-1])):
            previous, speed = x[0], np.zeros_like(x[0])
            result[0] += previous / 2
            for t in range(1, len(x)):
                speed = speed + _blend(1.0, fps) * ((x[t] - x[t - 1]) * fps - speed)
                previous = previous + _blend(min_cutoff + beta * np.abs(speed), fps) * (x[t] - previous)
                result[t] += previous / 2
    return out


def _blend(cutoff, fps: float):
    r = 2 * np.pi * cutoff / fps
    return r / (r + 1)


def split_at_cuts(length: int, cuts: Iterable[int]) -> list[tuple[int, int]]:
    """Ranges (first, last + 1) of frames between cuts; a cut is the first frame of a new shot."""
    edges = [0, *sorted(c for c in set(cuts) if 0 < c < length), length]
    return list(zip(edges[:-1], edges[1:]))


class Crossfade:
    """A sequence of targets (478, 3) whose jumps are eased over: after a jump it goes on from where it was, and the
    difference fades within `seconds`.

    jumps: frames that do not follow from the one before. start: (478, 3) it comes from before frame 0.
    """

    def __init__(self, targets, fps: float, jumps: Iterable[int] = (), start: np.ndarray | None = None,
                 seconds: float = EASE_SECONDS):  # fmt: skip
        self._targets, self._span = targets, max(1.0, seconds * fps)
        self._jumps = np.zeros(0, int)
        self._offsets: list[np.ndarray] = []
        for jump in sorted(jumps if start is None else {0, *jumps}):
            before = start if jump == 0 else self[jump - 1]
            self._offsets.append(before - targets[jump])
            self._jumps = np.append(self._jumps, jump)

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, t: int) -> np.ndarray:
        last = int(np.searchsorted(self._jumps, t, "right")) - 1
        passed = (t - self._jumps[last]) / self._span if last >= 0 else 1.0
        target = self._targets[t]
        return target + (1 - smoothstep(passed)) * self._offsets[last] if passed < 1 else target
