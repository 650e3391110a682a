"""`prepare`: what is kept, at which size, what is not and why; how it is stopped and goes on."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import CLIP, PATIENCE, clip_frames, run_tool, start_python

from portrait_anim.errors import InputError
from portrait_anim.evaluation.report import write_video
from portrait_anim.portrait.portrait import head_square
from portrait_anim.training.prepare import Person, PrepareConfig, _make_shard, read_groups
from portrait_anim.training.shards import load_shard


def test_prepare_reports_what_it_kept_and_why_not(shards):
    report = (shards.parent / "report.txt").read_text()
    assert "INFO:" not in report and "W0000" not in report  # what MediaPipe says to itself
    assert "broken.mp4: " in report and "not a video" in report
    assert "with_gap.mp4: kept" in report and "2 shards" in report and "no face" in report
    assert "[100 %]" in report and " left)" in report
    rows = [json.loads(line) for line in (shards / "index.jsonl").read_text().splitlines()]
    assert {Path(r["video"]).name for r in rows} == {"clip0.mp4", "clip1.mp4", "with_gap.mp4", "broken.mp4"}


def test_prepare_goes_on_where_it_stopped(shards):
    stamps = {p: p.stat().st_mtime_ns for p in shards.glob("*.npz")}
    done = run_tool("prepare", shards.parent, "--out", "shards", "--groups", "groups.jsonl", cwd=shards.parent)
    assert done.returncode == 5  # broken.mp4 is still among them
    assert {p: p.stat().st_mtime_ns for p in shards.glob("*.npz")} == stamps


@pytest.mark.parametrize(("size", "above", "kept"), [(512, 1.0, 256), (512, -1.0, 512), (256, -1.0, 256)])
def test_a_head_is_kept_at_the_size_that_the_video_resolves(driver, size, above, kept):
    frame = clip_frames()[0]
    landmarks = driver.landmarks[0] * (frame.shape[1] / driver.size[0])
    side = head_square(landmarks)[1]
    side = min(frame.shape[:2]) if side > 0.8 * min(frame.shape[:2]) else side  # a clip close to the head is all of it
    config = PrepareConfig(size=size, min_sharp=side + above)
    shard = _make_shard(Path("x.mp4"), Person("x"), [frame], [landmarks], lambda image, points: points, config)
    assert shard.size == kept and shard.image(0, kept).shape == (kept, kept, 3)


def test_a_person_s_side_of_the_split_comes_from_the_groups_file(tmp_path):
    groups = tmp_path / "groups.jsonl"
    groups.write_text('{"id": "a", "group": "anna", "test": true}\n\n{"id": "b", "group": 7}\n')
    assert read_groups(groups) == {"a": Person("anna", True), "b": Person("7", None)}
    for text, fault in {
        '{"id": "a"}': "'group'",
        '{"id": "a", "group": "x", "test": "yes"}': "line 1: test must be true or false",
        '{"id": "a", "group": "x", "test": true}\n{"id": "b", "group": "x"}': "line 2: x is on both sides",
        "[1]": "every line must be JSON",
    }.items():
        groups.write_text(text)
        with pytest.raises(InputError, match=fault):
            read_groups(groups)


@pytest.mark.slow
def test_prepare_stops_when_told_to_and_goes_on(tmp_path):
    """A long video is at work when SIGTERM comes; what was made before stays, is whole, and is not made again."""
    (tmp_path / "videos").mkdir()
    shutil.copy(CLIP, tmp_path / "videos" / "b.mp4")
    (tmp_path / "videos" / "a.mp4").write_bytes(CLIP.read_bytes()[:2_000])
    arguments = ("prepare", "videos", "--out", "shards", "--workers", "1")
    process = start_python("-m", "portrait_anim.commands.tools", *arguments, cwd=tmp_path)
    assert "a.mp4: " in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 130
    made = list((tmp_path / "shards").glob("*.npz"))
    assert all(len(load_shard(path)) for path in made)
    done = run_tool(*arguments, cwd=tmp_path)
    assert done.returncode == 5 and "b.mp4: kept" in done.stderr
    rows = [json.loads(line) for line in (tmp_path / "shards" / "index.jsonl").read_text().splitlines()]
    assert [Path(row["video"]).name for row in rows] == ["a.mp4", "b.mp4"]


def test_a_size_that_networks_cannot_use_is_refused(tmp_path):
    done = run_tool("prepare", CLIP, "--out", tmp_path / "shards", "--size", 300, cwd=tmp_path)
    assert done.returncode == 2 and "--size 300" in done.stderr and not (tmp_path / "shards").exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, shards):
    (tmp_path / "ok.jpg").touch()
    for command, given in (("prepare", CLIP), ("meta-train", shards)):
        done = run_tool(command, given, "--out", "ok.jpg", cwd=tmp_path)
        assert done.returncode == 4 and "Traceback" not in done.stderr, done.stderr
        assert "error: ok.jpg: cannot be made (File exists); name another folder." in done.stderr


def test_nothing_made_at_all_is_an_error_that_says_why(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.jpg")
    write_video(tmp_path / "a.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 15)
    done = run_tool("prepare", "photo.jpg", "a.mp4", "--out", "made", cwd=tmp_path)
    assert done.returncode == 3 and "none of the 2 videos could be used" in done.stderr, done.stderr
    assert "photo.jpg: is a single picture, not a video" in done.stderr
    assert "a.mp4: nothing kept; left out: all of it, no face was found" in done.stderr


@pytest.mark.parametrize("command", [("meta-train", "--out", "run"), ("evaluate", "--quick")])
def test_a_folder_without_shards_says_what_to_run_first(tmp_path, command):
    (tmp_path / "videos").mkdir()
    shutil.copy(CLIP, tmp_path / "videos")
    for folder, said in (("nosuch", "nosuch: no such folder"), ("videos", "videos: holds no shards; make them")):
        done = run_tool(command[0], folder, *command[1:], cwd=tmp_path)
        assert done.returncode == 3 and f"error: {said}" in done.stderr, done.stderr
    assert not (tmp_path / "run").exists()
