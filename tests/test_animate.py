"""`animate` as a user runs it, on the bundled examples with the shipped weights."""

import re
import signal
from fractions import Fraction

import numpy as np
import pytest
from conftest import (
    ASTRONAUT,
    CLIP,
    MONA_LISA,
    PATIENCE,
    assert_refused,
    read_frames,
    run_animate,
    save_image,
    start_python,
    track,
    until,
    write_video,
)
from PIL import Image

from portrait_anim.geometry.mesh import MEAN_FACE, openness
from portrait_anim.geometry.pose import estimate_poses
from portrait_anim.media.photo import fit_size, load_photo
from portrait_anim.media.reading import probe
from portrait_anim.portrait.portrait import Portrait


def yaw(landmarks: np.ndarray) -> np.ndarray:
    rotation = estimate_poses(landmarks, MEAN_FACE).rotation
    return np.arctan2(rotation[:, 0, 2], rotation[:, 2, 2])


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


# ---------------------------------------------------------------- the bundled pair


def test_output_has_rate_length_sound_and_size_of_its_sources(bundled):
    output, done = bundled
    made, driver = probe(output), probe(CLIP)
    assert (made.width, made.height) == (742, 1154)  # the photo's own size, made even
    assert made.fps == driver.fps == Fraction(25)
    assert made.has_audio
    assert len(read_frames(output)) == len(read_frames(CLIP))
    assert abs(made.duration - driver.duration) < 0.1
    assert re.fullmatch(r"mona_lisa--clip.mp4: 742x1154, 215 frames in [\d.]+ s \([\d.]+ frames/s\)\n", done.stdout)
    assert [p.name for p in output.parent.iterdir()] == [output.name]  # no temporary files stay


def test_the_drivers_motion_arrives(bundled):
    made, driver = track(bundled[0]), track(CLIP)
    assert made.found.mean() > 0.98
    mouth = correlation(openness(made.landmarks)[:, 0], openness(driver.landmarks)[:, 0])
    turn = correlation(yaw(made.landmarks), yaw(driver.landmarks))
    assert mouth > 0.8, mouth
    assert turn > 0.9, turn


def test_outside_the_moving_region_every_frame_is_the_photo(bundled):
    portrait = Portrait.load(MONA_LISA)
    x0, y0, x1, y1 = portrait.region.box
    frames = read_frames(bundled[0]).astype(np.int16)
    outside = np.ones(portrait.photo.shape[:2], bool)
    outside[max(0, y0 - 8) : y1 + 8, max(0, x0 - 8) : x1 + 8] = False  # 8 px: an H.264 block across the border
    assert outside.sum() > 100_000
    still = np.abs(frames[:, outside] - frames[0, outside]).mean((1, 2))
    assert still.max() < 1.5  # what the encoder does to a picture that does not change
    assert np.abs(frames[0, outside] - portrait.photo[outside].astype(np.int16)).mean() < 4


def test_there_is_no_seam_around_the_moving_region():
    """Before the encoder: the region's border is exactly the photo, in a frame with a large turn."""
    from portrait_anim.painting.compose import compose_frame

    portrait = Portrait.load(MONA_LISA)
    x0, y0, x1, y1 = portrait.region.box
    angle = 0.35
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    landmarks = portrait.views[0].landmarks
    centre = landmarks.mean(0)
    warp = portrait.warper().warp((landmarks - centre) @ turn.T + centre)
    nothing = np.zeros((256, 256, 3), np.float32)
    frame = compose_frame(portrait, warp, nothing, nothing).astype(int)
    photo = portrait.photo.astype(int)
    assert np.abs(frame[y0:y1, x0:x1] - photo[y0:y1, x0:x1]).mean() > 3  # something moved
    height, width = photo.shape[:2]
    for inside, edges in (
        ((y0, x0), (np.s_[y0, x0:x1], np.s_[y0:y1, x0])),
        ((y1 < height, x1 < width), (np.s_[y1 - 1, x0:x1], np.s_[y0:y1, x1 - 1])),
    ):
        for active, edge in zip(inside, edges):
            if active:
                assert np.abs(frame[edge] - photo[edge]).max() <= 4  # of 255: rounding of the sampling positions
    frame[y0:y1, x0:x1] = photo[y0:y1, x0:x1]
    assert (frame == photo).all()  # and outside nothing is touched at all


