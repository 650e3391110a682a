"""Shards: what is in them, at which size, and the split by person."""

import json
import lzma

import numpy as np
import pytest

from portrait_anim.errors import InputError
from portrait_anim.training.shards import Shard, is_held_out, load_shard, load_shards, make_shard, save_shard


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


def made(size: int = 256, count: int = 3, **header) -> Shard:
    """A shard of a white square that grows, at the corner of which the landmarks lie."""
    frames, landmarks = np.zeros((count, size, size, 3), np.uint8), np.empty((count, 478, 3))
    for t in range(count):
        frames[t, : size // 4 + 4 * t, : size // 4 + 4 * t] = 255
        landmarks[t] = size / 4 + 4 * t + np.linspace(0, 0.5, 3)
    mattes = np.ascontiguousarray(frames[:, :: size // 128, :: size // 128, 0])
    return make_shard({"group": "somebody", **header}, frames, mattes, landmarks)


@pytest.mark.parametrize("size", [256, 512])
def test_shards_of_both_sizes_give_pictures_of_any_size(tmp_path, size):
    save_shard(tmp_path / "x.npz", made(size))
    shard = load_shard(tmp_path / "x.npz")
    assert len(shard) == 3 and shard.size == size and shard.is_sharp == (size == 512)
    for wanted in (256, 512):
        for t in (2, 0):
            image, matte, points = (picture(t, wanted) for picture in (shard.image, shard.matte, shard.points))
            assert image.shape == (wanted, wanted, 3) and matte.shape == (wanted, wanted)
            edge = round((size / 4 + 4 * t) * wanted / size)
            assert np.abs(points - edge - np.linspace(0, 0.5, 3) * wanted / size).max() <= wanted / 8192 + 1e-6
            assert image[: edge - 8, : edge - 8].min() > 235 and image[edge + 8 :].max() < 25
            assert matte[: edge - 8, : edge - 8].min() > 0.9 and matte[edge + 8 :].max() < 0.1


def test_a_shard_of_real_frames_is_small_and_like_them(portrait, tmp_path):
    """24 frames of 512 px, in which a detailed picture moves: its first frame is most of the file."""
    view = portrait.views[0]
    moves = np.rint(6 * np.sin(np.arange(24) / 6)).astype(int)
    frames = np.stack([np.roll(view.image, m, 1) for m in moves])
    mattes = np.stack([np.roll(np.rint(255 * view.matte[::2, ::2]).astype(np.uint8), m // 2, 1) for m in moves])
    landmarks = np.stack([view.landmarks + [m, 0, 0] for m in moves])
    save_shard(tmp_path / "x.npz", make_shard({"group": "x"}, frames, mattes, landmarks))
    assert (tmp_path / "x.npz").stat().st_size < 200_000
    shard = load_shard(tmp_path / "x.npz")
    assert np.abs(shard.image(20, 512).astype(int) - frames[20]).mean() < 3
    assert np.abs(shard.landmarks - landmarks).max() < 0.07


def test_a_damaged_shard_is_refused(shards, tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(next(shards.glob("*.npz")).read_bytes()[:5000])
    with pytest.raises(InputError, match="x.npz: not a readable shard"):
        load_shard(path)
    good = made()
    for name, value in {"size": 10**6, "frames": 10**9, "group": 3, "test": "yes"}.items():
        save_shard(path, Shard({**good.header, name: value}, good.video, good.mattes, good.landmarks))
        with pytest.raises(InputError, match="not a readable shard"):
            load_shard(path)
    save_shard(path, Shard({**good.header, "frames": 4}, good.video, good.mattes, np.ones((4, 478, 3))))
    with pytest.raises(InputError, match=r"damaged \(no 4 frames of 256 px"):
        load_shard(path).image(0, 256)
    with pytest.raises(InputError, match="no such folder"):
        load_shards(tmp_path / "nothing", held_out=False)


def test_a_shard_that_unpacks_to_much_more_is_refused(tmp_path):
    good, path = made(), tmp_path / "x.npz"
    save_shard(path, good)
    with np.load(path) as file:
        parts = dict(file)
    np.savez(path, **parts | {"landmarks": np.frombuffer(lzma.compress(bytes(10**8)), np.uint8)})
    with pytest.raises(InputError, match="landmarks of 8605 bytes, not 8604"):
        load_shard(path)


def test_shards_of_earlier_versions_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", header=np.array(json.dumps({"format": 2, "group": "x", "size": 512})))
    with pytest.raises(InputError, match="shard format 2 is not 3; delete it and run prepare again"):
        load_shard(tmp_path / "x.npz")


def test_the_split_is_by_person_fixed_and_about_a_seventh():
    held_out = [is_held_out(str(k)) for k in range(2000)]
    assert 0.12 < np.mean(held_out) < 0.17
    assert [k for k in range(40) if held_out[k]] == [3, 18, 19, 20, 27]  # changing it would spoil every comparison


def test_the_side_of_a_person_can_be_named(tmp_path):
    for number, is_test in enumerate((True, False)):
        save_shard(tmp_path / f"{number}.npz", made(group=f"p{number}", test=is_test))
    assert [[s.group for s in load_shards(tmp_path, side)] for side in (True, False)] == [["p0"], ["p1"]]


def test_the_header_is_json(tmp_path):
    save_shard(tmp_path / "x.npz", made(512))
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        assert json.loads(str(file["header"]))["size"] == 512
