"""Several photos of one person: what the others add to the first, and photos that do not belong."""

import cv2
import numpy as np
import pytest
from support import ASTRONAUT, clip_frames, portrait_of, read_frames, run_animate, save_image

from portrait_anim.geometry.mesh import OUTER_LIPS
from portrait_anim.geometry.view import grey
from portrait_anim.geometry.warp import STEP
from portrait_anim.painting.renderer import Renderer
from portrait_anim.portrait.portrait import Portrait, check_photos
from portrait_anim.provenance.verify import verify_file

CLOSED, OPEN, WIDE = 111, 27, 37  # frames of the bundled clip, by its mouth


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return clip_frames()


@pytest.fixture(scope="module")
def files(frames, tmp_path_factory) -> dict[int, str]:
    folder = tmp_path_factory.mktemp("photos")
    return {t: save_image(folder / f"{t}.png", frames[t]) for t in (CLOSED, OPEN, WIDE)}


@pytest.fixture(scope="module")
def two(files) -> Portrait:
    portrait = Portrait.load(files[CLOSED])
    portrait.add(Portrait.load(files[OPEN]))
    return portrait


def moved(portrait: Portrait, target: np.ndarray) -> np.ndarray:
    """The warp alone, without networks, at the photo's resolution."""
    return Renderer.of(portrait).frame(target)


def in_crop(portrait: Portrait, file) -> np.ndarray:
    """Landmarks of another photo of the same size in the portrait's crop."""
    points = portrait_of(file).landmarks * portrait.scale
    points[:, :2] -= portrait.corner * portrait.scale
    return points


def test_a_photo_with_an_open_mouth_lends_its_teeth(files, frames, two):
    one, target = portrait_of(files[CLOSED]), in_crop(two, files[WIDE])
    x, y = portrait_of(files[WIDE]).landmarks[OUTER_LIPS, :2].mean(0).astype(int)
    error = lambda portrait: np.abs(moved(portrait, target).astype(float) - frames[WIDE])[
        y - 10 : y + 10, x - 12 : x + 12
    ]
    assert error(two).mean() < 0.6 * error(one).mean()


def test_at_the_canvas_own_expression_other_photos_have_no_say(files, two):
    own = two.views[0].landmarks
    warp = two.warper().warp(own)
    assert not warp.used[1] and warp.weights[2].mean() < 1e-4  # at most a speck between the lips
    assert np.abs(moved(two, own).astype(int) - moved(portrait_of(files[CLOSED]), own)).mean() < 0.01


def test_the_change_from_one_photo_to_the_other_does_not_pop(files, two):
    closed, wide = two.views[0].landmarks, in_crop(two, files[WIDE])
    warper = two.warper()
    shares, pictures = [], []
    for t in np.linspace(0, 1, 25):
        target = closed + t * (wide - closed)
        warp = warper.warp(target)
        x, y = ((target[OUTER_LIPS, :2] - warp.frame[:2]) / STEP).astype(int).T
        shares.append(warp.weights[2][y, x].mean())  # inside the mouth it grows from nothing with what is seen
        pictures.append(moved(two, target).astype(float))
    assert shares[0] < 0.01 and shares[-1] > 0.9
    assert np.abs(np.diff(shares)).max() < 0.35
    steps = np.array([np.abs(after - before).mean() for before, after in zip(pictures, pictures[1:])])
    assert steps.max() < 2 * np.median(steps), steps


def test_another_light_is_compensated(files, frames, tmp_path):
    dim = save_image(tmp_path / "dim.png", (frames[OPEN] * (0.7, 0.6, 0.5)).astype(np.uint8))
    portrait = Portrait.load(files[CLOSED])
    portrait.add(Portrait.load(dim))
    canvas, other = portrait.views[0].image, portrait.views[2].image
    skin = lambda view, image: cv2.GaussianBlur(image, (0, 0), 6)[
        tuple(view.landmarks[[1, 50, 280], 1::-1].astype(int).T)
    ]
    gap = np.abs(skin(portrait.views[0], canvas).astype(float) - skin(portrait.views[2], other))
    assert gap.mean() < 12, gap


def test_a_grey_photo_takes_no_colours_from_others(files, frames, tmp_path):
    first = save_image(tmp_path / "grey.png", grey(frames[CLOSED]))
    portrait = Portrait.load(first)
    portrait.add(Portrait.load(files[OPEN]))
    target = in_crop(portrait, files[WIDE])
    assert portrait.warper().warp(target).used[2]
    assert np.ptp(moved(portrait, target), axis=2).max() <= 1


def test_twins_are_left_out_and_strangers_are_named(files, frames, tmp_path):
    twin = tmp_path / "twin.jpg"
    cv2.imwrite(str(twin), frames[CLOSED][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    names = [str(files[CLOSED]), str(files[OPEN]), str(twin), str(ASTRONAUT)]
    kept, warnings = check_photos([Portrait.load(name) for name in names], names)
    assert len(kept) == 3 and len(warnings) == 2
    assert warnings[0] == f"{twin}: shows the same as {files[CLOSED]} and was left out."
    assert "another person" in warnings[1] and str(ASTRONAUT) in warnings[1]


def test_the_command_takes_several_photos(files, short_clip, tmp_path):
    photos = files[CLOSED], files[OPEN], files[CLOSED], ASTRONAUT
    done = run_animate(*photos, "-d", short_clip, "-o", "x.mp4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "astronaut.jpg: seems to show another person than" in done.stderr
    assert f"warning: {photos[2]}: shows the same as {photos[0]} and was left out." in done.stderr
    assert read_frames(tmp_path / "x.mp4").shape == (12, 300, 400, 3)
    named = [about["name"] for about in verify_file(tmp_path / "x.mp4").inputs]
    assert named == [f"{CLOSED}.png", f"{OPEN}.png", "astronaut.jpg", "short.mp4"]  # nothing of the twin is in it
