"""Reading and writing videos, as users meet it: odd files, odd names, sound, and things going wrong."""

import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from portrait_anim.errors import InputError, OutputError, UsageError
from portrait_anim.media import reading, writing
from portrait_anim.media.ffmpeg import describe
from portrait_anim.media.reading import FrameReader, probe
from portrait_anim.media.writing import VideoWriter, check_output
from portrait_anim.system.files import _machine, atomic_write

STEP = 3  # luma per frame of numbered clips
NTSC = Fraction(30000, 1001)
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "4", "-pix_fmt", "yuv420p"]


def ffmpeg(*arguments):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-nostdin", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def numbered(path, rate="25", frames=40, select=None, options=(), size="64x48"):
    """A clip whose frames tell their number by brightness."""
    source = f"color=s={size}:r={rate},format=yuv420p,geq=lum='16+{STEP}*N':cb=128:cr=128,trim=end_frame={frames}"
    if select:
        source += f",select='{select}'"
    ffmpeg("-f", "lavfi", "-i", source, "-fps_mode", "passthrough", *(options or X264), f"file:{path}")
    return path


def numbers(frames):
    return [round(float(frame.mean()) * 219 / 255 / STEP) for frame in frames]


def noise(count=8, width=64, height=48):
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def save(path, frames, fps=25, **options):
    height, width = frames[0].shape[:2]
    with VideoWriter(path, (width, height), fps, **options) as writer:
        for frame in frames:
            writer.write(frame)
    return writer


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def plain(clips):
    return numbered(clips / "plain.mp4")


@pytest.fixture(scope="module")
def flash(clips):
    """A white picture and a beep, both from 1.6 s on."""
    path = clips / "flash.mp4"
    picture = "color=black:s=32x32:r=30000/1001:d=3,geq=lum='if(gte(T,1.6),235,16)':cb=128:cr=128"
    sound = "aevalsrc='if(between(t,1.6,1.65),0.8*sin(6283*t),0)':d=3:s=44100"
    ffmpeg("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *X264, path)
    return path


# ---- reading ----


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
        return reading._frame_rate(printed, f"config in time_base: 1/90000, frame_rate: {base}")

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
        describe("closed/a.mp4", [])
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


# ---- writing ----


@pytest.mark.parametrize("name", ["a.mp4", "a.MOV", "a.webm"])
def test_colours_rate_and_tags_survive(tmp_path, name):
    colours = [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 255),
        (0, 0, 0),
        (210, 160, 130),
        (20, 90, 70),
    ]
    frames = [np.full((48, 64, 3), colour, np.uint8) for colour in colours for _ in range(2)]
    writer = save(tmp_path / name, frames, NTSC, metadata={"comment": 'made = "by" é', "model": "m1"})
    assert (writer.count, writer.warnings) == (14, [])
    assert os.listdir(tmp_path) == [name]
    reader = FrameReader(tmp_path / name)
    assert reader.fps == NTSC
    difference = np.abs(np.stack(list(reader)).astype(int) - np.stack(frames))
    assert difference.max() <= 3
    text = describe(tmp_path / name, [])
    assert "yuv420p(tv, bt709, progressive)" in text
    assert 'made = "by" é' in text
    assert "m1" in text


def test_gif(tmp_path):
    frames = [np.full((47, 63, 3), (210, 8 * i, 130), np.uint8) for i in range(12)]
    save(tmp_path / "a.gif", frames, 60, audio_from="ignored.mp4")
    reader = FrameReader(tmp_path / "a.gif")
    assert reader.size == (63, 47)
    assert len(list(reader)) == 6  # 30 of the 60 frames/s: viewers cannot show so many
    save(tmp_path / "a.gif", frames, NTSC)
    result = list(FrameReader(tmp_path / "a.gif"))
    assert np.abs(np.stack(result).astype(int) - np.stack(frames)).max() <= 8  # its palettes have few colours


def test_png_pictures(tmp_path):
    frames = noise(5, 63, 47)
    for name, first in (("50% é/", "00001.png"), ("new", "00001.png"), ("p_%03d.png", "p_001.png")):
        path = f"{tmp_path}/{name}"
        writer = save(path, frames)
        saved = sorted(writer.path.parent.glob("*.png"))
        assert len(saved) == 5
        assert saved[0].name == first
        assert np.array_equal(next(iter(FrameReader(saved[0]))), frames[0])
        with pytest.raises(OutputError, match="--force"):
            check_output(path)
        kept = writer.path.with_name("photo.png")
        kept.write_bytes(b"mine")
        save(path, frames[:2])  # no pictures of the longer run stay behind, and nothing else goes
        assert kept.read_bytes() == b"mine"
        kept.unlink()
        assert len(list(writer.path.parent.glob("*.png"))) == 2
    assert sorted(os.listdir(tmp_path)) == ["50% é", "new", "p_001.png", "p_002.png"]


