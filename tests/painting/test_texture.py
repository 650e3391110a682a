"""Texture that a painting averages away comes back; light, new detail and great changes stay as they are painted."""

import cv2
import numpy as np
import pytest

from portrait_anim.painting.compose import N_RESULT
from portrait_anim.painting.texture import CELL, keep_texture

SIDE = 20 * CELL


def detail(seed: int, amplitude: float = 12.0) -> np.ndarray:
    """Fine random texture (SIDE, SIDE, 3)."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((SIDE, SIDE, 3)).astype(np.float32), (0, 0), 1)
    return noise * (amplitude / noise.std())


def shading() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    return (25 * np.sin(x / 40) * np.cos(y / 50))[..., None] * np.ones(3, np.float32)


def added_after(refined: np.ndarray, added: np.ndarray, strength: float = 0.0) -> np.ndarray:
    """What is added to the refined picture in the end, without a margin of one cell."""
    painted = np.zeros((SIDE + 2, SIDE + 2, N_RESULT), np.float32)
    painted[1:-1, 1:-1, :3], painted[1:-1, 1:-1, 3:6], painted[1:-1, 1:-1, 6] = refined, added, strength
    before = painted.copy()
    keep_texture(painted)
    others = [*range(3), *range(6, N_RESULT)]
    assert (painted[..., others] == before[..., others]).all()
    border = np.ones(painted.shape[:2], bool)
    border[1:-1, 1:-1] = False
    assert not painted[border].any()
    return painted[1:-1, 1:-1, 3:6]


inner = np.s_[CELL:-CELL, CELL:-CELL]


@pytest.mark.parametrize("taken", [0.2, 0.5, 0.9])
def test_texture_that_is_averaged_away_comes_back(taken):
    texture = detail(0)
    made = added_after(128 + texture, shading() - taken * texture)
    lost = (made - shading())[inner]
    assert lost.std() < 0.35 * (taken * texture[inner]).std()


def test_light_stays():
    added = shading()
    assert np.abs(added_after(128 + detail(1), added) - added)[inner].mean() < 0.5


@pytest.mark.parametrize("strength, stays", [(1.0, True), (0.0, False)])
def test_what_the_painting_changes_much_is_left_to_it(strength, stays):
    texture = detail(2)
    made = added_after(128 + texture, -0.8 * texture, strength)
    assert (np.abs(made + 0.8 * texture)[inner].mean() < 1e-3) == stays


def test_detail_of_the_paintings_own_and_more_of_the_photos_stay():
    for added in (detail(4), 0.5 * detail(3)):
        made = added_after(128 + detail(3), added)
        assert np.abs(made - added)[inner].mean() < 0.12 * np.abs(added)[inner].mean()


def test_a_flat_picture_gives_nothing_back():
    added = detail(5)
    assert np.abs(added_after(np.full((SIDE, SIDE, 3), 90, np.float32), added) - added).max() < 1e-3
