"""Shards: what is in them, at which size, and the split by person."""

import json

import cv2
import numpy as np
import pytest

from portrait_anim.errors import InputError
from portrait_anim.training.shards import Shard, is_held_out, load_shard, load_shards, save_shard


def test_a_shard_holds_upright_heads_with_their_landmarks(shards):
    shard = load_shards(shards, held_out=True)[0]
    assert shard.size in (256, 512) and shard.image(0, shard.size).shape == (shard.size, shard.size, 3)
    points = np.stack([shard.points(t, 256) for t in range(len(shard))])[:, :468, :2]
    assert 90 < np.ptp(points[0, :, 1]) < 150  # about half of the crop's height
    assert np.abs(points.mean((0, 1)) - 128).max() < 40
    view = shard.view(0)
    nose = view.landmarks[1, :2].astype(int)
    assert view.image.shape == (512, 512, 3) and view.matte.shape == (512, 512)
    assert view.matte[nose[1], nose[0]] > 0.95 and view.matte[:40, :40].mean() < 0.2


def made(size: int, header: dict) -> Shard:
    """A shard of one frame with a white square, at the corner of which a landmark lies."""
    image = np.zeros((size, size, 3), np.uint8)
    image[: size // 4, : size // 4] = 255
    jpeg = lambda picture: cv2.imencode(".jpg", picture)[1].ravel()
    points = np.full((1, 478, 3), size / 4, np.float32)
    return Shard({"group": "somebody", **header}, [jpeg(image)], [jpeg(image[::2, ::2, 0])], points)


@pytest.mark.parametrize(
    ("size", "header"), [(256, {"format": 1}), (256, {"format": 2, "size": 256}), (512, {"format": 2, "size": 512})]
)
def test_shards_of_both_formats_and_sizes_give_pictures_of_any_size(tmp_path, size, header):
    save_shard(tmp_path / "x.npz", made(size, header))
    shard = load_shard(tmp_path / "x.npz")
    assert shard.size == size and shard.is_sharp == (size == 512)
    for wanted in (256, 512):
        image, matte, points = (picture(0, wanted) for picture in (shard.image, shard.matte, shard.points))
        assert image.shape == (wanted, wanted, 3) and matte.shape == (wanted, wanted)
        edge = wanted // 4
        assert np.allclose(points, edge)
        assert image[: edge - 8, : edge - 8].min() > 240 and image[edge + 8 :].max() < 20
        assert matte[: edge - 8, : edge - 8].min() > 0.9 and matte[edge + 8 :].max() < 0.1


def test_a_damaged_shard_is_refused(shards, tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(next(shards.glob("*.npz")).read_bytes()[:5000])
    with pytest.raises(InputError, match="x.npz: not a readable shard"):
        load_shard(path)
    save_shard(path, made(256, {"format": 2, "size": 10**6}))
    with pytest.raises(InputError, match="not a readable shard"):
        load_shard(path)
    save_shard(path, made(256, {"format": 7}))
    with pytest.raises(InputError, match="shard format 7 is not 2"):
        load_shard(path)
    with pytest.raises(InputError, match="no training people"):
        load_shards(tmp_path / "nothing", held_out=False)


def test_the_split_is_by_person_fixed_and_about_a_seventh():
    held_out = [is_held_out(str(k)) for k in range(2000)]
    assert 0.12 < np.mean(held_out) < 0.17
    assert [k for k in range(40) if held_out[k]] == [3, 18, 19, 20, 27]  # changing it would spoil every comparison


def test_the_header_is_json(tmp_path):
    save_shard(tmp_path / "x.npz", made(512, {"format": 2, "size": 512}))
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        assert json.loads(str(file["header"]))["size"] == 512
