"""Shards: what is kept, what is not and why, and the split by person."""

import json
from pathlib import Path

import numpy as np
import pytest
from support import run_tool

from portrait_anim.errors import InputError
from portrait_anim.training.prepare import is_held_out, load_shard, load_shards


def test_prepare_reports_what_it_kept_and_why_not(shards):
    report = (shards.parent / "report.txt").read_text()
    assert "INFO:" not in report and "W0000" not in report  # what MediaPipe says to itself
    assert "broken.mp4: " in report and "not a video" in report
    assert "with_gap.mp4: kept" in report and "2 shards" in report and "no face" in report
    rows = [json.loads(line) for line in (shards / "index.jsonl").read_text().splitlines()]
    assert {Path(r["video"]).name for r in rows} == {"clip0.mp4", "clip1.mp4", "with_gap.mp4", "broken.mp4"}


def test_prepare_goes_on_where_it_stopped(shards):
    stamps = {p: p.stat().st_mtime_ns for p in shards.glob("*.npz")}
    done = run_tool("prepare", shards.parent, "--out", "shards", "--groups", "groups.jsonl", cwd=shards.parent)
    assert done.returncode == 0
    assert {p: p.stat().st_mtime_ns for p in shards.glob("*.npz")} == stamps


def test_a_shard_holds_upright_heads_with_their_landmarks(shards):
    shard = load_shards(shards, held_out=True)[0]
    assert shard.image(0).shape == (256, 256, 3)
    points = shard.landmarks[:, :468, :2]
    assert 90 < np.ptp(points[0, :, 1]) < 150  # about half of the crop's height
    assert np.abs(points.mean((0, 1)) - 128).max() < 40
    matte = shard.matte(0)
    nose = shard.landmarks[0, 1, :2].astype(int)
    assert matte[nose[1], nose[0]] > 0.95 and matte[:20, :20].mean() < 0.2


def test_a_damaged_shard_is_refused(shards, tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(next(shards.glob("*.npz")).read_bytes()[:5000])
    with pytest.raises(InputError, match="x.npz: not a readable shard"):
        load_shard(path)
    with pytest.raises(InputError, match="no training people"):
        load_shards(tmp_path / "nothing", held_out=False)


def test_the_split_is_by_person_fixed_and_about_a_seventh():
    held_out = [is_held_out(str(k)) for k in range(2000)]
    assert 0.12 < np.mean(held_out) < 0.17
    assert [k for k in range(40) if held_out[k]] == [3, 18, 19, 20, 27]  # changing it would spoil every comparison
