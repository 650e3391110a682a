"""Finished videos of any tool, measured against the portrait and the driver that their names tell."""

import json
import shutil

import cv2
import numpy as np
import pytest
from support import CLIP, MONA_LISA, clip_frames, run_tool, save_image, write_video

from portrait_anim.evaluation.videos import evaluate_videos, to_markdown

FRAMES = slice(20, 44)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A portrait and a driver, and three "results": the driver itself, one that jumps, and the portrait held still."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "inputs").mkdir()
    (folder / "results").mkdir()
    frames = clip_frames()[FRAMES]
    save_image(folder / "inputs" / "me.png", frames[0])
    write_video(folder / "inputs" / "clip.mp4", frames)
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 3) for frame in frames])
    jumping = np.stack([np.roll(frame, 3 * (t % 2), 1) for t, frame in enumerate(frames)])
    for name, made in (("me--clip", frames), ("me--clip--blurred", blurred), ("me--clip--jumping", jumping)):
        write_video(folder / "results" / f"{name}.mp4", made)
    return folder


def test_the_driver_itself_is_perfect_and_faults_are_seen(folder, tmp_path):
    report = evaluate_videos(folder / "inputs", folder / "results", tmp_path / "out", tmp_path / "page")
    same, blurred, jumping = report["rows"]
    assert [row["video"] for row in report["rows"]] == [f"me--clip{s}.mp4" for s in ("", "--blurred", "--jumping")]
    assert same["frames"] == 24 and same["lost"] == 0
    assert all(same[key] > 0.97 for key in ("mouth", "eyes", "yaw")) and same["csim"] > 0.8
    assert same["jitter"] == pytest.approx(1, abs=0.2) and same["edge_flicker"] == pytest.approx(1, abs=0.2)
    assert same["sharpness"] == pytest.approx(1, abs=0.3) and blurred["sharpness"] < 0.3
    assert jumping["jitter"] > 3 * same["jitter"] and jumping["edge_flicker"] > 2 * same["edge_flicker"]
    assert blurred["edge_flicker"] < 1.1
    assert json.loads((tmp_path / "out" / "videos.json").read_text()) == report
    text = to_markdown(report)
    assert (tmp_path / "out" / "videos.md").read_text() == text and "| all 3 |" in text
    assert len(list((tmp_path / "page" / "pictures").iterdir())) == 3 * 7
    assert "me--clip--jumping" in (tmp_path / "page" / "report.html").read_text()


def test_the_command(folder, tmp_path):
    """A video of another rate, shorter than its driver, by a tool of another person."""
    shutil.copytree(folder / "inputs", tmp_path / "in")
    shutil.copy(MONA_LISA, tmp_path / "in")
    shutil.copy(CLIP, tmp_path / "in" / "driver.mp4")
    (tmp_path / "made").mkdir()
    write_video(tmp_path / "made" / "mona_lisa--driver.mp4", clip_frames()[:40:2], fps=12)
    done = run_tool("evaluate", "in", "--videos", "made", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "out" / "videos.json").read_text())["rows"]
    assert 19 <= row["frames"] <= 20 and row["csim"] < 0.6 and "mona_lisa--driver.mp4" in done.stdout


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("result.mp4", "its name does not say what it was made of"),
        ("anna--clip.mp4", "its portrait anna is not in inputs"),
        ("me--dance.mp4", "its driver dance is not in inputs"),
        (None, "holds no videos"),
    ],
)
def test_videos_that_cannot_be_matched(folder, tmp_path, name, sentence):
    shutil.copytree(folder / "inputs", tmp_path / "inputs")
    (tmp_path / "made").mkdir()
    if name:
        shutil.copy(folder / "results" / "me--clip.mp4", tmp_path / "made" / name)
    done = run_tool("evaluate", "inputs", "--videos", "made", cwd=tmp_path)
    assert done.returncode == 3 and sentence in done.stderr, done.stderr


