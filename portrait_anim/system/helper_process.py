"""Run a function in a helper process.

Reading the portrait and importing torch are both bound by Python, so doing them in two processes shows the first frame
0.8 s earlier.
"""

import gc
import io
import os
import pickle
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from ..errors import PortraitAnimError
from .sequences import ArrayFile, blocks
from .signals import signals_deferred


def can_run_helper() -> bool:
    """Tell whether another Python process can be started.

    It cannot in programs that have Python built in, such as Blender or a frozen application: their executable is not
    a Python interpreter.
    """
    name = os.path.basename(sys.executable or "").lower()
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


def run_in_helper(work: Callable, *args, progress: Callable[[Any], None]) -> Any:
    """Call `work(*args, progress)` in another process and return its result.

    work: a function defined in a module; it, its arguments and its result must be picklable, but for any ArrayFile in
    the result, whose content is handed over block by block. progress: called in this
    process with every value that the helper passes to its own `progress`.

    What `work` raises is raised here: a PortraitAnimError as it is, anything else as a RuntimeError with the helper's
    traceback. If `progress` raises, or a signal handler does, the helper is killed. Raises PortraitAnimError if the
    helper dies, for instance because memory runs out.
    """
    code = f"import sys; sys.path[:] = {sys.path!r}; from portrait_anim.system.helper_process import _serve; _serve()"
    # The helper gets a process group of its own: Ctrl-C then reaches this process only, which decides what to do.
    own_group: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    with signals_deferred():
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **own_group
        )
    assert process.stdin is not None and process.stdout is not None
    try:
        try:
            pickle.dump((work, args), process.stdin)
            process.stdin.close()
        except OSError:  # the helper has died already; `_next_message` says so
            pass
        files: deque[ArrayFile] = deque()
        while True:
            kind, value = _next_message(process, files)
            if kind == "result":
                return value
            if kind == "error":
                raise value
            if kind == "file":
                files.append(ArrayFile(value))
            elif kind == "block":
                files[-1].extend(value)
            else:
                progress(value)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class _Pickler(pickle.Pickler):
    """Pickles a message, and sends each ArrayFile in it ahead: its shape as "file", then its content as "block"s.

    send: sends a message of a kind, with a value.
    """

    def __init__(self, file: io.BytesIO, send: Callable[[str, Any], None]):
        super().__init__(file)
        self._send = send

    def persistent_id(self, value: Any) -> str | None:
        if not isinstance(value, ArrayFile):
            return None
        self._send("file", value.shape[1:])
        for part in blocks(value):
            self._send("block", part)
        return "the next file"


class _Unpickler(pickle.Unpickler):
    """Reads a message. files: those that were sent ahead, which are taken out."""

    def __init__(self, file: Any, files: deque[ArrayFile]):
        super().__init__(file)
        self._files = files

    def persistent_load(self, _: str) -> ArrayFile:
        return self._files.popleft()


def _next_message(process: subprocess.Popen, files: deque[ArrayFile]) -> tuple[str, Any]:
    """Wait for the helper's next message: "progress", "file", "block", "result" or "error", and the value."""
    assert process.stdout is not None
    try:
        return _Unpickler(process.stdout, files).load()
    except (EOFError, pickle.UnpicklingError) as error:
        code = process.wait()
        raise PortraitAnimError(
            f"The process that reads portrait and driver was lost (exit code {code}); check the memory, and try again."
        ) from error


def _serve() -> None:
    """Run in the helper process: do the one piece of work that stdin describes, report on stdout, and exit."""
    gc.set_threshold(700, 10, 1000)  # as in `console.run`
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between the messages

    def send(kind: str, value) -> None:
        message = io.BytesIO()
        _Pickler(message, send).dump((kind, value))
        out.write(message.getbuffer())
        out.flush()

    try:
        work, args = pickle.load(sys.stdin.buffer)
        try:
            send("result", work(*args, lambda value: send("progress", value)))
        except PortraitAnimError as error:
            send("error", error)
        except Exception as error:  # a bug, whose exception need not be picklable
            send("error", RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))
    except OSError:  # the main process is gone, and nobody is left to tell
        pass
    os._exit(0)  # threads of native libraries must not delay the exit
