"""Clips that several tests read."""

import pytest
from clips import X264, ffmpeg, numbered


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="session")
def plain(clips):
    return numbered(clips / "plain.mp4")


@pytest.fixture(scope="session")
def flash(clips):
    """A white picture and a beep, both from 1.6 s on."""
    path = clips / "flash.mp4"
    picture = "color=black:s=32x32:r=30000/1001:d=3,geq=lum='if(gte(T,1.6),235,16)':cb=128:cr=128"
    sound = "aevalsrc='if(between(t,1.6,1.65),0.8*sin(6283*t),0)':d=3:s=44100"
    ffmpeg("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *X264, path)
    return path
