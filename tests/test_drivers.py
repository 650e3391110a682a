"""Drivers of every kind, and what becomes of bad ones."""

import io
import zipfile
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ASTRONAUT, CLIP, MONA_LISA, assert_refused, read_frames, run_animate, write_video
from PIL import Image

from portrait_anim import Animator
from portrait_anim.errors import InputError, UsageError
from portrait_anim.geometry.expressions import FEATURES, features
from portrait_anim.geometry.mesh import MEAN_FACE, face_height, openness
from portrait_anim.geometry.pose import canonical, estimate_poses, euler_angles
from portrait_anim.landmarks import tracking
from portrait_anim.motion.builtin import NAMES, make_motion
from portrait_anim.motion.drivers import load_driver
from portrait_anim.motion.file import load_motion, save_motion
from portrait_anim.motion.source import kind_of


def amounts(landmarks: np.ndarray) -> dict[str, np.ndarray]:
    """What each feature does over time, from the first frame on."""
    shapes = canonical(landmarks, estimate_poses(landmarks, MEAN_FACE))
    values = features(shapes)
    return dict(zip(FEATURES, (values - values[0]).T))


def degrees(landmarks: np.ndarray) -> np.ndarray:
    turns = np.degrees(euler_angles(estimate_poses(landmarks, MEAN_FACE).rotation))
    return turns - turns[0]


# ---------------------------------------------------------------- built-in motions


@pytest.mark.parametrize("name", NAMES)
def test_every_motion_moves_smoothly_and_comes_back(name):
    track = make_motion(name)
    moved = np.linalg.norm((track.landmarks - track.rest)[..., :2], axis=-1) / face_height(track.rest)
    assert moved[0].max() < 0.01 and moved[-1].max() < 0.01  # can be looped
    assert moved.max() > 0.01
    step = np.linalg.norm(np.diff(track.landmarks, axis=0)[..., :2], axis=-1) / face_height(track.rest)
    assert step.max() < 0.06  # of the face's height in 1/25 s
    assert len(track) == len(make_motion(name, Fraction(50))) // 2


def test_motions_do_what_they_say():
    made = {name: make_motion(name).landmarks for name in NAMES}
    assert np.ptp(degrees(made["nod"])[:, 1]) > 10 and np.ptp(degrees(made["shake"])[:, 0]) > 20
    blink = amounts(made["blink"])
    assert blink["lid_r"].min() < -0.03 and blink["lid_l"].min() < -0.03
    wink = amounts(made["wink"])
    assert wink["lid_l"].min() < -0.03 and wink["lid_r"].min() > -0.01
    smile = amounts(made["smile"])
    assert smile["wide"].max() > 0.03 and smile["corners"].max() > 0.015 and smile["open"].max() < 0.03
    assert amounts(made["surprise"])["brows"].max() > 0.02
    assert np.ptp(amounts(made["look-around"])["gaze_x"]) > 0.03
    yawn = canonical(made["yawn"], estimate_poses(made["yawn"], MEAN_FACE))
    assert np.ptp(openness(made["yawn"])[:, 0]) > 0.15 and np.ptp(yawn[:, 152, 1]) > 0.04  # the jaw goes down


def test_a_mistyped_motion_gets_a_suggestion_before_any_work(tmp_path):
    done = run_animate(ASTRONAUT, "-d", "smle", cwd=tmp_path)
    assert_refused(done, 3, "smle", "did you mean smile?", folder=tmp_path)
    assert "Reading" not in done.stderr
    with pytest.raises(InputError, match="--list-motions"):
        kind_of("qqqqq")
    shown = run_animate("--list-motions", cwd=tmp_path)
    assert shown.returncode == 0 and set(NAMES) <= set(shown.stdout.split())


def test_a_file_wins_over_a_motion_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert kind_of("nod") == "built-in"
    (tmp_path / "nod").write_bytes(CLIP.read_bytes())
    assert kind_of("nod") == "video"
    assert kind_of("camera:0") == "camera" and kind_of("a.npz") == "saved" and kind_of("A.JPG") == "image"


def test_part_of_a_motion_at_another_rate():
    part = load_driver("nod", start=0.5, end=1.5, fps=50).track
    assert len(part) == 50 and part.fps == 50
    assert np.allclose(part.landmarks[0], make_motion("nod", Fraction(50)).landmarks[25])
    for options in ({"start": 99}, {"start": -1}, {"start": 2, "end": 1}, {"fps": 0}, {"end": float("nan")}):
        with pytest.raises((UsageError, InputError)):
            load_driver("nod", **options)


