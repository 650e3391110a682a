"""The inside of a mouth that opens: dark, and with teeth that are fixed to the skull, where the photo shows none."""

import cv2
import numpy as np
import pytest
from reference import turned
from support import ASTRONAUT, MONA_LISA, portrait_of

from portrait_anim.geometry import mouth
from portrait_anim.geometry.anatomy import JAW
from portrait_anim.geometry.mesh import MEAN_FACE
from portrait_anim.geometry.view import CROP, View
from portrait_anim.geometry.warp import Warp, Warper
from portrait_anim.painting.compose import N_RESULT
from portrait_anim.painting.conditioning import Condition, condition
from portrait_anim.painting.mouth_inside import MouthInside, keep_dark

LIP = 120  # the grey of a made-up person
_GAP = (MEAN_FACE[mouth.LOWER] - MEAN_FACE[mouth.UPPER])[:, 1].mean()


def face(gap: float, raised: float = 0.0) -> np.ndarray:
    """A made-up face whose lips are apart by so many px in the mean, the upper one raised by so many."""
    landmarks = (MEAN_FACE + (gap / 240 - _GAP) * JAW) * 240 + [256, 220, 0]
    landmarks[mouth.UPPER, 1] -= raised * np.sin(np.linspace(0, np.pi, len(mouth.UPPER) + 2))[1:-1]
    return landmarks


CLOSED = face(0.1)


def view_of(landmarks: np.ndarray) -> View:
    return View(np.full((CROP, CROP, 3), LIP, np.uint8), landmarks, np.ones((CROP, CROP), np.float32))


def warped(views: list[View], target: np.ndarray) -> tuple[Warp, Condition]:
    warp = Warper(views).warp(target)
    return warp, condition(warp, views, np.zeros((CROP, CROP, 3), np.uint8), target)


