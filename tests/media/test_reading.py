"""Reading videos as users meet them: odd rates, odd files, odd names, and files that are no videos."""

import os
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import NTSC, X264, ffmpeg, noise, numbered, numbers, save
from support import write_video

from portrait_anim.errors import InputError, OutputError, UsageError
from portrait_anim.media import reading as video
from portrait_anim.media.reading import FrameReader, probe
from portrait_anim.system.files import check_output


@pytest.mark.parametrize(
    ("rate", "expected", "suffix"),
    [
        ("25", 25, ".mp4"),
        ("30000/1001", NTSC, ".mp4"),
        ("30000/1001", NTSC, ".webm"),
        ("24000/1001", Fraction(24000, 1001), ".webm"),
        ("60000/1001", Fraction(60000, 1001), ".mp4"),
        ("25/2", Fraction(25, 2), ".mp4"),
    ],
)
def test_rate_and_every_frame_are_kept(tmp_path, rate, expected, suffix):
    options = X264 if suffix == ".mp4" else ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"]
    reader = FrameReader(numbered(tmp_path / f"a{suffix}", rate, options=options))
    frames = list(reader)
    assert reader.fps == reader.info.fps == expected
    assert numbers(frames) == list(range(40))
    assert reader.expected_frames == pytest.approx(40, abs=1)
    assert reader.warnings == []
    assert reader.size == (64, 48) == (reader.info.width, reader.info.height)
    assert all(f.shape == (48, 64, 3) and f.dtype == np.uint8 and f.flags.c_contiguous for f in frames)


def test_variable_rate_becomes_constant_in_time(tmp_path):
    kept = [*range(10), 15, 16, *range(22, 40)]
    path = numbered(tmp_path / "vfr.mp4", select="lt(n,10)+between(n,15,16)+gte(n,22)")
    seen = [max(k for k in kept if k <= i) for i in range(40)]
    assert FrameReader(path).fps == 25
    assert numbers(FrameReader(path)) == seen
    assert numbers(FrameReader(path, start=0.48, end=1.0)) == seen[12:25]  # starts while frame 9 is still seen


def test_times_between_the_places_of_the_output(tmp_path):
    """WebM rounds times to 1 ms: half a frame off, some seem to lie nearer to one frame, some to the next."""
    options = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"]
    path = numbered(tmp_path / "a.webm", "30000/1001", options=options)
    assert numbers(FrameReader(path, start=0.5 * 1001 / 30000)) == list(range(1, 40))


def test_clock_rates_and_missing_rates_are_not_taken_for_frame_rates(tmp_path):
    def rate(base, printed):
        return video._frame_rate(printed, f"config in time_base: 1/90000, frame_rate: {base}")

    assert rate("90000/1", "h264, 29.98 fps, 90k tbr") == Fraction(30000, 1001)
    assert rate("50/1", "mpeg2video, 25 fps, 50 tbr") == 25
    assert rate("1000/1", "vp8, 1k fps, 1k tbr") == rate("0/0", "vp8, 1k tbr") == 30
    assert rate("0/0", "vp8, 12.50 fps") == Fraction(25, 2)
    path = tmp_path / "live.webm"  # as browsers record: no duration, no rate
    path.write_bytes(
        ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:r=30:d=1", "-c:v", "libvpx", "-f", "webm", "-live", "1", "-")
    )
    reader = FrameReader(path)
    assert (reader.info.duration, reader.expected_frames, reader.fps) == (None, None, 30)
    assert len(list(reader)) == 30


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])  # TS has no index: seeking in it is rough
def test_start_and_end_are_exact(tmp_path, suffix):
    path = numbered(tmp_path / f"a{suffix}", frames=70, options=[*X264, "-g", "30"])
    with FrameReader(path, start=1.2, end=2.0) as reader:
        assert numbers(reader) == list(range(30, 50))
        assert reader.expected_frames == 20
        assert numbers(reader) == list(range(30, 50))  # again from the start
    assert numbers(FrameReader(path, end=0.4)) == list(range(10))
    assert numbers(FrameReader(path, start=2.4, end=99)) == list(range(60, 70))


