"""The size follows what the machine can do: smaller at once, larger only with patience."""

import numpy as np
import pytest
from support import ASTRONAUT, MONA_LISA, portrait_of

from portrait_anim.live.sizes import PATIENCE, Pace, RenderersBySize
from portrait_anim.motion.causal import CausalRetargeter
from portrait_anim.painting.person import Person
from portrait_anim.portrait.portrait import Portrait

SIZES = [1200, 960, 768, 512, 384]


def run(pace: Pace, begin: float, seconds: float, busy: dict[int, float]) -> list[int]:
    """Make pictures for some seconds, each of which takes busy[size] s of a thread. Returns the sizes that they had."""
    now, sizes = begin, []
    while now < begin + seconds:
        now += 0.05
        sizes.append(pace.size)
        pace.note(now, pace.size, busy[pace.size])
    return sizes


def test_the_largest_size_that_holds_the_rate_is_found():
    busy = dict(zip(SIZES, (0.12, 0.1, 0.085, 0.07, 0.06)))
    pace = Pace(SIZES, 25.0, 2)
    assert pace.holds and pace.capacity is None
    run(pace, 0, 10, busy)
    assert pace.size == 512 and pace.holds and pace.capacity == pytest.approx(2 / 0.07)


def test_what_cannot_be_held_is_said():
    pace = Pace(SIZES, 25.0, 2)
    run(pace, 0, 20, dict.fromkeys(SIZES, 0.5))
    assert pace.size == SIZES[-1] and not pace.holds and pace.capacity == pytest.approx(4)


def test_a_larger_size_comes_back_with_patience_and_is_not_tried_again_and_again():
    pace = Pace(SIZES, 25.0, 2)
    run(pace, 0, 10, dict.fromkeys(SIZES, 0.09))
    assert pace.size < 1200
    run(pace, 10, PATIENCE - 5, dict.fromkeys(SIZES, 0.04))
    assert pace.size < 1200  # not yet
    run(pace, 10 + PATIENCE, 9 * PATIENCE, dict.fromkeys(SIZES, 0.04))
    assert pace.size == 1200
    sizes = run(Pace([1200, 960], 25.0, 2), 0, 600, {1200: 0.09, 960: 0.04})  # the larger is too much
    changes = sum(a != b for a, b in zip(sizes, sizes[1:]))
    assert 3 <= changes <= 11 and sizes.count(960) > 0.9 * len(sizes)


def test_pictures_of_another_size_do_not_count():
    pace = Pace(SIZES, 25.0, 2)
    for t in range(200):
        pace.note(t / 20, 999, 5.0)
    assert pace.size == 1200 and pace.capacity is None


def test_every_size_shows_the_same(renderers):
    assert renderers.sizes == [500, 384]
    target = renderers.canvas + [6, 3, 0]
    box = renderers.grown(None, CausalRetargeter(renderers.canvas))
    large, small = (renderers.renderer(renderers.make(size), box).frame(target) for size in renderers.sizes)
    assert max(large.shape) == 500 and max(small.shape) == 384 and not any(side % 2 for side in small.shape[:2])
    import cv2

    shrunk = cv2.resize(large, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - small).mean() < 4


def test_the_nearest_size_serves_until_the_wanted_one_is_ready(person):
    made = RenderersBySize(person)
    assert made.nearest(384).size == 500
    made._making[384].result()
    assert made.nearest(384).size == 384
    made.close()


def test_the_painted_box_only_grows(renderers):
    motion = CausalRetargeter(renderers.canvas)
    box = renderers.grown(None, motion)
    assert renderers.grown(box, motion) == box
    wide = renderers.grown((0, 64, 480, 480), motion)
    assert wide[0] == 0 and wide[1] <= 64 and wide[2] >= 480
    for x0, y0, x1, y1 in (box, wide, renderers.grown((112, 80, 240, 496), motion)):  # what the networks take
        assert x0 % 16 == y0 % 16 == (x1 - x0) % 32 == (y1 - y0) % 32 == 0 and 0 <= min(x0, y0) and max(x1, y1) <= 512


def test_several_photos_keep_together_in_every_size():
    canvas = Portrait(portrait_of(MONA_LISA).photo, portrait_of(MONA_LISA).landmarks)
    canvas.add(portrait_of(ASTRONAUT))
    made = RenderersBySize(Person([canvas, portrait_of(ASTRONAUT)], None, None))
    assert len(made.make(384).portrait.views) == len(canvas.views) == 3
    made.close()