@pytest.mark.parametrize("pattern", ["%05d.png", "%d.png"])
def test_only_pictures_that_continue_ours_are_removed(tmp_path, pattern):
    mine = ["20240101.png", "99999.png", "00009.png", "photo.png"]
    for name in [*mine, *(pattern % number for number in (1, 2, 3, 4))]:
        (tmp_path / name).write_bytes(b"mine")
    save(tmp_path / pattern, noise(2))
    assert sorted(os.listdir(tmp_path)) == sorted([*mine, pattern % 1, pattern % 2])
    assert all((tmp_path / name).read_bytes() == b"mine" for name in mine)


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize(
    ("name", "first"), [("a.mp4", "a.mp4"), ("p_%03d.png", "p_001.png"), ("new/", "new/00001.png")]
)
def test_what_appears_during_the_run_is_kept_without_force(tmp_path, monkeypatch, name, first, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "not permitted")))
    save(f"{tmp_path}/x{name}", noise(2), force=False)
    with (
        pytest.raises(OutputError, match="appeared while .*; use --force or another name"),
        VideoWriter(f"{tmp_path}/{name}", (64, 48), 25, force=False) as writer,
    ):
        writer.write(noise(1)[0])
        (tmp_path / first).parent.mkdir(exist_ok=True)
        (tmp_path / first).write_bytes(b"theirs")
    assert (tmp_path / first).read_bytes() == b"theirs"
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(OutputError, match="--force"):
        VideoWriter(f"{tmp_path}/{name}", (64, 48), 25, force=False)


@pytest.mark.skipif(sys.platform != "linux", reason="process numbers are not asked for elsewhere")
def test_leftovers_of_killed_runs_are_removed(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    here, elsewhere = _machine(), "00000000"
    dead, alive = f"partial-{here}-{gone.pid}-0123abcd", f"partial-{here}-{os.getppid()}-0123abcd"
    theirs, old = f"partial-{elsewhere}-{gone.pid}-0123abcd", f"partial-{elsewhere}-{gone.pid}-89abcdef"
    kept = [f".a.{alive}.mp4", f"a.{dead}.mp4", f".a.{dead}.mp4.bak", ".a.partial-x.mp4", f".a.{theirs}.mp4"]
    for name in (*kept, f".a.{dead}.mp4", f".b.{dead}.mp4", f".weights.{dead}", f".a.{old}.mp4"):
        (tmp_path / name).write_bytes(b"")
    os.utime(tmp_path / f".a.{old}.mp4", (0, 0))
    (tmp_path / f".new.{dead}.png").mkdir()
    (tmp_path / f".new.{dead}.png" / "00001.png").write_bytes(b"")
    save(tmp_path / "a.mp4", noise(1))
    save(f"{tmp_path}/new/", noise(1))
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "a.mp4", "new"])


def test_write_aside(tmp_path):
    path = tmp_path / "a.bin"
    for data in (b"first", b"second"):
        with atomic_write(path) as partial:
            partial.write_bytes(data)
            assert path.exists() == (data == b"second")
        assert path.read_bytes() == data
    with pytest.raises(RuntimeError), atomic_write(path) as partial:
        partial.write_bytes(b"third")
        raise RuntimeError
    with pytest.raises(OutputError, match="cannot be written"), atomic_write(tmp_path / "none" / "a.bin") as partial:
        partial.write_bytes(b"")
    assert path.read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_wrong_sizes_and_frames(tmp_path):
    for size in ((63, 48), (64, 47), (0, 0)):
        with pytest.raises(ValueError, match="size"):
            VideoWriter(tmp_path / "a.mp4", size, 25)
    for frame in (
        np.zeros((48, 60, 3), np.uint8),
        np.zeros((48, 64, 3), np.float32),
        np.zeros((48, 64), np.uint8),
    ):
        with (
            pytest.raises(ValueError, match="frame is"),
            VideoWriter(tmp_path / "a.mp4", (64, 48), 25) as writer,
        ):
            writer.write(frame)
    save(tmp_path / "a.webm", noise(2, 63, 47))
    assert FrameReader(tmp_path / "a.webm").size == (63, 47)
    flipped = noise(1)[0][:, ::-1]  # not contiguous
    save(tmp_path / "flipped.webm", [flipped])


# ---- sound ----


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
    real = writing.start_ffmpeg

    def full(arguments, log, **pipes):
        if "1:a:0" in arguments:
            log.write(f"[out#0] Error writing trailer: {reason}\nConversion failed!\n".encode())
            log.flush()
        return real(arguments, log, **pipes)

    monkeypatch.setattr(writing, "start_ffmpeg", full)
    with pytest.raises(OutputError, match=reason):
        save(tmp_path / "a.mp4", noise(), audio_from=flash)
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"old"


# ---- outputs that cannot be, and encoders that fail ----


