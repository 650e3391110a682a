"""Decoded frames in files: what they hold, and that their folder stays as small as was asked."""

import os

import numpy as np
import pytest

from portrait_anim.errors import OutputError
from portrait_anim.training.decoded import DecodedClips, canvases
from portrait_anim.training.shards import Shard, load_shards


@pytest.fixture(scope="module")
def train(shards):
    return load_shards(shards, held_out=False)


def test_frames_and_backgrounds_are_decoded_once(train, tmp_path, monkeypatch):
    shard = train[0]
    frames, mattes = shard.decode()
    clips, t = DecodedClips(tmp_path, 1e9), canvases(len(shard))[3]
    plate, gain = clips.behind(shard, t)
    image, head = shard.image(t, 512), shard.matte(t, 512) > 0.99
    monkeypatch.setattr(Shard, "decode", lambda self: pytest.fail("decoded again"))
    for other in (clips, DecodedClips(tmp_path, 1e9)):
        assert all(np.array_equal(a, b) for a, b in zip(other.frames(shard), (frames, mattes)))
        assert all(np.array_equal(a, b) for a, b in zip(other.behind(shard, t), (plate, gain)))
    assert np.abs(plate.astype(int) - image)[head].mean() > 10  # the person is not in it
    assert 0.2 < gain.min() and gain.max() < 5 and len(list(tmp_path.iterdir())) == 2


def test_what_was_used_longest_ago_makes_room(train, tmp_path):
    parts = [Shard(train[0].header, train[0].video, train[0].mattes, train[0].landmarks + n) for n in range(3)]
    size = sum(part.nbytes for part in parts[0].decode())
    clips = DecodedClips(tmp_path, 2.5 * size)
    maps = [clips.frames(parts[0]), clips.frames(parts[1])]
    first, second = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    os.utime(second, ns=(0, 0))
    assert np.array_equal(clips.frames(parts[2])[0], maps[0][0])
    assert first.exists() and not second.exists() and len(list(tmp_path.iterdir())) == 2
    assert maps[1][0][5].any()  # a map that is open stays good
    fresh = DecodedClips(tmp_path, 2.5 * size)
    assert np.array_equal(fresh.frames(parts[1])[0], maps[0][0]) and second.exists()


def test_a_folder_that_cannot_be_written_gives_one_sentence(train, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="decoded frames cannot be written there .*--cache"):
        DecodedClips(tmp_path / "file" / "cache", 1e9)
