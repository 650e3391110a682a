"""`prepare`: what is kept, at which size, what is not and why."""

import json
from pathlib import Path

import pytest
from support import clip_frames, run_tool

from portrait_anim.portrait.portrait import head_square
from portrait_anim.training.prepare import PrepareConfig, _make_shard


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


@pytest.mark.parametrize(("above", "size"), [(1.0, 256), (-1.0, 512)])
def test_a_head_is_kept_at_the_size_that_the_video_resolves(driver, above, size):
    frame = clip_frames()[0]
    landmarks = driver.landmarks[0] * (frame.shape[1] / driver.size[0])
    side = head_square(landmarks)[1]
    side = min(frame.shape[:2]) if side > 0.8 * min(frame.shape[:2]) else side  # a clip close to the head is all of it
    config = PrepareConfig(min_sharp=side + above)
    shard = _make_shard(Path("x.mp4"), "x", [frame], [landmarks], lambda image, points: points, config)
    assert shard.size == size and shard.image(0, size).shape == (size, size, 3)
