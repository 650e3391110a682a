"""The process that reads portrait and driver while the first loads the networks."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields

import numpy as np
import pytest
from conftest import ASTRONAUT, CLIP, assert_refused, run_animate, start_python, until, write_video

from portrait_anim import Animator, InputError, PortraitAnimError, UsageError
from portrait_anim.animation import inputs
from portrait_anim.animation.inputs import Reader
from portrait_anim.animation.options import Options
from portrait_anim.system.helper_process import can_run_helper, run_in_helper


def both_ways(images, driver, **options):
    """What is read in this process and by another, and what each shows."""
    for read in (Reader().read, Reader().read_aside):
        steps = []
        yield (*read(images, driver, Options(**options).checked(images, driver), steps.append), steps)


def same(a, b) -> bool:
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and (a == b or a is None)


@pytest.mark.parametrize(
    "images, driver", [([ASTRONAUT], CLIP), ([ASTRONAUT, ASTRONAUT], "nod"), ([ASTRONAUT], ASTRONAUT)]
)
def test_it_reads_the_same(images, driver):
    (portraits, source, steps), other = both_ways(images, driver, end=0.4, max_size=256)
    assert same(source, other[1]) and steps == other[2] and len(steps) > 3
    assert (portraits.warnings, portraits.left_out) == (other[0].warnings, other[0].left_out)
    for mine, theirs in zip(portraits.photos, other[0].photos, strict=True):
        assert np.array_equal(mine.photo, theirs.photo) and np.array_equal(mine.plate, theirs.plate)
        assert np.array_equal(mine.landmarks, theirs.landmarks)


def test_what_it_read_is_kept_for_the_next_output(monkeypatch):
    reader, given = Reader(), ([ASTRONAUT], CLIP, Options(end=0.2, max_size=128), lambda step: None)
    portraits, source = reader.read_aside(*given)
    for name in ("read_portraits", "load_driver"):
        monkeypatch.setattr(inputs, name, lambda *given: pytest.fail("read again"))
    assert reader.read(*given) == (portraits, source)


def test_its_errors_are_those_of_this_process(tmp_path):
    write_video(tmp_path / "grey.mp4", np.full((5, 64, 64, 3), 90, np.uint8))
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    for error, message, image, driver, options in (
        (InputError, "bad.jpg: not an image", tmp_path / "bad.jpg", CLIP, {}),
        (InputError, "grey.mp4: no face found", ASTRONAUT, tmp_path / "grey.mp4", {}),
        (UsageError, "--driver-face 2", ASTRONAUT, CLIP, {"driver_face": 2}),
    ):
        with pytest.raises(error, match=message):
            Reader().read_aside([image], driver, Options(max_size=128, **options), lambda step: None)


# ---------------------------------------------------------------- any work


def talks(text: str, progress) -> str:
    print("between the messages")
    os.write(1, b"from a library\n")
    progress(text)
    return text.upper()


def has_a_bug(progress) -> None:
    raise type("Local", (Exception,), {})("cannot be pickled")


def is_killed(progress) -> None:
    progress(1)
    os.kill(os.getpid(), signal.SIGKILL)


def gives_what_cannot_be_sent(progress):
    return lambda: None


def tells_its_number_and_stays(progress) -> None:
    progress(os.getpid())
    time.sleep(600)


def test_what_libraries_print_does_not_disturb(capfd):
    told = []
    assert run_in_helper(talks, "ä", progress=told.append) == "Ä" and told == ["ä"]
    captured = capfd.readouterr()
    assert captured.out == "" and "from a library" in captured.err


def test_a_bug_is_told_with_the_place_where_it_is():
    with pytest.raises(RuntimeError, match=r"(?s)Local: cannot be pickled.*in has_a_bug"):
        run_in_helper(has_a_bug, progress=print)
    with pytest.raises(RuntimeError, match="pickle"):
        run_in_helper(gives_what_cannot_be_sent, progress=print)


def test_a_process_that_is_lost_is_one_sentence():
    with pytest.raises(PortraitAnimError, match=r"was lost \(exit code -9\); check the memory"):
        run_in_helper(is_killed, progress=lambda step: None)


def gone(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_ends_when_nobody_listens_any_more():
    numbers = []

    def leave(number: int) -> None:
        numbers.append(number)
        raise BrokenPipeError("of the screen")

    with pytest.raises(BrokenPipeError, match="of the screen"):
        run_in_helper(tells_its_number_and_stays, progress=leave)
    assert gone(numbers[0])


# ---------------------------------------------------------------- when


def test_only_a_process_without_torch_reads_aside(monkeypatch):
    assert not Animator._may_read_aside(CLIP)
    monkeypatch.delitem(sys.modules, "torch")
    assert Animator._may_read_aside(CLIP) and not Animator._may_read_aside("camera:0")
    monkeypatch.setattr(sys, "executable", "/opt/blender/blender")
    assert not can_run_helper()


@pytest.mark.skipif(not shutil.which("pgrep"), reason="needs pgrep")
def test_ctrl_c_while_it_reads_leaves_no_process(tmp_path):
    write_video(tmp_path / "long.mp4", np.random.default_rng(0).integers(0, 255, (400, 360, 480, 3), np.uint8))
    command = ("-m", "portrait_anim", ASTRONAUT, "-d", "long.mp4", "-o", "x.mp4")
    process = start_python(*command, cwd=tmp_path)
    children = lambda: subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    until(children, process)
    found = children()
    process.send_signal(signal.SIGINT)
    assert "interrupted" in process.communicate(timeout=60)[1] and process.returncode == 130
    until(lambda: all(map(gone, map(int, found))))
    assert os.listdir(tmp_path) == ["long.mp4"]


def test_a_lost_process_ends_the_command_with_one_sentence(tmp_path):
    """Python finds a package of this name first that ends in the other process."""
    (tmp_path / "mediapipe").mkdir()
    (tmp_path / "mediapipe/__init__.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    (tmp_path / "out").mkdir()
    done = run_animate(ASTRONAUT, "-d", CLIP, "-o", "out/x.mp4", "--end", "0.2", cwd=tmp_path)
    assert_refused(done, 1, "exit code -9", "memory", folder=tmp_path / "out")
