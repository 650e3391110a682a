"""Portraits that will look bad are told, good ones are not."""

import cv2
import numpy as np
import pytest
from support import ASTRONAUT, MONA_LISA, clip_frames, portrait_of, save_image

from portrait_anim.geometry.mesh import LEFT_EYE, MEAN_FACE, RIGHT_EYE
from portrait_anim.media.photo import load_photo
from portrait_anim.portrait.checks import portrait_warnings
from portrait_anim.portrait.portrait import Portrait


@pytest.fixture(scope="module")
def face():
    portrait = portrait_of(ASTRONAUT)
    return portrait.photo, portrait.landmarks


@pytest.mark.parametrize("path", [MONA_LISA, ASTRONAUT])
def test_good_portraits_get_no_warning(path):
    portrait = portrait_of(path)
    assert portrait_warnings("x", portrait.photo, portrait.landmarks) == []


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda photo: (photo * 0.25).astype(np.uint8), "very dark"),
        (lambda photo: (128 + (photo - 128.0) * 0.15).astype(np.uint8), "hardly any contrast"),
        (lambda photo: cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), "px high"),
        (lambda photo: (photo * 0.6).astype(np.uint8), None),  # dim, but fine
        (lambda photo: np.repeat(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None], 3, 2), None),
    ],
)
def test_light_contrast_and_size(tmp_path, face, change, word):
    save_image(tmp_path / "photo.png", change(load_photo(ASTRONAUT)))
    portrait = Portrait.load(tmp_path / "photo.png")
    warnings = portrait_warnings("photo.png", portrait.photo, portrait.landmarks)
    assert [word in w and w.startswith("photo.png: ") for w in warnings] == ([True] if word else []), warnings


@pytest.mark.parametrize(
    "frame, word", [(0, None), (31, "mouth is wide open"), (92, "mouth is wide open"), (137, None)]
)
def test_frames_of_the_clip_as_portraits(tmp_path, frame, word):
    save_image(tmp_path / "photo.png", clip_frames()[frame])
    portrait = Portrait.load(tmp_path / "photo.png")
    warnings = portrait_warnings("photo.png", portrait.photo, portrait.landmarks)
    assert [word in w for w in warnings] == ([True] if word else []), warnings


@pytest.mark.parametrize(
    "axis, degrees, word", [(1, 30, None), (1, 50, "to the side"), (1, -50, "to the side"), (0, 40, "looks")]
)
def test_turned_heads(axis, degrees, word):
    angle = np.zeros(3)
    angle[axis] = np.radians(degrees)
    turned = (MEAN_FACE - MEAN_FACE.mean(0)) @ cv2.Rodrigues(angle)[0].T * 200 + (200, 200, 0)
    photo = np.random.default_rng(0).integers(40, 220, (400, 400, 3), np.uint8)
    warnings = portrait_warnings("x", photo, turned)
    assert [word in w for w in warnings] == ([True] if word else []), warnings
    if word:
        assert str(abs(degrees)) in warnings[0]


def test_closed_eyes(face):
    photo, landmarks = face[0], face[1].copy()
    assert not portrait_warnings("x", photo, landmarks)
    for eye in (RIGHT_EYE, LEFT_EYE):
        lower, upper = eye[1:8], eye[:8:-1]
        landmarks[upper] = landmarks[lower] + 0.1 * (landmarks[upper] - landmarks[lower])
    (warning,) = portrait_warnings("x", photo, landmarks)
    assert "eyes are closed" in warning
