"""The trackers: which is asked, what they need, and what they leave as it was."""

import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support import ASTRONAUT

from portrait_anim.errors import InputError
from portrait_anim.geometry.mesh import MEAN_FACE
from portrait_anim.landmarks import tracking
from portrait_anim.landmarks.tracking import FaceAlignmentTracker


def test_face_alignment_without_its_networks_says_so(tmp_path, monkeypatch):
    """Its networks are never there in CI and the network is refused: one clear sentence."""

    def refuse(*_):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError, match="downloads its networks at first use.*--tracker mediapipe"):
        FaceAlignmentTracker()


def test_auto_asks_the_second_tracker_only_when_it_is_there(monkeypatch):
    blank = np.full((200, 200, 3), 90, np.uint8)
    asked = []

    class Second:
        def __init__(self):
            asked.append(1)

        def faces(self, image):
            return [tracking.Face(MEAN_FACE * 100 + 100)]

    monkeypatch.setattr(tracking, "FaceAlignmentTracker", Second)
    monkeypatch.setattr(tracking, "has_face_alignment", lambda: False)
    assert tracking.find_faces(blank) == [] and not asked
    assert "downloads" in tracking.no_face_advice("auto")
    monkeypatch.setattr(tracking, "has_face_alignment", lambda: True)
    assert len(tracking.find_faces(blank)) == 1 and asked
    assert len(tracking.find_faces(np.asarray(Image.open(ASTRONAUT)))) == 1 and len(asked) == 1


def test_tracking_needs_no_matplotlib_and_leaves_it_to_others():
    code = f"""
import sys
from portrait_anim.portrait.layers import matte
from portrait_anim.media.photo import load_photo
from portrait_anim.landmarks.tracking import find_faces
photo = load_photo({str(ASTRONAUT)!r})
assert len(find_faces(photo)) == 1 and matte(photo).max() == 1
assert not [name for name in sys.modules if name.startswith("matplotlib")]
import matplotlib.pyplot as plt
assert callable(plt.figure)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
