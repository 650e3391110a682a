"""The warp: where each pixel of a moved face is fetched from."""

import cv2
import numpy as np
from reference import turned
from support import ASTRONAUT, portrait_of

from portrait_anim.geometry import mesh
from portrait_anim.geometry.mesh import LABELS, MEAN_FACE, RING, HeadMesh
from portrait_anim.geometry.warp import CROP, View, Warper
from portrait_anim.motion.retarget import Retargeter


def test_gaze_is_warped_the_iris_moves_as_a_disc_and_the_lids_stay():
    own = portrait_of(ASTRONAUT).views[0]  # she looks into the camera: her irises have room to both sides
    for shift in (-1.5, 1.5):
        aside = own.landmarks.copy()
        aside[468:, 0] += shift
        flow = Warper([own]).warp(aside).flows[0]
        moved = lambda point: np.floor(point) + 0.5 - flow[int(point[1]), int(point[0])]
        for iris in (468, 473):
            for dx in (-1.0, 0.0, 1.0):
                assert np.allclose(moved(aside[iris, :2] + (dx, 0)), (shift, 0), atol=0.4)
        for lid in (33, 133, 362, 263):
            assert np.linalg.norm(moved(aside[lid, :2])) < 0.8


def test_at_its_own_landmarks_the_warp_is_the_identity(portrait):
    warp = portrait.warper().warp(portrait.views[0].landmarks)
    x0, y0, x1, y1 = warp.frame
    here = np.stack(np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5), -1)
    assert np.abs(warp.flows[0] - here).max() < 1e-3
    assert warp.weights[0].min() > 0.999  # and the canvas alone is used


def test_a_moved_face_is_fetched_from_where_it_was():
    """Landmarks scaled and shifted: inside the face the backward flow is exactly the inverse."""
    landmarks = MEAN_FACE * 110 + [128, 100, 0]
    view = View(np.zeros((CROP, CROP, 3), np.uint8), landmarks, np.ones((CROP, CROP), np.float32))
    target = (landmarks - [128, 128, 0]) * [1.1, 1.1, 1.1] + [133, 125, 0]
    warp = Warper([view]).warp(target)
    inside = mesh.rasterise(HeadMesh(landmarks).posed(target), (0, 0, CROP, CROP))
    inside = (inside >= 0) & (LABELS[inside] < RING)
    y, x = np.nonzero(inside)
    expected = (np.stack([x + 0.5, y + 0.5], 1) - [133, 125]) / 1.1 + 128
    assert inside.sum() > 5000
    assert np.abs(warp.flows[0][y, x] - expected).max() < 0.05


def test_turning_away_uses_the_mirrored_photo_only_where_it_sees_more(portrait):
    """The Mona Lisa shows less of the cheek on the picture's left: turned towards us, its mirror image helps there."""
    towards = portrait.warper().warp(turned(portrait.views[0].landmarks, -0.4))
    away = portrait.warper().warp(turned(portrait.views[0].landmarks, 0.2))
    assert towards.weights[1].max() > 0.5
    assert away.weights[1].max() < 0.05
    x = np.average(np.arange(towards.weights.shape[2]), weights=towards.weights[1].sum(0)) + towards.frame[0]
    assert x < 128


def test_no_pixel_of_a_face_is_read_from_far_beside_its_neighbours(frame, driver):
    """Slivers, seen at the nostrils, showed whatever was 100 px away."""
    portrait = frame[0]
    targets = Retargeter(driver, portrait.views[0].landmarks)
    face = np.append(mesh.LABELS < mesh.RING, False)
    apart = 0
    for t in range(0, len(targets), 10):
        warp = portrait.warper().warp(targets[t])
        flow = warp.flows[0]
        around = np.dstack([cv2.medianBlur(np.ascontiguousarray(flow[..., k]), 5) for k in range(2)])
        distance = np.abs(flow - around).max(-1)[face[warp.ids]]
        assert distance.max() < 30  # px
        apart += (distance > 3).sum()
    assert apart < len(range(0, len(targets), 10))  # less than one in a frame, at the far side of the nose


def test_flow_is_that_of_the_triangles_blurred_in_the_shell(frame):
    portrait, target, warp, _, _, flows, *_ = frame
    vertices = portrait.views[0].mesh.posed(target)
    ids = mesh.rasterise(vertices, warp.frame)
    x0, y0, x1, y1 = warp.frame
    here = np.stack(np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5), -1)
    shell = 1 - np.append(mesh.LABELS < mesh.RING, False)[ids].astype(float)
    blur = lambda a: cv2.GaussianBlur(a, (0, 0), 3)
    for n, view in enumerate(portrait.views):
        m = mesh.triangle_maps(vertices, view.mesh.vertices)[0][ids].astype(float)
        flow = np.stack([(m[..., :2] * here).sum(-1) + m[..., 4], (m[..., 2:4] * here).sum(-1) + m[..., 5]], -1)
        smooth = blur((flow - here) * shell[..., None]) / np.maximum(blur(shell), 1e-3)[..., None]
        expected = np.where(shell[..., None] > 0, here + smooth, flow)
        used = warp.weights[n] > 0
        assert used.any() and np.abs(flows[n] - expected)[used].max() < 2e-3  # px
