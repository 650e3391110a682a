"""The head mesh: 478 face landmarks, five rings around them, triangles, and the flow between two poses of it.

Coordinates are pixels of some frame: x right, y down, z away from the camera (MediaPipe's z, same scale as x).
A pixel's centre is at +0.5. A source mesh and a target mesh share their triangles, so every triangle carries one
affine map from target to source: together they are the backward flow that warps the photo.
"""

from functools import cached_property
from importlib.resources import files

import cv2
import numpy as np

from . import kernels

_TOPOLOGY = np.load(files(__package__) / "data" / "face_mesh.npz")

N_LANDMARKS = 478  # 468 of the face mesh, then 5 of each iris
N_RINGS = 5
FLIP = _TOPOLOGY["flip"].astype(np.int64)  # left-right permutation, an involution
MEAN_FACE = _TOPOLOGY["mean_face"].astype(np.float64)  # (478, 3) frontal, forehead (10) to chin (152) = 1
OVAL, RIGHT_EYE, LEFT_EYE, INNER_LIPS, OUTER_LIPS = (
    _TOPOLOGY[k].astype(np.int64) for k in ("oval", "right_eye", "left_eye", "inner_lips", "outer_lips")
)
EDGES = {k[6:]: _TOPOLOGY[k].astype(np.int64) for k in _TOPOLOGY.files if k.startswith("edges_")}
RIGHT_IRIS, LEFT_IRIS = np.arange(468, 473), np.arange(473, 478)  # first the centre, then 4 on the rim
# Points that expression hardly moves: they define the head's pose.
RIGID = np.array([10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 33, 133, 362, 263, 127, 356, 234, 454, 93, 323,
                  21, 251, 54, 284, 103, 332, 67, 297, 109, 338])  # fmt: skip

# The shell of rings: size in the image plane, push behind the face (in face heights), how much of the head's
# motion it follows, and the share of that which is left at the chin, where the neck holds it. Tuned on 150 pairs.
RING_SCALE = np.array([1.25, 1.41, 1.63, 2.41, 3.13])
RING_PUSH = np.array([0.23, 0.23, 0.35, 0.59, 0.52])
RING_FOLLOW = np.array([1.0, 1.0, 0.87, 0.47, 0.0])
RING_NECK = np.array([0.75, 0.33, 0.74, 0.0, 0.14])

FACE, EYE, MOUTH, RING = 0, 1, 2, 3  # labels of triangles; ring k has label RING + k


def _eye_fill(lids: np.ndarray, iris: np.ndarray) -> list[tuple[int, int, int]]:
    """Triangles between the lids' loop and the iris: each lid point hangs on the rim point in its direction, so that
    the iris moves as a disc between lids that stay."""
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
    """All triangles (F, 3) and their labels (F,): tessellation, eye and mouth fills, ring strips."""
    eyes = np.array(_eye_fill(RIGHT_EYE, RIGHT_IRIS) + _eye_fill(LEFT_EYE, LEFT_IRIS))
    parts = [(_TOPOLOGY["tessellation"], FACE), (eyes, EYE), (_TOPOLOGY["mouth_fill"], MOUTH)]
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
_LAYER = np.where(LABELS >= RING, 1e4 * (1 + LABELS), 0)  # rings are painted before the face, outermost first


