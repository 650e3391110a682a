"""Let blinks close both eyes alike, and winks one.

The tracker sees one lid fall before the other, or not to the end, above all where the head is turned away or the
picture is small. A portrait that follows it blinks with one and a half eyes.
"""

from collections.abc import Iterable

import numpy as np

from ..geometry.smoothing import smoothstep, split_at_cuts

WINK_SECONDS = 0.2  # the median over so long drops the differences of a blink, which come and go, and keeps a wink's
_WINK = 0.45, 0.7  # difference of the gaps: below the first it is none, above the second it is one
_OPEN = 0.6, 0.9  # mean of the gaps: below the first eyes are alike, above the second they keep their difference


def alike(lids: np.ndarray, fps: float, cuts: Iterable[int] = ()) -> np.ndarray:
    """Return the gaps of the lids of both eyes in each frame, alike where they blink.

    lids: (T, 2), shares of their usual gap. fps: frames per second. cuts: frames where a new shot begins. Eyes that are
    open stay as different as they are, and so do those of which one is shut for longer than a blink while the other is
    open.
    """
    return alike_unless(lids, _median(lids[:, 0] - lids[:, 1], fps, cuts))


def alike_unless(lids: np.ndarray, lasting: np.ndarray) -> np.ndarray:
    """Return the gaps of the lids of both eyes in each frame, alike where they blink, as `alike` does.

    lids: (T, 2), shares of their usual gap. lasting: (T,), the difference of the two that is no blink's: the median
    over WINK_SECONDS.
    """
    both = lids.mean(1)
    wink = smoothstep((np.abs(lasting) - _WINK[0]) / (_WINK[1] - _WINK[0]))
    kept = np.maximum(wink, smoothstep((both - _OPEN[0]) / (_OPEN[1] - _OPEN[0])))[:, None]
    return kept * lids + (1 - kept) * lids.min(1, keepdims=True)


def _median(values: np.ndarray, fps: float, cuts: Iterable[int]) -> np.ndarray:
    """Return the running median of values (T,), in each shot for itself."""
    half = max(1, round(WINK_SECONDS * fps / 2))
    out = np.empty_like(values)
    for a, b in split_at_cuts(len(values), cuts):
        padded = np.pad(values[a:b], half, mode="edge")
        out[a:b] = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)
    return out
