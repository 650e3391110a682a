"""The command as people type it: help, mistakes, doctor, threads, time, warnings about the portrait."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import ASTRONAUT, CLIP, MONA_LISA, PATIENCE, assert_refused, read_frames, run_animate, save_image
from test_batch import run_tool

from portrait_anim import Animator, UsageError, __version__
from portrait_anim.commands.console import Display, duration
from portrait_anim.geometry.mesh import MEAN_FACE
from portrait_anim.media.photo import load_photo
from portrait_anim.portrait.checks import portrait_warnings
from portrait_anim.portrait.portrait import Portrait

# ---------------------------------------------------------------- help and completion


def test_help_is_quick_grouped_and_shows_defaults(tmp_path):
    def seconds(run) -> float:
        """CPU time of a child: wall time would depend on the neighbours."""
        before = os.times()
        run()
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])

    bare = [sys.executable, "-c", "import typer, rich.console"]  # what it cannot do without: half of it
    least = min(seconds(lambda: subprocess.run(bare, check=True)) for _ in range(3))
    most = min(seconds(lambda: run_animate("--help", cwd=tmp_path)) for _ in range(3))
    assert most < max(0.5, 4 * least), (most, least)
    done = run_animate("--help", cwd=tmp_path)
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


@pytest.mark.parametrize("run", [run_animate, run_tool])
def test_version(tmp_path, run):
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"portrait-anim {__version__}\n")


@pytest.mark.parametrize("module, words", [("portrait_anim", "--dri"), ("portrait_anim.commands.tools", "d")])
def test_shell_completion(tmp_path, module, words):
    """What bash asks the command while one types."""
    code = f"import sys; sys.argv = ['x']; from {module}{'.cli' * (module == 'portrait_anim')} import main; main()"
    environment = {**os.environ, "_X_COMPLETE": "complete_bash", "COMP_WORDS": f"x {words}", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert ("--driver" if words == "--dri" else "doctor") in done.stdout.split(), done


# ---------------------------------------------------------------- mistakes


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


def test_mistyped_tool(tmp_path):
    assert_refused(run_tool("doctr", cwd=tmp_path), 2, "Did you mean 'doctor'?")
    assert_refused(run_tool("batch", "-workers", "2", "x.csv", cwd=tmp_path), 2, "did you mean --workers?")


# ---------------------------------------------------------------- doctor, threads, time


def test_doctor_finds_everything_in_order_and_says_how_fast(tmp_path):
    done = run_tool("doctor", "--json", cwd=tmp_path)
    checks = {check["name"]: check for check in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stdout
    assert {"versions", "device", "weights", "mediapipe", "face-alignment", "ffmpeg", "ray", "speed"} == set(checks)
    assert "verified" in checks["weights"]["text"] and "frames/s" in checks["speed"]["text"]
    assert all(check["ok"] is not False for check in checks.values())


def test_doctor_finds_damaged_weights(tmp_path):
    from portrait_anim.networks.weights import find_default

    data = bytearray(find_default().read_bytes())
    data[-100] ^= 1
    (tmp_path / find_default().name).write_bytes(data)
    done = run_tool("doctor", "--weights", find_default().name, cwd=tmp_path)
    assert done.returncode == 1
    assert any(line.startswith("PROBLEM weights") and "SHA-256" in line for line in done.stdout.splitlines())


def test_threads_is_the_number_of_frames_made_at_the_same_time(tmp_path, short_clip, monkeypatch):
    import threading

    from portrait_anim.painting import compose

    busy, most, lock, real = 0, [], threading.Lock(), compose.compose_frame

    def counted(portrait, *rest):
        nonlocal busy
        if portrait.background == "still":  # the grey one that warms up is none of the frames
            with lock:
                busy += 1
                most.append(busy)
            if len(most) <= meet.parties:
                meet.wait(PATIENCE)  # the first frames wait for one another: so many are made at the same time
            with lock:
                busy -= 1
        return real(portrait, *rest)

    monkeypatch.setattr(compose, "compose_frame", counted)
    for threads in (1, 3):
        most.clear()
        meet = threading.Barrier(threads)
        Animator(threads=threads).animate([ASTRONAUT], short_clip, tmp_path / f"{threads}.mp4", max_size=128)
        assert max(most) == threads
    assert (read_frames(tmp_path / "1.mp4") == read_frames(tmp_path / "3.mp4")).all()
    with pytest.raises(UsageError, match="--threads"):
        Animator(threads=0)


def test_time_is_told_early_and_then_updated(capsys, monkeypatch):
    from portrait_anim import Progress
    from portrait_anim.commands import console

    now = [100.0]
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: now[0]))
    display = Display(quiet=False, note=lambda: "cpu, bf16, 2 threads")
    for done in range(1, 1001):  # eight frames a second
        display.progress("job", Progress("frames", done, 1000))
        now[0] += 0.125
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "Running on cpu, bf16, 2 threads"
    assert said[1] == "Animating: 17 of 1000 (8.0/s), about 2 min 3 s left"
    assert said[2] == "Animating: 257 of 1000 (8.0/s), about 1 min 33 s left"
    assert len(said) == 1 + 5 + 1 and said[-1] == "Animating: 1000 of 1000 (8.0/s)"


@pytest.mark.parametrize(
    "seconds, text", [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


# ---------------------------------------------------------------- portraits that will look bad


@pytest.fixture(scope="module")
def face():
    portrait = Portrait.load(ASTRONAUT)
    return portrait.photo, portrait.landmarks


@pytest.mark.parametrize("path", [MONA_LISA, ASTRONAUT])
def test_good_portraits_get_no_warning(path):
    portrait = Portrait.load(path)
    assert portrait_warnings("x", portrait.photo, portrait.landmarks) == []


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda photo: (photo * 0.25).astype(np.uint8), "very dark"),
        (lambda photo: (128 + (photo - 128.0) * 0.15).astype(np.uint8), "hardly any contrast"),
        (lambda photo: cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), "px high"),
        (lambda photo: (photo * 0.6).astype(np.uint8), None),  # dim, but fine
        (lambda photo: np.repeat(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None], 3, 2), None),
    ],
)
def test_light_contrast_and_size(tmp_path, face, change, word):
    save_image(tmp_path / "photo.png", change(load_photo(ASTRONAUT)))
    portrait = Portrait.load(tmp_path / "photo.png")
    warnings = portrait_warnings("photo.png", portrait.photo, portrait.landmarks)
    assert [word in w and w.startswith("photo.png: ") for w in warnings] == ([True] if word else []), warnings


@pytest.mark.parametrize(
    "frame, word", [(0, None), (31, "mouth is wide open"), (92, "mouth is wide open"), (137, None)]
)
def test_frames_of_the_clip_as_portraits(tmp_path, frame, word):
    save_image(tmp_path / "photo.png", read_frames(CLIP)[frame])
    portrait = Portrait.load(tmp_path / "photo.png")
    warnings = portrait_warnings("photo.png", portrait.photo, portrait.landmarks)
    assert [word in w for w in warnings] == ([True] if word else []), warnings


@pytest.mark.parametrize(
    "axis, degrees, word", [(1, 30, None), (1, 50, "to the side"), (1, -50, "to the side"), (0, 40, "looks")]
)
def test_turned_heads(axis, degrees, word):
    angle = np.zeros(3)
    angle[axis] = np.radians(degrees)
    turned = (MEAN_FACE - MEAN_FACE.mean(0)) @ cv2.Rodrigues(angle)[0].T * 200 + (200, 200, 0)
    photo = np.random.default_rng(0).integers(40, 220, (400, 400, 3), np.uint8)
    warnings = portrait_warnings("x", photo, turned)
    assert [word in w for w in warnings] == ([True] if word else []), warnings
    if word:
        assert str(abs(degrees)) in warnings[0]


def test_closed_eyes(face):
    from portrait_anim.geometry.mesh import LEFT_EYE, RIGHT_EYE

    photo, landmarks = face[0], face[1].copy()
    assert not portrait_warnings("x", photo, landmarks)
    for eye in (RIGHT_EYE, LEFT_EYE):
        lower, upper = eye[1:8], eye[:8:-1]
        landmarks[upper] = landmarks[lower] + 0.1 * (landmarks[upper] - landmarks[lower])
    (warning,) = portrait_warnings("x", photo, landmarks)
    assert "eyes are closed" in warning


def test_the_command_tells_the_warning_and_goes_on(tmp_path, short_clip):
    save_image(tmp_path / "dark.png", (load_photo(ASTRONAUT) * 0.25).astype(np.uint8))
    done = run_animate("dark.png", "-d", short_clip, "--max-size", "512", cwd=tmp_path)
    assert done.returncode == 0 and "warning: dark.png: the face is very dark" in done.stderr
    assert (tmp_path / "dark--short.mp4").exists()
