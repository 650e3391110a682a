"""Colours: paintings have redder mouths, photos what is painted, and grey photos have none."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from support import ASTRONAUT, MONA_LISA, portrait_of

from portrait_anim.geometry.mesh import openness
from portrait_anim.geometry.view import View, grey
from portrait_anim.motion.retarget import Retargeter
from portrait_anim.painting.painter import Painter
from portrait_anim.painting.palette import REDDER, MouthPalette
from portrait_anim.painting.person import Person
from portrait_anim.painting.renderer import Renderer
from portrait_anim.portrait.portrait import Portrait


def lab(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


@pytest.fixture(scope="module")
def opened(driver):
    """The Mona Lisa with her mouth wide open: the square without and with her palette."""
    portrait = portrait_of(MONA_LISA)
    targets = Retargeter(driver, portrait.views[0].landmarks)
    widest = max(range(0, len(targets), 4), key=lambda t: openness(targets[t])[0])
    renderer = Renderer.of(portrait, Person.of([portrait], Painter(precision="fp32")).generator())
    coloured = renderer.square(targets[widest])
    renderer._palette = None
    return renderer.square(targets[widest]), coloured


def test_the_dark_inside_of_a_painted_mouth_is_redder_and_as_light(opened):
    plain, coloured = opened
    mouth = plain.mouth
    assert mouth.sum() > 500
    before, after = lab(plain.image)[mouth], lab(coloured.image)[mouth]
    dark = before[:, 0] < 30
    hue = lambda colours: np.degrees(np.arctan2(colours[:, 2], colours[:, 1]))
    assert np.median(hue(before[dark]) - hue(after[dark])) > REDDER / 2
    assert np.abs(before - after)[:, 0].mean() < 1 and (after[:, 1] > before[:, 1] - 1).all()


def test_what_is_outside_the_mouth_is_untouched(opened):
    plain, coloured = opened
    outside = ~plain.mouth
    assert (plain.image[outside] == coloured.image[outside]).all() and not (plain.image == coloured.image).all()


def test_photos_have_no_palette_and_yellower_skin_has_more_of_one():
    assert MouthPalette.of(portrait_of(ASTRONAUT).views[0]) is None
    view, strengths = portrait_of(MONA_LISA).views[0], []
    for blue in (2.2, 1.6, 1.3, 1.2, 1.1, 1.05, 1.0):  # the varnish taken off by and by
        image = np.clip(view.image * (1, 1, blue), 0, 255).astype(np.uint8)
        palette = MouthPalette.of(replace(view, image=image))
        strengths.append(palette.strength if palette else 0.0)
    assert strengths[0] == 0 and strengths == sorted(strengths) and strengths[-1] > 0.6
    assert np.diff(strengths).max() < 0.6  # and it comes smoothly


def test_a_closed_mouth_changes_nothing():
    painted = np.random.default_rng(0).uniform(0, 200, (34, 34, 10)).astype(np.float32)
    before = painted.copy()
    MouthPalette(60.0, 1.0, 70.0).apply(painted, np.zeros((32, 32), bool))
    assert (painted == before).all()


def test_a_grey_photo_stays_grey_also_in_an_opened_mouth(driver):
    portrait = portrait_of(MONA_LISA)
    assert not portrait.views[0].is_grey
    photo = grey(portrait.photo)
    portrait = Portrait(photo, portrait.landmarks)
    targets = Retargeter(driver, portrait.views[0].landmarks)
    widest = max(range(0, len(targets), 4), key=lambda t: openness(targets[t])[0])
    frame = Renderer.of(portrait, Person.of([portrait], Painter(precision="fp32")).generator()).frame(targets[widest])
    assert np.ptp(frame, axis=2).max() <= 1 and np.abs(frame.astype(int) - photo).max() > 60


def test_a_photo_with_a_breath_of_colour_is_not_grey():
    view = portrait_of(ASTRONAUT).views[0]
    pale = np.rint(0.9 * view.image.mean(2, keepdims=True) + 0.1 * view.image).astype(np.uint8)
    assert not View(pale, view.landmarks, view.matte).is_grey
