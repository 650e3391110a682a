"""Several outputs in one run of the command: failures, machine-readable output, stdout."""

import json
import subprocess
import sys

import numpy as np
import pytest
from support import ASTRONAUT, CLIP, MONA_LISA, PATIENCE, assert_refused, read_frames, run_animate, write_video

from portrait_anim.batch.jobs import is_whole

FIELDS = set("images driver output frames fps size timings warnings skipped error exit_code".split())


def test_one_bad_input_does_not_stop_the_rest_and_existing_ones_are_skipped(tmp_path, clips):
    (tmp_path / "bad.jpg").write_text("no picture")
    command = [ASTRONAUT, "bad.jpg", "--each", "-d", clips[0], "-d", clips[1], "--max-size", "128", "-o", "out/"]
    done = run_animate(*command, "--json", cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == 4 and all(set(one) == FIELDS for one in said)
    good, bad = said[:2], said[2:]
    for one, clip in zip(good, clips):
        assert one["images"] == [str(ASTRONAUT)] and one["driver"] == str(clip)
        assert (one["frames"], one["fps"], one["size"], one["exit_code"]) == (6, 25.0, [128, 128], 0)
        assert one["output"] == str(tmp_path / "out" / f"astronaut--{clip.stem}.mp4")
        assert one["timings"]["total"] > 0 and one["error"] is None and not one["skipped"]
    assert all(one["exit_code"] == 3 and "bad.jpg" in one["error"] and one["frames"] is None for one in bad)
    assert "2 of 4" in done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["astronaut--one.mp4", "astronaut--two.mp4"]

    (tmp_path / "out/astronaut--two.mp4").write_bytes(b"broken")
    done = run_animate(*command[:1], *command[2:], "--skip-existing", cwd=tmp_path)
    assert done.returncode == 5 and "one.mp4: exists, skipped" in done.stdout
    assert "two.mp4: exists already; use --force" in done.stderr  # broken, but not ours to throw away unasked
    done = run_animate(*command[:1], *command[2:], "--skip-existing", "--force", "-q", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert is_whole(str(tmp_path / "out/astronaut--two.mp4"))


def test_what_is_wrong_with_an_option_is_said_once(tmp_path, clips):
    done = run_animate(MONA_LISA, ASTRONAUT, "--each", "-d", clips[0], "--strength", "9", cwd=tmp_path)
    assert_refused(done, 2, "--strength", folder=tmp_path)


def test_what_several_outputs_have_in_common_is_said_once(tmp_path):
    write_video(tmp_path / "grey.mp4", np.full((3, 64, 64, 3), 77, np.uint8))
    done = run_animate(MONA_LISA, ASTRONAUT, "--each", "-d", "grey.mp4", "--json", cwd=tmp_path)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 5 and len(errors) == 2
    assert errors[0].startswith("error: grey.mp4: no face") and "2 of 2 outputs failed" in errors[1]
    assert [json.loads(line)["exit_code"] for line in done.stdout.splitlines()] == [3, 3]


def test_a_motion_or_picture_is_skipped_when_it_is_there(tmp_path):
    command = [ASTRONAUT, "-d", MONA_LISA, "-o", "x.png", "--max-size", "128", "--skip-existing"]
    assert run_animate(*command, cwd=tmp_path).returncode == 0
    done = run_animate(*command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "x.png: exists, skipped\n"), done.stderr
    command = [ASTRONAUT, "-d", "blink", "-o", "x.mp4", "--max-size", "128", "--end", "0.1", "--skip-existing"]
    done = run_animate(*command, cwd=tmp_path)
    assert done.returncode == 0 and "Animating" in done.stderr and "Tracking" not in done.stderr, done.stderr
    assert run_animate(*command, cwd=tmp_path).stdout == "x.mp4: exists, skipped\n"


def test_json_tells_of_a_single_failure_too(tmp_path):
    done = run_animate(ASTRONAUT, "-d", "missing.mp4", "--json", "-q", cwd=tmp_path)
    assert_refused(done, 3, "missing.mp4", folder=tmp_path)
    said = json.loads(done.stdout)
    assert said["exit_code"] == 3 and "missing.mp4" in said["error"]


def test_no_folder_stays_when_nothing_was_made(tmp_path):
    done = run_animate("missing.jpg", "--each", "-d", CLIP, "-o", "a/b/", cwd=tmp_path)
    assert_refused(done, 3, "missing.jpg", folder=tmp_path)


@pytest.mark.parametrize("output, start", [("-", b"ftyp"), ("-.gif", b"GIF89a")])
def test_stdout_gets_the_whole_file_and_nothing_else(tmp_path, clips, output, start):
    command = [sys.executable, "-m", "portrait_anim", ASTRONAUT, "-d", clips[0], "-o", output, "--max-size", "128"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert start in done.stdout[:16]
    (tmp_path / "it").write_bytes(done.stdout)
    assert len(read_frames(tmp_path / "it")) == 6
    assert b"Animating" in done.stderr


def test_stdout_refuses_json_and_pictures(tmp_path, clips):
    assert_refused(run_animate(ASTRONAUT, "-d", clips[0], "-o", "-", "--json", cwd=tmp_path), 2, "--json")
    assert_refused(run_animate(ASTRONAUT, "-d", clips[0], "-o", "-.png", cwd=tmp_path), 2, "-.png")
    done = run_animate(ASTRONAUT, "-d", *clips[:1], "-d", clips[1], "-o", "-", cwd=tmp_path)
    assert_refused(done, 2, "-o -", "several")
