"""What tests share and is no fixture; until the tests of all rooms have moved it is in conftest.py."""

from functools import cache

from conftest import ASTRONAUT, CLIP, MONA_LISA, PATIENCE, read_frames, run_animate, run_tool, start_python

__all__ = ["ASTRONAUT", "CLIP", "MONA_LISA", "PATIENCE", "clip_frames", "run_animate", "run_tool", "start_python"]


@cache
def clip_frames():
    """The frames of the bundled clip, (T, H, W, 3) uint8, which nobody may write to."""
    return read_frames(CLIP)
