"""Without a browser: the command, a camera of this machine, the window and the virtual camera."""

import contextlib
import os
import sys
import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from support import MONA_LISA, assert_refused, linux, run_tool

from portrait_anim.errors import InputError, UsageError
from portrait_anim.live import screens
from portrait_anim.live.screens import VirtualCamera, Window, show_live
from portrait_anim.live.session import LiveSession
from portrait_anim.media import camera


class Capture:
    """Gives pictures as cv2.VideoCapture does, until it is unplugged."""

    def __init__(self, faces: np.ndarray):
        self.faces, self.count, self.unplugged, self.released = faces, 0, threading.Event(), False

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        return True

    def read(self):
        self.unplugged.wait(0.01)
        self.count += 1
        return not self.unplugged.is_set(), self.faces[self.count % len(self.faces)][..., ::-1]

    def release(self) -> None:
        self.released = True


class Screen:
    """Keeps what it is shown, and presses keys: one for each picture."""

    def __init__(self, keys: str = "", moment=lambda screen: None):
        self.keys, self.moment, self.shown = list(keys), moment, []

    def show(self, image):
        if image is None:
            return ""
        self.shown.append(image)
        self.moment(self)
        return self.keys.pop(0) if self.keys else ""


@pytest.fixture
def capture(faces, monkeypatch):
    made = Capture(faces)
    monkeypatch.setattr(camera.cv2, "VideoCapture", lambda number: made)
    return made


def test_a_camera_moves_the_portrait_until_the_user_ends_it(renderers, capture, no_new_threads):
    said = []
    with LiveSession(renderers, rate=0.1) as session:
        mirror = session.options.mirror
        screen, other = Screen("..c..m..q"), Screen()
        show_live(session, "camera:0", [screen, other], said.append)
        assert session.options.mirror is not mirror
    assert len(screen.shown) == len(other.shown) == 9 and capture.released
    assert any("500x500 px" in text for text in said)
    assert np.abs(screen.shown[-1].astype(int) - screen.shown[0]).mean() > 0.1


def test_a_camera_that_is_unplugged(renderers, capture, no_new_threads):
    unplug = lambda screen: capture.unplugged.set() if len(screen.shown) == 3 else None
    with (
        LiveSession(renderers, rate=0.1) as session,
        pytest.raises(InputError, match="no more pictures"),
    ):
        show_live(session, "camera:0", [Screen(moment=unplug)], lambda text: None)
    assert capture.released


def test_the_news_are_told_once(renderers, monkeypatch):
    said, now = [], [0.0]
    monkeypatch.setattr(screens, "time", SimpleNamespace(monotonic=lambda: now[0]))
    news = screens._News(said.append)
    status = SimpleNamespace(size=(500, 500), shown=1, given=1, wanted=24.0, has_face=True, holds=True, capacity=9.0)
    session = SimpleNamespace(status=lambda: status)
    for change in ({}, {}, {"has_face": False}, {}, {"has_face": True}, {"size": (384, 384), "holds": False}, {}):
        vars(status).update(change)
        now[0] += 2
        news.tell(session)
    assert said == [
        "500x500 px, 24 pictures/s wanted",
        "no face is seen; the portrait waits",
        "the face is seen again",
        "384x384 px, 24 pictures/s wanted",
        "this machine makes 9 pictures/s, 24 were wanted",
    ]


def test_the_virtual_camera_gets_pictures_of_one_size(monkeypatch):
    sent = []
    device = SimpleNamespace(device="/dev/video9", send=sent.append, close=lambda: sent.append(None))
    made = SimpleNamespace(Camera=lambda width, height, fps: device if (width, height, fps) == (64, 48, 24) else None)
    monkeypatch.setitem(sys.modules, "pyvirtualcam", made)
    screen = VirtualCamera((64, 48), 24.0)
    assert screen.name == "/dev/video9"
    for image in (np.full((48, 64, 3), 9, np.uint8), None, np.full((24, 32, 3), 5, np.uint8)):
        assert screen.show(image) == ""
    screen.close()
    assert [None if frame is None else (frame.shape, int(frame.mean())) for frame in sent] == [
        ((48, 64, 3), 9), ((48, 64, 3), 9), ((48, 64, 3), 5), None,
    ]  # fmt: skip


