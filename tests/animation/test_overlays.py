"""--compare, --preview, --show-mesh: what they show is what is there."""

import json

import cv2
import numpy as np
import pytest
from support import ASTRONAUT, CLIP, assert_refused, clip_frames, read_frames, run_animate, write_video

from portrait_anim import Animator
from portrait_anim.animation.overlays import choose_frames, contact_sheet, draw_mesh
from portrait_anim.geometry.mesh import MEAN_FACE
from portrait_anim.portrait.portrait import Portrait


@pytest.fixture(scope="module")
def animator():
    return Animator()


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def test_compare_shows_portrait_driver_and_result_in_step(tmp_path, animator):
    frames = clip_frames()[20:32].copy()
    for n, frame in enumerate(frames):  # a clock: a bright bar that moves on
        frame[:60] = 0
        frame[:60, 30 * n : 30 * n + 30] = 255
    write_video(tmp_path / "clock.mp4", frames)
    options = dict(max_size=256, crf=10, start=0.08)
    animator.animate([ASTRONAUT], tmp_path / "clock.mp4", tmp_path / "plain.mp4", **options)
    result = animator.animate([ASTRONAUT], tmp_path / "clock.mp4", tmp_path / "compare.mp4", compare=True, **options)
    plain, made = read_frames(tmp_path / "plain.mp4"), read_frames(tmp_path / "compare.mp4")
    height, width = plain.shape[1:3]
    strip = made.shape[1] - height
    assert made.shape[:3] == (10, *result.size[::-1]) and 16 <= strip <= 40
    photo = Portrait.load(ASTRONAUT, max_size=256).photo
    panel = made.shape[2] - 2 * width
    assert abs(panel / height - frames.shape[2] / frames.shape[1]) < 0.02
    for t in range(10):
        assert difference(made[t, strip:, :width], photo) < 5
        assert difference(made[t, strip:, -width:], plain[t]) < 5
        clock = made[t, strip + 4, width : width + panel].mean(-1)
        bar = np.flatnonzero(clock > 128).mean() / panel * frames.shape[2]
        assert round((bar - 15) / 30) == t + 2
    labels = made[0, :strip]
    assert all(labels[:, x : x + 60].max() > 150 for x in (0, width, width + panel))  # light letters on dark


def test_show_mesh_draws_where_the_face_is_and_nothing_else(tmp_path, animator):
    options = dict(max_size=256, end=0.2, crf=10)
    animator.animate([ASTRONAUT], CLIP, tmp_path / "plain.mp4", **options)
    animator.animate([ASTRONAUT], CLIP, tmp_path / "mesh.mp4", show_mesh=True, **options)
    plain, mesh = read_frames(tmp_path / "plain.mp4")[0].astype(int), read_frames(tmp_path / "mesh.mp4")[0].astype(int)
    face = Portrait.load(ASTRONAUT, max_size=256).landmarks[:468, :2]
    (x0, y0), (x1, y1) = face.min(0).astype(int), face.max(0).astype(int)
    changed = np.abs(plain - mesh).max(-1) > 30
    inside = np.zeros_like(changed)
    inside[y0 - 6 : y1 + 7, x0 - 6 : x1 + 7] = True
    assert changed[inside].mean() > 0.2 and changed[~inside].mean() < 0.002


def test_the_mesh_is_drawn_through_its_landmarks():
    points = MEAN_FACE * 200
    points[:, :2] += 200 - points[:468, :2].mean(0)
    drawn = draw_mesh(np.zeros((400, 400, 3), np.uint8), points)
    for landmark in (10, 152, 61, 291, 33, 263):  # contours: forehead, chin, corners of mouth and eyes
        x, y = (points[landmark, :2] - 0.5).round().astype(int)
        assert drawn[y - 1 : y + 2, x - 1 : x + 2, 1].max() > 150


def test_a_preview_is_a_sheet_and_not_a_video(tmp_path):
    options = ["--preview", "-o", "out.mp4", "--max-size", "256"]
    done = run_animate(ASTRONAUT, "-d", CLIP, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["out.preview.png"]
    assert done.stdout.startswith("out.preview.png: 1024x") and "12 frames" in done.stdout
    sheet = cv2.imread(str(tmp_path / "out.preview.png"))
    assert sheet.shape[:2] == (3 * (256 + 18), 4 * 256)
    cells = [sheet[18:274, 256 * n : 256 * n + 256].astype(int) for n in range(4)]
    assert all(difference(a, b) > 0.5 for a, b in zip(cells, cells[1:]))  # they are different frames
    before = (tmp_path / "out.preview.png").read_bytes()
    again = run_animate(ASTRONAUT, "-d", CLIP, "--preview", "-o", "out.mp4", cwd=tmp_path)
    assert_refused(again, 4, "out.preview.png", "--force")
    skipped = run_animate(
        ASTRONAUT, "-d", CLIP, "--preview", "-o", "out.mp4", "--skip-existing", "--json", "-q", cwd=tmp_path
    )
    said = json.loads(skipped.stdout)
    assert skipped.returncode == 0 and said["skipped"] and said["output"] == str(tmp_path / "out.preview.png")
    assert before == (tmp_path / "out.preview.png").read_bytes()


def test_a_preview_with_comparison_of_a_pictures_folder(tmp_path, animator):
    result = animator.animate(
        [ASTRONAUT], CLIP, f"{tmp_path}/frames/", preview=True, compare=True, show_mesh=True, end=0.2, max_size=128
    )
    assert [p.name for p in tmp_path.iterdir()] == ["frames.preview.png"]
    assert result.frames == 5  # all there are


def test_the_chosen_frames_are_spread_and_hold_the_extremes():
    landmarks = np.zeros((100, 478, 3))
    landmarks[17], landmarks[61] = 5, -4
    assert {0, 17, 61, 99} <= set(choose_frames(landmarks, 12))
    assert len(choose_frames(landmarks, 12)) == 12 and choose_frames(landmarks[:3], 12) == [0, 1, 2]


def test_a_sheet_fills_its_last_row():
    frames = [np.full((60, 50, 3), 10 * n, np.uint8) for n in range(6)]
    sheet = contact_sheet(frames, [str(n) for n in range(6)])
    assert sheet.shape == (2 * 78, 200, 3) and sheet[40, 60, 0] == 10 and sheet[-20, 60, 0] == 50
