"""Count the processor's cores, limit the threads of libraries, and pause Python's garbage collector."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def single_threaded_libraries() -> Iterator[None]:
    """Make OpenCV and torch work with one thread each inside the `with` block.

    This is for small work that runs beside other work. More threads of these libraries would mostly spin until the
    other work leaves them a core.
    """
    import cv2

    torch = sys.modules.get("torch")  # not loaded when there are no weights
    before = cv2.getNumThreads(), torch and torch.get_num_threads()
    cv2.setNumThreads(1)
    if torch:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        if torch:
            torch.set_num_threads(before[1])


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the garbage collector inside the `with` block, for large imports.

    The objects that an import makes stay. Searching them for garbage again and again takes a quarter of the import's
    time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.unfreeze()  # together these move all objects to the oldest generation, which is searched seldom
            gc.enable()