def test_videos_without_a_face(folder, tmp_path):
    shutil.copytree(folder / "inputs", tmp_path / "inputs")
    (tmp_path / "made").mkdir()
    write_video(tmp_path / "made" / "me--clip.mp4", np.full((12, 96, 96, 3), 90, np.uint8))
    done = run_tool("evaluate", "inputs", "--videos", "made", cwd=tmp_path)
    assert done.returncode == 3 and "shows no face where its driver" in done.stderr, done.stderr
    save_image(tmp_path / "inputs" / "me.png", np.full((96, 96, 3), 90, np.uint8))
    done = run_tool("evaluate", "inputs", "--videos", "made", cwd=tmp_path)
    assert done.returncode == 3 and "me.png: shows no face" in done.stderr, done.stderr


def test_a_video_that_cannot_be_measured_is_left_out(folder, tmp_path):
    shutil.copytree(folder / "inputs", tmp_path / "inputs")
    grey = np.full((12, 96, 96, 3), 90, np.uint8)
    save_image(tmp_path / "inputs" / "wall.png", grey[0])
    write_video(tmp_path / "inputs" / "empty.mp4", grey)
    (tmp_path / "made").mkdir()
    for name in ("me--clip", "me--clip--cut", "wall--clip", "me--empty"):
        shutil.copy(folder / "results" / "me--clip.mp4", tmp_path / "made" / f"{name}.mp4")
    (tmp_path / "made" / "me--clip--cut.mp4").write_bytes(b"no video")
    write_video(tmp_path / "made" / "me--clip--grey.mp4", grey)
    done = run_tool("evaluate", "inputs", "--videos", "made", "--out", "out", "--report", "page", cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    words = (
        "made/me--clip--cut.mp4: not a video",
        "made/me--clip--grey.mp4: shows no face where its driver",
        "inputs/empty.mp4: shows no face; give the driver that me--empty.mp4 was made of.",
        "inputs/wall.png: shows no face; give the portrait that wall--clip.mp4 was made of.",
        "4 of 5 videos could not be measured; the lines above say why.",
    )
    assert len(said) == 5 and all(word in line for word, line in zip(words, said)), said
    report = json.loads((tmp_path / "out" / "videos.json").read_text())
    assert [row["video"] for row in report["rows"]] == ["me--clip.mp4"] and report["videos"] == 1
    assert [one["video"] for one in report["left out"]] == [
        f"{name}.mp4" for name in ("me--clip--cut", "me--clip--grey", "me--empty", "wall--clip")
    ]
    assert "Left out: me--empty.mp4. " in (tmp_path / "out" / "videos.md").read_text()
    assert "Left out: me--empty.mp4. " in (tmp_path / "page" / "report.html").read_text()
    assert "| all 1 |" in done.stdout and "Traceback" not in done.stderr


def test_all_names_that_do_not_fit_are_told_at_once(folder, tmp_path):
    shutil.copytree(folder / "inputs", tmp_path / "inputs")
    (tmp_path / "made").mkdir()
    for name in ("anna--dance", "result", "me--clip"):
        shutil.copy(folder / "results" / "me--clip.mp4", tmp_path / "made" / f"{name}.mp4")
    done = run_tool("evaluate", "inputs", "--videos", "made", "--out", "out", cwd=tmp_path)
    assert done.returncode == 3 and not (tmp_path / "out").exists()
    assert [line.split(": ")[2][:30] for line in done.stderr.splitlines()] == [
        "its portrait anna is not in in",
        "its driver dance is not in inp",
        "its name does not say what it ",
    ]


def test_options_that_do_not_go_together(tmp_path):
    done = run_tool("evaluate", "inputs", "--videos", "made", "--cross", cwd=tmp_path)
    assert done.returncode == 2 and "--cross and --videos" in done.stderr
    done = run_tool("evaluate", "inputs", "--videos", "made", "--shots", 8, cwd=tmp_path)
    assert done.returncode == 2 and "--shots has no meaning with --videos" in done.stderr
    done = run_tool("evaluate", "inputs", "--cross", "--quick", cwd=tmp_path)
    assert done.returncode == 2 and "--quick has no meaning with --cross" in done.stderr
    done = run_tool("evaluate", "inputs", "--videos", "made", cwd=tmp_path)
    assert done.returncode == 3 and "inputs: is no folder" in done.stderr
