"""How many threads there are, who may use them, and how they take turns."""

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
def quick_imports() -> Iterator[None]:
    """For imports beside tracking: they are all Python and would hold the GIL for 5 ms whenever the tracker, which is
    native code, wants it for a moment. And no garbage is looked for, in what they make neither now nor later: it stays,
    and to look through all of it again and again takes a quarter of their time."""
    interval, collects, first = sys.getswitchinterval(), gc.isenabled(), "torch" not in sys.modules
    sys.setswitchinterval(0.001)
    gc.disable()
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        if collects:
            if first:
                gc.freeze()
            gc.enable()
