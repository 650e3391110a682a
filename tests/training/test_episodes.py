"""Episodes: crops, palettes and landmarks that training sees."""

import cv2
import numpy as np
import pytest
import torch

from portrait_anim.training.episodes import Episodes, augment, palette
from portrait_anim.training.prepare import load_shards


def test_episodes_depend_on_their_number_only(shards):
    train = load_shards(shards, held_out=False)
    one, other = Episodes(train, seed=3)[17], Episodes(train, seed=3)[17]
    assert all(torch.equal(one[k].nan_to_num(-1), other[k].nan_to_num(-1)) for k in one)
    assert not torch.equal(one["x"], Episodes(train, seed=4)[17]["x"])
    assert one["x"].shape == (3, 13, 80, 80) and one["photos"].shape == (3, 3, 256, 256)
    assert one["x"][:, :6].abs().max() <= 1.001


@pytest.mark.parametrize("bend", [0.0, 4.0])
def test_landmarks_move_with_the_pictures_they_lie_on(bend):
    rows, columns = np.mgrid[:256, :256] + 0.5
    places = np.stack(np.meshgrid(*[np.linspace(64, 192, 5)] * 2), -1).reshape(-1, 2)
    away = lambda place: np.hypot(columns - place[0], rows - place[1])
    dots = np.uint8(255 * sum(np.exp(-((away(place) / 3) ** 2)) for place in places))
    points = np.zeros((478, 3))
    points[:, :2] = places[np.arange(478) % 25]
    for seed in range(12):
        (image, same), (moved, other) = augment([dots, dots], [points, points], np.random.default_rng(seed), bend)
        assert np.array_equal(image, same) and np.array_equal(moved, other)
        for place in np.unique(moved[:, :2].round(6), axis=0):
            if (place > 16).all() and (place < 240).all():
                weight = image * (away(place) < 9)
                shown = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
                assert np.abs(shown - place).max() < 0.35, (seed, place, shown)


def test_local_heads_are_told_where_mouth_and_eyes_are(shards):
    batch = Episodes(load_shards(shards, held_out=False), seed=3)[17]
    assert batch["mouth"].shape == (3, 1, 2) and batch["eyes"].shape == (3, 2, 2)
    x, y = batch["mouth"][0, 0].round().int().tolist()  # the first crop shows the mouth: lips are drawn around there
    red = batch["x"][0, 3]
    assert red[y - 12 : y + 12, x - 20 : x + 20].max() > 0.5
    for part in ("mouth", "eyes"):
        seen = batch[part][batch[part].isfinite()]
        assert len(seen) and (seen >= 8).all() and (seen <= 72).all()


def test_palettes_reach_the_looks_of_old_pictures():
    rng = np.random.default_rng(0)
    red = np.full((1, 1, 3), (200, 60, 60), np.uint8)
    saturation = []
    for _ in range(200):
        matrix, curve = palette(rng, strong=True)
        colour = cv2.LUT(cv2.transform(red, matrix), curve)[0, 0].astype(int)
        saturation.append(np.ptp(colour))
    assert min(saturation) == 0 and max(saturation) > 100  # from monochrome to nearly untouched
