"""Writing videos and pictures: what comes back is what was written, and what may not be written is refused."""

import os
import sys

import cv2
import numpy as np
import pytest
from clips import NTSC, noise, save, writer_of
from support import MONA_LISA

from portrait_anim.errors import OutputError, UsageError
from portrait_anim.media import reading as video
from portrait_anim.media.reading import FrameReader
from portrait_anim.media.writing import yuv420
from portrait_anim.system.files import check_output, check_preview


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
    text = video.describe(tmp_path / name, [])
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
    for name, first in (("50% é/", "00001.png"), ("new/", "00001.png"), ("p_%03d.png", "p_001.png")):
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
        writer_of(f"{tmp_path}/{name}", (64, 48), 25, force=False) as writer,
    ):
        writer.write(noise(1)[0])
        (tmp_path / first).parent.mkdir(exist_ok=True)
        (tmp_path / first).write_bytes(b"theirs")
    assert (tmp_path / first).read_bytes() == b"theirs"
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(OutputError, match="--force"):
        writer_of(f"{tmp_path}/{name}", (64, 48), 25, force=False)


def test_wrong_sizes_and_frames(tmp_path):
    for size in ((63, 48), (64, 47), (0, 0)):
        with pytest.raises(ValueError, match="size"):
            writer_of(tmp_path / "a.mp4", size, 25)
    for frame in (
        np.zeros((48, 60, 3), np.uint8),
        np.zeros((48, 64, 3), np.float32),
        np.zeros((48, 64), np.uint8),
    ):
        with (
            pytest.raises(ValueError, match="frame is"),
            writer_of(tmp_path / "a.mp4", (64, 48), 25) as writer,
        ):
            writer.write(frame)
    save(tmp_path / "a.webm", noise(2, 63, 47))
    assert FrameReader(tmp_path / "a.webm").size == (63, 47)
    flipped = noise(1)[0][:, ::-1]  # not contiguous
    save(tmp_path / "flipped.webm", [flipped])


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


def test_a_name_without_a_suffix_means_nothing_unless_it_is_a_folder(tmp_path):
    with pytest.raises(UsageError, match=r"frames: does not say .* use .*frames.mp4 for a video, or .*frames/ for a"):
        check_output(tmp_path / "frames")
    with pytest.raises(UsageError, match="does not say"):
        check_preview(tmp_path / "frames")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file: does not say"):
        check_output(tmp_path / "file", force=True)
    (tmp_path / "frames").mkdir()
    for name in ("frames", "frames/", "other/"):
        assert check_output(f"{tmp_path}/{name}") == tmp_path / name.rstrip("/") / "%05d.png"
    assert sorted(os.listdir(tmp_path)) == ["file", "frames"]


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
            writer_of(f"{tmp_path}/{name}", (64, 48), 25)
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mp4"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that not even root can write to")
def test_folder_that_cannot_be_written():
    with pytest.raises(OutputError, match="cannot write to /proc"):
        check_output("/proc/a.mp4")


def test_no_frames(tmp_path):
    for name in ("a.mp4", "frames/", "a.gif"):
        with pytest.raises(OutputError, match="no frame"), writer_of(f"{tmp_path}/{name}", (64, 48), 25):
            pass
    assert os.listdir(tmp_path) == []


def test_long_names(tmp_path):
    name = "é" * 120 + ".mp4"  # 244 of the 255 bytes that file systems allow
    save(tmp_path / name, noise(2), audio_from=tmp_path / name)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("size", [(96, 128), (97, 131)])
def test_encoder_gets_the_colours_of_hd_video(size):
    frame = cv2.resize(cv2.imread(str(MONA_LISA))[200:500, 200:600, ::-1], size[::-1])
    y, cb, cr = yuv420(frame)
    r, g, b = np.moveaxis(frame.astype(float), -1, 0)
    luma = 0.2126 * r + 0.7152 * g + 0.0722 * b
    assert y.shape == size and np.abs(y - (16 + luma * 219 / 255)).max() < 1
    half = lambda a: cv2.resize(
        np.pad(a, [(0, s % 2) for s in size], "edge"), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA
    )
    for plane, colour, largest in ((cb, b, 1.8556), (cr, r, 1.5748)):
        assert np.abs(plane - (128 + half(colour - luma) / largest * 224 / 255)).max() < 1.5
