"""The head mesh, the warp and the composite: geometry that can be checked exactly."""

import numpy as np
import pytest
import torch
from conftest import ASTRONAUT, MONA_LISA

from portrait_anim.geometry import mesh
from portrait_anim.geometry.mesh import EDGES, FLIP, LABELS, MEAN_FACE, RING, TRIANGLES, HeadMesh
from portrait_anim.geometry.warp import CROP, View, Warper, condition
from portrait_anim.networks.networks import Painting
from portrait_anim.painting.compose import compose_frame, paint_box, window
from portrait_anim.portrait.portrait import Portrait
from portrait_anim.training import losses


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return Portrait.load(MONA_LISA)


def turned(landmarks: np.ndarray, yaw: float) -> np.ndarray:
    rotation = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    centre = landmarks.mean(0)
    return (landmarks - centre) @ rotation.T + centre


def test_the_topology_is_mediapipes():
    """The shipped file can be derived again: triangles are the cliques of MediaPipe's edges, contours its contours."""
    import mediapipe.python.solutions.face_mesh_connections as connections

    after: dict[int, set[int]] = {}
    for a, b in connections.FACEMESH_TESSELATION:
        after.setdefault(a, set()).add(b)
    cliques = {
        tuple(sorted((a, b, c))) for a in after for b in after[a] for c in after.get(b, ()) if a in after.get(c, ())
    }
    assert {tuple(sorted(t)) for t in TRIANGLES[: len(cliques)].tolist()} == cliques
    assert len(cliques) == 854 and (LABELS[:854] == mesh.FACE).all()
    for part, edges in (("oval", connections.FACEMESH_FACE_OVAL), ("lips", connections.FACEMESH_LIPS)):
        assert {tuple(e) for e in EDGES[part].tolist()} == set(edges)


def test_left_and_right_are_mirror_images():
    assert (FLIP[FLIP] == np.arange(478)).all()
    assert np.abs(MEAN_FACE[FLIP] * [-1, 1, 1] - MEAN_FACE).mean() < 0.01
    landmarks = MEAN_FACE * 100 + 128
    assert np.allclose(mesh.mirrored_landmarks(mesh.mirrored_landmarks(landmarks, 256), 256), landmarks)


def test_similarity_recovers_a_known_pose():
    angle = 0.7
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    scale, found, shift = mesh.similarity(MEAN_FACE, 3.0 * MEAN_FACE @ rotation.T + [5, 6, 7])
    assert scale == pytest.approx(3.0) and np.allclose(found, rotation) and np.allclose(shift, [5, 6, 7])


def test_gaze_is_warped_the_iris_moves_as_a_disc_and_the_lids_stay():
    own = Portrait.load(ASTRONAUT).views[0]  # she looks into the camera: her irises have room to both sides
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


def test_no_triangle_of_the_eye_folds_when_it_looks_aside():
    def areas(landmarks: np.ndarray) -> np.ndarray:
        a, b, c = HeadMesh(landmarks).vertices[TRIANGLES[LABELS == mesh.EYE]].transpose(1, 2, 0)
        return (b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0]

    ahead = MEAN_FACE * 100
    for shift in (-3.0, 3.0):  # an eye is 16 wide, the iris 7: this is as far as people look
        aside = ahead.copy()
        aside[468:, 0] += shift
        assert (areas(aside) * areas(ahead) > 0).all()


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


def test_far_rings_stay_and_near_rings_follow():
    landmarks = MEAN_FACE * 110 + [128, 100, 0]
    head = HeadMesh(landmarks)
    rings = head.posed(landmarks + [10, 0, 0])[478:].reshape(5, 36, 3) - head.rings
    assert np.allclose(rings[4], 0)  # the outermost ring stands still: nothing outside it can move
    above = landmarks[mesh.OVAL][:, 1] < 90
    assert np.allclose(rings[0][above][:, 0], 10)


def test_the_nearer_triangle_hides_the_farther():
    vertices = HeadMesh(MEAN_FACE * 110 + [128, 100, 0]).vertices
    ids = mesh.rasterise(vertices, (0, 0, CROP, CROP))
    nose = vertices[1, :2].astype(int)
    assert 1 in TRIANGLES[ids[nose[1], nose[0]]]  # the tip of the nose, not the cheeks behind it
    assert (LABELS[ids[ids >= 0]] < RING).sum() > 5000


