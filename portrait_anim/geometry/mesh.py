"""The head mesh: 478 face landmarks, rings of points around them, two rows inside the mouth, and their triangles.

Coordinates are pixels of some frame: x to the right, y down, z away from the camera (MediaPipe's z, same scale as x).
A pixel's centre is at +0.5. The meshes of two poses have the same triangles, so for each triangle there is one affine
map from the target to the source. Together these maps are the backward flow that warps the photo.
"""

from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from . import kernels, mouth
from .chin import eased

_TOPOLOGY = np.load(Path(__file__).parent / "data" / "face_mesh.npz")

N_LANDMARKS = 478  # 468 of the face mesh, then 5 of each iris
N_RINGS = 5
FLIP = _TOPOLOGY["flip"].astype(np.int64)  # for each landmark the number of its mirror image
MEAN_FACE = _TOPOLOGY["mean_face"].astype(np.float64)  # (478, 3) frontal, forehead (10) to chin (152) = 1
OVAL, RIGHT_EYE, LEFT_EYE, INNER_LIPS, OUTER_LIPS = (
    _TOPOLOGY[k].astype(np.int64) for k in ("oval", "right_eye", "left_eye", "inner_lips", "outer_lips")
)
_FIRST_HEM = N_LANDMARKS + N_RINGS * len(OVAL)
EDGES = {k[6:]: _TOPOLOGY[k].astype(np.int64) for k in _TOPOLOGY.files if k.startswith("edges_")}
RIGHT_IRIS, LEFT_IRIS = np.arange(468, 473), np.arange(473, 478)  # first the centre, then 4 on the rim
# Points that expression hardly moves: they define the head's pose.
RIGID = np.array([10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 33, 133, 362, 263, 127, 356, 234, 454, 93, 323,
                  21, 251, 54, 284, 103, 332, 67, 297, 109, 338])  # fmt: skip
# Where the head turns on the neck, behind and below the middle of MEAN_FACE. About this point the heads of people in
# clips move least; about the middle of the face, a nod and a turn would count as a walk.
NECK = MEAN_FACE[RIGID].mean(0) + (0, 0.6, 0.45)

# Of each ring: its size over the face's oval, how far it lies behind the face (in face heights), how much of the head's
# motion it follows, and which share of that is left at the chin, where the neck holds it. Tuned on 150 pairs.
RING_SCALE = np.array([1.25, 1.41, 1.63, 2.41, 3.13])
RING_PUSH = np.array([0.23, 0.23, 0.35, 0.59, 0.52])
RING_FOLLOW = np.array([1.0, 1.0, 0.87, 0.47, 0.0])
RING_NECK = np.array([0.75, 0.33, 0.74, 0.0, 0.14])

FACE, EYE, MOUTH, RING = 0, 1, 2, 3  # labels of triangles; ring k has label RING + k


def _eye_fill(lids: np.ndarray, iris: np.ndarray) -> list[tuple[int, int, int]]:
    """Return the triangles between the loop of the lids and the iris.

    Each point of the lids is joined to the point of the iris's rim in its direction, so that the iris can move as a
    disc between lids that stay.
    """
    centre, rim = iris[0], iris[1:]
    offset = (MEAN_FACE[:, :2] - MEAN_FACE[centre, :2]) / np.ptp(MEAN_FACE[lids, :2], axis=0)  # the eye as a circle
    angle = np.arctan2(offset[:, 1], offset[:, 0])
    nearest = rim[np.cos(angle[lids, None] - angle[rim]).argmax(1)]
    triangles = []
    for a, b, rim_a, rim_b in zip(lids, np.roll(lids, -1), nearest, np.roll(nearest, -1)):
        triangles.append((a, b, rim_a))
        if rim_a != rim_b:
            triangles += [(b, rim_a, rim_b), (centre, rim_a, rim_b)]
    return triangles


def _triangles() -> tuple[np.ndarray, np.ndarray]:
    """Return all triangles (F, 3) and their labels (F,): of the face, the eyes, the mouth, and the rings."""
    eyes = np.array(_eye_fill(RIGHT_EYE, RIGHT_IRIS) + _eye_fill(LEFT_EYE, LEFT_IRIS))
    parts = [(_TOPOLOGY["tessellation"], FACE), (eyes, EYE), (mouth.triangles(_FIRST_HEM), MOUTH)]
    inner, n = OVAL, len(OVAL)
    for k in range(N_RINGS):
        outer = N_LANDMARKS + k * n + np.arange(n)
        inner_next, outer_next = np.roll(inner, -1), np.roll(outer, -1)
        strip = np.stack([inner, inner_next, outer, inner_next, outer_next, outer], 1).reshape(-1, 3)
        parts.append((strip, RING + k))
        inner = outer
    labels = np.concatenate([np.full(len(t), label) for t, label in parts])
    return np.concatenate([t for t, _ in parts]).astype(np.int64), labels


