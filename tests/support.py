"""Shared by the tests: the bundled examples, the command as a user runs it, and one full run of it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch  # noqa: F401  what tests put in its place must be in this process: see Animator._may_read_aside

EXAMPLES = Path(__file__).parent.parent / "examples"
PATIENCE = 400  # s: what takes longer hangs; a slow or busy machine may take ten times its usual time
MONA_LISA, CLIP, ASTRONAUT = (EXAMPLES / name for name in ("mona_lisa.jpg", "clip.mp4", "astronaut.jpg"))


def run_animate(*arguments, cwd, timeout: float = PATIENCE, **options) -> subprocess.CompletedProcess:
    """The command in a process of its own, as a user starts it."""
    command = [sys.executable, "-m", "portrait_anim", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200", "TERM": "dumb"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, env=environment, **options)


def start_python(*command, cwd, **options) -> subprocess.Popen:
    """A command of Python's (as after `python`) that listens to Ctrl-C: shells switch that off for background jobs."""
    listen = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, *map(str, command)]
    return subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, text=True, preexec_fn=listen, **options)


def until(condition: Callable[[], object], process: subprocess.Popen | None = None) -> None:
    """Wait for a condition, which the process, if given, is to bring about."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def assert_refused(done: subprocess.CompletedProcess, code: int, *words: str, folder: Path | None = None) -> None:
    """One clear sentence on stderr with these words, the exit code, no traceback, nothing written into folder."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    for word in words:
        assert word in errors[0], (word, errors[0])
    if folder is not None:
        assert not list(folder.iterdir()), list(folder.iterdir())


def read_frames(path: Path) -> np.ndarray:
    """All frames of a video, (T, H, W, 3) uint8 RGB."""
    from portrait_anim.media.reading import FrameReader

    with FrameReader(path) as reader:
        return np.stack(list(reader))


def track(path: Path):
    """The MotionTrack of a video."""
    from portrait_anim.landmarks.following import track_video
    from portrait_anim.media.reading import FrameReader

    with FrameReader(path, max_side=640) as reader:
        *_, result = track_video(reader, reader.fps, str(path))
    return result


@pytest.fixture(scope="session", autouse=True)
def own_data_folder(tmp_path_factory):
    """Signing keys are made here, not in the home of whoever runs the tests."""
    before = os.environ.get("XDG_DATA_HOME")
    os.environ["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("data"))
    yield
    os.environ.pop("XDG_DATA_HOME")
    if before is not None:
        os.environ["XDG_DATA_HOME"] = before


@pytest.fixture(scope="session")
def bundled(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """The README's example: output and finished process."""
    folder = tmp_path_factory.mktemp("bundled")
    done = run_animate(MONA_LISA, "--driver", CLIP, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "mona_lisa--clip.mp4", done


@pytest.fixture(scope="session")
def short_clip(tmp_path_factory) -> Path:
    """Half a second of the bundled clip, for tests that need a driver but not its length."""
    path = tmp_path_factory.mktemp("clip") / "short.mp4"
    frames = read_frames(CLIP)[20:32]
    write_video(path, frames)
    return path


def write_video(path: Path, frames: np.ndarray, fps: int = 25) -> None:
    from portrait_anim.media.writing import VideoWriter

    with VideoWriter(path, frames.shape[2:0:-1], fps) as writer:
        for frame in frames:
            writer.write(frame)


def save_image(path: Path, image: np.ndarray) -> Path:
    cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 and image.shape[2] == 3 else image)
    return path
