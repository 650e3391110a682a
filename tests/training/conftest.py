"""Photos that persons are fine-tuned with."""

import numpy as np
import pytest
from support import clip_frames

from portrait_anim.portrait.portrait import Portrait


@pytest.fixture(scope="session")
def mona(portrait):
    return [portrait.views[0]]


@pytest.fixture(scope="session")
def three(driver):
    """Three photos of one person."""
    frames = clip_frames()
    scale = frames.shape[2] / driver.size[0]
    return [Portrait(frames[t], driver.landmarks[t].astype(np.float64) * scale).views[0] for t in (0, 60, 120)]
