"""Work that another process does: what it tells, how it fails, and how it ends."""

import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from support import ASTRONAUT, CLIP, assert_refused, run_animate_alone, start_python, until, write_video

from portrait_anim import PortraitAnimError
from portrait_anim.system.helper_process import run_in_helper
from portrait_anim.system.sequences import ArrayFile


def talks(text: str, progress) -> str:
    print("between the messages")
    os.write(1, b"from a library\n")
    progress(text)
    return text.upper()


def returns_long_sequences(progress) -> dict:
    progress("begins")
    long = np.arange(3000, dtype=np.float32).reshape(1000, 3)
    return {"a": ArrayFile.of([long]), "b": [ArrayFile((2, 2)), "between", ArrayFile.of([long[:5] + 1])]}


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


def gone(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    return False


def test_what_libraries_print_does_not_disturb(capfd):
    told = []
    assert run_in_helper(talks, "ä", progress=told.append) == "Ä" and told == ["ä"]
    captured = capfd.readouterr()
    assert captured.out == "" and "from a library" in captured.err


def test_sequences_that_are_too_long_for_the_memory_arrive_as_such():
    told = []
    made = run_in_helper(returns_long_sequences, progress=told.append)
    a, (empty, text, b) = made["a"], made["b"]
    assert told == ["begins"] and text == "between"
    assert [type(value) for value in (a, empty, b)] == [ArrayFile] * 3 and empty.shape == (0, 2, 2)
    assert np.array_equal(a[:].ravel(), np.arange(3000)) and np.array_equal(b[:].ravel(), np.arange(15) + 1)


def test_a_bug_is_told_with_the_place_where_it_is():
    with pytest.raises(RuntimeError, match=r"(?s)Local: cannot be pickled.*in has_a_bug"):
        run_in_helper(has_a_bug, progress=print)
    with pytest.raises(RuntimeError, match="pickle"):
        run_in_helper(gives_what_cannot_be_sent, progress=print)


def test_a_process_that_is_lost_is_one_sentence():
    with pytest.raises(PortraitAnimError, match=r"was lost \(exit code -9\); check the memory"):
        run_in_helper(is_killed, progress=lambda step: None)


def test_it_ends_when_nobody_listens_any_more():
    numbers = []

    def leave(number: int) -> None:
        numbers.append(number)
        raise BrokenPipeError("of the screen")

    with pytest.raises(BrokenPipeError, match="of the screen"):
        run_in_helper(tells_its_number_and_stays, progress=leave)
    assert gone(numbers[0])


@pytest.mark.skipif(not shutil.which("pgrep"), reason="no pgrep on this machine")
def test_ctrl_c_while_it_reads_leaves_no_process(tmp_path):
    write_video(tmp_path / "long.mp4", np.full((400, 360, 480, 3), 90, np.uint8))
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
    done = run_animate_alone(ASTRONAUT, "-d", CLIP, "-o", "out/x.mp4", "--end", "0.2", cwd=tmp_path)
    assert_refused(done, 1, "exit code -9", "memory", folder=tmp_path / "out")
