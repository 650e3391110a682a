"""Drivers that cannot be used."""

import numpy as np
import pytest
from support import write_video


@pytest.fixture
def faceless(tmp_path):
    path = tmp_path / "grey.mp4"
    write_video(path, np.full((5, 64, 64, 3), 90, np.uint8))
    return path
