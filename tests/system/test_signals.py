"""Interrupts and kills: a run ends cleanly, and what lies under the final name is whole."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support import (
    ASTRONAUT,
    CLIP,
    MONA_LISA,
    PATIENCE,
    is_begun,
    kill_animate,
    linux,
    read_frames,
    run_animate,
    run_animate_alone,
    start_animate,
    start_python,
    until,
    write_csv,
)

from portrait_anim.provenance.verify import verify_file
from portrait_anim.training.trainer import TrainConfig

EARLY = """
import os, signal, sys
def _watch(event, args):
    if event == "import" and args[0] == "typer":
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(_watch)
"""
LOST = """
import os, signal, time
from portrait_anim.system.signals import raise_on
from portrait_anim.training.trainer import TrainConfig

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

class Finalised:
    def __del__(self):
        interrupt()

raise_on([signal.SIGINT], KeyboardInterrupt)
try:
    {line}
    time.sleep(60)
except KeyboardInterrupt:
    interrupt()  # a second one must not stop the cleaning up
    print("ended")
"""


def kill_at_random(folder, kills: int, seed: int) -> int:
    """Runs killed at random moments, every second while it encodes, every fifth one with a Python of its own.

    After each, what is there under the final name is whole. Returns how many had a temporary file to leave behind.
    """
    rng = np.random.default_rng(seed)
    output, left = folder / "x.mp4", 0
    common = ["--max-size", "256", "-o", output, "--force"]
    options, long = ["-d", CLIP, "--end", "1", *common], ["-d", "nod", "--loop", "20", *common]
    usual = {}
    for run in (run_animate_alone, run_animate):
        begin = time.monotonic()
        assert run(ASTRONAUT, *options, cwd=folder).returncode == 0
        usual[run] = time.monotonic() - begin
    reference = read_frames(output)
    for kill in range(kills):
        arguments = [ASTRONAUT, *(long if kill % 2 else options)]
        run = run_animate if kill % 5 else run_animate_alone
        partial = lambda: set(folder.glob(".x.partial-*"))
        share, before = rng.uniform(0, 1), partial()
        moment = lambda: until(lambda: partial() - before) if kill % 2 else time.sleep(share * usual[run])
        if run is run_animate:
            kill_animate(*arguments, cwd=folder, moment=moment)
        else:
            process = start_animate(*arguments, cwd=folder)
            moment()
            process.kill()
            process.communicate(timeout=PATIENCE)
        left += is_begun(folder)
        assert (read_frames(output) == reference).all() and verify_file(output).verdict == "intact"
        if rng.random() < 0.3:
            output.unlink()
            assert run_animate(ASTRONAUT, *options, cwd=folder).returncode == 0
    assert run_animate(ASTRONAUT, *options, cwd=folder).returncode == 0
    assert os.listdir(folder) == ["x.mp4"]  # the next run has cleaned up
    return left


def says(process: subprocess.Popen, words: str) -> None:
    """Wait for a line on stderr that begins so."""
    assert any(line.startswith(words) for line in process.stderr), process.communicate()


@linux
@pytest.mark.parametrize("number, size", [(signal.SIGINT, 0), (signal.SIGTERM, 1), (signal.SIGHUP, None)])
def test_a_signal_ends_the_run_cleanly(tmp_path, short_clip, number, size):
    """When the encoder has just begun, when it has written something, and before that."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, and so by what is started here: that is what nohup is for")
    driver = [CLIP] if size is None else [short_clip, "--loop", 20]  # long to read, or to write
    process = start_animate(ASTRONAUT, "-d", *driver, "-o", "x.mp4", cwd=tmp_path)
    says(process, "Reading the portrait")
    if size is not None:
        until(lambda: is_begun(tmp_path, size), process)
    process.send_signal(number)
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130 and "interrupted" in errors and "Traceback" not in errors, errors
    assert not os.listdir(tmp_path)


@linux
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("command", ["animate", "tools"])
def test_ctrl_c_while_the_command_is_imported_shows_no_traceback(tmp_path, command, ignored):
    (tmp_path / "sitecustomize.py").write_text(EARLY)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    begin = [sys.executable, "-c", f"from portrait_anim.__main__ import {command} as main; main()", "--help"]
    listen = lambda: signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.SIG_DFL)
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(begin, env=environment, capture_output=True, text=True, timeout=PATIENCE, preexec_fn=listen)
    assert (done.returncode, done.stderr) == (0 if ignored else -signal.SIGINT, "")
    assert ("Usage" in done.stdout) == ignored


