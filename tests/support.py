"""What tests share and is no fixture: the bundled examples, the commands as a user runs them, files to give them."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import c2pa
import cv2
import numpy as np
import pytest
from prefork import Prefork

from portrait_anim.landmarks.following import track_video
from portrait_anim.media.reading import FrameReader
from portrait_anim.media.writing import VideoWriter
from portrait_anim.portrait.portrait import Portrait
from portrait_anim.provenance.ingredients import OFFLINE

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
MONA_LISA, CLIP, ASTRONAUT = (EXAMPLES / name for name in ("mona_lisa.jpg", "clip.mp4", "astronaut.jpg"))
PATIENCE = 400  # s: what takes longer hangs; a slow or busy machine may take ten times its usual time
SCREEN = {"COLUMNS": "200", "TERM": "dumb"}  # so that no sentence is broken into lines

PREFORKS: list[Prefork] = []  # those that run
linux = pytest.mark.skipif(sys.platform != "linux", reason="mounts, signals and /proc of Linux")


# ---------------------------------------------------------------- the commands


def run_animate(*arguments, cwd, timeout: float = PATIENCE) -> subprocess.CompletedProcess:
    """`animate` in a process of its own, which is forked from one that has imported everything already: most tests ask
    what the command does, not how it starts."""
    return _run("animate", arguments, cwd, timeout)


def run_tool(*arguments, cwd, timeout: float = PATIENCE) -> subprocess.CompletedProcess:
    """`portrait-anim`, likewise."""
    return _run("tools", arguments, cwd, timeout)


def run_animate_alone(*arguments, cwd, timeout: float = PATIENCE) -> subprocess.CompletedProcess:
    """`animate` as a user starts it: with a Python of its own, which imports what it needs."""
    return _run_alone("portrait_anim", arguments, cwd, timeout)


def run_tool_alone(*arguments, cwd, timeout: float = PATIENCE) -> subprocess.CompletedProcess:
    """`portrait-anim`, likewise."""
    return _run_alone("portrait_anim.commands.tools", arguments, cwd, timeout)


def _run(name: str, arguments, cwd, timeout: float) -> subprocess.CompletedProcess:
    if not hasattr(os, "fork") or sys.platform == "darwin":
        module = {"animate": "portrait_anim", "tools": "portrait_anim.commands.tools"}[name]
        return _run_alone(module, arguments, cwd, timeout)
    return _prefork(0).run(name, list(map(str, arguments)), cwd, timeout)


def _run_alone(module: str, arguments, cwd, timeout: float) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=timeout, env={**os.environ, **SCREEN}
    )


@cache
def _prefork(number: int) -> Prefork:
    prefork = Prefork({**os.environ, **SCREEN})
    PREFORKS.append(prefork)
    return prefork


def run_at_once(*commands, cwd) -> list[subprocess.CompletedProcess]:
    """Several `animate` at the same time."""
    preforks = [_prefork(number) for number in range(len(commands))]
    for prefork in preforks:
        prefork.run("animate", ["--version"], cwd, PATIENCE)  # now it has imported everything
    with ThreadPoolExecutor() as pool:
        started = [
            pool.submit(prefork.run, "animate", list(map(str, command)), cwd, PATIENCE)
            for prefork, command in zip(preforks, commands)
        ]
        return [process.result() for process in started]


def kill_animate(*arguments, cwd, moment: Callable[[], None]) -> None:
    """`animate`, killed when moment returns."""

    def kill(number: int) -> None:
        moment()
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.kill(number, signal.SIGKILL)

    _prefork(0).run("animate", list(map(str, arguments)), cwd, PATIENCE, kill)


def start_python(*command, cwd, **options) -> subprocess.Popen:
    """A command of Python's (as after `python`) that listens to Ctrl-C: shells switch that off for background jobs."""
    listen = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, *map(str, command)]
    return subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, text=True, preexec_fn=listen, **options)


def start_animate(*arguments, cwd) -> subprocess.Popen:
    return start_python("-m", "portrait_anim", *arguments, cwd=cwd)


def is_begun(folder: Path, size: int = 0) -> bool:
    """Whether a run that makes x.mp4 in the folder has so many bytes of its video."""
    with contextlib.suppress(FileNotFoundError):
        return any(file.stat().st_size >= size for file in folder.glob(".x.partial-*"))
    return False


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


def write_csv(path: Path, *rows: dict) -> Path:
    """A list of jobs."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


# ---------------------------------------------------------------- pictures and videos


def read_frames(path: Path) -> np.ndarray:
    """All frames of a video, (T, H, W, 3) uint8 RGB."""
    with FrameReader(path) as reader:
        return np.stack(list(reader))


@cache
def clip_frames() -> np.ndarray:
    """All frames of the bundled clip, which nobody may write to."""
    frames = read_frames(CLIP)
    frames.setflags(write=False)
    return frames


def write_video(path: Path, frames: np.ndarray, fps: int = 25) -> None:
    with VideoWriter(path, frames.shape[2:0:-1], fps) as writer:
        for frame in frames:
            writer.write(frame)


def save_image(path: Path, image: np.ndarray) -> Path:
    cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 and image.shape[2] == 3 else image)
    return path


def track(path: Path):
    """The MotionTrack of a video, in memory."""
    with FrameReader(path, max_side=640) as reader:
        *_, result = track_video(reader, reader.fps, str(path))
    return replace(result, landmarks=result.landmarks[:])


@cache
def portrait_of(path: Path) -> Portrait:
    """The portrait that a photo gives, which nobody may change."""
    return Portrait.load(path)


def c2pa_reads(path: Path) -> dict:
    """The manifest store of a file, as c2pa alone reads it."""
    with c2pa.Context.from_dict(OFFLINE) as context, c2pa.Reader(path, context=context) as reader:
        return {**json.loads(reader.json()), "validation_state": reader.get_validation_state()}
