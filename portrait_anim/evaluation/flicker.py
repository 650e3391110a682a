"""Measure flicker: what jumps there and back from frame to frame, over what the clip itself does."""

import numpy as np

REGIONS = ("face", "edge", "mouth")
FRAMES = 12  # consecutive frames of a clip that are measured


def second_difference(frames: list[np.ndarray], parts: list[np.ndarray]) -> float:
    """Return the mean |a - 2b + c| over three consecutive frames each, in 8-bit steps, within the parts.

    frames: (H, W, 3) uint8. parts: (H, W) bool for each frame. It is 0 for what moves evenly and large for what jumps
    there and back. NaN when the parts are empty.
    """
    a, b, c = (np.float32(frames[k : len(frames) - 2 + k]) for k in range(3))
    inner = np.array(parts[1:-1])
    return float(np.abs(a - 2 * b + c)[inner].mean()) if inner.any() else float("nan")


def flicker(frames: list[np.ndarray], true: list[np.ndarray], regions: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Return the second difference of frames over that of the true frames, for each of REGIONS.

    1 is as calm as the clip, in which camera noise and compression are. regions: of each frame, by name.
    """
    result = {}
    for name in REGIONS:
        parts = [of_frame[name] for of_frame in regions]
        result[name] = second_difference(frames, parts) / max(second_difference(true, parts), 0.1)
    return result
