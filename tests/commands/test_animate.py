"""`animate` as a user runs it, on the bundled examples with the shipped weights."""

import os
import re
import subprocess
import sys
from fractions import Fraction
from subprocess import run

import imageio_ffmpeg
import numpy as np
import pytest
from support import (
    ASTRONAUT,
    CLIP,
    MONA_LISA,
    PATIENCE,
    clip_frames,
    portrait_of,
    read_frames,
    run_animate,
    run_animate_alone,
    save_image,
    track,
    write_video,
)

from portrait_anim.geometry.mesh import MEAN_FACE, openness
from portrait_anim.geometry.pose import estimate_poses
from portrait_anim.media.photo import load_photo
from portrait_anim.media.reading import FrameReader, probe


def yaw(landmarks: np.ndarray) -> np.ndarray:
    rotation = estimate_poses(landmarks, MEAN_FACE).rotation
    return np.arctan2(rotation[:, 0, 2], rotation[:, 2, 2])


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_output_has_rate_length_sound_and_size_of_its_sources(bundled):
    output, done = bundled
    made, driver = probe(output), probe(CLIP)
    assert (made.width, made.height) == (742, 1154)  # the photo's own size, made even
    assert made.fps == driver.fps == Fraction(25)
    assert made.has_audio
    assert sum(1 for _ in FrameReader(output)) == len(clip_frames())
    assert abs(made.duration - driver.duration) < 0.1
    assert re.fullmatch(r"mona_lisa--clip.mp4: 742x1154, 215 frames in [\d.]+ s \([\d.]+ frames/s\)\n", done.stdout)
    assert [p.name for p in output.parent.iterdir()] == [output.name]  # no temporary files stay


