"""What `animate` cannot use is said in one sentence with its exit code, and nothing is left behind."""

import subprocess
import sys

import numpy as np
import pytest
from support import (
    ASTRONAUT,
    CLIP,
    MONA_LISA,
    PATIENCE,
    assert_refused,
    read_frames,
    run_animate,
    save_image,
    write_video,
)


@pytest.fixture
def junk(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("I am not a picture.\n" * 50)
    data = MONA_LISA.read_bytes()
    (folder / "half.jpg").write_bytes(data[: len(data) // 2])
    save_image(folder / "pixel.png", np.zeros((1, 1, 3), np.uint8))
    save_image(folder / "noface.png", np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8))
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("I am not a video.\n" * 50)
    (folder / "cut.mp4").write_bytes(CLIP.read_bytes()[:2_000])
    write_video(folder / "noface.mp4", np.full((10, 64, 64, 3), 77, np.uint8))
    out = tmp_path / "out"
    out.mkdir()
    return folder, out


@pytest.mark.parametrize("photo", ["missing.jpg", "empty.jpg", "text.jpg", "half.jpg", "pixel.png", "noface.png", "."])
def test_unusable_portraits(junk, photo):
    folder, out = junk
    done = run_animate(folder / photo, "-d", CLIP, "-o", out / "x.mp4", cwd=out)
    assert_refused(done, 3, photo if photo != "." else "folder", folder=out)


@pytest.mark.parametrize("clip", ["missing.mp4", "empty.mp4", "text.mp4", "cut.mp4", "noface.mp4", "."])
def test_unusable_drivers(junk, clip):
    folder, out = junk
    done = run_animate(ASTRONAUT, "-d", folder / clip, "-o", out / "x.mp4", cwd=out)
    assert_refused(done, 3, clip if clip != "." else "in", folder=out)


@pytest.mark.parametrize(
    "options, code, word",
    [
        (["--strength", "9"], 2, "--strength"),
        (["--motion", "sideways"], 2, "--motion"),
        (["--only", "nose"], 2, "--only"),
        (["--max-size", "3"], 2, "--max-size"),
        (["--crf", "99"], 2, "--crf"),
        (["--face", "0"], 2, "1"),
        (["--device", "tpu"], 2, "--device"),
        (["--precision", "fp8"], 2, "--precision"),
        (["--background", "beach"], 2, "--background"),
        (["--tracker", "dlib"], 2, "--tracker"),
        (["--start", "99"], 3, "99"),
        (["--start", "3", "--end", "2"], 2, "end"),
        (["--fps", "0"], 2, "frame rate"),
        (["--reference-frame", "5000"], 2, "--reference-frame"),
        (["--driver-face", "2"], 2, "--driver-face"),
        (["--weights", "none.safetensors"], 3, "none.safetensors"),
        (["--unknown"], 2, "--unknown"),
        (["-o", "x.avi"], 2, ".avi"),
        (["-o", "nowhere/x.mp4"], 4, "nowhere"),
    ],
)
def test_impossible_options(tmp_path, options, code, word):
    done = run_animate(ASTRONAUT, "-d", CLIP, *options, cwd=tmp_path)
    assert_refused(done, code, word, folder=tmp_path)


@pytest.mark.parametrize(
    "options, code, word",
    [
        (["--start", "3", "--end", "2"], 2, "end (2.0 s)"),
        (["--end", "-1"], 2, "end (-1.0 s)"),
        (["--fps", "0"], 2, "frame rate 0"),
        (["--device", "tpu"], 2, "--device tpu"),
        (["--precision", "fp8"], 2, "--precision fp8"),
        (["--sign-cert", "c.pem"], 2, "--sign-key"),
        (["--sign-cert", "c.pem", "--sign-key", ASTRONAUT], 3, "c.pem: no such file"),
        (["second.jpg"], 3, "second.jpg: no such file"),
        (["--source-video", "more.mp4"], 3, "more.mp4: no such file"),
        (["-o", "x"], 2, "x: does not say what to make; use x.mp4 for a video, or x/ for a folder of PNG pictures."),
        (["-o", "x", "--preview"], 2, "x: does not say what to make"),
        (["-o", "nowhere/frames/"], 4, "nowhere"),
        (["--save-person", "nowhere/me.safetensors"], 4, "nowhere"),
        (["--save-motion", "m.txt"], 2, ".npz"),
    ],
)
def test_what_the_command_line_tells_is_said_before_anything_is_read(tmp_path, options, code, word):
    """The portrait is damaged and the driver shows no face, which would be said if either were read."""
    portrait, driver = tmp_path / "in" / "me.jpg", tmp_path / "in" / "grey.mp4"
    portrait.parent.mkdir()
    portrait.write_text("I am not a picture.")
    write_video(driver, np.full((3, 64, 64, 3), 77, np.uint8))
    done = run_animate(portrait, "-d", driver, *options, cwd=tmp_path)
    assert_refused(done, code, word, folder=None)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_all_missing_files_are_told_at_once(tmp_path):
    done = run_animate("a.jpg", ASTRONAUT, "b.jpg", "-d", "c.mp4", cwd=tmp_path)
    assert done.returncode == 3 and not list(tmp_path.iterdir())
    assert done.stderr.splitlines() == [
        f"error: {name}: no such file; check the name." for name in ("a.jpg", "b.jpg", "c.mp4")
    ]


def test_a_picture_has_no_start(tmp_path):
    done = run_animate(tmp_path / "a.jpg", "-d", MONA_LISA, "--start", 1, cwd=tmp_path)
    assert_refused(done, 2, "--start has no meaning for an image", folder=tmp_path)


def test_an_existing_output_is_kept_unless_forced(tmp_path, short_clip):
    output = tmp_path / "x.mp4"
    output.write_text("precious")
    done = run_animate(ASTRONAUT, "-d", short_clip, "-o", output, cwd=tmp_path)
    assert_refused(done, 4, "x.mp4", "--force")
    assert output.read_text() == "precious"
    done = run_animate(ASTRONAUT, "-d", short_clip, "-o", output, "--force", "--max-size", "256", cwd=tmp_path)
    assert done.returncode == 0 and len(read_frames(output)) == 12


def test_an_input_is_never_overwritten(tmp_path, short_clip):
    copy = tmp_path / "clip.mp4"
    copy.write_bytes(short_clip.read_bytes())
    done = run_animate(ASTRONAUT, "-d", "clip.mp4", "-o", "clip.mp4", "--force", cwd=tmp_path)
    assert_refused(done, 4, "clip.mp4", "would replace the input")
    assert copy.read_bytes() == short_clip.read_bytes()


@pytest.mark.parametrize(
    "shell, code, word",
    [
        ("{animate} me.jpg -d clip.mp4 -o ''", 2, "no name"),
        ("{animate} '' -d clip.mp4", 2, "empty"),
        ("{animate} https://x.invalid/y.jpg -d clip.mp4", 3, "https://x.invalid/y.jpg: is an address"),
        ("touch e.jpg; {animate} e.jpg -d clip.mp4", 3, "e.jpg: the file is empty"),
        ("mkfifo f.jpg; {animate} f.jpg -d clip.mp4", 3, "not an ordinary file"),
        ("{animate} $(printf n%.0s $(seq 300)).jpg -d clip.mp4", 3, "cannot be read"),
        ("ln -s lp.mp4 lp.mp4; {animate} me.jpg -d clip.mp4 -o lp.mp4", 4, "lp.mp4"),
        ("{animate} me.jpg -d clip.mp4 --end inf", 2, "inf"),
        ("{animate} me.jpg -d clip.mp4 --strength abc", 2, "--strength"),
        ("mkdir gone; cd gone; rmdir ../gone; {animate} ../me.jpg -d ../clip.mp4", 4, "current folder"),
    ],
)
def test_odd_shells_and_names(tmp_path, short_clip, shell, code, word):

    (tmp_path / "me.jpg").write_bytes(ASTRONAUT.read_bytes())
    (tmp_path / "clip.mp4").write_bytes(short_clip.read_bytes())
    command = shell.format(animate=f"'{sys.executable}' -m portrait_anim")
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert_refused(done, code, word)
    assert {p.suffix for p in tmp_path.iterdir()} <= {".jpg", ".mp4"} and len(list(tmp_path.glob("*.mp4"))) <= 2


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--drivr", "x"], ["--drivr", "did you mean --driver?"]),
        (["-d", CLIP, "--preveiw"], ["did you mean --preview?"]),
        (["-driver", CLIP], ["two dashes", "did you mean --driver?"]),
        (["-d", CLIP, "--motion", "relativ"], ["did you mean relative?"]),
        (["-d", CLIP, "--only", "lip"], ["did you mean lips?"]),
        (["-d", CLIP, "--tracker", "MediaPipe"], ["did you mean mediapipe?"]),
        (["-d", CLIP, "--background", "stil"], ["did you mean still?"]),
        (["-d", CLIP, "--precision", "bf-16"], ["did you mean bf16?"]),
        (["-d", CLIP, "--device", "cpus"], ["did you mean cpu?"]),
        (["-d", CLIP, "--max-size", "2k"], ["--max-size", "whole number"]),
        (["-d", CLIP, "--start", "1:20"], ["--start", "number"]),
        (["-d", CLIP, "--threads", "0"], ["--threads 0"]),
        ([], ["--driver"]),
    ],
)
def test_mistyped_options_and_values(tmp_path, arguments, words):
    assert_refused(run_animate(ASTRONAUT, *arguments, cwd=tmp_path), 2, *words, folder=tmp_path)


@pytest.mark.parametrize("option", ["--speed", "--loop", "--max-turn", "--head-strength", "--eyes-strength"])
def test_impossible_controls(tmp_path, option):
    done = run_animate(ASTRONAUT, "-d", "nod", option, "-1", cwd=tmp_path)
    assert_refused(done, 2, option, folder=tmp_path)


@pytest.mark.parametrize("value", ["3", "-5", "nan", "inf", "long", "", "1e9"])
def test_impossible_budgets_are_refused(value, tmp_path):
    done = run_animate(MONA_LISA, "-d", CLIP, f"--finetune={value}", cwd=tmp_path)
    assert_refused(done, 2, "--finetune", "auto, off", folder=tmp_path)


def test_a_negative_seed_is_refused(tmp_path):
    done = run_animate(MONA_LISA, "-d", CLIP, "--seed", "-1", cwd=tmp_path)
    assert_refused(done, 2, "--seed", folder=tmp_path)


def test_a_word_after_a_switch_is_not_taken_for_a_photo(tmp_path):
    done = run_animate(MONA_LISA, "-d", "nod", "--teeth", "no", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: no: is no photo; switches take no value, as in --no-teeth.\n"
