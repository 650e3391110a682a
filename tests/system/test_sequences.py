"""Sequences in temporary files: they read like arrays, and their faults are one sentence."""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support import ASTRONAUT, CLIP, PATIENCE, SCREEN, assert_refused

from portrait_anim.errors import OutputError
from portrait_anim.media.reading import FrameReader
from portrait_anim.system import sequences
from portrait_anim.system.sequences import ArrayFile, block_ranges, blocks, by_blocks


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(sequences, "BLOCK", 4)


def test_a_sequence_reads_like_an_array(small_blocks):
    values = np.random.default_rng(0).normal(size=(11, 5, 3)).astype(np.float32)
    kept = ArrayFile.of(iter([values[:7], values[7:9]]))
    for value in values[9:].astype(np.float64):
        kept.append(value)
    assert kept.shape == values.shape and len(kept) == 11
    assert np.array_equal(kept[3], values[3]) and np.array_equal(kept[np.int64(-1)], values[-1])
    for part in (slice(None), slice(2, 9), slice(-3, None), slice(8, 99), slice(5, 5), slice(7, 2)):
        assert np.array_equal(kept[part], values[part]) and kept[part].shape == values[part].shape
    assert np.array_equal(np.stack(list(kept)), values) and np.array_equal(np.concatenate(list(blocks(kept))), values)
    assert np.array_equal(by_blocks(lambda part: part.sum((1, 2)), kept), values.sum((1, 2)))
    with pytest.raises(IndexError):
        kept[11]
    with pytest.raises(ValueError, match="frame after frame"):
        kept[::2]


def test_a_sequence_is_written_to_in_any_place(small_blocks):
    kept, values = ArrayFile((2, 3), 10), np.zeros((10, 2, 3), np.float32)
    assert np.array_equal(kept[:], values)
    for key, new in ((slice(1, 8), np.arange(6).reshape(2, 3)), (-1, np.ones((2, 3))), (slice(0, 0), 5.0), (4, 7.0)):
        kept[key] = values[key] = new
    kept.extend(np.full((3, 2, 3), 9))
    assert np.array_equal(kept[:], np.concatenate([values, np.full((3, 2, 3), 9)]))


def test_blocks_are_all_about_as_long(small_blocks):
    for length in range(30):
        ranges = block_ranges(length)
        assert [t for a, b in ranges for t in range(a, b)] == list(range(length))
        assert all(min(length, 2) <= b - a <= 4 for a, b in ranges)


def test_threads_do_not_disturb_each_other():
    kept = ArrayFile.of([np.repeat(np.arange(400, dtype=np.float32), 1000).reshape(400, 1000)])
    with ThreadPoolExecutor(8) as pool:
        assert all(
            pool.map(lambda t: (kept[t] == t).all(), np.random.default_rng(0).permutation(np.arange(4000) % 400))
        )


def test_it_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    handles = lambda: len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    before = handles()
    kept = ArrayFile((3,), 100)
    assert not list(tmp_path.iterdir()) and (not before or handles() == before + 1)
    del kept
    assert handles() == before


def test_a_missing_folder_for_temporary_files_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    for make in (lambda: ArrayFile((3,)), lambda: next(iter(FrameReader(CLIP)))):
        with pytest.raises(OutputError, match="gone: cannot be used .*; free space there, or name a folder by TMPDIR"):
            make()


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_folder_for_temporary_files_ends_the_command_with_one_sentence(tmp_path):
    """A limit for the size of files stands for the full disk: 300 kB, which the landmarks of 52 frames fill."""
    import resource

    command = [sys.executable, "-m", "portrait_anim", ASTRONAUT, "-d", CLIP, "--max-size", "160", "-o", "x.mp4"]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    pipes = {"capture_output": True, "text": True, "env": {**os.environ, **SCREEN}}
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, preexec_fn=limit, timeout=PATIENCE, **pipes)
    assert_refused(done, 4, tempfile.gettempdir(), "File too large", "TMPDIR", folder=tmp_path)
