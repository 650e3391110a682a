"""A process that has imported all that the commands need, and forks one that runs a command whenever it is asked.

A start of `animate` takes two seconds and more of a processor for the imports of torch and MediaPipe alone. What is
forked has a working folder, an environment, arguments, stdout, stderr and an end of its own, as any process has.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback

IMPORTS = "cryptography.x509 c2pa cv2 imageio_ffmpeg mediapipe numba numpy PIL.Image rich safetensors.torch torch typer"
ANSWER = struct.Struct("q")  # first the number of the process, then its exit code


class Prefork:
    def __init__(self, environment: dict[str, str]):
        ours, theirs = socket.socketpair()
        path = os.pathsep.join([os.path.dirname(__file__), environment.get("PYTHONPATH", "")])
        code = f"from prefork import serve; serve({theirs.fileno()})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], env={**environment, "PYTHONPATH": path}, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self._socket = ours

    def run(self, name: str, arguments: list[str], cwd, timeout: float, meet=None) -> subprocess.CompletedProcess:
        """name: a function of portrait_anim.__main__. meet(number) is called with the number of the running process."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            asked = json.dumps([name, arguments, os.fspath(cwd), dict(os.environ)])
            socket.send_fds(self._socket, [b"."], [out.fileno(), err.fileno()])
            self._socket.sendall(asked.encode() + b"\n")
            number = self._answer()
            if meet:
                meet(number)
            late = not select.select([self._socket], [], [], timeout)[0]
            if late:
                os.kill(number, signal.SIGKILL)
            code = self._answer()
            if late:
                raise subprocess.TimeoutExpired([name, *arguments], timeout)
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode(errors="surrogateescape").replace("\r\n", "\n"))
        return subprocess.CompletedProcess([name, *arguments], code, *said)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()

    def _answer(self) -> int:
        answer = self._socket.recv(ANSWER.size, socket.MSG_WAITALL)
        assert len(answer) == ANSWER.size, "the process that forks is gone"
        return ANSWER.unpack(answer)[0]


def serve(number: int) -> None:
    """What the process does, until nobody is there to ask any more."""
    for module in IMPORTS.split():
        with contextlib.suppress(ImportError):
            __import__(module)
    from portrait_anim import __main__ as commands
    from portrait_anim.commands import animate, tools  # noqa: F401

    gc.collect()
    gc.freeze()
    asks = socket.socket(fileno=number)
    while True:
        _, files, *_ = socket.recv_fds(asks, 1, 2)
        if not files:
            return
        line = b""
        while not line.endswith(b"\n"):
            line += asks.recv(1 << 20)
        child = os.fork()
        if not child:
            _become(commands, *json.loads(line), *files)
        asks.sendall(ANSWER.pack(child))
        for file in files:
            os.close(file)
        asks.sendall(ANSWER.pack(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))


def _become(commands, name: str, arguments: list[str], folder: str, environment: dict, out: int, err: int) -> None:
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1 if os.path.isdir("/proc/self/fd") else 256)
        os.chdir(folder)
        screen = {key: os.environ[key] for key in ("COLUMNS", "TERM")}
        os.environ.clear()
        os.environ.update(environment | screen)
        sys.argv = [name, *arguments]
        sys.stdout.flush()
        getattr(commands, name)()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
