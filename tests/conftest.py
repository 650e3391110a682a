"""What tests share and takes long to make: it is made once, also where pytest-xdist runs them in several processes."""

import json
import os
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch  # what tests put in its place must be in this process: see Reader.best_way
from filelock import FileLock
from reference import BOX
from skips import pytest_addoption, pytest_configure, pytest_report_header  # noqa: F401  hooks
from support import CLIP, MONA_LISA, PREFORKS, clip_frames, portrait_of, run_animate_alone, run_tool, track, write_video

from portrait_anim.landmarks.following import MotionTrack
from portrait_anim.motion.retarget import Retargeter
from portrait_anim.networks import weights
from portrait_anim.networks.config import ModelConfig
from portrait_anim.networks.critic import Discriminator
from portrait_anim.networks.generator import Generator
from portrait_anim.networks.source import SourceEncoder
from portrait_anim.painting.compose import paint_box
from portrait_anim.painting.conditioning import condition
from portrait_anim.portrait.portrait import Portrait
from portrait_anim.training.shards import is_held_out


def pytest_sessionfinish() -> None:
    for prefork in PREFORKS:
        prefork.close()


@pytest.fixture(scope="session", autouse=True)
def own_data_folder(made_once):
    """Signing keys are made here, not in the home of whoever runs the tests."""
    before = os.environ.get("XDG_DATA_HOME")
    os.environ["XDG_DATA_HOME"] = str(made_once("data", lambda folder: None))
    yield
    os.environ.pop("XDG_DATA_HOME")
    if before is not None:
        os.environ["XDG_DATA_HOME"] = before


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """made_once(name, make): the folder that make has filled, in whichever process of the session came first."""

    def once(name: str, make: Callable[[Path], None]) -> Path:
        base = tmp_path_factory.getbasetemp()
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"once-{name}"
        with FileLock(f"{folder}.lock"):
            if not (made := Path(f"{folder}.made")).exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process whose make failed
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return once


# ---------------------------------------------------------------- the bundled examples


@pytest.fixture(scope="session")
def bundled(made_once) -> tuple[Path, subprocess.CompletedProcess]:
    """The README's example: output and finished process."""

    def make(folder: Path) -> None:
        (folder / "out").mkdir()
        done = run_animate_alone(MONA_LISA, "--driver", CLIP, cwd=folder / "out")
        assert done.returncode == 0, done.stderr
        (folder / "done").write_bytes(pickle.dumps(done))

    folder = made_once("bundled", make)
    return folder / "out" / "mona_lisa--clip.mp4", pickle.loads((folder / "done").read_bytes())


@pytest.fixture(scope="session")
def driver(made_once) -> MotionTrack:
    """The motion of the bundled clip, which nobody may write to."""
    folder = made_once("track", lambda folder: (folder / "track").write_bytes(pickle.dumps(track(CLIP))))
    motion = pickle.loads((folder / "track").read_bytes())
    for array in (motion.landmarks, motion.found):
        array.setflags(write=False)
    return motion


@pytest.fixture(scope="session")
def short_clip(made_once) -> Path:
    """Half a second of the bundled clip, for tests that need a driver but not its length."""
    return made_once("short", lambda folder: write_video(folder / "short.mp4", clip_frames()[20:32])) / "short.mp4"


@pytest.fixture(scope="session")
def clip(made_once) -> Path:
    """A quarter of a second of it."""
    return made_once("shorter", lambda folder: write_video(folder / "short.mp4", clip_frames()[20:26])) / "short.mp4"


@pytest.fixture(scope="session")
def clips(made_once) -> tuple[Path, Path]:
    """Two drivers of a few frames."""

    def make(folder: Path) -> None:
        for name, first in (("one", 20), ("two", 100)):
            write_video(folder / f"{name}.mp4", clip_frames()[first : first + 6])

    folder = made_once("two", make)
    return folder / "one.mp4", folder / "two.mp4"


@pytest.fixture(scope="session")
def portrait() -> Portrait:
    """The Mona Lisa, which nobody may change."""
    return portrait_of(MONA_LISA)


@pytest.fixture(scope="session")
def frame(portrait, driver):
    """Portrait, target, warp, condition, painting and picture of a real frame in which the mirrored photo is used."""
    targets = Retargeter(driver, portrait.views[0].landmarks)
    target = next(t for t in (targets[i] for i in range(0, len(targets), 10)) if portrait.warper().warp(t).used[1])
    warp = portrait.warper().warp(target)
    seen = condition(warp, portrait.views, portrait.plate, target, BOX)
    rng = np.random.default_rng(0)
    size = (BOX[3] - BOX[1], BOX[2] - BOX[0])
    smooth = lambda channels: cv2.GaussianBlur(rng.normal(0, 12, (*size, channels)).astype(np.float32), (0, 0), 8)
    mask = np.clip(0.5 + smooth(1), 0, 1).reshape(*size, 1)
    painting = np.dstack([mask, 8 * smooth(2), smooth(3), smooth(1)])
    return portrait, target, warp, seen, painting, paint_box(seen, portrait.views, portrait.plate, painting)


# ---------------------------------------------------------------- networks and what they are trained with

TINY = ModelConfig(
    widths=(8, 12, 16, 24), embedding=16, middle=1, feature_widths=(4, 6, 8), source_widths=(6, 8, 12, 16),
    critic_widths=(8, 12, 16), local_widths=(6, 8, 12),
)  # fmt: skip


@pytest.fixture(scope="session")
def tiny_model() -> ModelConfig:
    """The config of a small model that works on the whole crop."""
    return TINY


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A weights file of small, untrained networks: G is the mesh warp."""
    torch.manual_seed(0)
    networks = {"source": SourceEncoder(TINY), "generator": Generator(TINY), "critic": Discriminator(TINY, n_videos=3)}
    info = {"name": "tiny", "training": "none", "licence": "none"}
    return weights.save(tmp_path_factory.mktemp("tiny"), TINY, info, **networks)


@pytest.fixture(scope="session")
def shards(made_once) -> Path:
    """Shards of two "people" cut from the bundled clip, one on each side of the split, and a report of bad files."""

    def make(folder: Path) -> None:
        frames = clip_frames()
        names = {side: next(f"p{k}" for k in range(99) if is_held_out(f"p{k}") == side) for side in (False, True)}
        with open(folder / "groups.jsonl", "w") as groups:
            for side, part in ((False, frames[:60]), (True, frames[60:110])):
                write_video(folder / f"clip{int(side)}.mp4", part)
                groups.write(json.dumps({"id": f"clip{int(side)}", "group": names[side]}) + "\n")
        cut = np.concatenate([frames[:30], np.full_like(frames[:5], 50), frames[150:180]])
        write_video(folder / "with_gap.mp4", cut)
        (folder / "broken.mp4").write_bytes(CLIP.read_bytes()[:2_000])
        done = run_tool("prepare", folder, "--out", "shards", "--groups", "groups.jsonl", "--workers", 2, cwd=folder)
        assert done.returncode == 5, done.stderr  # of broken.mp4
        (folder / "report.txt").write_text(done.stderr + done.stdout)

    return made_once("shards", make) / "shards"
