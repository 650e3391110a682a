"""Drivers of every kind: files, single images, cameras."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image
from support import ASTRONAUT, CLIP, MONA_LISA, assert_refused, clip_frames, read_frames, run_animate

from portrait_anim import Animator
from portrait_anim.errors import UsageError
from portrait_anim.geometry.mesh import MEAN_FACE
from portrait_anim.geometry.pose import estimate_poses, euler_angles
from portrait_anim.landmarks import tracking
from portrait_anim.media import camera
from portrait_anim.motion.drivers import load_driver
from portrait_anim.motion.source import kind_of


def degrees_of(landmarks: np.ndarray) -> np.ndarray:
    return np.degrees(euler_angles(estimate_poses(landmarks[None], MEAN_FACE).rotation))[0]


def test_a_file_wins_over_a_motion_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert kind_of("nod") == "built-in"
    (tmp_path / "nod").write_bytes(CLIP.read_bytes())
    assert kind_of("nod") == "video"
    assert kind_of("camera:0") == "camera" and kind_of("a.npz") == "saved" and kind_of("A.JPG") == "image"


def test_an_image_as_driver_is_reached_and_held(tmp_path):
    animator = Animator()
    animator.animate([MONA_LISA], ASTRONAUT, tmp_path / "x.mp4", max_size=400)
    frames = read_frames(tmp_path / "x.mp4").astype(int)
    assert len(frames) == 50
    step = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert step[:25].max() < 6 and step[30:].max() < 0.5  # gets there without a jump, and stays
    animator.animate([MONA_LISA], ASTRONAUT, tmp_path / "x.png", max_size=400)
    picture = np.asarray(Image.open(tmp_path / "x.png")).astype(int)
    assert np.abs(picture - frames[-1]).mean() < 6
    turn = lambda image: degrees_of(tracking.find_faces(np.asarray(image).astype(np.uint8))[0].landmarks)
    assert np.abs(turn(picture) - turn(Image.open(ASTRONAUT)))[0] < 6  # yaw: that of the astronaut, not of the painting
    with pytest.raises(UsageError, match="one PNG"):
        animator.animate([MONA_LISA], "nod", tmp_path / "y.png")
    with pytest.raises(UsageError, match="--start"):
        load_driver(ASTRONAUT, start=1)


def test_cameras_that_are_not_there(tmp_path):
    done = run_animate(ASTRONAUT, "-d", "camera:99", "--end", 1, cwd=tmp_path)
    assert_refused(done, 3, "camera:99", "no such camera", folder=tmp_path)
    with pytest.raises(UsageError, match="camera:front.*camera:0"):
        kind_of("camera:front")


def test_a_camera_is_recorded_until_the_end(monkeypatch):
    """A capture that gives the clip's frames at an uneven pace, by a clock of its own, stands for the camera."""
    frames, now = clip_frames()[::2], [100.0]

    class Camera:
        def __init__(self, number):
            assert number == 0
            self.count, self.released = 0, False

        def isOpened(self):
            return True

        def get(self, _):
            return 30.0

        def read(self):
            now[0] += 0.03 if self.count % 2 else 0.07
            self.count += 1
            return True, frames[self.count - 1][..., ::-1]

        def release(self):
            self.released = True

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(camera, "time", SimpleNamespace(monotonic=lambda: now[0]))
    driver = load_driver("camera:0", end=1.0)
    seconds = len(driver.track) / float(driver.track.fps)
    assert 0.9 < seconds < 1.1 and driver.track.found.all()
    with pytest.raises(UsageError, match="--start"):
        load_driver("camera:0", start=1.0, end=2.0)