def test_a_still_driver_gives_a_still_portrait(tmp_path):
    frames = read_frames(CLIP)
    write_video(tmp_path / "still.mp4", np.repeat(frames[:1], 30, 0))
    done = run_animate(MONA_LISA, "-d", "still.mp4", "-o", "out.mp4", "--max-size", "480", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = read_frames(tmp_path / "out.mp4").astype(np.int16)
    assert np.abs(np.diff(made, axis=0)).mean() < 0.5


# ---------------------------------------------------------------- options


@pytest.mark.parametrize("name", ["out.gif", "out.webm", "frames/", "out_%03d.png"])
def test_other_formats(tmp_path, short_clip, name):
    done = run_animate(ASTRONAUT, "-d", short_clip, "-o", name, "--max-size", "256", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if name.endswith((".gif", ".webm")):
        assert len(read_frames(tmp_path / name)) == 12
    else:
        assert len(list(tmp_path.rglob("*.png"))) == 12


def test_start_end_and_fps(tmp_path):
    done = run_animate(
        ASTRONAUT, "-d", CLIP, "--start", "1", "--end", "2", "--fps", "10", "--max-size", "256", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    made = probe(tmp_path / "astronaut--clip.mp4")
    assert made.fps == 10 and made.has_audio
    assert len(read_frames(made.path)) == 10


def test_only_head_keeps_the_expression_and_only_face_the_pose(tmp_path):
    both = {}
    for part in ("head", "face"):
        done = run_animate(
            ASTRONAUT, "-d", CLIP, "--only", part, "-o", f"{part}.mp4", "--start", "0", "--end", "6", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        both[part] = track(tmp_path / f"{part}.mp4")
    # The clip opens the mouth wide in its first seconds and turns the head in the following.
    assert np.ptp(yaw(both["head"].landmarks)) > 3 * np.ptp(yaw(both["face"].landmarks))
    assert np.ptp(openness(both["face"].landmarks)[:, 0]) > 3 * np.ptp(openness(both["head"].landmarks)[:, 0])


def test_no_strength_is_no_motion_and_absolute_differs_from_relative(tmp_path, short_clip):
    made = {}
    for name, options in (("none", ["--strength", "0"]), ("relative", []), ("absolute", ["--motion", "absolute"])):
        done = run_animate(
            ASTRONAUT, "-d", short_clip, *options, "-o", f"{name}.mp4", "--max-size", "256", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        made[name] = read_frames(tmp_path / f"{name}.mp4").astype(np.int16)
    assert np.abs(np.diff(made["none"], axis=0)).mean() < 0.3
    assert np.abs(made["relative"] - made["absolute"]).mean() > 0.5


def test_without_weights_it_is_the_warp_and_says_so(tmp_path, short_clip, monkeypatch):
    from portrait_anim import Animator
    from portrait_anim.networks import weights

    monkeypatch.setattr(weights, "find_default", lambda: None)
    result = Animator().animate([ASTRONAUT], short_clip, tmp_path / "warp.mp4", max_size=256)
    assert any("No weights" in w for w in result.warnings)
    assert len(read_frames(result.output)) == 12


def test_progress_reaches_the_end_of_every_stage(tmp_path, short_clip):
    from portrait_anim import Animator

    steps = []
    Animator().animate([ASTRONAUT], short_clip, tmp_path / "a.mp4", max_size=256, progress=steps.append)
    assert list(dict.fromkeys(s.stage for s in steps)) == ["portrait", "driver", "frames"]
    assert [(s.done, s.total) for s in steps if s.stage == "frames"][-1] == (12, 12)


def test_quiet_says_nothing(tmp_path, short_clip):
    done = run_animate(ASTRONAUT, "-d", short_clip, "-q", "--max-size", "256", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---------------------------------------------------------------- photos of every kind


@pytest.mark.parametrize("kind", ["grey", "grey16", "cmyk", "alpha", "palette", "rotated", "webp", "odd"])
def test_unusual_photos_give_the_same_face(tmp_path, kind):
    image = Image.open(ASTRONAUT)
    expected = Portrait.load(ASTRONAUT).landmarks[:468, :2]
    path = tmp_path / f"photo.{dict(cmyk='jpg', rotated='jpg', webp='webp').get(kind, 'png')}"
    if kind == "grey":
        image.convert("L").save(path)
    elif kind == "grey16":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)
    elif kind == "cmyk":
        image.convert("CMYK").save(path, quality=95)
    elif kind == "alpha":
        image.putalpha(255)
        image.save(path)
    elif kind == "palette":
        image.quantize(256).save(path)
    elif kind == "rotated":  # as a phone stores a picture taken upright
        exif = Image.Exif()
        exif[0x0112] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)
    elif kind == "webp":
        image.save(path, quality=95)
    elif kind == "odd":
        image.crop((0, 0, 511, 509)).save(path)
    portrait = Portrait.load(path)
    assert portrait.photo.dtype == np.uint8 and portrait.photo.ndim == 3
    assert portrait.photo.shape[0] % 2 == portrait.photo.shape[1] % 2 == 0
    assert np.abs(portrait.landmarks[:468, :2] - expected).mean() < 3


def test_a_large_photo_is_bounded_and_a_small_face_in_it_is_found():
    photo = load_photo(ASTRONAUT)
    wide = np.full((3000, 4000, 3), 90, np.uint8)
    wide[1200 : 1200 + 512, 1700 : 1700 + 512] = photo
    assert fit_size(wide, 1280).shape == (960, 1280, 3)
    from portrait_anim.landmarks.tracking import find_faces

    faces = find_faces(wide)  # 90 of 4000 px: MediaPipe alone finds nothing
    assert len(faces) == 1
    assert np.abs(faces[0].centre - (1700 + 224, 1200 + 125)).max() < 20


def test_two_faces_largest_first_and_choice(tmp_path, short_clip):
    one = np.asarray(Image.open(ASTRONAUT))
    two = np.full((512, 1024, 3), 128, np.uint8)
    two[:, :512], two[100:420, 640:960] = one, np.asarray(Image.open(ASTRONAUT).resize((320, 320)))
    path = save_image(tmp_path / "two.png", two)
    first, second = (Portrait.load(path, face=n) for n in (1, 2))
    assert first.n_faces == 2
    assert np.ptp(first.landmarks[:468, 1]) > 1.3 * np.ptp(second.landmarks[:468, 1])
    done = run_animate("two.png", "-d", short_clip, cwd=tmp_path)
    assert done.returncode == 0 and "warning: two.png: shows 2 faces" in done.stderr
    done = run_animate("two.png", "-d", short_clip, "--face", "3", "-f", cwd=tmp_path)
    assert_refused(done, 2, "two.png", "shows 2", "1 to 2")


# ---------------------------------------------------------------- bad input: one sentence, a code, nothing left


@pytest.fixture
def junk(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("I am not a picture.\n" * 50)
    data = MONA_LISA.read_bytes()
    (folder / "half.jpg").write_bytes(data[: len(data) // 2])
    save_image(folder / "pixel.png", np.zeros((1, 1, 3), np.uint8))
    save_image(folder / "noface.png", np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8))
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("I am not a video.\n" * 50)
    (folder / "cut.mp4").write_bytes(CLIP.read_bytes()[:2_000])
    write_video(folder / "noface.mp4", np.full((10, 64, 64, 3), 77, np.uint8))
    out = tmp_path / "out"
    out.mkdir()
    return folder, out


@pytest.mark.parametrize("photo", ["missing.jpg", "empty.jpg", "text.jpg", "half.jpg", "pixel.png", "noface.png", "."])
def test_unusable_portraits(junk, photo):
    folder, out = junk
    done = run_animate(folder / photo, "-d", CLIP, "-o", out / "x.mp4", cwd=out)
    assert_refused(done, 3, photo if photo != "." else "folder", folder=out)


@pytest.mark.parametrize("clip", ["missing.mp4", "empty.mp4", "text.mp4", "cut.mp4", "noface.mp4", "."])
def test_unusable_drivers(junk, clip):
    folder, out = junk
    done = run_animate(ASTRONAUT, "-d", folder / clip, "-o", out / "x.mp4", cwd=out)
    assert_refused(done, 3, clip if clip != "." else "in", folder=out)


@pytest.mark.parametrize(
    "options, code, word",
    [
        (["--strength", "9"], 2, "--strength"),
        (["--motion", "sideways"], 2, "--motion"),
        (["--only", "nose"], 2, "--only"),
        (["--max-size", "3"], 2, "--max-size"),
        (["--crf", "99"], 2, "--crf"),
        (["--face", "0"], 2, "1"),
        (["--device", "tpu"], 2, "--device"),
        (["--precision", "fp8"], 2, "--precision"),
        (["--background", "beach"], 2, "--background"),
        (["--tracker", "dlib"], 2, "--tracker"),
        (["--start", "99"], 3, "99"),
        (["--start", "3", "--end", "2"], 2, "end"),
        (["--fps", "0"], 2, "frame rate"),
        (["--reference-frame", "5000"], 2, "--reference-frame"),
        (["--driver-face", "2"], 2, "--driver-face"),
        (["--weights", "none.safetensors"], 3, "none.safetensors"),
        (["--unknown"], 2, "--unknown"),
        (["-o", "x.avi"], 2, ".avi"),
        (["-o", "nowhere/x.mp4"], 4, "nowhere"),
    ],
)
def test_impossible_options(tmp_path, options, code, word):
    done = run_animate(ASTRONAUT, "-d", CLIP, *options, cwd=tmp_path)
    assert_refused(done, code, word, folder=tmp_path)


def test_an_existing_output_is_kept_unless_forced(tmp_path, short_clip):
    output = tmp_path / "x.mp4"
    output.write_text("precious")
    done = run_animate(ASTRONAUT, "-d", short_clip, "-o", output, cwd=tmp_path)
    assert_refused(done, 4, "x.mp4", "--force")
    assert output.read_text() == "precious"
    done = run_animate(ASTRONAUT, "-d", short_clip, "-o", output, "--force", "--max-size", "256", cwd=tmp_path)
    assert done.returncode == 0 and len(read_frames(output)) == 12


def test_an_input_is_never_overwritten(tmp_path, short_clip):
    copy = tmp_path / "clip.mp4"
    copy.write_bytes(short_clip.read_bytes())
    done = run_animate(ASTRONAUT, "-d", "clip.mp4", "-o", "clip.mp4", "--force", cwd=tmp_path)
    assert_refused(done, 4, "clip.mp4", "would replace the input")
    assert copy.read_bytes() == short_clip.read_bytes()


@pytest.mark.parametrize(
    "shell, code, word",
    [
        ("{animate} me.jpg -d clip.mp4 -o ''", 2, "no name"),
        ("{animate} '' -d clip.mp4", 2, "empty"),
        ("mkfifo f.jpg; {animate} f.jpg -d clip.mp4", 3, "not an ordinary file"),
        ("{animate} $(printf n%.0s $(seq 300)).jpg -d clip.mp4", 3, "cannot be read"),
        ("ln -s lp.mp4 lp.mp4; {animate} me.jpg -d clip.mp4 -o lp.mp4", 4, "lp.mp4"),
        ("{animate} me.jpg -d clip.mp4 --end inf", 2, "inf"),
        ("{animate} me.jpg -d clip.mp4 --strength abc", 2, "--strength"),
        ("mkdir gone; cd gone; rmdir ../gone; {animate} ../me.jpg -d ../clip.mp4", 4, "current folder"),
    ],
)
def test_odd_shells_and_names(tmp_path, short_clip, shell, code, word):
    import subprocess
    import sys

    (tmp_path / "me.jpg").write_bytes(ASTRONAUT.read_bytes())
    (tmp_path / "clip.mp4").write_bytes(short_clip.read_bytes())
    command = shell.format(animate=f"'{sys.executable}' -m portrait_anim")
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert_refused(done, code, word)
    assert {p.suffix for p in tmp_path.iterdir()} <= {".jpg", ".mp4"} and len(list(tmp_path.glob("*.mp4"))) <= 2


@pytest.mark.parametrize("end", [">&-", "2>&-", "> /dev/full", "| head -0", "2>&1 | head -1"])
def test_a_deaf_reader_does_not_spoil_a_run(tmp_path, short_clip, end):
    import subprocess
    import sys

    animate = f"'{sys.executable}' -m portrait_anim '{ASTRONAUT}' -d '{short_clip}' -o x.mp4 --max-size 256"
    command = f"set -o pipefail; {animate} {end}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and len(read_frames(tmp_path / "x.mp4")) == 12


def test_a_truncated_driver_gives_what_it_holds_and_a_warning(tmp_path):
    from subprocess import run

    import imageio_ffmpeg

    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    # A stream format, whose frames can be read without the index that an MP4 has at its end.
    run([ffmpeg, "-v", "error", "-i", str(CLIP), "-c", "copy", str(tmp_path / "whole.mkv")], check=True)
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 3])
    done = run_animate(ASTRONAUT, "-d", "cut.mkv", "--max-size", "256", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warning: cut.mkv" in done.stderr
    assert 20 < len(read_frames(tmp_path / "astronaut--cut.mp4")) < 150


def test_a_face_that_leaves_is_bridged_and_reported(tmp_path):
    frames = read_frames(CLIP)[:40].copy()
    frames[15:25] = 60
    write_video(tmp_path / "gap.mp4", frames)
    done = run_animate(ASTRONAUT, "-d", "gap.mp4", "--max-size", "256", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"warning: gap.mp4: no face in frames 15-2\d", done.stderr), done.stderr
    assert len(read_frames(tmp_path / "astronaut--gap.mp4")) == 40


def test_interrupt_leaves_nothing(tmp_path):
    process = start_python("-m", "portrait_anim", MONA_LISA, "-d", CLIP, "-o", "x.mp4", cwd=tmp_path)
    until(lambda: list(tmp_path.glob(".x.partial-*")), process)  # the encoder has started
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "interrupted" in errors and "Traceback" not in errors
    assert not list(tmp_path.iterdir())