@pytest.mark.parametrize("name", ["", " ", "-", ".mp4", "clip.", ".", ".."])
def test_names_that_are_none(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is no name for an output"):
        check_output(name)


def test_outputs_the_system_refuses(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    for name in ("a" * 300 + ".mp4", "a" * 300 + "/", "a\0.mp4", "loop.mp4", "loop.mp4/b.mp4"):
        with pytest.raises(OutputError, match="cannot be written"):
            check_output(f"{tmp_path}/{name}", force=True)
    for name in ("file/x.mp4", "file/frames/", "file/"):
        with pytest.raises(OutputError, match="file: is a file, not a folder"):
            check_output(f"{tmp_path}/{name}")
    assert check_output(f"{tmp_path}/with.dot/").parent.name == "with.dot"


@pytest.mark.parametrize("name", ["a.avi", "a.jpg", "a.png", "out_%s.png", "%d_%d.png"])
def test_unknown_kinds(tmp_path, name):
    with pytest.raises(UsageError, match="frames/"):
        check_output(tmp_path / name)


def test_check_output(tmp_path):
    path = tmp_path / "a.mp4"
    assert check_output(path) == path.resolve()
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="--force"):
        check_output(path)
    assert check_output(path, force=True) == path
    assert check_output(f"{tmp_path}/v1.2/") == tmp_path / "v1.2" / "%05d.png"
    (tmp_path / "b.mp4").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path / "b.mp4")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        check_output(f"{path}/")
    for name in ("none/a.mp4", "none/frames/"):
        with pytest.raises(OutputError, match="there is no folder"):
            VideoWriter(f"{tmp_path}/{name}", (64, 48), 25)
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mp4"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that not even root can write to")
def test_folder_that_cannot_be_written():
    with pytest.raises(OutputError, match="cannot write to /proc"):
        check_output("/proc/a.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "frames/", "p_%05d.png"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_appears_after_an_exception(tmp_path, name, error):
    (tmp_path / "a.mp4").write_bytes(b"old")
    with pytest.raises(error), VideoWriter(f"{tmp_path}/{name}", (64, 48), 25) as writer:
        writer.write(noise(1)[0])
        assert len(os.listdir(tmp_path)) == 2  # a hidden one besides
        raise error
    assert writer._process.poll() is not None
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"old"


@pytest.mark.parametrize("what", ["probe", "read", "write"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_ffmpeg_is_started_leaves_no_process(plain, tmp_path, monkeypatch, what, number):
    """The handler raises, as those of the command do, between the start of the process and its use."""
    started, start = [], subprocess.Popen._execute_child

    def interrupted(*_):
        raise KeyboardInterrupt

    def signalled(process, *arguments):
        start(process, *arguments)
        started.append(process)
        signal.raise_signal(number)

    reader = FrameReader(plain)
    os.utime(plain)  # else probe would still know it
    monkeypatch.setattr(subprocess.Popen, "_execute_child", signalled)
    before = signal.signal(number, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            {
                "probe": lambda: probe(plain),
                "read": lambda: next(iter(reader)),
                "write": lambda: save(tmp_path / "x.mp4", noise()),
            }[what]()
        assert signal.getsignal(number) is interrupted
    finally:
        signal.signal(number, before)
    assert len(started) == 1 and started[0].returncode is not None  # ended, and waited for
    assert not list(tmp_path.iterdir())


def test_no_frames(tmp_path):
    for name in ("a.mp4", "frames/", "a.gif"):
        with pytest.raises(OutputError, match="no frame"), VideoWriter(f"{tmp_path}/{name}", (64, 48), 25):
            pass
    assert os.listdir(tmp_path) == []


def test_encoder_killed(tmp_path):
    with (
        pytest.raises(OutputError, match=r"a\.mp4: cannot be written"),
        VideoWriter(tmp_path / "a.mp4", (640, 480), 25) as writer,
    ):
        for frame in noise(20, 640, 480):
            writer.write(frame)
            writer._process.kill()
    assert os.listdir(tmp_path) == []


def test_encoder_refuses(tmp_path):
    with pytest.raises(OutputError, match="crf|encoder"):
        save(tmp_path / "a.mp4", noise(20), crf="best")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="uses a shell script as encoder")
def test_last_words_of_a_dying_encoder_without_deadlock(tmp_path, monkeypatch):
    fake = tmp_path / "ffmpeg"
    fake.write_text(
        "#!/bin/sh\nhead -c 99999 >/dev/null\n"
        "head -c 999999 /dev/zero | tr '\\0' x >&2\necho >&2\n"  # more than a pipe would hold
        "echo '[mp4 @ 0x1] No space left on device' >&2\nexit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(fake))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\)"):
        save(out / "a.mp4", noise(20, 640, 480))
    assert os.listdir(out) == []


def test_long_names(tmp_path):
    name = "é" * 120 + ".mp4"  # 244 of the 255 bytes that file systems allow
    save(tmp_path / name, noise(2), audio_from=tmp_path / name)
    assert os.listdir(tmp_path) == [name]