TRIANGLES, LABELS = _triangles()
IS_CAVITY = mouth.is_cavity(TRIANGLES, _FIRST_HEM)
_LAYER = np.where(LABELS >= RING, 1e4 * (1 + LABELS), 0)  # rings are painted before the face, outermost first


def similarity(a: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Find the similarity transform that brings points a (N, 3) nearest to points b (N, 3) in the least-squares sense.

    Returns scale, rotation (3, 3) and translation (3,), so that b is about scale * a @ rotation.T + translation
    (Umeyama, IEEE PAMI 13(4), 1991).
    """
    mean_a, mean_b = a.mean(0), b.mean(0)
    u, sigma, vt = np.linalg.svd((b - mean_b).T @ (a - mean_a))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = (sigma * sign).sum() / ((a - mean_a) ** 2).sum()
    return scale, rotation, mean_b - scale * rotation @ mean_a


def head_axes(landmarks: np.ndarray) -> np.ndarray:
    """Return the head's unit axes as rows (3, 3): towards its left ear, down, and away from the camera."""
    x = landmarks[454] - landmarks[234]
    x = x / np.linalg.norm(x)
    y = landmarks[152] - landmarks[10]
    y = y - x * (x @ y)
    y = y / np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)])


def face_height(landmarks: np.ndarray) -> float:
    """Return the distance from the top of the forehead to the chin, in the unit of the landmarks (478, 3)."""
    return float(np.linalg.norm(landmarks[10] - landmarks[152]))


def rigid_size(landmarks: np.ndarray) -> float:
    """Return how large the rigid part of a face is, the deviation of its points, in the unit of landmarks (478, 3)."""
    points = landmarks[RIGID]
    return float(np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean()))


def _normal_z(vertices: np.ndarray) -> np.ndarray:
    a, b, c = vertices[TRIANGLES].transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    return normal[:, 2] / (np.linalg.norm(normal, axis=1) + 1e-6)


def proximity(points: np.ndarray, reach: float) -> np.ndarray:
    """Return how near each landmark of the mean face is to the nearest of `points`: (478,), 1 at them, 0 far away.

    points: numbers of landmarks. reach: face heights, the deviation of the Gaussian.
    """
    distance = np.linalg.norm(MEAN_FACE[:, None] - MEAN_FACE[None, points], axis=-1).min(1)
    return np.exp(-((distance / reach) ** 2) / 2)


def openness(landmarks: np.ndarray) -> np.ndarray:
    """Measure how open the mouth and the eyes of landmarks (..., 478, 3) are.

    Returns (..., 4): height of the mouth, its width, gap of the right and of the left lids. They are in face heights,
    multiplied by weights that make their usual differences alike.
    """
    height = np.linalg.norm(landmarks[..., 10, :] - landmarks[..., 152, :], axis=-1)
    gap = lambda a, b: np.linalg.norm(landmarks[..., a, :2] - landmarks[..., b, :2], axis=-1) / height
    return np.stack([gap(13, 14) * 1.5, gap(78, 308), gap(159, 145) * 3, gap(386, 374) * 3], -1)


def irises_within_lids(landmarks: np.ndarray) -> np.ndarray:
    """Return landmarks (478, 3) whose irises lie between the lids, also where the lids cover part of them.

    Otherwise the triangles between iris and lids would turn over.
    """
    points = np.array(landmarks, np.float64)
    for lids, iris in ((RIGHT_EYE, RIGHT_IRIS), (LEFT_EYE, LEFT_IRIS)):
        loop = points[lids, :2]
        middle = loop.mean(0)
        for some, origin, room in ((iris[:1], middle, 0.8), (iris[1:], points[iris[0], :2], 0.9)):
            reach = _reach(loop, origin, points[some, :2] - origin)
            points[some, :2] = origin + (points[some, :2] - origin) * np.minimum(1, room * reach)[:, None]
            origin = points[iris[0], :2]
    return points


def _reach(loop: np.ndarray, origin: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """Return how often each vector of `ways` (N, 2) fits between origin (2,) and the loop (K, 2) around it: (N,)."""
    a = loop - origin
    edge = np.roll(a, -1, 0) - a
    cross = lambda p, q: p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]
    parallel = cross(ways[:, None], edge)
    parallel = np.where(np.abs(parallel) < 1e-9, 1e-9, parallel)
    times, along = cross(a, edge) / parallel, cross(a, ways[:, None]) / parallel
    return np.where((times > 0) & (along >= 0) & (along <= 1), times, np.inf).min(1)