def test_a_virtual_camera_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(UsageError, match=r"pyvirtualcam, which is not installed.*pip install '\.\[live\]'"):
        VirtualCamera((64, 48), 24.0)


def test_the_window_shows_colours_and_says_which_key(monkeypatch):
    shown, keys, visible = [], [ord("c"), 255, 27, 255], [1.0, 1.0, 1.0, 0.0]
    monkeypatch.setattr(screens, "_check_windows", lambda: None)
    for name, done in {
        "namedWindow": lambda *given: None,
        "resizeWindow": lambda title, width, height: shown.append((width, height)),
        "imshow": lambda title, image: shown.append((image.shape, image[0, 0].tolist())),
        "waitKey": lambda wait: keys.pop(0),
        "getWindowProperty": lambda *given: visible.pop(0),
        "destroyAllWindows": lambda: shown.append("closed"),
    }.items():
        monkeypatch.setattr(cv2, name, done)
    window = Window("x")
    image = np.full((48, 64, 3), (1, 2, 3), np.uint8)
    small = np.full((24, 32, 3), (1, 2, 3), np.uint8)
    assert [window.show(image), window.show(None), window.show(small), window.show(None)] == ["c", "", "q", "q"]
    window.close()
    picture = ((48, 64, 3), [3, 2, 1])
    assert shown == [(64, 48), picture, picture, "closed"]


@linux
def test_where_there_is_no_display(monkeypatch, tmp_path):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UsageError, match="there is no display here"):
        Window("x")
    monkeypatch.setenv("DISPLAY", ":4711")  # Qt would end the process
    with pytest.raises(UsageError, match="the display cannot be used"):
        Window("x")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # an OpenCV without windows
    (tmp_path / "cv2.py").write_text("def namedWindow(name): raise Exception('The function is not implemented.')")
    with pytest.raises(UsageError, match="opencv-python-headless"):
        Window("x")


def test_the_command_refuses_what_cannot_be(tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "notes.jpg").write_text("no picture")
    here = tmp_path / "here"
    here.mkdir()
    for arguments, code, words in [
        ([], 2, ["A portrait is needed"]),
        (["nothing.jpg"], 3, ["nothing.jpg: no such file"]),
        ([tmp_path / "notes.jpg"], 3, ["notes.jpg: not an image"]),
        ([MONA_LISA, "--camera", 0], 2, ["--camera goes with --window or --virtual-camera"]),
        ([MONA_LISA, "--camera", -1, "--window"], 2, ["--camera -1"]),
        ([MONA_LISA, "--rate", 900], 2, ["--rate 900"]),
        ([MONA_LISA, "--threads", 0], 2, ["--threads 0"]),
        ([MONA_LISA, "--strength", 5], 2, ["--strength 5"]),
        ([MONA_LISA, "--only", "ears"], 2, ["--only ears"]),
        ([MONA_LISA, "--tracker", "nose"], 2, ["--tracker nose"]),
        ([MONA_LISA, "--port", 99999], 2, ["--port 99999"]),
        ([MONA_LISA, "--person", "x.safetensors"], 2, ["--person stands for the photos"]),
        (["--person", "x.safetensors"], 3, ["x.safetensors: there is no such person file"]),
        ([MONA_LISA, "--weights", "x.safetensors"], 3, ["x.safetensors"]),
        ([MONA_LISA, "--sign-cert", "x.pem"], 2, ["--sign-cert and --sign-key belong together"]),
    ]:
        assert_refused(run_tool("live", "--no-browser", "--port", 0, *arguments, cwd=here), code, *words, folder=here)
    if sys.platform == "linux":
        assert_refused(run_tool("live", MONA_LISA, "--window", cwd=here), 2, "there is no display", folder=here)
    if not os.path.exists("/dev/video0"):
        with contextlib.suppress(ModuleNotFoundError):
            import pyvirtualcam  # noqa: F401

            done = run_tool("live", MONA_LISA, "--virtual-camera", cwd=here)
            assert_refused(done, 2, "this system has no virtual camera", folder=here)
