"""Photos of every kind give the same face, large ones are bounded, and of several faces one is chosen."""

import warnings

import numpy as np
import pytest
from PIL import Image
from reference import turned
from support import ASTRONAUT, assert_refused, portrait_of, run_animate, save_image

from portrait_anim.geometry.mesh import MEAN_FACE, HeadMesh, rasterise
from portrait_anim.landmarks.tracking import find_faces
from portrait_anim.media.photo import fit_size, load_photo
from portrait_anim.portrait.portrait import Portrait


@pytest.mark.parametrize("kind", ["grey", "grey16", "cmyk", "alpha", "palette", "rotated", "webp", "odd"])
def test_unusual_photos_give_the_same_face(tmp_path, kind):
    image = Image.open(ASTRONAUT)
    expected = portrait_of(ASTRONAUT).landmarks[:468, :2]
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
    faces = find_faces(wide)  # 90 of 4000 px: MediaPipe alone finds nothing
    assert len(faces) == 1
    assert np.abs(faces[0].centre - (1700 + 224, 1200 + 125)).max() < 20


def test_a_very_large_photo_is_animated_at_the_size_that_was_asked_for(tmp_path):
    """Faces are looked for in 4096 px, and found where they are in more."""
    small = Image.open(ASTRONAUT).crop((100, 0, 356, 256))
    small.resize((4608, 4608)).save(tmp_path / "large.jpg", quality=80)
    small.save(tmp_path / "small.png")
    large, small = (Portrait.load(tmp_path / name, max_size=8192) for name in ("large.jpg", "small.png"))
    assert large.photo.shape == (4608, 4608, 3)
    assert np.abs(large.landmarks[:468, :2] / 18 - small.landmarks[:468, :2]).mean() < 1.5


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


@pytest.mark.parametrize("degrees", [0, 50])
def test_what_can_move_is_free_to_the_outline_and_all_else_is_held(degrees):
    """Held at its edge, a profile would stay there as a strip when the head turns away."""
    landmarks = turned(MEAN_FACE * 150, np.radians(degrees)) + [420, 400, 0]
    portrait = Portrait(np.full((900, 840, 3), 128, np.uint8), landmarks, "warp")
    region, mesh = portrait.region, HeadMesh(landmarks)
    moving = np.append(mesh.can_move, False)[rasterise(mesh.vertices, region.box)]
    inside = np.zeros(moving.shape, bool)
    inside[40:-40, 40:-40] = True  # where the region ends inside the photo, its border is held
    assert region.hold[moving & inside].max() < 0.15 and (region.hold == 1).mean() > 0.1
    covered = np.zeros(moving.shape, bool)
    for x0, y0, x1, y1 in region.bands:
        covered[y0:y1, x0:x1] = True
    assert covered[region.hold < 1].all() and not covered.all()


def test_in_a_close_up_everything_may_move_and_nothing_is_said_of_it():
    landmarks = MEAN_FACE * 380 + [210, 180, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        portrait = Portrait(np.full((420, 420, 3), 128, np.uint8), landmarks, "warp")
    assert portrait.region.hold.max() == 0
