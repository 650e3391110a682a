"""The warp: where each pixel of a moved face is fetched from."""

import cv2
import numpy as np
import pytest
from reference import PORTRAIT, turned
from support import ASTRONAUT, portrait_of

from portrait_anim.geometry import mesh
from portrait_anim.geometry.mesh import LABELS, MEAN_FACE, RING, TRIANGLES, HeadMesh
from portrait_anim.geometry.view import CROP, View
from portrait_anim.geometry.warp import IS_FACE, STEP, WHOLE, Warper
from portrait_anim.motion.retarget import Retargeter


def flow_of(warp, box=WHOLE, view=0) -> np.ndarray:
    return warp.flow(view, mesh.rasterise(warp.vertices, box), box)


def places(box) -> np.ndarray:
    x0, y0, x1, y1 = box
    return np.stack(np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5), -1)


def test_gaze_is_warped_the_iris_moves_as_a_disc_and_the_lids_stay():
    own = portrait_of(ASTRONAUT).views[0]  # she looks into the camera: her irises have room to both sides
    for shift in (-3.0, 3.0):
        aside = own.landmarks.copy()
        aside[468:, 0] += shift
        flow = flow_of(Warper([own]).warp(aside))
        moved = lambda point: np.floor(point) + 0.5 - flow[int(point[1]), int(point[0])]
        for iris in (468, 473):
            for dx in (-2.0, 0.0, 2.0):
                assert np.allclose(moved(aside[iris, :2] + (dx, 0)), (shift, 0), atol=0.8)
        for lid in (33, 133, 362, 263):
            assert np.linalg.norm(moved(aside[lid, :2])) < 1.6


def test_at_its_own_landmarks_the_warp_is_the_identity(portrait):
    warp = portrait.warper().warp(portrait.views[0].landmarks)
    assert np.abs(flow_of(warp, warp.frame) - places(warp.frame)).max() < 2e-3
    assert warp.weights[0].min() > 0.999  # and the canvas alone is used
    assert warp.shown.min() == 1


def test_a_moved_face_is_fetched_from_where_it_was():
    """Landmarks scaled and shifted: inside the face the backward flow is exactly the inverse."""
    landmarks = MEAN_FACE * 220 + [256, 200, 0]
    view = View(np.zeros((CROP, CROP, 3), np.uint8), landmarks, np.ones((CROP, CROP), np.float32))
    target = (landmarks - [256, 256, 0]) * [1.1, 1.1, 1.1] + [266, 250, 0]
    warp = Warper([view]).warp(target)
    inside = mesh.rasterise(HeadMesh(landmarks).posed(target), (0, 0, CROP, CROP))
    inside = (inside >= 0) & (LABELS[inside] < RING)
    y, x = np.nonzero(inside)
    expected = (np.stack([x + 0.5, y + 0.5], 1) - [266, 250]) / 1.1 + 256
    assert inside.sum() > 20_000
    assert np.abs(flow_of(warp)[y, x] - expected).max() < 0.05


def test_turning_away_uses_the_mirrored_photo_only_where_it_sees_more(portrait):
    """The Mona Lisa shows less of the cheek on the picture's left: turned towards us, its mirror image helps there."""
    towards = portrait.warper().warp(turned(portrait.views[0].landmarks, -0.4))
    away = portrait.warper().warp(turned(portrait.views[0].landmarks, 0.2))
    assert towards.weights[1].max() > 0.5
    assert away.weights[1].max() < 0.05
    x = STEP * np.average(np.arange(towards.weights.shape[2]), weights=towards.weights[1].sum(0)) + towards.frame[0]
    assert x < CROP / 2


def test_no_pixel_of_a_face_is_read_from_far_beside_its_neighbours(frame, driver):
    """Slivers, seen at the nostrils, showed whatever was 200 px away."""
    portrait = frame[0]
    targets = Retargeter(driver, portrait.views[0].landmarks)
    apart = 0
    for t in range(0, len(targets), 10):
        warp = portrait.warper().warp(targets[t])
        ids = mesh.rasterise(warp.vertices, WHOLE)
        flow = warp.flow(0, ids, WHOLE)
        around = np.dstack([cv2.medianBlur(np.ascontiguousarray(flow[..., k]), 5) for k in range(2)])
        distance = np.abs(flow - around).max(-1)[IS_FACE[ids]]
        assert distance.max() < 60  # px
        apart += (distance > 6).sum()
    assert apart < 2 * len(range(0, len(targets), 10))  # two px in a frame at most, at the far side of the nose


def test_flow_is_that_of_the_triangles_blurred_in_the_shell(frame):
    portrait, target, warp, *_ = frame
    x0, y0, x1, y1 = warp.frame
    coarse, fine = mesh.rasterise(warp.vertices, warp.frame, STEP), mesh.rasterise(warp.vertices, warp.frame)
    cells = np.stack(np.meshgrid(np.arange(x0, x1, STEP) + STEP / 2, np.arange(y0, y1, STEP) + STEP / 2), -1)
    shell = 1 - IS_FACE[coarse].astype(float)
    blur = lambda a: cv2.GaussianBlur(a, (0, 0), 2.5)
    for n, view in enumerate(portrait.views):
        maps = mesh.triangle_maps(warp.vertices, view.mesh.vertices)[0].astype(float)
        at = lambda m, here: np.stack(
            [(m[..., :2] * here).sum(-1) + m[..., 4], (m[..., 2:4] * here).sum(-1) + m[..., 5]], -1
        )
        shift = blur((at(maps[coarse], cells) - cells) * shell[..., None]) / np.maximum(blur(shell), 1e-3)[..., None]
        size = (x1 - x0, y1 - y0)
        shift = cv2.resize(shift, size, interpolation=cv2.INTER_LINEAR)
        here = places(warp.frame)
        expected = np.where(IS_FACE[fine][..., None], at(maps[fine], here), here + shift)
        used = cv2.resize(warp.weights[n], size, interpolation=cv2.INTER_LINEAR) > 0.01
        difference = np.abs(warp.flow(n, fine, warp.frame) - expected)[used]
        assert used.any() and np.quantile(difference, 0.999) < 5e-3  # px


