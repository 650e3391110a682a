"""A sample of tests/fuzz.py on every run: each input ends well or with one sentence and its exit code."""

import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import fuzz
import numpy as np
import pytest
from conftest import ASTRONAUT, CLIP, assert_refused, run_animate

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bounds the memory as Linux does")
CASES = {  # how many of each kind; the dear ones less
    "image": 40, "odd_image": 30, "video": 24, "odd_video": 24, "weights": 30, "options": 40, "signed": 30,
    "shard": 30, "certificate": 20,
    "motion": 30, "person": 20, "jobs": 30,
}  # fmt: skip


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    fuzz.make_media(folder)
    return folder


@pytest.fixture(scope="module")
def workers(media):
    both = [fuzz.Worker(media) for _ in range(2)]
    yield both
    for worker in both:
        worker.close()


def test_every_kind_is_run():
    assert set(CASES) == set(fuzz.KINDS) and sum(CASES.values()) >= 200


def test_media_are_there(media):
    empty = [file.name for file in media.iterdir() if not file.stat().st_size]
    assert not empty and len(list(media.iterdir())) > 40


@pytest.mark.parametrize("kind", CASES)
def test_broken_and_hostile_inputs(workers, kind):
    with ThreadPoolExecutor(2) as pool:
        halves = [
            pool.submit(lambda w=w, n=n: [w(kind, s) for s in range(n, CASES[kind], 2)]) for n, w in enumerate(workers)
        ]
        results = [result for half in halves for result in half.result()]
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