class HeadMesh:
    """The mesh of one photo's head: the landmarks of its face, and rings of points grown around them.

    landmarks: (478, 3) px. rings: (5, 36, 3) px, from the inside out. mouth_parts: (2, 9), `mouth.parts` over
    `rigid_size`. vertices: (676, 3), the landmarks with the irises between the lids, all rings, and the hems inside the
    mouth at thirds of it.
    """

    def __init__(self, landmarks: np.ndarray):
        self.landmarks = np.asarray(landmarks, np.float64)
        centre, axes, oval = self.landmarks[RIGID].mean(0), head_axes(self.landmarks), self.landmarks[OVAL]
        height = face_height(self.landmarks)
        push = RING_PUSH[:, None, None] * height * axes[2]
        self.rings = centre + (oval - centre) * RING_SCALE[:, None, None] + push  # (5, 36, 3)
        self.mouth_parts = mouth.parts(self.landmarks) / rigid_size(self.landmarks)
        self.vertices = self._vertices(self.landmarks, self.rings)
        towards_chin = np.clip((((oval - centre) @ axes[1]) / height - 0.04) / 0.34, 0, 1)
        self._follow = (RING_FOLLOW[:, None] * (1 - towards_chin * (1 - RING_NECK)[:, None]))[..., None]

    def _vertices(self, landmarks: np.ndarray, rings: np.ndarray) -> np.ndarray:
        hems = mouth.hems(np.tile(mouth.gaps(landmarks) / 3, (2, 1)), landmarks)
        return np.concatenate([irises_within_lids(landmarks), rings.reshape(-1, 3), hems])

    @property
    def can_move(self) -> np.ndarray:
        """Whether each triangle can move, (F,) bool: the rings that stay where they are hold what lies between them."""
        follows = np.concatenate([np.ones(N_LANDMARKS, bool), self._follow.ravel() > 0, np.ones(mouth.N_HEMS, bool)])
        return follows[TRIANGLES].any(1)

    def with_mouth(self, lengths: np.ndarray) -> np.ndarray:
        """Return the vertices (676, 3) of this photo with the parts inside its mouth as far as they are wanted.

        lengths: (2, 9), of both parts, over `rigid_size`.
        """
        wanted = np.minimum(lengths, self.mouth_parts) * rigid_size(self.landmarks)
        return np.concatenate([self.vertices[: -mouth.N_HEMS], mouth.hems(wanted, self.landmarks)])

    def posed(self, target: np.ndarray) -> np.ndarray:
        """Return the vertices (676, 3) of this head when its landmarks are at target (478, 3).

        The rings follow the rigid motion of the head, the outer ones less.
        """
        scale, rotation, shift = similarity(self.landmarks[RIGID], target[RIGID])
        rings = self._follow * (scale * self.rings @ rotation.T + shift) + (1 - self._follow) * self.rings
        return self._vertices(eased(scale * self.landmarks @ rotation.T, target), rings)

    @cached_property
    def seen(self) -> np.ndarray:
        """How well this photo shows each triangle, (F,), see `seen`."""
        scale = 256 / max(face_height(self.landmarks), 1e-6)  # px of a face: small photos are looked at enlarged
        low, high = self.vertices[:, :2].min(0), self.vertices[:, :2].max(0)
        frame = (*np.floor(low).tolist(), *np.ceil(high).tolist())
        return seen(self.vertices, rasterise(self.vertices, frame, 1 / scale), 1 / scale)


ORIENTATION = np.sign(_normal_z(HeadMesh(MEAN_FACE * 100).vertices))  # some triangles are listed clockwise


