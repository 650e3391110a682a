"""A sample of tests/fuzz.py on every run: each input ends well or with one sentence and its exit code."""

import sys
import zlib

import fuzz
import numpy as np
import pytest
from support import ASTRONAUT, CLIP, assert_refused, run_animate

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bounds the memory as Linux does")
CASES = {  # how many of each kind; the dear ones less
    "image": 40, "odd_image": 30, "video": 24, "odd_video": 24, "weights": 30, "options": 40, "signed": 30,
    "shard": 30, "certificate": 20,
    "motion": 30, "person": 20, "jobs": 30,
}  # fmt: skip


@pytest.fixture(scope="session")
def media(made_once):
    return made_once("media", fuzz.make_media)


@pytest.fixture(scope="session")
def worker(media):
    worker = fuzz.Worker(media)
    yield worker
    worker.close()


def test_every_kind_is_run():
    assert set(CASES) == set(fuzz.KINDS) and sum(CASES.values()) >= 200


def test_media_are_there(media):
    empty = [file.name for file in media.iterdir() if not file.stat().st_size]
    assert not empty and len(list(media.iterdir())) > 40


@pytest.mark.parametrize("kind", CASES)
def test_broken_and_hostile_inputs(worker, kind):
    results = [worker(kind, seed) for seed in range(CASES[kind])]
    failed = [r for r in results if r["outcome"] == "FAILED"]
    assert not failed, "\n".join(
        f"python tests/fuzz.py --kind {kind} --seed {r['seed']} --runs 1: {r['said']}" for r in failed
    )


@pytest.mark.parametrize("kind", ["image", "odd_image", "video", "odd_video"])
@pytest.mark.parametrize("seed", [1001, 1002, 1003])
def test_the_command_says_the_same(tmp_path, media, kind, seed):
    fuzz.KINDS[kind](np.random.default_rng([seed, zlib.crc32(kind.encode())]), media, tmp_path)
    (path,) = (file for file in tmp_path.iterdir() if file.is_file())
    photo, driver = (path, CLIP) if "image" in kind else (ASTRONAUT, path)
    end = ["--end", "0.1"] if "image" in kind else []
    out = tmp_path / "out"
    done = run_animate(photo, "-d", driver, *end, "-o", "x.mp4", "--max-size", "128", cwd=out)
    if done.returncode == 0:
        assert [file.name for file in out.iterdir()] == ["x.mp4"] and "Traceback" not in done.stderr
    else:
        assert_refused(done, 3, folder=out)
