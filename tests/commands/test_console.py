"""What the command shows while it works: bars, times, and nothing of them in stdout."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from support import ASTRONAUT, PATIENCE

from portrait_anim import Progress
from portrait_anim.commands import console
from portrait_anim.commands.console import Display, duration


def test_time_is_told_early_and_then_updated(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: now[0]))
    display = Display(quiet=False, note=lambda: "cpu, bf16, 2 threads")
    for done in range(1, 1001):  # eight frames a second
        display.progress("job", Progress("frames", done, 1000))
        now[0] += 0.125
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "Running on cpu, bf16, 2 threads"
    assert said[1] == "Animating: 17 of 1000 (8.0/s), about 2 min 3 s left"
    assert said[2] == "Animating: 257 of 1000 (8.0/s), about 1 min 33 s left"
    assert len(said) == 1 + 5 + 1 and said[-1] == "Animating: 1000 of 1000 (8.0/s)"


def test_the_time_of_a_stage_is_not_told_as_that_of_the_whole(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: now[0]))
    display = Display(quiet=False)
    for done in range(0, 45_001, 50):  # half an hour of a driver at 100 frames a second
        display.progress("job", Progress("driver", done, 45_000))
        now[0] += 0.5
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "Tracking the driver: 200 of 45000 (100.0/s), about 7 min 28 s left, then animating"
    assert all(line.endswith("left, then animating") for line in said[:-1]) and len(said) == 1 + 14 + 1
    assert said[-1] == "Tracking the driver: 45000 of 45000 (100.0/s)"


@pytest.mark.parametrize(
    "seconds, text", [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
@pytest.mark.parametrize("options", [["--json"], []])
def test_what_goes_to_stdout_is_not_mixed_with_the_bars_of_a_terminal(tmp_path, options):
    """stderr is a terminal; stdout a pipe, or the same terminal."""
    terminal, theirs = os.openpty()
    shown = []

    def read() -> None:
        with contextlib.suppress(OSError):  # what a terminal says at its end
            while part := os.read(terminal, 1 << 16):
                shown.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    command = [sys.executable, "-m", "portrait_anim", ASTRONAUT, "-d", "blink", "--end", "0.1", "-o", "x.mp4", *options]
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    pipes = {"stdout": subprocess.PIPE if options else theirs, "stderr": theirs, "env": environment}
    done = subprocess.run([*command, "--max-size", "128"], cwd=tmp_path, timeout=PATIENCE, **pipes)
    os.close(theirs)
    reader.join()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(shown).decode())
    assert done.returncode == 0 and "Animating" in text and "━" in text, text
    if options:
        assert json.loads(done.stdout)["frames"] == 2 and "{" not in text
    else:
        assert re.search(r"[\r\n]x\.mp4: 128x128, 2 frames", text), text