def similarity(a: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale s, rotation R (3, 3) and translation t (3,) that bring points a (N, 3) nearest to b: b ~ s a R^T + t.

    Umeyama's least squares (IEEE PAMI 13(4), 1991).
    """
    mean_a, mean_b = a.mean(0), b.mean(0)
    u, sigma, vt = np.linalg.svd((b - mean_b).T @ (a - mean_a))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = (sigma * sign).sum() / ((a - mean_a) ** 2).sum()
    return scale, rotation, mean_b - scale * rotation @ mean_a


def head_axes(landmarks: np.ndarray) -> np.ndarray:
    """Unit axes (3, 3) of the head as rows: to its left ear in the picture, down, and away from the camera."""
    x = landmarks[454] - landmarks[234]
    x = x / np.linalg.norm(x)
    y = landmarks[152] - landmarks[10]
    y = y - x * (x @ y)
    y = y / np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)])


def face_height(landmarks: np.ndarray) -> float:
    """Distance from the top of the forehead to the chin, in the landmarks' own unit."""
    return float(np.linalg.norm(landmarks[10] - landmarks[152]))


def _normal_z(vertices: np.ndarray) -> np.ndarray:
    a, b, c = vertices[TRIANGLES].transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    return normal[:, 2] / (np.linalg.norm(normal, axis=1) + 1e-6)


def near(points: np.ndarray, reach: float) -> np.ndarray:
    """1 at the given landmarks, falling to 0 away from them: (478,), reach in face heights."""
    distance = np.linalg.norm(MEAN_FACE[:, None] - MEAN_FACE[None, points], axis=-1).min(1)
    return np.exp(-((distance / reach) ** 2) / 2)


def openness(landmarks: np.ndarray) -> np.ndarray:
    """How open mouth and eyes are: (..., 4) of mouth height, mouth width, right and left lids, in face heights,
    weighted so that each matters alike. landmarks: (..., 478, 3)."""
    height = np.linalg.norm(landmarks[..., 10, :] - landmarks[..., 152, :], axis=-1)
    gap = lambda a, b: np.linalg.norm(landmarks[..., a, :2] - landmarks[..., b, :2], axis=-1) / height
    return np.stack([gap(13, 14) * 1.5, gap(78, 308), gap(159, 145) * 3, gap(386, 374) * 3], -1)


def irises_within_lids(landmarks: np.ndarray) -> np.ndarray:
    """landmarks (478, 3) with the points of the irises drawn in where lids cover them: triangles must not fold."""
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
    """How many times each of the ways (N, 2) px fits between origin and the loop (K, 2) around it: (N,)."""
    a = loop - origin
    edge = np.roll(a, -1, 0) - a
    cross = lambda p, q: p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]
    parallel = cross(ways[:, None], edge)
    parallel = np.where(np.abs(parallel) < 1e-9, 1e-9, parallel)
    times, along = cross(a, edge) / parallel, cross(a, ways[:, None]) / parallel
    return np.where((times > 0) & (along >= 0) & (along <= 1), times, np.inf).min(1)


class HeadMesh:
    """The mesh of one photo's face: landmarks (478, 3) and the shell of rings grown around them."""

    def __init__(self, landmarks: np.ndarray):
        self.landmarks = np.asarray(landmarks, np.float64)
        centre, axes, oval = self.landmarks[RIGID].mean(0), head_axes(self.landmarks), self.landmarks[OVAL]
        height = face_height(self.landmarks)
        push = RING_PUSH[:, None, None] * height * axes[2]
        self.rings = centre + (oval - centre) * RING_SCALE[:, None, None] + push  # (5, 36, 3)
        self.vertices = np.concatenate([irises_within_lids(self.landmarks), self.rings.reshape(-1, 3)])  # (658, 3)
        towards_chin = np.clip((((oval - centre) @ axes[1]) / height - 0.04) / 0.34, 0, 1)
        self._follow = (RING_FOLLOW[:, None] * (1 - towards_chin * (1 - RING_NECK)[:, None]))[..., None]

    def posed(self, target: np.ndarray) -> np.ndarray:
        """Vertices (658, 3) of this head with its landmarks at target (478, 3): the rings follow the rigid pose."""
        scale, rotation, shift = similarity(self.landmarks[RIGID], target[RIGID])
        rings = self._follow * (scale * self.rings @ rotation.T + shift) + (1 - self._follow) * self.rings
        return np.concatenate([irises_within_lids(target), rings.reshape(-1, 3)])

    @cached_property
    def seen(self) -> np.ndarray:
        """How well this photo shows each triangle, (F,), see `seen`."""
        scale = 256 / max(face_height(self.landmarks), 1e-6)  # px of a face: small photos are looked at enlarged
        low, high = self.vertices[:, :2].min(0), self.vertices[:, :2].max(0)
        frame = (*np.floor(low).tolist(), *np.ceil(high).tolist())
        return seen(self.vertices, rasterise(self.vertices, frame, 1 / scale), 1 / scale)


ORIENTATION = np.sign(_normal_z(HeadMesh(MEAN_FACE * 100).vertices))  # some triangles are listed clockwise


