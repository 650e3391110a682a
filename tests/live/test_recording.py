"""Recordings: the pictures where they belong in time, the sound in step, marked as all outputs are."""

import json
import subprocess

import numpy as np
import pytest
from clips import ffmpeg, noise
from support import MONA_LISA, c2pa_reads, read_frames

from portrait_anim.errors import PortraitAnimError
from portrait_anim.live import recording
from portrait_anim.live.recording import Recording
from portrait_anim.media.reading import probe
from portrait_anim.provenance.marks import SOURCE_TYPE, Marking

SIZE = (64, 48)


def grey(level: int, size=SIZE) -> np.ndarray:
    return np.full((size[1], size[0], 3), level, np.uint8)


def begin(path, begun: float = 100.0) -> Recording:
    return Recording(path, SIZE, begun, Marking([MONA_LISA], "camera"))


def levels(path) -> list[int]:
    return [round(float(frame.mean()) / 10) * 10 for frame in read_frames(path)]


def test_pictures_stay_until_the_next_one(tmp_path):
    made = begin(tmp_path / "x.mp4")
    made.add(grey(200), 99.0)  # before it begins
    for taken, level in ((99.95, 50), (100.2, 100), (100.21, 150), (100.8, 200)):
        made.add(grey(level), taken)
    done = made.finish(101.0)
    assert done.seconds == 1.0 and not done.warnings and done.path == tmp_path / "x.mp4"
    assert levels(done.path) == [50] * 5 + [100] * 1 + [150] * 14 + [200] * 5
    assert [file.name for file in tmp_path.iterdir()] == ["x.mp4"]


def test_it_is_marked_and_the_sound_is_in_step(tmp_path):
    sound = tmp_path / "sound.webm"
    ffmpeg("-f", "lavfi", "-i", "sine=1000:d=1,volume='gt(t,0.5)':eval=frame", "-c:a", "libopus", sound)
    made = begin(tmp_path / "x.mp4")
    data = sound.read_bytes()
    for place in range(0, len(data), 1000):
        made.add_sound(data[place : place + 1000])
    for t in range(25):
        made.add(grey(50 if t < 12 else 200), 100 + t / 25)
    done = made.finish(101.0)
    assert probe(done.path).has_audio and not done.warnings
    samples = np.frombuffer(ffmpeg("-i", done.path, "-f", "s16le", "-ac", "1", "-ar", "8000", "-"), np.int16)
    heard = np.flatnonzero(np.abs(samples.astype(int)) > 1000)[0] / 8000
    assert heard == pytest.approx(0.5, abs=0.05) and 11 <= levels(done.path).index(200) <= 13
    store = c2pa_reads(done.path)
    assert SOURCE_TYPE in json.dumps(store) and store["validation_state"] != "Invalid"
    assert SOURCE_TYPE.encode() in done.path.read_bytes()


def test_another_size_meanwhile_and_no_picture_after_the_first(tmp_path):
    made = begin(tmp_path / "x.mp4")
    made.add(grey(100), 100.1)
    made.add(grey(200, (32, 24)), 100.2)
    done = made.finish(100.4)
    assert levels(done.path) == [100] * 5 + [200] * 5


def test_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "MAX_SECONDS", 0.4)
    monkeypatch.setattr(recording, "MAX_SOUND", 10)
    made = begin(tmp_path / "x.mp4")
    made.add_sound(b"12345")
    made.add_sound(b"1234567890")  # too much: left out
    for t in range(50):
        made.add(grey(100), 100 + t / 25)
    sound = made._sound.name
    done = made.finish(200.0)
    assert done.seconds == pytest.approx(0.4)
    assert len(done.warnings) >= 1 and "sound" in done.warnings[0]  # five bytes are no sound
    with pytest.raises(FileNotFoundError):
        open(sound)


def test_pictures_that_the_encoder_cannot_take_in_time_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "_WAITING", 1)
    made = begin(tmp_path / "x.mp4")
    for t, frame in enumerate(noise(300)):
        made.add(frame, 100 + t / 25)
    done = made.finish(112.0)
    assert done.seconds == 12.0 and "pictures were left out" in done.warnings[0]


@pytest.mark.parametrize("case", ["nothing", "no folder"])
def test_what_cannot_be_written_is_one_sentence(tmp_path, case):
    path = tmp_path / "x.mp4"
    made = begin(path)
    if case == "no folder":
        made.add(grey(1), 100.0)
        subprocess.run(["rm", "-rf", tmp_path], check=True)
    with pytest.raises(PortraitAnimError, match="cannot be written"):
        made.finish(101.0)
