"""How many threads there are, who may use them, and that the garbage collector leaves imports alone."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def single_threaded_libraries() -> Iterator[None]:
    """For small work beside other work: threads of OpenCV and torch would mostly spin until the others have a core."""
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
    """For large imports: what they make stays, and to look through it for garbage, again and again, takes a quarter of
    their time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.freeze()
            gc.unfreeze()  # both together: what there is now is old, and is looked at seldom
            gc.enable()
