"""The sound of a driver stays with the picture, and is left out with a warning where it cannot."""

import os

import numpy as np
import pytest
from clips import ffmpeg, noise, save

from portrait_anim.errors import OutputError
from portrait_anim.media import writing as encode
from portrait_anim.media.reading import FrameReader, probe


def beep(path):
    """When the beep starts, and how long the sound is, in seconds."""
    mono = [
        "-map",
        "0:a:0",
        "-af",
        "aresample=async=1:first_pts=0",
        "-ac",
        "1",
        "-ar",
        "16000",
        "-f",
        "f32le",
        "-",
    ]
    sound = np.frombuffer(ffmpeg("-i", path, *mono), np.float32)
    return np.flatnonzero(np.abs(sound) > 0.2)[0] / 16000, len(sound) / 16000


def whitening(path):
    """When the picture turns white, in seconds."""
    reader = FrameReader(path)
    return [frame.mean() > 128 for frame in reader].index(True) / reader.fps


@pytest.mark.parametrize(
    ("codec", "name", "start"),
    [
        ("aac", "a.mp4", 0.0),
        ("aac", "a.mp4", 0.7),
        ("libmp3lame", "a.mov", 0.0),
        ("libopus", "a.mp4", 0.0),
        ("libopus", "a.webm", 0.0),
        ("aac", "a.webm", 1.234),
    ],
)
def test_sound_stays_with_the_picture(flash, tmp_path, codec, name, start):
    driver = tmp_path / "driver.mkv"
    ffmpeg("-i", flash, "-c:v", "copy", "-c:a", codec, driver)
    with FrameReader(driver, start=start, end=2.5) as reader:
        writer = save(tmp_path / name, list(reader), reader.fps, audio_from=driver, audio_start=start)
    assert writer.warnings == []
    at, length = beep(tmp_path / name)
    assert at == pytest.approx(beep(driver)[0] - start, abs=0.01)
    assert length == pytest.approx(2.5 - start, abs=0.06)
    assert whitening(tmp_path / name) == pytest.approx(whitening(driver) - start, abs=0.034)
    assert len(list(FrameReader(tmp_path / name))) == writer.count


def test_sound_that_starts_late(flash, tmp_path):
    driver = tmp_path / "late.mp4"
    ffmpeg("-itsoffset", "0.5", "-i", flash, "-i", flash, "-map", "1:v", "-map", "0:a", "-c", "copy", driver)
    for start in (0.0, 0.3):
        save(tmp_path / "a.mp4", noise(60), audio_from=driver, audio_start=start)
        assert beep(tmp_path / "a.mp4")[0] == pytest.approx(2.1 - start, abs=0.025)


def test_broken_or_missing_sound_is_a_warning(flash, plain, tmp_path):
    broken = tmp_path / "broken.mp4"
    ffmpeg("-i", flash, "-map", "0:a", "-c", "copy", "-bsf:a", "noise=amount=1", broken)
    for driver in (broken, tmp_path / "gone.mp4"):
        writer = save(tmp_path / "a.mp4", noise(), audio_from=driver)
        assert len(writer.warnings) == 1
        assert "no sound" in writer.warnings[0]
        assert driver.name in writer.warnings[0]
        assert len(list(FrameReader(tmp_path / "a.mp4"))) == 8
    assert save(tmp_path / "a.mp4", noise(), audio_from=plain).warnings == []  # silent: nothing to warn of
    assert not probe(tmp_path / "a.mp4").has_audio
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "broken.mp4"]


@pytest.mark.parametrize("reason", ["No space left on device", "Disk quota exceeded", "File too large"])
def test_a_disk_that_fills_up_while_sound_is_added(flash, tmp_path, monkeypatch, reason):
    (tmp_path / "a.mp4").write_bytes(b"old")
    real = encode.start_ffmpeg

    def full(arguments, log, **pipes):
        if "1:a:0" in arguments:
            log.write(f"[out#0] Error writing trailer: {reason}\nConversion failed!\n".encode())
            log.flush()
        return real(arguments, log, **pipes)

    monkeypatch.setattr(encode, "start_ffmpeg", full)
    with pytest.raises(OutputError, match=reason):
        save(tmp_path / "a.mp4", noise(), audio_from=flash)
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"old"
