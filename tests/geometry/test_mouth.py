"""The inside of the mouth: teeth keep their size and their lip, and a darker gap opens between them."""

import numpy as np
import pytest
from reference import PORTRAIT
from support import ASTRONAUT, portrait_of

from portrait_anim.geometry import mesh, mouth
from portrait_anim.geometry.mesh import LABELS, MOUTH, HeadMesh
from portrait_anim.geometry.view import CROP, View
from portrait_anim.geometry.warp import WHOLE, Warper

BLANK = np.zeros((CROP, CROP, 3), np.uint8)


def opened(landmarks: np.ndarray, by: float) -> np.ndarray:
    """The same face with its lower lip further down by so many px, less towards the corners of the mouth."""
    moved = landmarks.copy()
    share = np.sin(np.linspace(0, np.pi, len(mouth.LOWER) + 2))[1:-1]
    moved[mouth.LOWER, 1] += by * share
    return moved


def smile(gap: float) -> np.ndarray:
    """A face whose lips are apart by so many px in the middle."""
    closed = PORTRAIT.copy()
    closed[mouth.LOWER] = closed[mouth.UPPER] + (0, 0.01, 0)
    return opened(closed, gap)


def view_of(landmarks: np.ndarray) -> View:
    return View(BLANK, landmarks, np.ones((CROP, CROP), np.float32))


def sources_down_the_middle(warper: Warper, target: np.ndarray, view: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """How far below its upper lip each px of a column through the open mouth lies, in the frame and in the view."""
    warp = warper.warp(target)
    flow = warp.flow(view, mesh.rasterise(warp.vertices, WHOLE), WHOLE)
    x, top, bottom = int(target[13, 0]), target[13, 1], target[14, 1]
    rows = np.arange(int(np.ceil(top)), int(bottom))
    return rows + 0.5 - top, flow[rows, x, 1] - warper.views[view].landmarks[13, 1]


def test_three_strips_fill_the_mouth_without_overlap():
    vertices = HeadMesh(opened(PORTRAIT, 40)).vertices
    a, b, c = vertices[mesh.TRIANGLES[LABELS == MOUTH], :2].transpose(1, 0, 2)
    area = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).sum()
    x, y = vertices[mesh.INNER_LIPS, :2].T
    assert area == pytest.approx(abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()), rel=1e-6)
    assert mesh.IS_CAVITY.sum() == 2 * len(mouth.UPPER)


def test_teeth_of_a_smile_keep_their_size_under_the_upper_lip_while_the_mouth_opens():
    own = smile(10)
    warper = Warper([view_of(own)])
    for more in (8, 20, 45):
        below, seen = sources_down_the_middle(warper, opened(own, more))
        teeth = below < 9
        assert np.abs(seen - below)[teeth].max() < 0.5, more
        assert np.abs(seen[below > 11.5] - 10).max() < 1, more  # the cavity: the line where lip and teeth met


def test_a_mirror_image_does_not_stretch_the_teeth_of_a_lopsided_smile():
    own = smile(10)
    own[mouth.LOWER[5:], 1] += 6
    view = view_of(own)
    target = opened(own, 40)
    for views in ([view], [view, view.mirrored()]):
        warp = Warper(views).warp(target)
        flow = warp.flow(0, mesh.rasterise(warp.vertices, WHOLE), WHOLE)
        for upper, lower in zip(mouth.UPPER[[2, 6]], mouth.LOWER[[2, 6]]):  # of the narrow side and of the wide one
            x, top, gap = int(target[upper, 0]), target[upper, 1], own[lower, 1] - own[upper, 1]
            rows = np.arange(int(np.ceil(top)) + 1, int(top + 0.5 * gap))
            assert np.abs(flow[rows, x, 1] - own[upper, 1] - (rows + 0.5 - top)).max() < 0.5, len(views)


def test_closing_lips_cover_the_teeth_and_do_not_squeeze_them():
    own = smile(14)
    for closer, left in ((5, 5), (7, 3)):  # between what is left of the parts is a slit
        below, seen = sources_down_the_middle(Warper([view_of(own)]), opened(own, -closer))
        assert np.abs(seen - below)[below < left].max() < 0.5, closer


def test_lips_that_part_a_little_have_a_dark_slit_between_them():
    own = smile(14)
    lengths = mouth.parts(own)
    kept = []
    for gap in (0.5, 5, 14):
        target = opened(own, gap - 14)
        kept.append(mouth.fitting(lengths, target).sum(0)[4] / mouth.gaps(target)[4])
    assert kept == pytest.approx([1, 0.6, 1], abs=0.12)


def test_in_a_mouth_that_is_wide_open_the_lower_teeth_stay_with_the_lower_lip():
    own = smile(50)
    below, seen = sources_down_the_middle(Warper([view_of(own)]), opened(own, 20))
    assert np.abs(seen - below)[below < 23].max() < 0.5
    assert np.abs(seen - (below - 20))[below > 47].max() < 0.5


def test_only_what_opens_is_covered_by_the_cavity():
    for own in (smile(0.5), smile(50)):
        warper = Warper([view_of(own)])
        assert warper.warp(own).cavity.max() < 0.02 and warper.warp(opened(own, -0.4)).cavity.max() < 0.02
        target = opened(own, 40)
        cavity = warper.warp(target).cavity
        upper = mouth.parts(own)[0][len(mouth.UPPER) // 2]
        x, y = np.round((target[13, :2] + (0, upper + 20)) / 2).astype(int)
        assert cavity[y, x] == pytest.approx(mouth.COVER, abs=0.03)
        assert (cavity > 0.01).mean() < 0.02


def test_the_cavity_has_the_colour_of_the_lip_but_darker():
    view = portrait_of(ASTRONAUT).views[0]
    x, y = np.round(view.landmarks[[14, 17], :2].mean(0)).astype(int)
    lip = view.image[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).mean(0)
    assert view.cavity.dtype == np.float32  # with another type the loops over pixels would compute in 64 bits
    assert np.abs(view.cavity / mouth.DARK - lip).max() < 30
    assert view.cavity[0] > view.cavity[1:].max() > 30


def test_a_second_photo_shows_its_own_teeth_at_their_size():
    shut, wide = smile(0.5), smile(50)
    warper = Warper([view_of(shut), view_of(shut).mirrored(), view_of(wide)])
    below, seen = sources_down_the_middle(warper, smile(60), view=2)
    assert np.abs(seen - below)[below < 23].max() < 0.7


def test_a_second_photo_that_is_not_used_does_not_stretch_the_teeth_of_the_first():
    own = smile(10)
    warper = Warper([view_of(own), view_of(own).mirrored(), view_of(smile(60))])
    target = opened(own, 5)
    assert not warper.warp(target).used[2]
    below, seen = sources_down_the_middle(warper, target)
    assert np.abs(seen - below)[below < 9].max() < 0.5


def test_the_warp_is_continuous_as_the_mouth_opens():
    view = portrait_of(ASTRONAUT).views[0]
    warper = Warper([view])
    frames = []
    for more in np.arange(0, 6, 0.25):
        warp = warper.warp(opened(view.landmarks, more))
        corners = warp.vertices[mesh.TRIANGLES[mesh.LABELS == MOUTH], :2]
        maps = warp.maps[0, :-1][mesh.LABELS == MOUTH].astype(float)
        middle = corners.mean(1)
        at = np.einsum("tij,tj->ti", maps[:, :4].reshape(-1, 2, 2), middle) + maps[:, 4:]
        frames.append(at)
    assert np.abs(np.diff(frames, axis=0)).max() < 1.0
