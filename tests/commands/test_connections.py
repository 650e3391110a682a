"""What a run never does: connect, unpickle, use a shell."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from support import ASTRONAUT, PATIENCE

WATCH = """
import json, os, sys
_log = open(os.environ["WATCH_LOG"], "a", buffering=1)
def _in_numba(frame):  # it keeps the code that it compiled here in files of its own, by pickle
    while frame and "numba" not in frame.f_code.co_filename.split(os.sep):
        frame = frame.f_back
    return frame is not None
def _watch(event, args):
    if event.startswith(("socket.", "urllib", "http.", "ftplib", "pickle.", "os.system", "os.exec", "os.spawn")):
        if event not in ("socket.gethostname", "socket.__new__") or event == "socket.__new__" and args[1] != 1:
            if event.startswith("pickle."):
                caller = sys._getframe(1)
                # What two of our processes say to each other.
                own = os.path.join("portrait_anim", "system", "helper_process.py")
                event = "aside" if caller.f_code.co_filename.endswith(own) else "numba" if _in_numba(caller) else event
            _log.write(json.dumps([event, repr(args)[:300]]) + "\\n")
            if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
                raise OSError("blocked")
    elif event == "subprocess.Popen":
        shell = not isinstance(args[1], (list, tuple)) or os.path.basename(args[1][0]) in ("sh", "bash", "cmd.exe")
        _log.write(json.dumps(["shell" if shell else "program", os.path.basename(str(args[0]))]) + "\\n")
sys.addaudithook(_watch)
"""


def watched(tmp_path, *arguments) -> tuple[subprocess.CompletedProcess, list]:
    """The command with every connection blocked and recorded, and what was recorded."""
    spy = tmp_path / "spy"
    spy.mkdir(exist_ok=True)
    (spy / "sitecustomize.py").write_text(WATCH)
    log = spy / "log"
    log.write_text("")
    path = os.pathsep.join([str(spy), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "WATCH_LOG": str(log)}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    return done, [json.loads(line) for line in log.read_text().splitlines()]


def test_the_watch_sees_what_it_should(tmp_path):
    code = (
        "import pickle, socket, os, subprocess; pickle.loads(pickle.dumps(print)); os.system('true');"
        "subprocess.run('true', shell=True); socket.socket().connect(('127.0.0.1', 9))"
    )
    done, seen = watched(tmp_path, "-c", code)
    kinds = {event for event, _ in seen}
    assert done.returncode == 1 and {"pickle.find_class", "os.system", "shell", "socket.connect"} <= kinds, seen


def test_a_whole_run_connects_to_nothing_and_loads_no_pickle(tmp_path, short_clip):
    # strace sees native code and ffmpeg, too
    run = ["-m", "portrait_anim", ASTRONAUT, "-d", short_clip, "-o", "x.mp4", "--max-size", "128"]
    for arguments in (run, ["-m", "portrait_anim.commands.tools", "verify", "x.mp4"]):
        done, seen = watched(tmp_path, *arguments)
        assert done.returncode == 0 and "manifest" not in done.stderr, done.stderr
        assert {event for event, _ in seen} <= {"program", "numba", "aside"}, seen
        # ctypes, which MediaPipe's sound library asks for PortAudio, runs some of these; by lists, as we run ffmpeg.
        programs = {name.split("-")[0] for event, name in seen if event == "program"}
        programs -= {"ldconfig", "gcc", "ld", "cc", "objdump", "lscpu"}
        assert programs == ({"ffmpeg", os.path.basename(sys.executable)} if arguments is run else set())


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace on this machine")
def test_no_process_of_a_run_opens_an_internet_socket(tmp_path, short_clip):
    # strace sees native code and ffmpeg, too
    run = ["-m", "portrait_anim", ASTRONAUT, "-d", short_clip, "-o", "x.mp4", "--max-size", "128"]
    for command in (run, ["-m", "portrait_anim.commands.tools", "verify", "x.mp4"]):
        trace = ["strace", "-f", "-qq", "-e", "trace=socket,connect,sendto", "-o", tmp_path / "trace", sys.executable]
        done = subprocess.run([*trace, *command], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
        if "ptrace" in done.stderr and "not permitted" in done.stderr:
            pytest.skip("strace may not be used here")
        assert done.returncode == 0, done.stderr
        calls = (tmp_path / "trace").read_text().splitlines()
        assert not [line for line in calls if "AF_INET" in line], calls
