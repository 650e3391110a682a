"""The portrait that the cameras of these tests move, small, with the weights that ship."""

import threading

import numpy as np
import pytest
from support import ASTRONAUT, clip_frames

from portrait_anim.live.session import LiveSession
from portrait_anim.live.sizes import RenderersBySize
from portrait_anim.painting.painter import Painter
from portrait_anim.painting.person import Person
from portrait_anim.portrait.portrait import Portrait


@pytest.fixture(scope="session")
def person() -> Person:
    return Person.of([Portrait.load(ASTRONAUT, max_size=500)], Painter())


@pytest.fixture(scope="session")
def renderers(person):
    made = RenderersBySize(person)
    yield made
    made.close()


@pytest.fixture(scope="session")
def faces() -> np.ndarray:
    """Every tenth frame of the first five seconds of the bundled clip: what a camera sees."""
    return clip_frames()[:120:10]


@pytest.fixture
def no_new_threads():
    """Whatever a test begins, it ends."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and not thread.name.startswith("sizes")]
    assert not [thread for thread in left if "ThreadPoolExecutor" not in thread.name and "asyncio" not in thread.name]


ANY_RATE = 0.1  # pictures/s: every machine holds it, so the size stays


@pytest.fixture
def session(renderers, no_new_threads):
    with LiveSession(renderers, rate=ANY_RATE, label=False) as begun:
        yield begun