@linux
@pytest.mark.parametrize("line", ["import swallows", "Finalised()"])
def test_an_interrupt_where_python_would_lose_it_comes_again(tmp_path, line):
    (tmp_path / "swallows.py").write_text(
        "import __main__\ntry:\n    __main__.interrupt()\nexcept BaseException:\n    pass"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment, code = {**os.environ, "PYTHONPATH": path}, LOST.format(line=line)
    listen = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    begin = [sys.executable, "-c", code]
    done = subprocess.run(begin, env=environment, capture_output=True, text=True, timeout=PATIENCE, preexec_fn=listen)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


@linux
def test_a_kill_leaves_nothing_under_the_final_name_and_the_next_run_cleans_up(tmp_path, short_clip):
    process = start_animate(ASTRONAUT, "-d", short_clip, "--loop", 20, "-o", "x.mp4", cwd=tmp_path)
    until(lambda: is_begun(tmp_path, 1), process)
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert list(tmp_path.glob(".x.partial-*")) and not (tmp_path / "x.mp4").exists()
    done = run_animate(ASTRONAUT, "-d", CLIP, "--end", "0.2", "--max-size", "128", "-o", "y.mp4", cwd=tmp_path)
    assert done.returncode == 0 and os.listdir(tmp_path) == ["y.mp4"]


@linux
@pytest.mark.slow
def test_twenty_kills_at_random_moments(tmp_path):
    assert kill_at_random(tmp_path, 20, 0) >= 3


@linux
@pytest.mark.parametrize(
    "number, command",
    [
        (signal.SIGTERM, ("evaluate", "SHARDS", "--finetune", 600, "--out", "new")),
        (signal.SIGINT, ("evaluate", "SHARDS", "--shots", 1, "--finetune", 600, "--out", "new")),
        (signal.SIGTERM, ("batch", "jobs.csv", "--workers", 2, "--threads", 1)),
        (signal.SIGHUP, ("batch", "jobs.csv", "--workers", 2, "--threads", 1)),
    ],
)
def test_every_long_command_stops_and_leaves_nothing(tmp_path, shards, number, command):
    """It is asked when it has work for minutes before it and has loaded torch for that, in whichever process."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, and so by what is started here: that is what nohup is for")
    write_csv(
        tmp_path / "jobs.csv", *(dict(images=ASTRONAUT, driver=CLIP, loop=99, output=f"{n}.mp4") for n in range(9))
    )
    arguments = [shards if argument == "SHARDS" else argument for argument in command]
    tool = ["-m", "portrait_anim.commands.tools", *arguments]
    process = start_python(*tool, cwd=tmp_path, stdout=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(tmp_path)})
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    group = lambda: [process.pid, *map(int, children.read_text().split())]
    busy = lambda pid: "libtorch" in Path(f"/proc/{pid}/maps").read_text()
    until(lambda: any(map(busy, group())), process)
    if command[0] == "batch":
        until(lambda: list(tmp_path.glob(".?.partial-*")), process)
    started = group()
    process.send_signal(number)
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130 and "Traceback" not in errors and "interrupted" in errors, errors
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
    assert set(os.listdir(tmp_path)) <= {"jobs.csv", "jobs.csv.report.jsonl"}


@linux
def test_training_keeps_what_it_has_learned_when_the_terminal_is_closed(tmp_path, shards):
    command = ["-m", "portrait_anim.commands.tools", "meta-train", shards, "--out", "run", "--batch", 1]
    process = start_python(*command, "--workers", 0, cwd=tmp_path, stdout=subprocess.DEVNULL)
    says(process, "step ")
    process.send_signal(signal.SIGHUP)
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0 and "Traceback" not in errors, errors
    step = [int(line.split()[1]) for line in errors.splitlines() if line.startswith("step ")][-1]
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=False)["step"]
    every = TrainConfig.for_cpu().settle_every  # steps after which the state is what a checkpoint holds exactly
    assert kept == step // every * every


def test_interrupt_leaves_nothing(tmp_path, short_clip):
    process = start_animate(MONA_LISA, "-d", short_clip, "--loop", 20, "-o", "x.mp4", cwd=tmp_path)
    until(lambda: list(tmp_path.glob(".x.partial-*")), process)  # the encoder has started
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "interrupted" in errors and "Traceback" not in errors
    assert not list(tmp_path.iterdir())