def painted_mouth(views: list[View], target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The grey picture of an even face with the inside of its mouth, (512, 512), and the cavity."""
    warp, seen = warped(views, target)
    painted = np.zeros((CROP + 2, CROP + 2, N_RESULT), np.float32)
    painted[1:-1, 1:-1, :3] = (LIP + seen.cavity * (views[0].cavity[0] - LIP))[..., None]
    MouthInside.of(views[0]).paint(painted, seen, warp.unknown, target)
    return (painted[1:-1, 1:-1, :3] + painted[1:-1, 1:-1, 3:6])[..., 1], seen.cavity


def edge_of_teeth(picture: np.ndarray, target: np.ndarray) -> float:
    """How far down the teeth reach in the column beside the middle of the mouth, px."""
    x, top, bottom = target[13, 0] - 6, target[13, 1], target[14, 1]
    column = picture[int(top) : int(bottom), int(x)]
    return int(top) + int(np.diff(column)[3:].argmin()) + 1.5


def test_a_mouth_that_was_closed_has_teeth_when_it_opens_and_a_dark_throat():
    target = face(30)
    picture, cavity = painted_mouth([view_of(CLOSED)], target)
    column = picture[int(target[13, 1]) + 3 : int(target[14, 1]) - 4, int(target[13, 0]) - 6]
    assert column[: len(column) // 2].max() > 0.8 * LIP and column.argmin() < 0.6 * len(column)  # teeth, and below
    assert column.min() < 0.75 * mouth.DARK * LIP < 0.95 * column[-1]  # the throat is darker than the mouth's floor
    lips = LIP + cavity * (mouth.DARK * LIP - LIP)
    assert np.abs(picture - lips)[cavity == 0].max() < 1e-3


def test_the_row_is_alike_on_both_sides_and_goes_into_the_dark():
    target = face(30)
    picture, _ = painted_mouth([view_of(CLOSED)], target)
    middle, row, away = target[13, 0], int(target[13, 1] + 12), np.arange(2, 22)
    left, right = picture[row, (middle - away).astype(int)], picture[row, (middle + away).astype(int)]
    assert np.median(np.abs(left - right)) < 2 and left[:4].mean() > left[12:16].mean() + 2


def test_teeth_stay_where_they_are_when_the_lips_move():
    views = [view_of(CLOSED)]
    edges = []
    for gap, raised in ((25, 0), (38, 0), (25, 5)):
        target = face(gap, raised)
        edges.append(edge_of_teeth(painted_mouth(views, target)[0], target))
    assert np.ptp(edges) <= 1, edges


def test_teeth_turn_with_the_head():
    views = [view_of(CLOSED)]
    edges = []
    for yaw in (-0.35, 0.0, 0.35):
        target = turned(face(30), yaw)
        picture, _ = painted_mouth(views, target)
        edges.append(edge_of_teeth(picture, target) - target[13, 1])
    assert np.ptp(edges) <= 2 and min(edges) > 4, edges


def test_nothing_is_painted_into_a_closed_mouth():
    picture, _ = painted_mouth([view_of(CLOSED)], CLOSED)
    assert np.abs(picture - LIP).max() < 2


def unknown(photos: list[np.ndarray], target: np.ndarray) -> float:
    return Warper([view_of(landmarks) for landmarks in photos]).warp(target).unknown


def test_teeth_are_invented_only_where_no_photo_shows_what_is_between_the_lips():
    smile, yawn = face(15), face(40)
    assert unknown([smile], yawn) == 0 and unknown([CLOSED], yawn) == 1
    for photos in ([CLOSED, yawn], [yawn, CLOSED]):
        assert [unknown(photos, face(gap)) for gap in (2, 10, 18, 32, 40)] == pytest.approx([0] * 5, abs=0.02), photos
    aside = turned(yawn, 1.3)
    assert unknown([CLOSED, aside], yawn) > 0.98  # a photo whose mouth is hidden does not show it
    for name, expected in ((ASTRONAUT, 0), (MONA_LISA, 1)):
        portrait = portrait_of(name)
        assert portrait.warper().warp(portrait.views[0].landmarks).unknown == expected


def test_without_teeth_nothing_is_invented():
    views, target = [view_of(CLOSED)], face(30)
    warp, seen = warped(views, target)
    bare = np.zeros((CROP + 2, CROP + 2, N_RESULT), np.float32)
    bare[..., :3] = mouth.DARK * LIP
    MouthInside.of(views[0], teeth=False).paint(bare, seen, warp.unknown, target)
    assert bare[..., 3:6].max() <= 1e-3


def test_the_teeth_of_a_blurred_photo_are_blurred():
    sharp = portrait_of(ASTRONAUT).views[0]
    blurred = View(cv2.GaussianBlur(sharp.image, (0, 0), 5), sharp.landmarks, sharp.matte)
    softness = [MouthInside.of(view).blur for view in (sharp, blurred)]
    assert 0.5 <= softness[0] < 1.2 and 1.4 * softness[0] < softness[1] < 5


def test_teeth_are_as_light_as_the_photo_and_tinted_as_its_light():
    day, varnish = (MouthInside.of(portrait_of(name).views[0]).colour for name in (ASTRONAUT, MONA_LISA))
    yellow = [(colour[0] - colour[2]) / colour.mean() for colour in (day, varnish)]
    assert 0 < yellow[0] < 0.3 < yellow[1]
    view = portrait_of(ASTRONAUT).views[0]
    dim = lambda by: MouthInside.of(View(view.image // by, view.landmarks, view.matte)).colour
    assert dim(4) == pytest.approx(dim(2) / 2, rel=0.05) and dim(2).max() < day.max()


def test_the_floor_of_a_mouth_is_as_red_as_the_lip():
    view = view_of(CLOSED)
    view.image[int(CLOSED[14, 1]) :] = 150, 75, 75  # a red lower lip
    target = face(36)
    x, y = int(target[14, 0]), int(target[14, 1]) - 9
    painted = np.full((CROP + 2, CROP + 2, N_RESULT), 0, np.float32)
    painted[..., :3] = 60  # grey, as networks paint it
    warp, seen = warped([view], target)
    MouthInside.of(view).paint(painted, seen, warp.unknown, target)
    red, green, blue = painted[y + 1, x + 1, :3] + painted[y + 1, x + 1, 3:6]
    assert red > 1.3 * green and green == pytest.approx(blue, abs=1)


def test_a_mouth_that_is_wide_open_is_not_filled_with_fog():
    y, x = np.mgrid[:64, :64]
    ellipse = lambda height: (((x - 32) / 24) ** 2 + ((y - 32) / height) ** 2 < 1).astype(np.float32)
    painted = np.zeros((66, 66, N_RESULT), np.float32)
    painted[1:-1, 1:-1, 3:6] = np.where(x < 32, 40, -40)[..., None]
    for height, most in ((2.5, 0.0), (6, 0.55), (16, 0.85)):
        taken = painted.copy()
        keep_dark(taken, ellipse(height))
        share = 1 - taken[1:-1, 1:-1, 3:6] / painted[1:-1, 1:-1, 3:6]
        assert np.abs(share[ellipse(height) == 0]).max() < 1e-6 and np.abs(share[:, 32:]).max() < 1e-6
        assert most - 0.3 <= share.max() <= most + 1e-6, height
    before = painted.copy()
    keep_dark(painted, np.zeros((64, 64), np.float32))
    assert (painted == before).all()
