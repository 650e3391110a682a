"""The engine without a browser: what is late is dropped, nothing queues, nothing grows."""

import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
from support import until

from portrait_anim.errors import InputError
from portrait_anim.live.session import LiveSession, jpeg
from portrait_anim.motion.options import MotionOptions


def rss() -> int:
    """Memory of this process, bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def show(session: LiveSession, frames, begin: float = 0.0) -> list:
    """The pictures that a camera's frames give, one by one: the next is given when the one before is shown."""
    pictures = []
    for t, frame in enumerate(frames):
        session.put(frame, begin + t / 25)
        while (picture := session.take(60)).taken != begin + t / 25:
            pass  # of before
        pictures.append(picture)
    return pictures


def test_the_portrait_moves_with_the_camera(session, faces, renderers):
    still = session.take(60)
    assert np.abs(still.image.astype(int) - renderers.make(500).portrait.photo).mean() < 3  # as it is
    pictures = show(session, faces)
    assert all(picture.image.shape == still.image.shape for picture in pictures)
    assert np.abs(pictures[-1].image.astype(int) - pictures[0].image).mean() > 0.2
    status = session.status()
    assert status.has_face and status.n_faces == 1 and status.given == len(faces) and status.size == (500, 500)


def test_what_is_late_is_dropped_and_the_newest_is_shown(session, faces):
    read = []

    def reader(t: int):
        def read_it() -> np.ndarray:
            read.append(t)
            return faces[t % len(faces)]

        return read_it

    for t in range(500):  # far faster than anybody could
        session.put(reader(t), t / 25)
    until(lambda: read and read[-1] == 499)  # the newest always comes to its turn
    assert len(read) < 100 and read == sorted(read)
    while session.take(60).taken != 499 / 25:
        pass
    assert session.status().given == 500 and session.status().shown <= len(read) + 1
    assert session.take(0) is None


def test_an_hour_in_fast_motion(session, faces):
    """54000 frames, as fast as they can be given; some are waited for, so that they come to their turn."""
    size = 0
    for t in range(54_000):
        session.put(faces[t % len(faces)], t / 15)
        if t % 1_000 == 999:
            while session.take(60).taken != t / 15:
                pass
        if t == 9_999:
            size = rss()
    assert session.status().given == 54_000 and session.status().shown >= 54
    assert rss() - size < 30_000_000


def test_a_lost_face_holds_and_returns(session, faces):
    before = show(session, faces[:4])[-1]
    wall = np.full_like(faces[0], 120)
    for t in range(3):
        session.put(wall, 1 + t)
        until(lambda: not session.status().has_face)
    assert session.take(0.2) is None  # nothing new to show
    after = show(session, [faces[3]], begin=9.0)[0]
    assert np.abs(after.image.astype(int) - before.image).mean() < 0.5
    assert session.status().has_face


def test_calibrating_and_other_options_while_it_runs(session, faces):
    show(session, faces[:3])
    session.calibrate()
    session.change(replace(session.options, only=("eyes",), mirror=True))
    pictures = show(session, [faces[2]] * 20, begin=1.0)
    assert session.options == MotionOptions(only=("eyes",), mirror=True)
    rest = np.abs(pictures[-1].image.astype(int) - pictures[-2].image).mean()
    assert rest < 0.5


def test_pictures_come_encoded_labelled_and_in_their_order(renderers, faces, no_new_threads):
    watched = []
    with LiveSession(renderers, encode=jpeg, watch=watched.append, threads=2) as session:
        show(session, faces)
    times = [picture.taken for picture in watched]
    assert times[1:] == sorted(times[1:]) and len(times) >= len(faces)
    shown = cv2.imdecode(np.frombuffer(watched[-1].encoded, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(shown.astype(int) - watched[-1].image).mean() < 4
    corner = watched[-1].image[-60:, -60:]
    assert (corner.min(2) > 240).sum() > 30  # the letters


def test_what_goes_wrong_in_a_thread_is_raised_where_pictures_are_taken(session):
    def broken() -> np.ndarray:
        raise InputError("The camera's picture is damaged; reload the page.")

    session.put(broken, 0.0)
    with pytest.raises(InputError, match="damaged"):
        for _ in range(3):
            session.take(60)


def test_the_session_ends_while_somebody_waits(renderers, no_new_threads):
    taken = []
    with LiveSession(renderers) as session:
        session.take(60)
        waiting = threading.Thread(target=lambda: taken.append(session.take()))
        waiting.start()
    waiting.join(60)
    assert taken == [None]