def _openings() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the numbers of the triangles inside the mouth and each eye, and of those around it."""
    mouths = (INNER_LIPS, LABELS == MOUTH)
    eyes = ((lids, np.isin(TRIANGLES, iris).any(1)) for lids, iris in ((RIGHT_EYE, RIGHT_IRIS), (LEFT_EYE, LEFT_IRIS)))
    face = LABELS == FACE
    return [
        (np.flatnonzero(inside), np.flatnonzero(face & np.isin(TRIANGLES, edge).any(1)))
        for edge, inside in (mouths, *eyes)
    ]


_OPENINGS = _openings()


def facing(vertices: np.ndarray) -> np.ndarray:
    """Return how far each triangle of vertices (676, 3) faces the camera: (F,), the z of its unit normal.

    1 is straight at the camera, 0 is edge-on, negative is turned away. The two inner rings get a bonus, because hair
    and ears are round. The outer rings always have 1, because they hold shoulders and background.
    """
    z = _normal_z(vertices) * ORIENTATION
    near = (LABELS == RING) | (LABELS == RING + 1)
    return np.where(LABELS > RING + 1, 1.0, np.where(near, np.clip(z + 0.3, -1, 1), z))


def seen(vertices: np.ndarray, ids: np.ndarray, step: float) -> np.ndarray:
    """Return how well each triangle is seen, (F,): its `facing`, in the shell times the part of it that is not hidden.

    A head turned far aside hides the shell on its other side: there the photo shows the face, not what is behind it.
    The insides of mouth and eyes count as what is around them: how they face says how open they are, not how turned.
    ids: (H, W), the triangle of every cell as `rasterise` gives them. step: px per cell.
    """
    a, b, c = vertices[TRIANGLES, :2].transpose(1, 0, 2)
    (ux, uy), (vx, vy) = (b - a).T, (c - a).T
    area = np.abs(ux * vy - uy * vx) / (2 * step**2)  # cells
    visible = np.bincount(ids.ravel() + 1, minlength=len(LABELS) + 1)[1:] / np.maximum(area, 1)
    value = facing(vertices)
    for inside, around in _OPENINGS:
        value[inside] = value[around].mean()
    return np.where((LABELS >= RING) & (value > 0), value * np.clip(visible, 0, 1), value)


def rasterise(
    vertices: np.ndarray, frame: tuple[int, int, int, int], step: float = 1, face_only: bool = False
) -> np.ndarray:
    """Return the triangle that is seen at every cell of a frame, int32 (H, W), -1 where there is none.

    vertices: (676, 3) px. frame: x0, y0, x1, y1 px. step: px per cell. face_only: leave the shell out. It is the
    painter's algorithm, far to near and the shell before the face. A triangle is seen where a cell's centre lies in it:
    what `triangle_maps` says of a sliver that is seen from half a pixel beside it may be anywhere in the photo.
    """
    x0, y0, x1, y1 = frame
    ids = np.full((round((y1 - y0) / step), round((x1 - x0) / step)), -1, np.int32)
    order = np.argsort(-(vertices[:, 2][TRIANGLES].mean(1) + _LAYER))
    if face_only:
        order = order[LABELS[order] < RING]
    corners = ((vertices[:, :2] - (x0, y0)) / step - 0.5)[TRIANGLES]
    kernels.rasterise(corners, order, ids)
    return ids


def triangle_maps(target: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute for each triangle the affine map from target to source, and how much larger it is in the source.

    target, source: vertices (676, 2 or 3) in px. Returns two arrays.

    maps: (F+1, 6) float32, in each row (a, b, c, d, e, f), so that x' = a x + b y + e and y' = c x + d y + f. The last
    row is the identity, for the index -1, which means outside the mesh. Triangles that are seen edge-on in the target
    are mapped to their middle in the source.

    area: (F,) the area in the source over that in the target, negative for triangles that turn over.
    """
    maps, area = np.empty((len(TRIANGLES) + 1, 6), np.float32), np.empty(len(TRIANGLES))
    maps[-1] = 1, 0, 0, 1, 0, 0
    kernels.affine_maps(target, source, TRIANGLES, maps, area)
    return maps, area


def mirrored_landmarks(landmarks: np.ndarray, width: float) -> np.ndarray:
    """Return the landmarks (478, 3) of the picture flipped left to right, numbered as those of a face again.

    width: of the picture, px.
    """
    flipped = landmarks[FLIP].copy()
    flipped[:, 0] = width - flipped[:, 0]
    return flipped


DRAWING = 512  # px: side of the drawing, that of the crop
_COLOURS = {
    "oval": (120, 120, 120), "right_eye": (0, 255, 0), "left_eye": (0, 255, 0), "right_brow": (255, 128, 0),
    "left_brow": (255, 128, 0), "nose": (0, 0, 255), "lips": (255, 0, 0),
}  # fmt: skip


def draw_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """Draw landmarks (478, 2 or 3), px of the crop, as coloured lines on black, the way the networks see them.

    Returns (512, 512, 3) uint8 RGB.
    """
    image = np.zeros((DRAWING, DRAWING, 3), np.uint8)
    points = np.round((landmarks[:, :2] - 0.5) * 8).astype(np.int32)
    for part, colour in _COLOURS.items():
        cv2.polylines(image, points[EDGES[part]], False, colour, 1, cv2.LINE_AA, 3)
    for centre, rim in ((468, 469), (473, 474)):
        radius = int(np.linalg.norm(points[centre] - points[rim]))
        cv2.circle(image, points[centre].tolist(), radius, (255, 255, 0), 1, cv2.LINE_AA, 3)
    return image