def test_a_mouth_that_opens_has_teeth_unless_they_are_refused(tmp_path, driver):
    """A picture of a wide mouth moves the Mona Lisa, whose lips are closed."""
    save_image(tmp_path / "wide.png", clip_frames()[int(openness(driver.landmarks)[:, 0].argmax())])
    pictures = []
    for name, option in (("with.png", ()), ("without.png", ("--no-teeth",))):
        absolute = ("--motion", "absolute", "--max-size", "720")
        done = run_animate(MONA_LISA, "-d", "wide.png", *absolute, *option, "-o", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        pictures.append(load_photo(tmp_path / name).astype(int))
    lighter = (pictures[0] - pictures[1]).sum(2)
    rows, columns = np.nonzero(np.abs(lighter) > 6)
    assert lighter.max() > 100 and len(rows) > 60
    width, height = np.ptp(columns) / lighter.shape[1], np.ptp(rows) / lighter.shape[0]
    assert width < 0.15 and height < 0.06  # a row of teeth, and nothing else


def test_the_drivers_motion_arrives(bundled, driver):
    made = track(bundled[0])
    assert made.found.mean() > 0.98
    mouth = correlation(openness(made.landmarks)[:, 0], openness(driver.landmarks)[:, 0])
    turn = correlation(yaw(made.landmarks), yaw(driver.landmarks))
    assert mouth > 0.8, mouth
    assert turn > 0.9, turn


def test_outside_the_moving_region_every_frame_is_the_photo(bundled):
    portrait = portrait_of(MONA_LISA)
    x0, y0, x1, y1 = portrait.region.box
    outside = np.ones(portrait.photo.shape[:2], bool)
    outside[max(0, y0 - 8) : y1 + 8, max(0, x0 - 8) : x1 + 8] = False  # 8 px: an H.264 block across the border
    assert outside.sum() > 100_000
    frames = (frame[outside].astype(np.int16) for frame in FrameReader(bundled[0]))
    first = next(frames)
    still = [np.abs(frame - first).mean() for frame in frames]
    assert max(still) < 1.5  # what the encoder does to a picture that does not change
    assert np.abs(first - portrait.photo[outside].astype(np.int16)).mean() < 4


def test_a_still_driver_gives_a_still_portrait(tmp_path):
    frames = clip_frames()
    write_video(tmp_path / "still.mp4", np.repeat(frames[:1], 30, 0))
    done = run_animate(MONA_LISA, "-d", "still.mp4", "-o", "out.mp4", "--max-size", "480", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = read_frames(tmp_path / "out.mp4").astype(np.int16)
    assert np.abs(np.diff(made, axis=0)).mean() < 0.5


@pytest.mark.parametrize("name", ["out.gif", "out.webm", "frames/", "out_%03d.png"])
def test_other_formats(tmp_path, short_clip, name):
    done = run_animate(ASTRONAUT, "-d", short_clip, "-o", name, "--max-size", "256", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if name.endswith((".gif", ".webm")):
        assert len(read_frames(tmp_path / name)) == 12
    else:
        assert len(list(tmp_path.rglob("*.png"))) == 12


def test_start_end_and_fps(tmp_path):
    done = run_animate(
        ASTRONAUT, "-d", CLIP, "--start", "1", "--end", "2", "--fps", "10", "--max-size", "256", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    made = probe(tmp_path / "astronaut--clip.mp4")
    assert made.fps == 10 and made.has_audio
    assert len(read_frames(made.path)) == 10


def test_only_head_keeps_the_expression_and_only_face_the_pose(tmp_path):
    both = {}
    for part in ("head", "face"):
        when, small = ["--start", "0", "--end", "6"], ["--fps", "10", "--max-size", "400"]
        done = run_animate(ASTRONAUT, "-d", CLIP, "--only", part, "-o", f"{part}.mp4", *when, *small, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        both[part] = track(tmp_path / f"{part}.mp4")
    # The clip opens the mouth wide in its first seconds and turns the head in the following.
    assert np.ptp(yaw(both["head"].landmarks)) > 3 * np.ptp(yaw(both["face"].landmarks))
    assert np.ptp(openness(both["face"].landmarks)[:, 0]) > 3 * np.ptp(openness(both["head"].landmarks)[:, 0])


def test_no_strength_is_no_motion_and_absolute_differs_from_relative(tmp_path, short_clip):
    made = {}
    for name, options in (("none", ["--strength", "0"]), ("relative", []), ("absolute", ["--motion", "absolute"])):
        done = run_animate(
            ASTRONAUT, "-d", short_clip, *options, "-o", f"{name}.mp4", "--max-size", "256", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        made[name] = read_frames(tmp_path / f"{name}.mp4").astype(np.int16)
    assert np.abs(np.diff(made["none"], axis=0)).mean() < 0.3
    assert np.abs(made["relative"] - made["absolute"]).mean() > 0.5


def test_quiet_says_nothing(tmp_path, short_clip):
    done = run_animate_alone(ASTRONAUT, "-d", short_clip, "-q", "--max-size", "256", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("end", [">&-", "2>&-", "> /dev/full", "| head -0", "2>&1 | head -1"])
def test_a_deaf_reader_does_not_spoil_a_run(tmp_path, short_clip, end):
    animate = f"'{sys.executable}' -m portrait_anim '{ASTRONAUT}' -d '{short_clip}' -o x.mp4 --max-size 256"
    command = f"set -o pipefail; {animate} {end}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and len(read_frames(tmp_path / "x.mp4")) == 12


def test_a_truncated_driver_gives_what_it_holds_and_a_warning(tmp_path):
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    # A stream format, whose frames can be read without the index that an MP4 has at its end.
    run([ffmpeg, "-v", "error", "-i", str(CLIP), "-c", "copy", str(tmp_path / "whole.mkv")], check=True)
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 3])
    done = run_animate(ASTRONAUT, "-d", "cut.mkv", "--max-size", "256", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warning: cut.mkv" in done.stderr
    assert 20 < len(read_frames(tmp_path / "astronaut--cut.mp4")) < 150


def test_a_face_that_leaves_is_bridged_and_reported(tmp_path):
    frames = clip_frames()[:40].copy()
    frames[15:25] = 60
    write_video(tmp_path / "gap.mp4", frames)
    done = run_animate(ASTRONAUT, "-d", "gap.mp4", "--max-size", "256", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"warning: gap.mp4: no face in frames 15-2\d", done.stderr), done.stderr
    assert len(read_frames(tmp_path / "astronaut--gap.mp4")) == 40


def test_time_options_of_the_command(tmp_path, short_clip):
    done = run_animate(
        ASTRONAUT, "-d", short_clip, "--speed", 0.5, "--pingpong", "--loop", 2, "--mirror", "--max-turn", 20,
        "--max-size", 256, "-o", "x.mp4", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(read_frames(tmp_path / "x.mp4")) == 2 * (23 + 21) and probe(tmp_path / "x.mp4").fps == Fraction(25)


def test_sound_that_no_longer_fits_is_left_out_with_a_warning(tmp_path):
    done = run_animate(
        ASTRONAUT, "-d", CLIP, "--end", 0.5, "--speed", 2, "--max-size", 256, "-o", "x.mp4", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "sound" in done.stderr and "--speed" in done.stderr
    assert not probe(tmp_path / "x.mp4").has_audio


def test_help_is_quick_grouped_and_shows_defaults(tmp_path):
    def seconds(run) -> float:
        """CPU time of a child: wall time would depend on the neighbours."""
        before = os.times()
        run()
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])

    bare = [sys.executable, "-c", "import typer, rich.console"]  # what it cannot do without: half of it
    least = min(seconds(lambda: subprocess.run(bare, check=True)) for _ in range(3))
    most = min(seconds(lambda: run_animate_alone("--help", cwd=tmp_path)) for _ in range(3))
    assert most < max(0.5, 4 * least), (most, least)
    done = run_animate_alone("--help", cwd=tmp_path)
    assert done.returncode == 0
    for word in (
        "Faces",
        "Motion",
        "Video",
        "Seeing",
        "Run",
        "--skip-existing",
        "animate mona.jpg --driver clip.mp4",
    ):
        assert word in done.stdout
    for default in ("relative", "1.0", "1280", "18", "still", "auto"):
        assert f"[default: {default}]" in done.stdout


def test_the_command_tells_the_warning_and_goes_on(tmp_path, short_clip):
    save_image(tmp_path / "dark.png", (load_photo(ASTRONAUT) * 0.25).astype(np.uint8))
    done = run_animate("dark.png", "-d", short_clip, "--max-size", "512", cwd=tmp_path)
    assert done.returncode == 0 and "warning: dark.png: the face is very dark" in done.stderr
    assert (tmp_path / "dark--short.mp4").exists()