def test_turning_away_uses_the_mirrored_photo_only_where_it_sees_more(portrait):
    """The Mona Lisa shows less of the cheek on the picture's left: turned towards us, its mirror image helps there."""
    towards = portrait.warper().warp(turned(portrait.views[0].landmarks, -0.4))
    away = portrait.warper().warp(turned(portrait.views[0].landmarks, 0.2))
    assert towards.weights[1].max() > 0.5
    assert away.weights[1].max() < 0.05
    x = np.average(np.arange(towards.weights.shape[2]), weights=towards.weights[1].sum(0)) + towards.frame[0]
    assert x < 128


def test_the_two_composites_agree(portrait):
    """Training composes in torch, the command in numpy: the same numbers must come out."""
    target = turned(portrait.views[0].landmarks, -0.2)
    warp = portrait.warper().warp(target)
    x = condition(warp, portrait.views, portrait.plate, target)
    rng = np.random.default_rng(0)
    mask = rng.uniform(0, 1, (CROP, CROP)).astype(np.float32)
    flow = rng.normal(0, 2, (CROP, CROP, 2)).astype(np.float32)
    delta = rng.normal(0, 0.1, (CROP, CROP, 3)).astype(np.float32)
    channels_first = lambda a: torch.from_numpy(np.ascontiguousarray(np.moveaxis(a, -1, 0)))
    crop = np.s_[-warp.frame[1] : CROP - warp.frame[1], -warp.frame[0] : CROP - warp.frame[0]]
    batch = {
        "x": channels_first(x)[None, None],
        "plate": channels_first(portrait.plate)[None, None],
        "flows": torch.stack([channels_first(f[crop]) for f in warp.flows])[None, :, None],
        "weights": torch.stack([torch.from_numpy(w[crop].copy())[None] for w in warp.weights])[None, :, None],
        "photos": torch.stack([channels_first(v.image) for v in portrait.views])[None],
    }
    painting = Painting(torch.from_numpy(mask)[None, None], channels_first(flow)[None], channels_first(delta)[None])
    expected = losses.compose(batch, painting).image[0].permute(1, 2, 0).numpy()
    refined, added = paint_box(warp, portrait.views, portrait.plate, x, Painting(mask, flow, delta))
    inside = window() > 0.999
    difference = np.abs(refined + added - np.clip(expected, -1, 1))[inside]
    assert difference.mean() < 0.01 and np.quantile(difference, 0.99) < 0.05  # remap rounds positions to 1/32 px


def test_a_painting_that_changes_nothing_is_the_warp(portrait):
    target = turned(portrait.views[0].landmarks, 0.1)
    nothing = Painting(
        np.full((CROP, CROP), 0.7, np.float32),
        np.zeros((CROP, CROP, 2), np.float32),
        np.zeros((CROP, CROP, 3), np.float32),
    )
    frames = []
    for painting in (None, nothing):
        warp = portrait.warper().warp(target)
        x = condition(warp, portrait.views, portrait.plate, target)
        refined, added = paint_box(warp, portrait.views, portrait.plate, x, painting)
        frames.append(compose_frame(portrait, warp, refined, added).astype(int))
    assert np.abs(frames[0] - frames[1]).max() <= 1


def test_the_background_stands_still_or_moves_as_asked():
    """Behind a turned head the background keeps its place, unless --background warp."""
    made = {}
    for background in ("still", "warp"):
        portrait = Portrait.load(ASTRONAUT, background=background)
        landmarks = portrait.views[0].landmarks
        nothing = np.zeros((CROP, CROP, 3), np.float32)
        frame = compose_frame(portrait, portrait.warper().warp(landmarks + [12, 0, 0]), nothing, nothing)
        made[background] = np.abs(frame.astype(int) - portrait.photo).mean(-1)
        person = portrait.region.rgba[..., 3] > 0
    x0, y0, x1, y1 = portrait.region.box
    behind = Portrait.load(ASTRONAUT).region.rgba[..., 3] == 0
    import cv2

    behind = cv2.erode(behind.astype(np.uint8), np.ones((61, 61))) > 0  # far from where the head moves to
    still, moved = (made[b][y0:y1, x0:x1][behind].mean() for b in ("still", "warp"))
    assert person.all() and still < 0.1 < moved
