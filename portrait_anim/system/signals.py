"""Signals that end a run: raised as an exception where that does no harm, held back where it would."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_ALARM = [signal.SIGALRM] if hasattr(signal, "setitimer") else []  # not on Windows
_AGAIN = 0.05  # s


def raise_on(numbers: list[int], error: type[BaseException]) -> None:
    """Let the first of these signals raise error in the main thread; later ones must not stop the cleaning up.

    During an import it waits: broken off, modules stay half made, and native ones swallow the error. When it is lost
    elsewhere (in a finaliser, say), it is raised again.
    """

    def end(_, frame) -> None:
        if _ALARM and _is_importing(frame):
            _ring()
            return
        for number in (*numbers, *_ALARM):
            signal.signal(number, signal.SIG_IGN)
        raise error

    def _ring() -> None:
        for number in _ALARM:
            signal.signal(number, end)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)

    def lost(what) -> None:
        if issubclass(what.exc_type, error):
            _ring()
        else:
            sys.__unraisablehook__(what)

    for number in numbers:
        signal.signal(number, end)
    sys.unraisablehook = lost


def _is_importing(frame) -> bool:
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Handlers that may raise are called at the end of the block: no process is started that nobody knows of."""
    late, handlers = [], {}
    if threading.current_thread() is threading.main_thread():
        handlers = {n: signal.getsignal(n) for n in (*ENDING, *_ALARM) if callable(signal.getsignal(n))}
    try:
        for number in handlers:
            signal.signal(number, lambda *signalled: late.append(signalled))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if late:
            handlers[late[0][0]](*late[0])