def profile(degrees: float) -> View:
    """A made-up head that looks aside."""
    image = np.full((CROP, CROP, 3), 128, np.uint8)
    return View(image, turned(PORTRAIT, np.radians(degrees)), np.ones((CROP, CROP), np.float32))


def test_a_profile_that_turns_back_leaves_neither_a_second_face_nor_a_hole_at_rest():
    """The shell behind a profile is hidden by it: there the mirror image helps, and far from it the background."""
    canvas = profile(50)
    warper = Warper([canvas, canvas.mirrored()])
    rest, front = warper.warp(canvas.landmarks), warper.warp(PORTRAIT)
    assert rest.shown.min() == 1 and not rest.used[1]
    assert front.used[1] and front.shown.min() < 0.1
    # Beside the face that has turned back, nothing is fetched from inside the profile's face.
    ids = mesh.rasterise(front.vertices, WHOLE)
    flow, weight = front.flow(0, ids, WHOLE), front.enlarged(front.weights[0] * front.shown, WHOLE)
    face = IS_FACE[mesh.rasterise(canvas.mesh.vertices, WHOLE)].astype(np.uint8)
    inner = cv2.erode(face, np.ones((25, 25), np.uint8)).astype(np.float32)
    fetched = cv2.remap(inner, flow - 0.5, None, cv2.INTER_LINEAR)
    beside = cv2.dilate(IS_FACE[ids].astype(np.uint8), np.ones((25, 25), np.uint8)) == 0
    assert (fetched * beside > 0.5).sum() > 1000  # it would be, in many px
    assert (fetched * weight * beside > 0.5).sum() < 100


@pytest.mark.parametrize("degrees", [-15, 0])
def test_no_strip_of_a_profile_is_left_at_the_edge_of_the_face(degrees):
    """Where the rings are folded behind the face, what lies beyond them begins at its edge."""
    canvas = profile(50)
    warp = Warper([canvas, canvas.mirrored()]).warp(turned(PORTRAIT, np.radians(degrees)))
    ids = mesh.rasterise(warp.vertices, WHOLE)
    beyond = np.append(LABELS >= RING + 2, True)[ids]
    face = IS_FACE[mesh.rasterise(canvas.mesh.vertices, WHOLE)].astype(np.float32)
    fetched = cv2.remap(face, warp.flow(0, ids, WHOLE) - 0.5, None, cv2.INTER_LINEAR) * beyond
    shown = warp.enlarged(warp.weights[0] * warp.shown, WHOLE)
    assert (fetched > 0.5).sum() > 500 and (fetched * shown > 0.5).sum() < 0.1 * (fetched > 0.5).sum()


def test_the_mirror_image_takes_over_a_part_of_the_face_and_not_single_triangles():
    canvas = profile(50)
    warper = Warper([canvas, canvas.mirrored()])
    vertices = canvas.mesh.posed(turned(PORTRAIT, np.radians(20)))
    fits = np.zeros((2, 3))
    share = warper._shares(vertices, mesh.rasterise(vertices, WHOLE, STEP), fits)[1]
    face = IS_FACE[:-1]
    middles = HeadMesh(MEAN_FACE).vertices[TRIANGLES[face]].mean(1)
    near = np.linalg.norm(middles[:, None] - middles[None], axis=-1) < 0.05
    assert share.max() > 0.5 and np.abs(share[:-1][face][:, None] - share[:-1][face][None])[near].max() < 0.4


def test_a_head_that_looks_into_the_camera_hides_nothing_of_its_shell():
    warper = Warper([profile(5), profile(5).mirrored()])
    assert warper.warp(turned(PORTRAIT, 0.4)).shown.min() == 1


def test_shares_are_shares_whoever_helps():
    """A profile, its mirror image and photos from the front: none takes what another has taken."""
    canvas = profile(50)
    views = [canvas, canvas.mirrored(), profile(0), profile(10)]
    for degrees in (50, 35, 15, 0, -20):
        weights = Warper(views).warp(turned(PORTRAIT, np.radians(degrees))).weights
        assert weights.min() > -1e-4 and np.abs(weights.sum(0) - 1).max() < 1e-4


def test_a_mirror_image_lends_its_person_and_not_what_is_beside():
    """The background beside the mirrored head would open a hole in the hair of the canvas."""
    whole = profile(50)
    face = IS_FACE[mesh.rasterise(whole.mesh.vertices, WHOLE)].astype(np.float32)
    narrow = View(whole.image, whole.landmarks, cv2.dilate(face, np.ones((15, 15), np.uint8)))
    lent = []
    for canvas in (whole, narrow):
        mirror = canvas.mirrored()
        warp = Warper([canvas, mirror]).warp(PORTRAIT)
        flow = warp.flow(1, mesh.rasterise(warp.vertices, WHOLE), WHOLE)
        beside = cv2.remap(narrow.mirrored().matte, flow - 0.5, None, cv2.INTER_LINEAR) < 0.01
        beside &= warp.enlarged(warp.face, WHOLE) == 0
        lent.append((warp.enlarged(warp.weights[1], WHOLE) * beside).sum())
    assert lent[0] > 500 and lent[1] < 0.02 * lent[0]