def facing(vertices: np.ndarray) -> np.ndarray:
    """z of every triangle's unit normal (F,): 1 looks at the camera, 0 is edge-on, negative is turned away.

    Near rings get credit (hair and ears are round); far rings always face: they hold background and shoulders.
    """
    z = _normal_z(vertices) * ORIENTATION
    near = (LABELS == RING) | (LABELS == RING + 1)
    return np.where(LABELS > RING + 1, 1.0, np.where(near, np.clip(z + 0.3, -1, 1), z))


def seen(vertices: np.ndarray, ids: np.ndarray, step: float) -> np.ndarray:
    """Return how well each triangle is seen, (F,): its `facing`, in the shell times the part of it that is not hidden.

    A head turned far aside hides the shell on its other side: there the photo shows the face, not what is behind it.
    ids: (H, W), the triangle of every cell as `rasterise` gives them. step: px per cell.
    """
    a, b, c = vertices[TRIANGLES, :2].transpose(1, 0, 2)
    (ux, uy), (vx, vy) = (b - a).T, (c - a).T
    area = np.abs(ux * vy - uy * vx) / (2 * step**2)  # cells
    visible = np.bincount(ids.ravel() + 1, minlength=len(LABELS) + 1)[1:] / np.maximum(area, 1)
    value = facing(vertices)
    return np.where((LABELS >= RING) & (value > 0), value * np.clip(visible, 0, 1), value)


def rasterise(vertices: np.ndarray, frame: tuple[int, int, int, int], step: float = 1) -> np.ndarray:
    """Return the triangle that is seen at every cell of a frame, int32 (H, W), -1 where there is none.

    vertices: (658, 3) px. frame: x0, y0, x1, y1 px. step: px per cell. It is the painter's algorithm, far to near and
    the shell before the face. A triangle is seen where a cell's centre lies in it: what `triangle_maps` says of a
    sliver that is seen from half a pixel beside it may be anywhere in the photo.
    """
    x0, y0, x1, y1 = frame
    ids = np.full((round((y1 - y0) / step), round((x1 - x0) / step)), -1, np.int32)
    order = np.argsort(-(vertices[:, 2][TRIANGLES].mean(1) + _LAYER))
    corners = ((vertices[:, :2] - (x0, y0)) / step - 0.5)[TRIANGLES]
    kernels.rasterise(corners, order, ids)
    return ids


def triangle_maps(target: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Affine maps from target to source triangles, and how much larger each is in the source.

    target, source: vertices (658, >=2) in px. Returns maps (F+1, 6) float32 with rows (a, b, c, d, e, f) so that
    x' = a x + b y + e, y' = c x + d y + f, the last row being the identity (index -1: outside the mesh), those of
    triangles seen edge-on leading to the source's middle; and the signed ratio of areas source / target (F,).
    """
    maps, area = np.empty((len(TRIANGLES) + 1, 6), np.float32), np.empty(len(TRIANGLES))
    maps[-1] = 1, 0, 0, 1, 0, 0
    kernels.affine_maps(target, source, TRIANGLES, maps, area)
    return maps, area


def mirrored_landmarks(landmarks: np.ndarray, width: float) -> np.ndarray:
    """Landmarks of the picture flipped left to right, numbered again as a face's: (478, 3), width in px."""
    flipped = landmarks[FLIP].copy()
    flipped[:, 0] = width - flipped[:, 0]
    return flipped


_COLOURS = {
    "oval": (120, 120, 120), "right_eye": (0, 255, 0), "left_eye": (0, 255, 0), "right_brow": (255, 128, 0),
    "left_brow": (255, 128, 0), "nose": (0, 0, 255), "lips": (255, 0, 0),
}  # fmt: skip


def draw_landmarks(landmarks: np.ndarray, size: int = 512, resolution: int = 512) -> np.ndarray:
    """The landmark drawing the networks see: (resolution, resolution, 3) uint8 RGB of a frame of `size` px."""
    image = np.zeros((resolution, resolution, 3), np.uint8)
    points = np.round((landmarks[:, :2] * (resolution / size) - 0.5) * 8).astype(np.int32)
    for part, colour in _COLOURS.items():
        cv2.polylines(image, points[EDGES[part]], False, colour, 1, cv2.LINE_AA, 3)
    for centre, rim in ((468, 469), (473, 474)):
        radius = int(np.linalg.norm(points[centre] - points[rim]))
        cv2.circle(image, points[centre].tolist(), radius, (255, 255, 0), 1, cv2.LINE_AA, 3)
    return image
