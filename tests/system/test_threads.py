"""Threads of libraries and the garbage collector are as before after a run."""

import gc
import sys
import weakref

import cv2
import pytest
import torch
from support import ASTRONAUT, CLIP

from portrait_anim import Animator
from portrait_anim.system.threads import gc_paused


def test_threads_of_libraries_are_as_before_after_a_run(tmp_path):
    state = lambda: (cv2.getNumThreads(), torch.get_num_threads(), sys.getswitchinterval())
    before = state()
    Animator().animate([ASTRONAUT], CLIP, tmp_path / "x.mp4", max_size=128, end=0.1)
    assert state() == before


def test_no_garbage_leaves_the_collector_as_it_was_and_nothing_to_it():
    class Ring:
        def __init__(self):
            self.itself = self

    with pytest.raises(ZeroDivisionError), gc_paused():
        assert not gc.isenabled()
        gone = weakref.ref(Ring())
        assert gone()
        raise ZeroDivisionError
    assert gc.isenabled() and not gc.get_freeze_count()
    gc.collect()
    assert not gone()
    gc.disable()
    try:
        with gc_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
