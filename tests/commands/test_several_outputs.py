"""Several outputs in one run: names, shared work, failures, machine-readable output, stdout."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import ASTRONAUT, CLIP, MONA_LISA, PATIENCE, assert_refused, read_frames, run_animate, write_video

from portrait_anim import Animator, InputError, UsageError
from portrait_anim.batch.jobs import Job, by_driver, expand, is_whole, run_jobs

FIELDS = set("images driver output frames fps size timings warnings skipped error exit_code".split())


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two drivers of a few frames."""
    folder = tmp_path_factory.mktemp("clips")
    frames = read_frames(CLIP)
    for name, first in (("one", 20), ("two", 100)):
        write_video(folder / f"{name}.mp4", frames[first : first + 6])
    return folder / "one.mp4", folder / "two.mp4"


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "images, drivers, output, each, names",
    [
        (["a/me.jpg"], ["x.mp4"], None, False, ["me--x.mp4"]),
        (["me.jpg", "too.jpg"], ["x.mp4"], None, False, ["me--x.mp4"]),
        (["me.jpg", "you.jpg"], ["x.mp4"], None, True, ["me--x.mp4", "you--x.mp4"]),
        (["me.jpg"], ["x.mp4", "y.mov"], "out/", False, ["out/me--x.mp4", "out/me--y.mp4"]),
        (["me.jpg"], ["x.mp4"], "out/", True, ["out/me--x.mp4"]),
        (["me.jpg"], ["x.mp4"], "frames/", False, ["frames/"]),
        (["me.jpg"], ["x.mp4"], "{portrait}/{driver}-{number}.gif", False, ["me/x-1.gif"]),
        (["me.jpg"], ["x.mp4"], "{{me}}{number}.gif", False, ["{me}1.gif"]),
    ],
)
def test_names_of_outputs(images, drivers, output, each, names):
    assert [job.output for job in expand(images, drivers, output, each)] == names


@pytest.mark.parametrize(
    "output, each, words",
    [
        ("{potrait}.mp4", True, ["{potrait}", "{portrait}"]),
        ("{}.mp4", True, ["{}"]),
        ("{portrait.mp4", True, ["braces"]),
        ("one.mp4", True, ["one.mp4", "template", "folder"]),
        ("{driver}.mp4", True, ["x.mp4", "twice", "{number}"]),
    ],
)
def test_impossible_names(output, each, words):
    with pytest.raises(UsageError) as refused:
        expand(["me.jpg", "you.jpg"], ["x.mp4"], output, each)
    assert all(word in str(refused.value) for word in words), refused.value


def test_equal_names_of_different_folders_are_noticed():
    with pytest.raises(UsageError, match="twice"):
        expand(["a/me.jpg", "b/me.jpg"], ["x.mp4"], None, each=True)


# ---------------------------------------------------------------- shared work


def test_every_portrait_is_read_once_and_every_driver_tracked_once(tmp_path, clips, monkeypatch):
    from portrait_anim.motion import drivers as module
    from portrait_anim.portrait.portrait import Portrait

    read, tracked = [], []
    load, track = Portrait.load.__func__, module.track_video
    monkeypatch.setattr(
        Portrait, "load", classmethod(lambda cls, path, *rest: read.append(path) or load(cls, path, *rest))
    )
    monkeypatch.setattr(
        module, "track_video", lambda frames, fps, name, *rest: tracked.append(name) or track(frames, fps, name, *rest)
    )
    jobs = expand([MONA_LISA, ASTRONAUT], clips, f"{tmp_path}/new/{{number}}.mp4", True, {"max_size": 128})
    outcomes = list(run_jobs(jobs, Animator()))
    assert [outcome.error for outcome in outcomes] == [None] * 4
    assert len(read) == 2 and len(tracked) == 2
    assert all(len(read_frames(tmp_path / f"new/{n}.mp4")) == 6 for n in range(1, 5))


def test_many_drivers_go_in_blocks_and_none_is_left_out():
    jobs = [Job((image,), driver, f"{image}{driver}") for image in "ab" for driver in "123456"]
    groups = by_driver(jobs, 4)
    assert [[job.output for job in group] for group in groups] == [
        "a1 a2 a3 a4 b1 b2 b3 b4".split(),
        "a5 a6 b5 b6".split(),
    ]


# ---------------------------------------------------------------- the command


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


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
@pytest.mark.parametrize("options", [["--json"], []])
def test_what_goes_to_stdout_is_not_mixed_with_the_bars_of_a_terminal(tmp_path, options):
    """stderr is a terminal; stdout a pipe, or the same terminal."""
    terminal, theirs = os.openpty()
    shown = []

    def read() -> None:
        with contextlib.suppress(OSError):  # what a terminal says at its end
            while part := os.read(terminal, 1 << 16):
                shown.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    command = [sys.executable, "-m", "portrait_anim", ASTRONAUT, "-d", "blink", "--end", "0.1", "-o", "x.mp4", *options]
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    pipes = {"stdout": subprocess.PIPE if options else theirs, "stderr": theirs, "env": environment}
    done = subprocess.run([*command, "--max-size", "128"], cwd=tmp_path, timeout=PATIENCE, **pipes)
    os.close(theirs)
    reader.join()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(shown).decode())
    assert done.returncode == 0 and "Animating" in text and "━" in text, text
    if options:
        assert json.loads(done.stdout)["frames"] == 2 and "{" not in text
    else:
        assert re.search(r"[\r\n]x\.mp4: 128x128, 2 frames", text), text


def test_stdout_refuses_json_and_pictures(tmp_path, clips):
    assert_refused(run_animate(ASTRONAUT, "-d", clips[0], "-o", "-", "--json", cwd=tmp_path), 2, "--json")
    assert_refused(run_animate(ASTRONAUT, "-d", clips[0], "-o", "-.png", cwd=tmp_path), 2, "-.png")
    done = run_animate(ASTRONAUT, "-d", *clips[:1], "-d", clips[1], "-o", "-", cwd=tmp_path)
    assert_refused(done, 2, "-o -", "several")


def test_library_errors_keep_their_kind(tmp_path, clips):
    (outcome,) = run_jobs(expand(["no.jpg"], clips[:1], f"{tmp_path}/x.mp4"), Animator())
    assert isinstance(outcome.error, InputError) and not list(tmp_path.iterdir())
