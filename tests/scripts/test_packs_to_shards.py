"""Packs of the trial become shards, byte by byte."""

import json
import lzma
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from portrait_anim.media.clips import encode_clip
from portrait_anim.training.shards import load_shard

SCRIPT = Path(__file__).parents[2] / "scripts/packs_to_shards.py"


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 255, (4, 16, 16, 3), np.uint8), 16, 1).repeat(16, 2)
    landmarks = rng.uniform(40, 200, (4, 478, 3))
    changes = np.diff(np.round(landmarks * 8).astype(np.int32), axis=0, prepend=0).astype(np.int16)
    parts = {
        "video": encode_clip(frames, 20),
        "matte": encode_clip(frames[:, ::2, ::2, 0].copy(), 20),
        "lm": lzma.compress(np.ascontiguousarray(changes.transpose(1, 2, 0)).tobytes()),
    }
    head = {"id": "x", "group": 7, "hd": 0, "T": 4, "size": 256, "len": {k: len(v) for k, v in parts.items()}}
    head = json.dumps(head).encode()
    folder = tmp_path_factory.mktemp("packs")
    (folder / "x.bin").write_bytes(len(head).to_bytes(4, "little") + head + b"".join(parts.values()))
    return folder, frames, landmarks


def convert(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True)


def test_a_pack_becomes_a_shard(pack, tmp_path):
    folder, frames, landmarks = pack
    done = convert(folder, "--out", tmp_path, "--side", "test")
    assert done.returncode == 0, done.stderr
    shard = load_shard(tmp_path / "x.npz")
    assert shard.group == "7" and shard.held_out and not shard.is_sharp and len(shard) == 4
    assert np.abs(shard.landmarks - landmarks).max() < 1 / 15
    assert np.abs(shard.image(2, 256)[8::16, 8::16].astype(int) - frames[2, 8::16, 8::16]).mean() < 20
    assert shard.matte(2, 128).shape == (128, 128)


def test_what_is_no_pack_gives_one_sentence(pack, tmp_path):
    (tmp_path / "x.bin").write_bytes((pack[0] / "x.bin").read_bytes()[:300])
    done = convert(tmp_path / "x.bin", "--out", tmp_path / "out")
    assert done.returncode == 1 and "x.bin: not a readable pack" in done.stderr and "Traceback" not in done.stderr
    done = convert(tmp_path / "out", "--out", tmp_path / "out")
    assert done.returncode == 1 and "No packs (.bin)" in done.stderr
