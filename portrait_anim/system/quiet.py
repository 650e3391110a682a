"""Keep the chatter of libraries away from the user: what is said on the terminal is ours alone."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.RLock()  # file descriptors belong to the whole process


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discard what native code writes to stderr inside the `with` block.

    MediaPipe writes greetings to file descriptor 2 when it loads, and libtiff complains there about damaged files.
    Neither knows a switch for it.
    """
    with _LOCK:  # else the second of two threads would save, and later restore, what the first put in its place
        try:
            saved = os.dup(2)
        except OSError:  # stderr is closed
            yield
            return
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(null)


def quiet_python() -> None:
    """Discard the warnings and log messages of Python libraries from now on, but not our own.

    This is for programs that are ours, not for a library that is imported into somebody else's. `python -W` brings the
    warnings back.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())  # without any, Python prints errors on stderr
    logging.getLogger(__package__.partition(".")[0]).addHandler(logging.StreamHandler())