# ---------------------------------------------------------------- saved motions


def test_a_motion_saved_and_used_again(tmp_path, short_clip):
    animator = Animator()
    options = {"max_size": 256, "audio": False}
    first = animator.animate([ASTRONAUT], short_clip, tmp_path / "a.mp4", save_motion=tmp_path / "m.npz", **options)
    again = animator.animate([ASTRONAUT], tmp_path / "m.npz", tmp_path / "b.mp4", **options)
    a, b = (read_frames(result.output).astype(int) for result in (first, again))
    assert a.shape == b.shape and np.abs(a - b).mean() < 1
    done = run_animate(ASTRONAUT, "-d", short_clip, "--save-motion", "m.npz", "-o", "c.mp4", cwd=tmp_path)
    assert_refused(done, 4, "m.npz", "--force")
    with pytest.raises(UsageError, match="m.txt.*npz"):
        animator.animate([ASTRONAUT], "nod", tmp_path / "c.mp4", save_motion=tmp_path / "m.txt")


def test_a_saved_motion_is_small_and_exact(tmp_path):
    track = load_driver(CLIP, end=4).track
    save_motion(tmp_path / "m.npz", track)
    loaded = load_motion(tmp_path / "m.npz")
    error = np.abs(loaded.landmarks - track.landmarks).max() / face_height(track.landmarks[0])
    assert error < 0.0005
    assert (loaded.fps, loaded.size, len(loaded)) == (track.fps, tuple(track.size), 100)
    assert (tmp_path / "m.npz").stat().st_size < 1100 * len(track)
    built_in = make_motion("wink")
    save_motion(tmp_path / "w.npz", built_in)
    assert np.allclose(load_motion(tmp_path / "w.npz").rest, built_in.rest)


def _changed(good: dict, **changes) -> bytes:
    arrays = {**good, **changes}
    file = io.BytesIO()
    np.savez_compressed(file, **{k: v for k, v in arrays.items() if v is not None})
    return file.getvalue()


def _hostile(good: dict) -> dict[str, tuple[bytes, str]]:
    """Bad files by name, and a word of the sentence they must end in."""
    many = len(good["changes"])
    giant = io.BytesIO()  # its header promises a petabyte
    np.lib.format.write_array_header_1_0(giant, {"descr": "<i2", "fortran_order": False, "shape": (10**9, 478, 3)})
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in good.items():
            member = io.BytesIO()
            np.save(member, value)
            archive.writestr(f"{name}.npy", b"\0" * 300_000_000 if name == "changes" else member.getvalue())
    header = io.BytesIO()
    with zipfile.ZipFile(header, "w") as archive:
        for name, value in good.items():
            member = io.BytesIO()
            np.save(member, value)
            archive.writestr(f"{name}.npy", giant.getvalue() if name == "changes" else member.getvalue())
    whole = _changed(good)
    files = {
        "empty": (b"", "not a readable"),
        "text": (b"I am not a motion.\n" * 50, "not a readable"),
        "half": (whole[: len(whole) // 2], "not a readable"),
        "other": (_changed({"x": np.zeros(3)}), "format is missing"),
        "missing": (_changed(good, first=None), "first is missing"),
        "newer": (_changed(good, format=np.int64(99)), "format 99"),
        "pickle": (_changed(good, found=np.array([None] * (many + 1), object)), "found"),
        "nan": (_changed(good, step=np.float64("nan")), "impossible"),
        "infinite": (_changed(good, step=np.float64("inf")), "impossible"),
        "rate": (_changed(good, fps=np.array([1, 0])), "impossible"),
        "shape": (_changed(good, first=good["first"][:400]), "first"),
        "flat": (_changed(good, first=good["first"] * 0, changes=good["changes"] * 0), "no face"),
        "lost": (_changed(good, found=good["found"] & False), "no face"),
        "rest": (_changed(good, rest=np.full((478, 3), np.nan)), "no face"),
        "cuts": (_changed(good, cuts=np.array([5, 3])), "cuts"),
        "giant": (header.getvalue(), "changes"),
        "bomb": (bomb.getvalue(), "too large"),
    }
    return files


def test_hostile_motion_files_end_in_one_sentence(tmp_path):
    path = tmp_path / "good.npz"
    save_motion(path, make_motion("blink"))
    with np.load(path) as z:
        good = {key: z[key] for key in z.files}
    for name, (data, word) in _hostile(good).items():
        (tmp_path / f"{name}.npz").write_bytes(data)
        with pytest.raises(InputError, match=word):
            load_motion(tmp_path / f"{name}.npz")
    rng = np.random.default_rng(0)
    whole = path.read_bytes()
    for _ in range(20):  # bits flipped anywhere
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 4):
            data[place] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(data))
        try:
            load_motion(path)
        except InputError:
            pass
    done = run_animate(ASTRONAUT, "-d", tmp_path / "giant.npz", "-o", tmp_path / "x.mp4", cwd=tmp_path)
    assert_refused(done, 3, "giant.npz", "saved motion")


