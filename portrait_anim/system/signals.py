"""Turn the signals that end a program into exceptions, and defer them where an exception would do harm."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_ALARM = [signal.SIGALRM] if hasattr(signal, "setitimer") else []  # not on Windows
_RETRY_SECONDS = 0.05


def raise_on(numbers: list[int], error: type[BaseException]) -> None:
    """Raise `error` in the main thread when the first of the signals `numbers` arrives.

    Later signals are ignored, so that they cannot interrupt the cleaning up. During an import the exception waits until
    the import is done: an interrupted import leaves half-made modules behind, and native modules swallow exceptions.
    If the exception gets lost anyway, for instance in a finaliser, it is raised again.
    """

    def end(_, frame) -> None:
        if _ALARM and _is_importing(frame):
            retry()
            return
        for number in (*numbers, *_ALARM):
            signal.signal(number, signal.SIG_IGN)
        raise error

    def retry() -> None:
        for number in _ALARM:
            signal.signal(number, end)
            signal.setitimer(signal.ITIMER_REAL, _RETRY_SECONDS)

    def unraisable(what) -> None:
        if issubclass(what.exc_type, error):
            retry()
        else:
            sys.__unraisablehook__(what)

    for number in numbers:
        signal.signal(number, end)
    sys.unraisablehook = unraisable


def _is_importing(frame) -> bool:
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Call the handlers of ending signals only at the end of the `with` block.

    A process that is started in such a block is never left running because an exception came before its number was
    stored. Only the main thread handles signals, so in other threads this does nothing.
    """
    late, handlers = [], {}
    if threading.current_thread() is threading.main_thread():
        for number in (*ENDING, *_ALARM):
            if callable(handler := signal.getsignal(number)):
                handlers[number] = handler
    try:
        for number in handlers:
            signal.signal(number, lambda *signalled: late.append(signalled))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if late:
            handlers[late[0][0]](*late[0])
