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


# ---------------------------------------------------------------- what training is tested with

TINY = dict(
    embedding=16, widths=(8, 12, 16, 20), middle=1, feature_widths=(4, 6, 8), source_widths=(6, 8, 10, 12),
    critic_widths=(8, 12, 16), local_widths=(6, 8), local_side=48,
)  # fmt: skip


@pytest.fixture(scope="session")
def portrait():
    """The Mona Lisa, which nobody may change."""
    from portrait_anim.portrait.portrait import Portrait

    return Portrait.load(MONA_LISA)


@pytest.fixture(scope="session")
def driver():
    """The motion of the bundled clip, which nobody may write to."""
    return track(CLIP)


@pytest.fixture(scope="session")
def tiny_model():
    """The config of a small model that works on the whole crop."""
    from portrait_anim.networks.config import ModelConfig

    return ModelConfig(**TINY)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, tiny_model) -> Path:
    """A weights file of small, untrained networks: their picture is the mesh warp."""
    from portrait_anim.networks import weights
    from portrait_anim.networks.critic import Discriminator
    from portrait_anim.networks.generator import Generator
    from portrait_anim.networks.source import SourceEncoder

    torch.manual_seed(0)
    info = {"name": "tiny", "training": "none", "licence": "none"}
    networks = dict(generator=Generator(tiny_model), source=SourceEncoder(tiny_model))
    critic = Discriminator(tiny_model, n_videos=3)
    return weights.save(tmp_path_factory.mktemp("tiny"), tiny_model, info, **networks, critic=critic)


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> Path:
    """Shards of two "people" cut from the bundled clip, one on each side of the split, and a report of bad files."""
    import json

    from portrait_anim.training.shards import is_held_out

    folder = tmp_path_factory.mktemp("videos")
    frames = read_frames(CLIP)
    names = {side: next(f"p{k}" for k in range(99) if is_held_out(f"p{k}") == side) for side in (False, True)}
    with open(folder / "groups.jsonl", "w") as groups:
        for side, part in ((False, frames[:60]), (True, frames[60:110])):
            write_video(folder / f"clip{int(side)}.mp4", part)
            groups.write(json.dumps({"id": f"clip{int(side)}", "group": names[side]}) + "\n")
    cut = np.concatenate([frames[:30], np.full_like(frames[:5], 50), frames[150:180]])
    write_video(folder / "with_gap.mp4", cut)
    (folder / "broken.mp4").write_bytes(CLIP.read_bytes()[:2_000])
    done = run_tool("prepare", folder, "--out", "shards", "--groups", "groups.jsonl", "--workers", 2, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "report.txt").write_text(done.stderr + done.stdout)
    return folder / "shards"


def run_tool(*arguments, cwd: Path, timeout: float = PATIENCE) -> subprocess.CompletedProcess:
    """`portrait-anim` in a process of its own."""
    command = [sys.executable, "-m", "portrait_anim.commands.tools", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)
