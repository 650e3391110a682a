"""The compiled loops give what the simple way gives, also where nothing can be cached."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from reference import covered
from support import PATIENCE

from portrait_anim.geometry import kernels


def test_triangles_cover_the_pixels_whose_centres_lie_in_them():
    rng, seen = np.random.default_rng(0), 0
    for number in range(3000):
        size = (0.6, 6, 40)[number % 3]  # px
        corners = rng.uniform(-8, 40, 2) + rng.uniform(0, size, (3, 2))
        ids = np.full((41, 43), -1, np.int32)
        kernels.rasterise(corners[None], np.zeros(1, np.int64), ids)
        part, inside, unsure = covered(corners, ids.shape)
        assert ((ids[part] == 0) == inside)[~unsure].all(), corners
        ids[part] = -1
        assert (ids == -1).all()
        seen += inside.sum()
    assert seen > 40_000


@pytest.mark.parametrize("step", [1.0, 0.37])
def test_no_pixel_is_missed_between_triangles(step):
    """Corners on pixels' centres, too, and sides through them."""
    rng, side = np.random.default_rng(0), 30
    grid = np.stack(np.meshgrid(*[np.arange(side) * step] * 2), -1)
    for turn in np.linspace(0, 1.5, 16):
        turned = grid @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        turned += rng.choice([0, 0.2 * step], (side, side, 1)) * rng.normal(0, 1, (side, side, 2))
        a, b, c, d = turned[:-1, :-1], turned[:-1, 1:], turned[1:, :-1], turned[1:, 1:]
        corners = np.concatenate([np.stack(t, 2).reshape(-1, 3, 2) for t in ((a, b, c), (d, c, b))])
        corners -= turned.reshape(-1, 2).min(0) - 1
        ids = np.full((45, 45), -1, np.int32)
        kernels.rasterise(corners, np.arange(len(corners)), ids)
        outline = np.uint8(ids >= 0)
        contours, _ = cv2.findContours(outline, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        assert len(contours) == 1 and outline.sum() > 50


def test_kernels_work_where_no_cache_can_be_written():
    code = """
import numpy as np, numba.core.caching as caching
caching.FunctionCache._impl_class._locator_classes = []
from portrait_anim.geometry import kernels
flow = np.ones((2, 2, 2), np.float32)
maps = np.zeros((1, 6), np.float32)
kernels.triangle_flow(np.zeros((2, 2), np.int32), maps, np.array([False]), (0, 0), flow)
assert flow.sum() == 8 + 2 * (4 * 0.5 + 2), flow
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
