"""The start: what is done at the same time, what is left out, and that errors do not depend on which was first."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from conftest import ASTRONAUT, CLIP, write_video

from portrait_anim import Animator, InputError
from portrait_anim.animation import inputs
from portrait_anim.landmarks import following
from portrait_anim.landmarks.tracking import quiet_stderr
from portrait_anim.media import reading
from portrait_anim.system.threads import gc_paused


@pytest.fixture
def faceless(tmp_path):
    path = tmp_path / "grey.mp4"
    write_video(path, np.full((5, 64, 64, 3), 90, np.uint8))
    return path


@pytest.mark.parametrize("seconds", [0, 8])
def test_a_bad_weights_file_is_said_before_a_bad_driver_whichever_is_known_first(
    tmp_path, faceless, monkeypatch, seconds
):
    """The driver is known to be bad long after the weights, and long before."""
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    animator = Animator(tmp_path / "w.safetensors")
    where, slow = (animator, animator._make_ready) if seconds else (inputs, inputs.load_driver)
    monkeypatch.setattr(where, slow.__name__, lambda *given: (time.sleep(seconds or 2), slow(*given))[1])
    for _ in range(2):
        with pytest.raises(InputError, match="w.safetensors: not a safetensors file"):
            animator.animate([ASTRONAUT], faceless, tmp_path / "x.mp4", max_size=128)
        seconds = 0
    with pytest.raises(InputError, match="no face found"):
        Animator().animate([ASTRONAUT], faceless, tmp_path / "x.mp4", max_size=128)
    assert not list(tmp_path.glob("*x.mp4*"))


def test_a_bad_video_is_said_before_bad_weights_and_a_bad_portrait_before_both(tmp_path, faceless):
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    animator = Animator(tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="bad.mp4: not a video"):
        animator.animate([tmp_path / "bad.jpg"], tmp_path / "bad.mp4", tmp_path / "x.mp4")
    with pytest.raises(InputError, match="bad.jpg: not an image"):
        animator.animate([tmp_path / "bad.jpg"], faceless, tmp_path / "x.mp4")


def test_networks_are_made_ready_once(tmp_path, short_clip, monkeypatch):
    animator, calls = Animator(), []
    monkeypatch.setattr(animator, "_make_ready", lambda make=animator._make_ready: (calls.append(1), make())[1])
    for name in ("a.mp4", "b.mp4"):
        animator.animate([ASTRONAUT], short_clip, tmp_path / name, max_size=128, end=0.1)
    assert len(calls) == 1


def test_a_video_is_looked_into_once_until_it_changes(tmp_path, monkeypatch):
    asked, describe = [], reading.describe
    monkeypatch.setattr(reading, "describe", lambda path, output: (asked.append(path), describe(path, output))[1])
    path = tmp_path / "a.mp4"
    for size in (64, 96):
        write_video(path, np.full((3, size, size, 3), size, np.uint8))
        assert [reading.probe(path).width, reading.FrameReader(path).info.height] == [size, size]
    assert len(asked) == 2
    path.write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        reading.probe(path)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        reading.probe(path)


def test_tracking_needs_no_matplotlib_and_leaves_it_to_others():
    code = f"""
import sys
from portrait_anim.portrait.layers import matte
from portrait_anim.media.photo import load_photo
from portrait_anim.landmarks.tracking import find_faces
photo = load_photo({str(ASTRONAUT)!r})
assert len(find_faces(photo)) == 1 and matte(photo).max() == 1
assert not [name for name in sys.modules if name.startswith("matplotlib")]
import matplotlib.pyplot as plt
assert callable(plt.figure)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_threads_of_libraries_are_as_before_after_a_run(tmp_path):
    import cv2
    import torch

    state = lambda: (cv2.getNumThreads(), torch.get_num_threads(), sys.getswitchinterval())
    before = state()
    Animator().animate([ASTRONAUT], CLIP, tmp_path / "x.mp4", max_size=128, end=0.1)
    assert state() == before


def test_no_garbage_leaves_the_collector_as_it_was_and_nothing_to_it():
    class Ring:
        def __init__(self):
            self.itself = self

    with pytest.raises(ZeroDivisionError), gc_paused():
        assert not gc.isenabled()
        gone = weakref.ref(Ring())
        assert gone()
        raise ZeroDivisionError
    assert gc.isenabled() and not gc.get_freeze_count()
    gc.collect()
    assert not gone()
    gc.disable()
    try:
        with gc_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_nobody_is_recorded_for_a_portrait_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    monkeypatch.setattr(inputs, "load_driver", lambda *given: pytest.fail("the camera was started"))
    with pytest.raises(InputError, match="bad.jpg: not an image"):
        Animator().animate([tmp_path / "bad.jpg"], "camera:0", tmp_path / "x.mp4", end=1)


@pytest.mark.parametrize("driver", ["nod", CLIP])
def test_stages_are_shown_one_after_the_other_and_to_their_ends(tmp_path, driver):
    steps = []
    Animator().animate([ASTRONAUT], driver, tmp_path / "x.mp4", max_size=128, end=0.5, progress=steps.append)
    stages = [step.stage for step in steps]
    assert stages == sorted(stages, key=("portrait", "driver", "frames").index)
    for stage in ("portrait", "driver", "frames"):
        last = [step for step in steps if step.stage == stage][-1]
        assert last.done == last.total


def test_a_bad_portrait_does_not_wait_for_a_long_driver(tmp_path, monkeypatch):
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    tracked, add = [], following._Following.add
    monkeypatch.setattr(following._Following, "add", lambda *given: (tracked.append(1), time.sleep(0.05), add(*given)))
    with pytest.raises(InputError, match="bad.jpg: not an image"):
        Animator().animate([tmp_path / "bad.jpg"], CLIP, tmp_path / "x.mp4")
    assert len(tracked) < 100  # of 215


def test_two_threads_that_keep_stderr_quiet_leave_it_as_it_was():
    before = os.fstat(2)

    def quiet(seconds: float) -> None:
        with quiet_stderr():
            time.sleep(seconds)

    threads = [threading.Thread(target=quiet, args=(seconds,)) for seconds in (0.1, 0.3, 0.2)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert os.path.samestat(before, os.fstat(2))
