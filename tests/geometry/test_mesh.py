"""The head mesh: its topology, its symmetry, and which triangle each pixel shows."""

import mediapipe.python.solutions.face_mesh_connections as connections
import numpy as np
import pytest
from reference import covered

from portrait_anim.geometry import mesh
from portrait_anim.geometry.mesh import EDGES, FLIP, LABELS, MEAN_FACE, RING, TRIANGLES, HeadMesh
from portrait_anim.geometry.warp import CROP


def test_the_topology_is_mediapipes():
    """The shipped file can be derived again: triangles are the cliques of MediaPipe's edges, contours its contours."""
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


def test_no_triangle_of_the_eye_folds_when_it_looks_aside():
    def areas(landmarks: np.ndarray) -> np.ndarray:
        a, b, c = HeadMesh(landmarks).vertices[TRIANGLES[LABELS == mesh.EYE]].transpose(1, 2, 0)
        return (b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0]

    ahead = MEAN_FACE * 100
    for shift in (-3.0, 3.0):  # an eye is 16 wide, the iris 7: this is as far as people look
        aside = ahead.copy()
        aside[468:, 0] += shift
        assert (areas(aside) * areas(ahead) > 0).all()


def test_far_rings_stay_and_near_rings_follow():
    landmarks = MEAN_FACE * 110 + [128, 100, 0]
    head = HeadMesh(landmarks)
    rings = head.posed(landmarks + [10, 0, 0])[478 : 478 + 5 * 36].reshape(5, 36, 3) - head.rings
    assert np.allclose(rings[4], 0)  # the outermost ring stands still: nothing outside it can move
    above = landmarks[mesh.OVAL][:, 1] < 90
    assert np.allclose(rings[0][above][:, 0], 10)


def test_the_nearer_triangle_hides_the_farther():
    vertices = HeadMesh(MEAN_FACE * 110 + [128, 100, 0]).vertices
    ids = mesh.rasterise(vertices, (0, 0, CROP, CROP))
    nose = vertices[1, :2].astype(int)
    assert 1 in TRIANGLES[ids[nose[1], nose[0]]]  # the tip of the nose, not the cheeks behind it
    assert (LABELS[ids[ids >= 0]] < RING).sum() > 5000


def test_every_pixel_has_the_nearest_triangle(frame):
    portrait, target, warp, *_ = frame
    vertices, (x0, y0, *_) = portrait.views[0].mesh.posed(target), warp.frame
    ids = mesh.rasterise(vertices, warp.frame)
    expected, doubtful = np.full(ids.shape, -1), np.zeros(ids.shape, bool)
    layer = np.where(mesh.LABELS >= mesh.RING, 1e4 * (1 + mesh.LABELS), 0)
    for index in np.argsort(-(vertices[mesh.TRIANGLES, 2].mean(1) + layer)).tolist():
        corners = (vertices[:, :2] - (x0 + 0.5, y0 + 0.5))[mesh.TRIANGLES[index]]
        part, inside, unsure = covered(corners, ids.shape)
        expected[part][inside] = index
        doubtful[part] |= unsure
    assert (ids == expected)[~doubtful].all() and doubtful.mean() < 1e-3


def test_affine_maps_bring_each_triangle_to_its_source(frame):
    portrait, target, *_ = frame
    vertices, source = portrait.views[0].mesh.posed(target), portrait.views[1].mesh.vertices
    maps, area = mesh.triangle_maps(vertices, source)
    double = lambda v: np.cross(v[:, 1, :2] - v[:, 0, :2], v[:, 2, :2] - v[:, 0, :2])
    of = vertices[mesh.TRIANGLES], source[mesh.TRIANGLES]
    slim = np.abs(double(of[0])) < 0.02
    m = np.where(slim[:, None], 0, maps[:-1])[:, None].astype(float)
    moved = np.stack(
        [(m[..., :2] * of[0][..., :2]).sum(-1) + m[..., 4], (m[..., 2:4] * of[0][..., :2]).sum(-1) + m[..., 5]], -1
    )
    wide = np.abs(double(of[0])) > 1
    assert wide.sum() > 800 and np.abs(moved - of[1][..., :2])[wide].max() < 1e-3  # px
    assert np.allclose(area[~slim], (double(of[1]) / np.where(slim, 1, double(of[0])))[~slim])
    flat = vertices * (1, 0, 1)
    maps, area = mesh.triangle_maps(flat, source)
    middle = source[mesh.TRIANGLES, :2].mean(1)
    assert (maps[:-1, :4] == 0).all() and np.allclose(maps[:-1, 4:], middle, atol=1e-3) and (area == 1).all()
