"""The animator: what is done at the same time, what is left out, and that errors do not depend on which was first."""

import sys
import threading
import time

import pytest
from support import ASTRONAUT, CLIP, PATIENCE, read_frames

from portrait_anim import Animator, InputError, UsageError
from portrait_anim.animation import inputs as reading
from portrait_anim.animation.inputs import Reader
from portrait_anim.animation.options import Options
from portrait_anim.animation.request import Request
from portrait_anim.networks import weights
from portrait_anim.painting import renderer
from portrait_anim.system import helper_process as module


@pytest.mark.parametrize("seconds", [0, 8])
def test_a_bad_weights_file_is_said_before_a_bad_driver_whichever_is_known_first(
    tmp_path, faceless, monkeypatch, seconds
):
    """The driver is known to be bad long after the weights, and long before."""
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    animator = Animator(tmp_path / "w.safetensors")
    where, slow = (animator._networks, animator._networks._make_ready) if seconds else (reading, reading.load_driver)
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
    networks = animator._networks
    monkeypatch.setattr(networks, "_make_ready", lambda make=networks._make_ready: (calls.append(1), make())[1])
    for name in ("a.mp4", "b.mp4"):
        animator.animate([ASTRONAUT], short_clip, tmp_path / name, max_size=128, end=0.1)
    assert len(calls) == 1


@pytest.mark.parametrize("driver", ["nod", CLIP])
def test_stages_are_shown_one_after_the_other_and_to_their_ends(tmp_path, driver):
    steps = []
    Animator().animate([ASTRONAUT], driver, tmp_path / "x.mp4", max_size=128, end=0.5, progress=steps.append)
    stages = [step.stage for step in steps]
    assert stages == sorted(stages, key=("portrait", "driver", "frames").index)
    for stage in ("portrait", "driver", "frames"):
        last = [step for step in steps if step.stage == stage][-1]
        assert last.done == last.total


def test_without_weights_it_is_the_warp_and_says_so(tmp_path, short_clip, monkeypatch):
    monkeypatch.setattr(weights, "find_default", lambda: None)
    result = Animator().animate([ASTRONAUT], short_clip, tmp_path / "warp.mp4", max_size=256)
    assert any("No weights" in w for w in result.warnings)
    assert len(read_frames(result.output)) == 12


def test_progress_reaches_the_end_of_every_stage(tmp_path, short_clip):
    steps = []
    Animator().animate([ASTRONAUT], short_clip, tmp_path / "a.mp4", max_size=256, progress=steps.append)
    assert list(dict.fromkeys(s.stage for s in steps)) == ["portrait", "driver", "frames"]
    assert [(s.done, s.total) for s in steps if s.stage == "frames"][-1] == (12, 12)


def test_threads_is_the_number_of_frames_made_at_the_same_time(tmp_path, short_clip, monkeypatch):

    busy, most, lock, real = 0, [], threading.Lock(), renderer.compose_frame

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

    monkeypatch.setattr(renderer, "compose_frame", counted)
    for threads in (1, 3):
        most.clear()
        meet = threading.Barrier(threads)
        Animator(threads=threads).animate([ASTRONAUT], short_clip, tmp_path / f"{threads}.mp4", max_size=128)
        assert max(most) == threads
    assert (read_frames(tmp_path / "1.mp4") == read_frames(tmp_path / "3.mp4")).all()
    with pytest.raises(UsageError, match="--threads"):
        Animator(threads=0)


def test_only_a_process_without_torch_reads_in_a_helper(tmp_path, monkeypatch):
    def in_helper(driver) -> bool:
        reader = Reader()
        return (
            reader.best_way(Request.checked([ASTRONAUT], driver, tmp_path / "x.mp4", Options()))
            == reader.read_in_helper
        )

    assert not in_helper(CLIP)
    monkeypatch.delitem(sys.modules, "torch")
    assert in_helper(CLIP) and not in_helper("camera:0")
    monkeypatch.setattr(sys, "executable", "/opt/blender/blender")
    assert not in_helper(CLIP) and not module.can_run_helper()