# ---------------------------------------------------------------- single images


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


def degrees_of(landmarks: np.ndarray) -> np.ndarray:
    return np.degrees(euler_angles(estimate_poses(landmarks[None], MEAN_FACE).rotation))[0]


# ---------------------------------------------------------------- cameras


def test_cameras_that_are_not_there(tmp_path):
    done = run_animate(ASTRONAUT, "-d", "camera:99", "--end", 1, cwd=tmp_path)
    assert_refused(done, 3, "camera:99", "no such camera", folder=tmp_path)
    with pytest.raises(UsageError, match="camera:front.*camera:0"):
        kind_of("camera:front")


def test_a_camera_is_recorded_until_the_end(monkeypatch):
    """A capture that gives the clip's frames at an uneven pace, by a clock of its own, stands for the camera."""
    import cv2

    from portrait_anim.media import camera

    frames, now = read_frames(CLIP)[::2], [100.0]

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


# ---------------------------------------------------------------- cuts, faces that leave and return


def test_a_cut_is_found_reported_and_eased_over(tmp_path):
    frames = read_frames(CLIP)[:60].copy()
    frames[30:] = np.roll(frames[30:, :, ::-1] // 2 + 110, frames.shape[2] // 6, 2)  # in another light and place
    write_video(tmp_path / "cut.mp4", frames)
    driver = load_driver(tmp_path / "cut.mp4")
    assert driver.track.cuts == (30,), driver.track.cuts
    assert any("cut at frame 30" in w for w in driver.warnings)
    from portrait_anim.motion.retarget import Retargeter
    from portrait_anim.motion.timeline import Timeline

    portrait = MEAN_FACE * 120 + [128, 110, 0]
    targets = Retargeter(driver.track, portrait)
    shown = Timeline(targets, 25, driver.track.cuts)
    jump = lambda sequence, t: np.linalg.norm((sequence[t] - sequence[t - 1])[:, :2], axis=1).mean()
    usual = np.median([jump(shown, t) for t in range(1, 30)])
    assert jump(shown, 30) < usual + 0.5 and max(jump(shown, t) for t in range(30, 42)) < 4


def test_a_face_that_returns_elsewhere_is_found_again(tmp_path):
    face = np.asarray(Image.open(ASTRONAUT).crop((80, 0, 380, 300)).resize((256, 256)))
    frames = np.full((70, 256, 640, 3), 90, np.uint8)
    frames[:20, :, :256] = face
    frames[50:, :, 384:] = face
    write_video(tmp_path / "moves.mp4", frames)
    driver = load_driver(tmp_path / "moves.mp4")
    assert driver.track.found[:18].all() and driver.track.found[-15:].all() and not driver.track.found[25:48].any()
    assert np.ptp(driver.track.landmarks[[0, -1], 4, 0]) == pytest.approx(384, abs=6)
    assert any("no face in frames" in w for w in driver.warnings)


def test_a_filmed_still_face_hardly_changes_its_size():
    from portrait_anim.landmarks.following import MotionTrack, track_video
    from portrait_anim.motion.retarget import Retargeter

    rng = np.random.default_rng(0)
    image = np.asarray(Image.open(ASTRONAUT)).astype(float)
    noisy = [np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8) for _ in range(40)]
    *_, track = track_video(noisy, Fraction(25), "still")
    assert isinstance(track, MotionTrack)
    targets = Retargeter(track, MEAN_FACE * 120 + [128, 110, 0])
    scale = estimate_poses(np.stack([targets[t] for t in range(40)]), MEAN_FACE).scale
    assert scale.std() / scale.mean() < 0.003


# ---------------------------------------------------------------- the choice of the tracker


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
