"""Portrait and driver are read the same by this process and by another, and each only once."""

import time
from dataclasses import fields

import numpy as np
import pytest
from support import ASTRONAUT, CLIP, write_video

from portrait_anim import Animator, InputError, UsageError
from portrait_anim.animation import inputs as reading
from portrait_anim.animation.inputs import Reader
from portrait_anim.animation.options import Options
from portrait_anim.animation.request import Request
from portrait_anim.landmarks import following
from portrait_anim.system.sequences import ArrayFile


def request(images, driver, folder, **options) -> Request:
    return Request.checked(images, driver, folder / "x.mp4", Options(**options))


def both_ways(asked: Request):
    """What is read in this process and by another, and what each shows."""
    for read in (Reader().read, Reader().read_in_helper):
        steps = []
        yield (*read(asked, steps.append), steps)


def same(a, b) -> bool:
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, ArrayFile):
        return type(b) is ArrayFile and same(a[:], b[:])
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and (a == b or a is None)


@pytest.mark.parametrize(
    "images, driver", [([ASTRONAUT], CLIP), ([ASTRONAUT, ASTRONAUT], "nod"), ([ASTRONAUT], ASTRONAUT)]
)
def test_it_reads_the_same(images, driver, tmp_path):
    (portraits, source, steps), other = both_ways(request(images, driver, tmp_path, end=0.4, max_size=256))
    assert same(source, other[1]) and steps == other[2] and len(steps) > 3
    assert (portraits.warnings, portraits.left_out) == (other[0].warnings, other[0].left_out)
    for mine, theirs in zip(portraits.photos, other[0].photos, strict=True):
        assert np.array_equal(mine.photo, theirs.photo) and np.array_equal(mine.plate, theirs.plate)
        assert np.array_equal(mine.landmarks, theirs.landmarks)


def test_what_it_read_is_kept_for_the_next_output(tmp_path, monkeypatch):
    reader, given = Reader(), (request([ASTRONAUT], CLIP, tmp_path, end=0.2, max_size=128), lambda step: None)
    portraits, source = reader.read_in_helper(*given)
    for name in ("read_portraits", "load_driver"):
        monkeypatch.setattr(reading, name, lambda *given: pytest.fail("read again"))
    assert reader.read(*given) == (portraits, source)


def test_its_errors_are_those_of_this_process(tmp_path):
    write_video(tmp_path / "grey.mp4", np.full((5, 64, 64, 3), 90, np.uint8))
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    for error, message, image, driver, options in (
        (InputError, "bad.jpg: not an image", tmp_path / "bad.jpg", CLIP, {}),
        (InputError, "grey.mp4: no face found", ASTRONAUT, tmp_path / "grey.mp4", {}),
        (UsageError, "teeth='no' is neither True nor False", ASTRONAUT, CLIP, {"teeth": "no"}),
        (UsageError, "--driver-face 2", ASTRONAUT, CLIP, {"driver_face": 2}),
    ):
        with pytest.raises(error, match=message):
            Reader().read_in_helper(request([image], driver, tmp_path, max_size=128, **options), lambda step: None)


def test_nobody_is_recorded_for_a_portrait_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    monkeypatch.setattr(reading, "load_driver", lambda *given: pytest.fail("the camera was started"))
    with pytest.raises(InputError, match="bad.jpg: not an image"):
        Animator().animate([tmp_path / "bad.jpg"], "camera:0", tmp_path / "x.mp4", end=1)


def test_a_bad_portrait_does_not_wait_for_a_long_driver(tmp_path, monkeypatch):
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    tracked, add = [], following._Following.add
    monkeypatch.setattr(following._Following, "add", lambda *given: (tracked.append(1), time.sleep(0.05), add(*given)))
    with pytest.raises(InputError, match="bad.jpg: not an image"):
        Animator().animate([tmp_path / "bad.jpg"], CLIP, tmp_path / "x.mp4")
    assert len(tracked) < 100  # of 215
