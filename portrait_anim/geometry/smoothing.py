"""Smooth values over time: filters, soft limits and crossfades."""

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

import numpy as np

from ..system.sequences import FrameSequence, block_ranges

FADE_SECONDS = 0.4  # duration of the crossfade after a cut or at the seam of a loop

_Value = TypeVar("_Value", float, np.ndarray)


def soft_limit(value: float | np.ndarray, limit: float | np.ndarray) -> np.ndarray:
    """Limit the size of a value smoothly: up to 60 % of the limit it is unchanged, then it bends towards the limit.

    value: any shape and sign. limit: above 0, broadcast against value.
    """
    start = 0.6 * limit
    over = np.maximum(np.abs(value) - start, 0)
    return np.sign(value) * (np.minimum(np.abs(value), start) + (limit - start) * np.tanh(over / (limit - start)))


def smoothstep(t: _Value) -> _Value:
    """Rise smoothly from 0 at t <= 0 to 1 at t >= 1, with slope 0 at both ends."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def one_euro(values: np.ndarray, fps: float, min_cutoff: float, beta: float, cuts: Iterable[int] = ()) -> np.ndarray:
    """Smooth values (T, ...) in time with the One-Euro filter (Casiez et al., CHI 2012), as float32 (T, ...).

    The filter runs forwards and backwards, and the mean of both has no delay. It starts anew at every frame in `cuts`.

    min_cutoff: cutoff frequency in Hz for values that stand still. beta: by how many Hz the cutoff rises for each
    unit/s of speed, so that moving values are smoothed less.
    """
    smooth = np.zeros(values.shape, np.float32)
    add_one_euro(values, smooth, fps, min_cutoff, beta, cuts)
    return smooth


def add_one_euro(
    values: FrameSequence, smooth: Any, fps: float, min_cutoff: float, beta: float, cuts: Iterable[int] = ()
) -> None:
    """Add the values, smoothed as by `one_euro`, to a sequence that is all zeros.

    values, smooth: both may be in files, of which only a block is in memory at a time.
    """
    for begin, end in split_at_cuts(len(values), cuts):
        ranges = [(begin + a, begin + b) for a, b in block_ranges(end - begin)]
        for step in (1, -1):  # forwards, then backwards
            raw = None
            for a, b in ranges[::step]:
                x, total = values[a:b][::step], smooth[a:b]
                result = total[::step]
                for t in range(b - a):
                    if raw is None:
                        previous, speed = x[t], np.zeros_like(x[t])
                    else:
                        speed = speed + _new_share(1.0, fps) * ((x[t] - raw) * fps - speed)
                        previous = previous + _new_share(min_cutoff + beta * np.abs(speed), fps) * (x[t] - previous)
                    raw = x[t]
                    result[t] += previous / 2
                smooth[a:b] = total


class CausalOneEuro:
    """The One-Euro filter for values that come one by one, at any pace: it knows only the past.

    min_cutoff, beta: as of `one_euro`. The price of not knowing the future is a delay of about 1 / (2 pi cutoff) s.
    """

    def __init__(self, min_cutoff: float, beta: float):
        self._min_cutoff, self._beta = min_cutoff, beta
        self._raw: np.ndarray | None = None
        self._smooth = self._speed = np.zeros(0)

    def reset(self) -> None:
        """Forget the past: the next value is taken as it is."""
        self._raw = None

    def __call__(self, value: np.ndarray, seconds: float) -> np.ndarray:
        """Return the next value, smoothed. seconds: since the value before, above 0."""
        if self._raw is None:
            self._smooth, self._speed = value, np.zeros_like(value)
        else:
            fps = 1 / seconds
            self._speed = self._speed + _new_share(1.0, fps) * ((value - self._raw) * fps - self._speed)
            cutoff = self._min_cutoff + self._beta * np.abs(self._speed)
            self._smooth = self._smooth + _new_share(cutoff, fps) * (value - self._smooth)
        self._raw = value
        return self._smooth


def _new_share(cutoff, fps: float):
    """Return the share of the new value in a first-order low-pass filter with this cutoff in Hz."""
    r = 2 * np.pi * cutoff / fps
    return r / (r + 1)


def split_at_cuts(length: int, cuts: Iterable[int]) -> list[tuple[int, int]]:
    """Split the frames 0 to length - 1 at the cuts into shots, as ranges (first, last + 1).

    A cut is the first frame of a new shot. Cuts outside the frames are ignored.
    """
    edges = [0, *sorted(c for c in set(cuts) if 0 < c < length), length]
    return list(zip(edges[:-1], edges[1:]))


class LandmarkSequence(Protocol):
    """The landmarks (478, 3) of each frame, by its number."""

    def __len__(self) -> int: ...

    def __getitem__(self, t: int, /) -> np.ndarray: ...


class Crossfade:
    """A sequence of landmarks whose jumps are replaced by crossfades.

    After a jump the landmarks continue from where they were before it, and the difference fades within `seconds`.

    targets: (478, 3) for each frame. jumps: frames that do not follow from the frame before. start: landmarks (478, 3)
    before frame 0, from which the first frames fade; None if there are none.
    """

    def __init__(
        self,
        targets: LandmarkSequence,
        fps: float,
        jumps: Iterable[int] = (),
        start: np.ndarray | None = None,
        seconds: float = FADE_SECONDS,
    ):
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