def test_another_rate(plain):
    assert numbers(FrameReader(plain, fps=Fraction(25, 2))) == list(range(0, 40, 2))
    assert numbers(FrameReader(plain, fps=50, start=0.4)) == [i // 2 for i in range(20, 80)]


@pytest.mark.parametrize(
    "options",
    [{"start": 1, "end": 1}, {"start": -1}, {"end": 0}, {"fps": 0}, {"fps": 1000}, {"max_side": 1}]
    + [{"end": float("inf")}, {"end": float("nan")}, {"start": float("nan")}, {"fps": 0.001}, {"fps": float("nan")}],
)
def test_impossible_options(plain, options):
    with pytest.raises(UsageError):
        FrameReader(plain, **options)


def test_an_end_far_away_is_the_end(plain):
    reader = FrameReader(plain, start=0.4, end=1e300)
    assert reader.expected_frames == len(list(reader)) == 30


def test_a_rate_that_is_not_believed_is_told(tmp_path):
    path = numbered(tmp_path / "a.mp4", "1000")
    reader = FrameReader(path)
    assert reader.fps == 30
    assert len(reader.warnings) == 1
    assert "a.mp4: says 1000 frames/s, which is taken as 30" in reader.warnings[0]
    assert FrameReader(path, fps=25).warnings == []


def test_start_beyond_the_end(plain):
    with pytest.raises(InputError, match=r"plain\.mp4: start at 5 s is beyond its end at 1\.6 s"):
        FrameReader(plain, start=5)


def test_rotation_and_pixel_shape(plain, tmp_path):
    ffmpeg("-display_rotation", "90", "-i", plain, "-c", "copy", tmp_path / "turned.mp4")
    reader = FrameReader(tmp_path / "turned.mp4")
    assert reader.size == (48, 64)
    assert next(iter(reader)).shape == (64, 48, 3)
    left = np.zeros((48, 64, 3), np.uint8)
    left[:, :32] = 255
    save(tmp_path / "left.mp4", [left])
    ffmpeg("-display_rotation", "90", "-i", tmp_path / "left.mp4", "-c", "copy", tmp_path / "up.mp4")
    frame = next(iter(FrameReader(tmp_path / "up.mp4")))
    assert frame[-24:].mean() > 240  # turned to the left by 90 degrees: what was left is at the bottom
    assert frame[:24].mean() < 15
    ffmpeg("-i", plain, "-vf", "setsar=2", *X264, tmp_path / "wide.mp4")
    assert probe(tmp_path / "wide.mp4").width == 128


def test_max_side(tmp_path):
    path = numbered(tmp_path / "a.mp4", frames=2, size="160x90")
    for side, size in ((64, (64, 36)), (63, (62, 34)), (160, (160, 90)), (2, (2, 2))):
        reader = FrameReader(path, max_side=side)
        assert reader.size == size
        assert [frame.shape for frame in reader] == [(size[1], size[0], 3)] * 2


def test_gif_as_driver(tmp_path):
    path = tmp_path / "a.gif"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:r=100/3:d=1", path)
    reader = FrameReader(path)
    assert reader.fps == Fraction(100, 3)
    assert len(list(reader)) == 34


@pytest.mark.parametrize("name", ["-x.mp4", "a:b.mp4", "frame%03d.mp4", 'it\'s "q" é 日本.mp4', "file:x.mp4", ".h.mp4"])
def test_names(plain, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(plain.read_bytes())
    assert len(list(FrameReader(name))) == 40
    assert save(name, noise(3), audio_from=name).path == tmp_path / name
    assert len(list(FrameReader(name))) == 3
    assert os.listdir() == [name]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "is empty"), (b"hello\n" * 99, "not a video"), ("folder", "is a folder")],
)
def test_not_a_video(tmp_path, content, message):
    path = tmp_path / "clip.mp4"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"clip\.mp4: .*{message}"):
        probe(path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs special files")
def test_drivers_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    for path, message in (
        (tmp_path / "pipe.mp4", "is not an ordinary file"),
        ("/dev/null", "is not an ordinary file"),
        ("http://example.org/a.mp4", "http://example.org/a.mp4: .*give a local file"),
        (Path("http://example.org/a.mp4"), "give a local file"),
        (tmp_path / "loop.mp4", "cannot be read"),
        ("a" * 300 + ".mp4", "cannot be read"),
        ("a\0.mp4", "cannot be read"),
        ("/dev/null/a.mp4", "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            FrameReader(path)


def test_folders_that_cannot_be_searched(monkeypatch):
    stat = os.stat

    def closed(path, **options):
        if "closed" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", closed)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        video.describe("closed/a.mp4", [])
    with pytest.raises(OutputError, match=r"cannot be written \(Permission denied\)"):
        check_output("closed/a.mp4")


def test_text_is_not_played_as_art(tmp_path):
    (tmp_path / "notes.txt").write_text("hello\n" * 99)
    with pytest.raises(InputError, match="not a video"):
        probe(tmp_path / "notes.txt")


def test_sound_only_even_with_a_cover_picture(flash, tmp_path):
    ffmpeg("-f", "lavfi", "-i", "color=red:s=32x32", "-frames:v", "1", tmp_path / "cover.png")
    cover = ["-i", tmp_path / "cover.png", "-map", "0:a", "-map", "1:v", "-disposition:v", "attached_pic"]
    ffmpeg("-i", flash, *cover, "-c", "copy", tmp_path / "song.m4a")
    with pytest.raises(InputError, match="has sound but no picture"):
        probe(tmp_path / "song.m4a")


def test_truncated(tmp_path):
    path = tmp_path / "clip.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=160x120:r=25:d=4", *X264, "-movflags", "+faststart", path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    reader = FrameReader(path)
    count = len(list(reader))
    assert 20 < count < 80
    assert len(reader.warnings) == 1
    assert f"clip.mp4: stops early after frame {count} of about 100 (truncated file?)" in reader.warnings[0]
    path.write_bytes(whole[: whole.index(b"mdat") + 20])  # the index is whole, no picture is
    with pytest.raises(InputError, match="no frame can be decoded"):
        FrameReader(path)
    numbered(path)
    path.write_bytes(path.read_bytes()[:-200])  # the index comes last, as in an interrupted recording
    with pytest.raises(InputError, match="incomplete"):
        FrameReader(path)


def test_picture_ends_before_start(flash, tmp_path):
    path = tmp_path / "short.mp4"
    ffmpeg("-t", "1", "-i", flash, "-i", flash, "-map", "0:v", "-map", "1:a", "-c", "copy", path)
    with pytest.raises(InputError, match="no frame could be read after 2 s"):
        list(FrameReader(path, start=2))


def test_leaving_early_ends_the_child(plain):
    reader = FrameReader(plain)
    for _ in reader:
        child = reader._process
        break
    assert child.poll() is not None
    with reader:
        next(iter(reader))
        child = reader._process
    assert child.poll() is not None


def test_a_video_is_looked_into_once_until_it_changes(tmp_path, monkeypatch):
    asked, describe = [], video.describe
    monkeypatch.setattr(video, "describe", lambda path, output: (asked.append(path), describe(path, output))[1])
    path = tmp_path / "a.mp4"
    for size in (64, 96):
        write_video(path, np.full((3, size, size, 3), size, np.uint8))
        assert [video.probe(path).width, video.FrameReader(path).info.height] == [size, size]
    assert len(asked) == 2
    path.write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        video.probe(path)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        video.probe(path)
