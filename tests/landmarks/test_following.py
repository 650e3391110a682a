"""Faces followed through a clip: gaps, cuts, faces that leave and return."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from support import ASTRONAUT, clip_frames, write_video

from portrait_anim.errors import InputError
from portrait_anim.geometry.mesh import MEAN_FACE
from portrait_anim.geometry.pose import estimate_poses
from portrait_anim.landmarks.following import MotionTrack, fill_gaps, track_video
from portrait_anim.motion.drivers import load_driver
from portrait_anim.motion.retarget import Retargeter
from portrait_anim.motion.timeline import Timeline
from portrait_anim.system import sequences
from portrait_anim.system.sequences import ArrayFile


def test_gaps_are_held_then_moved_to_what_returns():
    a, b = MEAN_FACE * 100, MEAN_FACE * 100 + 50
    found = np.isin(np.arange(64), (1, 62))
    points = np.where(np.arange(64)[:, None, None] == 62, b, a).astype(np.float32) * found[:, None, None]
    track = MotionTrack(points, (100, 100), Fraction(25), found)
    fill_gaps(track.landmarks, found, 25)
    assert track.lost_ranges() == [(0, 0), (2, 61), (63, 63)]
    assert np.allclose(points[0], a, atol=1e-3) and np.allclose(points[20], a, atol=1e-3)
    middle = points[37:62, 0, 0]
    assert np.all(np.diff(middle) >= 0) and np.allclose(points[63], b, atol=1e-3)


@pytest.mark.parametrize("cuts", [(), (62,)])
def test_gaps_in_a_file_are_bridged_as_in_memory(monkeypatch, cuts):
    found = np.isin(np.arange(80), (1, 2, 62, 63))
    points = (MEAN_FACE * 100 + np.arange(80)[:, None, None] * found[:, None, None]).astype(np.float32)
    kept = ArrayFile.of([points])
    fill_gaps(points, found, 25, cuts)
    monkeypatch.setattr(sequences, "BLOCK", 7)
    fill_gaps(kept, found, 25, cuts)
    assert np.array_equal(kept[:], points) and np.ptp(points[40:62, 0, 0]) == (0 if cuts else pytest.approx(60, abs=3))


def test_a_clip_without_a_face_is_refused():
    blank = [np.full((64, 64, 3), 80, np.uint8)] * 3
    with pytest.raises(InputError, match="no face found in any of its 3 frames"):
        list(track_video(blank, Fraction(25), "blank.mp4"))


def test_the_tracker_finds_every_frame_of_the_bundled_clip(driver):
    assert driver.found.all() and len(driver) == 215 and driver.fps == 25
    assert driver.landmarks.shape == (215, 478, 3)


def test_a_cut_is_found_reported_and_eased_over(tmp_path):
    frames = clip_frames()[:60].copy()
    frames[30:] = np.roll(frames[30:, :, ::-1] // 2 + 110, frames.shape[2] // 6, 2)  # in another light and place
    write_video(tmp_path / "cut.mp4", frames)
    driver = load_driver(tmp_path / "cut.mp4")
    assert driver.track.cuts == (30,), driver.track.cuts
    assert any("cut at frame 30" in w for w in driver.warnings)
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
    assert np.ptp(driver.track.landmarks[:][[0, -1], 4, 0]) == pytest.approx(384, abs=6)
    assert any("no face in frames" in w for w in driver.warnings)


def test_a_filmed_still_face_hardly_changes_its_size():
    rng = np.random.default_rng(0)
    image = np.asarray(Image.open(ASTRONAUT)).astype(float)
    noisy = [np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8) for _ in range(40)]
    *_, track = track_video(noisy, Fraction(25), "still")
    assert isinstance(track, MotionTrack)
    targets = Retargeter(track, MEAN_FACE * 120 + [128, 110, 0])
    scale = estimate_poses(np.stack([targets[t] for t in range(40)]), MEAN_FACE).scale
    assert scale.std() / scale.mean() < 0.003
