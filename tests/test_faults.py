"""What happens around a run: full disks, signals, two runs at once, the same twice; and what it never does: connect,
unpickle, use a shell."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ASTRONAUT, CLIP, PATIENCE, assert_refused, read_frames, run_animate, start_python, until

from portrait_anim.provenance.verify import verify_file

linux = pytest.mark.skipif(sys.platform != "linux", reason="mounts, signals and /proc of Linux")


def start_animate(*arguments, cwd) -> subprocess.Popen:
    return start_python("-m", "portrait_anim", *arguments, cwd=cwd)


def says(process: subprocess.Popen, words: str) -> None:
    """Wait for a line on stderr that begins so."""
    assert any(line.startswith(words) for line in process.stderr), process.communicate()


# ---------------------------------------------------------------- full and closed disks


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 120 kB, if this may be mounted here."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = sys.platform == "linux" and os.geteuid() == 0
    mounted = mounted and not subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", folder]).returncode
    if not mounted:
        pytest.skip("a small disk can only be mounted by root, outside of closed containers")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("name", ["x.mp4", "x.webm", "x.gif", "x/"])
def test_a_full_disk_is_said_and_nothing_half_written_stays(small_disk, tmp_path, name):
    done = run_animate(ASTRONAUT, "-d", CLIP, "-o", f"{small_disk}/{name}", "--end", "0.8", "--crf", "3", cwd=tmp_path)
    assert_refused(done, 4, "x", "No space left", folder=small_disk)


def test_a_disk_too_full_for_the_signature_keeps_the_video(small_disk, tmp_path):
    """Signing needs the space of the file once more. If it is not there, the result is marked by XMP alone."""
    whole = tmp_path / "whole.mp4"
    options = ["-d", CLIP, "--end", "0.5", "--max-size", "128", "--no-audio"]
    assert run_animate(ASTRONAUT, *options, "-o", whole, cwd=tmp_path).returncode == 0
    (small_disk / "filler").write_bytes(bytes((120 * 1024 - int(1.6 * whole.stat().st_size)) // 4096 * 4096))
    done = run_animate(ASTRONAUT, *options, "-o", small_disk / "x.mp4", cwd=tmp_path)
    assert done.returncode == 0 and "no signed manifest was added" in done.stderr, done.stderr
    assert len(read_frames(small_disk / "x.mp4")) == 12
    assert verify_file(small_disk / "x.mp4").verdict == "unsigned"
    assert sorted(os.listdir(small_disk)) == ["filler", "x.mp4"]


@linux
def test_folders_that_cannot_be_written_to_and_folders_in_the_way(tmp_path):
    (tmp_path / "x.mp4").mkdir()
    assert_refused(run_animate(ASTRONAUT, "-d", CLIP, "-o", "x.mp4", "-f", cwd=tmp_path), 4, "x.mp4", "folder")
    assert_refused(run_animate(ASTRONAUT, "-d", CLIP, "-o", "/proc/x.mp4", cwd=tmp_path), 4, "/proc")
    if os.geteuid() != 0:
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        assert_refused(run_animate(ASTRONAUT, "-d", CLIP, "-o", "locked/x.mp4", cwd=tmp_path), 4, "locked")


# ---------------------------------------------------------------- signals


@linux
def is_begun(folder, size: int = 0) -> bool:
    """Whether a run has so many bytes of its video."""
    with contextlib.suppress(FileNotFoundError):
        return any(file.stat().st_size >= size for file in folder.glob(".x.partial-*"))
    return False


@linux
@pytest.mark.parametrize("number, size", [(signal.SIGINT, 0), (signal.SIGTERM, 1), (signal.SIGHUP, None)])
def test_a_signal_ends_the_run_cleanly(tmp_path, number, size):
    """When the encoder has just begun, when it has written something, and before that."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, and so by what is started here: that is what nohup is for")
    process = start_animate(ASTRONAUT, "-d", CLIP, "-o", "x.mp4", cwd=tmp_path)
    says(process, "Reading the portrait")
    if size is not None:
        until(lambda: is_begun(tmp_path, size), process)
    process.send_signal(number)
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130 and "interrupted" in errors and "Traceback" not in errors, errors
    assert not os.listdir(tmp_path)


EARLY = """
import os, signal, sys
def _watch(event, args):
    if event == "import" and args[0] == "typer":
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(_watch)
"""


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


