"""Work that another process does, while this one has work of its own that is Python, too."""

import gc
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable

from ..errors import PortraitAnimError
from .signals import signals_deferred


def can_run_helper() -> bool:
    """Whether a process of Python can be started: in a program that brings its own (Blender, a frozen one) there is
    none to start."""
    name = os.path.basename(sys.executable or "").lower()
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


def run_in_helper(work: Callable, *given, progress: Callable):
    """work(*given, progress) as another process does it; progress is called here.

    work is a function of a module, and all that goes to and fro can be pickled. What work raises is raised here; when
    progress raises, or a signal does, the process is ended. Raises PortraitAnimError when it was lost.
    """
    code = f"import sys; sys.path[:] = {sys.path!r}; from portrait_anim.system.helper_process import _serve; _serve()"
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    # In a group of its own: Ctrl-C reaches this process only, which decides.
    alone = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {"start_new_session": True}
    with signals_deferred():
        process = subprocess.Popen([sys.executable, "-c", code], **pipes, **alone)
    try:
        try:
            pickle.dump((work, given), process.stdin)
            process.stdin.close()
        except OSError:  # it is gone; `_next` says so
            pass
        while True:
            kind, value = _next(process)
            if kind == "result":
                return value
            if kind == "error":
                raise value
            progress(value)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _next(process: subprocess.Popen) -> tuple:
    """Its next message: ("progress", step), ("result", value) or ("error", exception)."""
    try:
        return pickle.load(process.stdout)
    except (EOFError, pickle.UnpicklingError) as error:
        code = process.wait()
        raise PortraitAnimError(
            f"The process that reads portrait and driver was lost (exit code {code}); check the memory, and try again."
        ) from error


def _serve() -> None:
    """The other process: does one piece of work, tells how it goes, and ends."""
    gc.set_threshold(700, 10, 1000)  # as in `console.run`
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between the messages

    def tell(kind: str, value) -> None:
        message = pickle.dumps((kind, value))
        out.write(message)
        out.flush()

    try:
        work, given = pickle.load(sys.stdin.buffer)
        try:
            tell("result", work(*given, lambda step: tell("progress", step)))
        except PortraitAnimError as error:
            tell("error", error)
        except Exception as error:  # a bug: of any kind, which need not be one that can be pickled
            tell("error", RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))
    except OSError:  # nobody is there to be told
        pass
    os._exit(0)  # threads of native libraries must not hold it up