LOST = """
import os, signal, time
from portrait_anim.system.signals import raise_on

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


def kill_at_random(folder, kills: int, seed: int) -> int:
    """Runs killed at random moments, every second while it encodes; after each, what is there under the final name is
    whole. Returns how many of them had a temporary file to leave behind."""
    rng = np.random.default_rng(seed)
    output, left = folder / "x.mp4", 0
    long = ["-d", CLIP, "--max-size", "256", "-o", output, "--force"]
    options = [*long, "--end", "1"]
    begin = time.monotonic()
    assert run_animate(ASTRONAUT, *options, cwd=folder).returncode == 0
    usual, reference = time.monotonic() - begin, read_frames(output)
    for kill in range(kills):
        process = start_animate(ASTRONAUT, *(long if kill % 2 else options), cwd=folder)
        if kill % 2:
            until(lambda: is_begun(folder), process)
        else:
            time.sleep(rng.uniform(0, 1) * usual)
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


@linux
def test_a_kill_leaves_nothing_under_the_final_name_and_the_next_run_cleans_up(tmp_path):
    process = start_animate(ASTRONAUT, "-d", CLIP, "-o", "x.mp4", cwd=tmp_path)
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


# ---------------------------------------------------------------- two at once, and twice the same


@linux
@pytest.mark.parametrize("name, force", [("x.mp4", True), ("x.mp4", False), ("x/", True), ("x/", False)])
def test_two_runs_at_once_on_one_output(tmp_path, short_clip, name, force):
    """One of them wins, whole; without --force the other is told."""
    clips = [["-d", short_clip], ["-d", CLIP, "--end", "0.3"]]  # 12 and 8 frames
    common = ["-o", name, "--max-size", "128", *(["--force"] if force else [])]
    both = [start_animate(ASTRONAUT, *clip, *common, cwd=tmp_path) for clip in clips]
    codes, said = [], []
    for process in both:
        said.append(process.communicate(timeout=PATIENCE)[1])
        codes.append(process.returncode)
    assert sorted(codes) == ([0, 0] if force else [0, 4]), said
    assert "Traceback" not in str(said)
    if name == "x.mp4":
        assert len(read_frames(tmp_path / name)) in (8, 12) and verify_file(tmp_path / name).verdict == "intact"
    else:
        pictures = sorted((tmp_path / "x").iterdir())
        assert len(pictures) in (8, 12) and all(verify_file(file).verdict == "intact" for file in pictures)
        assert len({verify_file(file).inputs[1]["name"] for file in pictures}) == 1  # not a mixture of both
    assert os.listdir(tmp_path) == [name.rstrip("/")]


FRAMES = """
import sys
import numpy as np
from portrait_anim.animation import animator
kept = []
class Keeper:
    def __init__(self, *_): self.warnings = []
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def write(self, frame): kept.append(frame.copy())
animator.VideoWriter = Keeper
animator.Animator(threads=int(sys.argv[1])).animate([sys.argv[2]], sys.argv[3], sys.argv[4] + "/x.mp4", max_size=400)
np.save(sys.argv[4] + "/frames.npy", np.stack(kept))
"""


def test_the_same_inputs_give_the_same_frames_whatever_the_threads(tmp_path, short_clip):
    made = []
    for number, threads in enumerate((2, 2, 1, 4)):
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [sys.executable, "-c", FRAMES, str(threads), str(ASTRONAUT), str(short_clip), str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE, env=environment)
        made.append(np.load(folder / "frames.npy").astype(np.int16))
    assert len(made[0]) == 12 and np.ptp(made[0]) > 100
    assert (made[0] == made[1]).all()
    assert max(np.abs(made[0] - other).max() for other in made[2:]) <= 1


def test_two_files_of_one_run_decode_to_the_same_frames(tmp_path, short_clip):
    for name in ("a.mp4", "b.mp4"):
        done = run_animate(ASTRONAUT, "-d", short_clip, "-o", name, "--max-size", "256", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (read_frames(tmp_path / "a.mp4") == read_frames(tmp_path / "b.mp4")).all()


# ---------------------------------------------------------------- no network, no pickle, no shell

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
                own = os.path.join("system", "helper_process.py")  # what two of our processes say to each other
                event = "helper" if caller.f_code.co_filename.endswith(own) else "numba" if _in_numba(caller) else event
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
    run = ["-m", "portrait_anim", ASTRONAUT, "-d", short_clip, "-o", "x.mp4", "--max-size", "128"]
    for arguments in (run, ["-m", "portrait_anim.commands.tools", "verify", "x.mp4"]):
        done, seen = watched(tmp_path, *arguments)
        assert done.returncode == 0 and "manifest" not in done.stderr, done.stderr
        assert {event for event, _ in seen} <= {"program", "numba", "helper"}, seen
        # ctypes, which MediaPipe's sound library asks for PortAudio, runs some of these; by lists, as we run ffmpeg.
        programs = {name.split("-")[0] for event, name in seen if event == "program"}
        programs -= {"ldconfig", "gcc", "ld", "cc", "objdump", "lscpu"}
        assert programs == ({"ffmpeg", os.path.basename(sys.executable)} if arguments is run else set())


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace, to see native code and ffmpeg, too")
def test_no_process_of_a_run_opens_an_internet_socket(tmp_path, short_clip):
    run = ["-m", "portrait_anim", ASTRONAUT, "-d", short_clip, "-o", "x.mp4", "--max-size", "128"]
    for command in (run, ["-m", "portrait_anim.commands.tools", "verify", "x.mp4"]):
        trace = ["strace", "-f", "-qq", "-e", "trace=socket,connect,sendto", "-o", tmp_path / "trace", sys.executable]
        done = subprocess.run([*trace, *command], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
        if "ptrace" in done.stderr and "not permitted" in done.stderr:
            pytest.skip("strace may not be used here")
        assert done.returncode == 0, done.stderr
        calls = (tmp_path / "trace").read_text().splitlines()
        assert not [line for line in calls if "AF_INET" in line], calls


NAMES = [
    "with space",
    'it\'s "quoted"',
    "--force",
    "-dash",
    "ünïcödé 图",
    "new\nline",
    "$(touch pwned)",
    "a;b&c|d",
    "%d %s",
]


@linux
@pytest.mark.parametrize("name", NAMES)
def test_names_of_every_kind(tmp_path, short_clip, name):
    """As photo, driver and output at once; a name that looks like an option follows `--` or is given as ./name."""
    shutil.copy(ASTRONAUT, tmp_path / f"{name}.jpg")
    shutil.copy(short_clip, tmp_path / f"{name}.mp4")
    options = ["--max-size", "128", f"--driver={name}.mp4", f"--output={name}-made.mp4", "--", f"{name}.jpg"]
    done = run_animate(*options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path)) == sorted([f"{name}.jpg", f"{name}.mp4", f"{name}-made.mp4"])
    assert len(done.stdout.splitlines()) == 1  # a line break in a name breaks no sentence
    assert len(read_frames(tmp_path / f"{name}-made.mp4")) == 12
    assert verify_file(tmp_path / f"{name}-made.mp4").inputs[0]["name"] == f"{name}.jpg"
