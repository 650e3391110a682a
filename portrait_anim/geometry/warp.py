"""Warp the portrait's photos to target landmarks, and make what the generator sees of it.

Everything here happens in the crop: a square of CROP px around the head, the same at training and at run time.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from . import kernels, mesh
from .fill import push_pull
from .mesh import EYE, LABELS, LEFT_EYE, MOUTH, OUTER_LIPS, RIGHT_EYE, RING, TRIANGLES, HeadMesh, openness, proximity

CROP = 256  # px: side of the crop the networks work on
_SHARE_BLUR, _SHELL_BLUR = 2, 3  # px, sigma; OpenCV's kernels reach four times as far
UNSEEN = 0.01  # a view whose share is nowhere larger is left out
Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in px of the crop
WHOLE: Box = (0, 0, CROP, CROP)
N_CHANNELS = 13  # of the generator's input: warped photo 3, drawing 3, maps 6, warped matte 1


@dataclass
class View:
    """One photo of the person in crop coordinates.

    image: (256, 256, 3) uint8 RGB. landmarks: (478, 3) px of the crop. matte: (256, 256) float32, 1 = person.
    """

    image: np.ndarray
    landmarks: np.ndarray
    matte: np.ndarray
    is_mirror: bool = False
    mesh: HeadMesh = field(init=False)
    gain: np.ndarray | None = None  # (64, 64, 3) float32: by how much its light was changed, see light_gain

    def __post_init__(self) -> None:
        self.mesh = HeadMesh(self.landmarks)

    def lit_as(self, canvas: "View") -> "View":
        """The same view in the light of canvas."""
        gain = light_gain(canvas, self)
        lit = View(relight(self.image, gain), self.landmarks, self.matte, self.is_mirror)
        lit.gain = gain
        return lit

    def mirrored(self) -> "View":
        """The same photo flipped left to right, in this photo's light: what the other side of the head looks like."""
        flipped = View(
            np.ascontiguousarray(self.image[:, ::-1]),
            mesh.mirrored_landmarks(self.landmarks, CROP),
            np.ascontiguousarray(self.matte[:, ::-1]),
            is_mirror=True,
        )
        return flipped.lit_as(self)


@dataclass
class Warp:
    """One frame's backward flow per view, over `frame` (x0, y0, x1, y1) in crop px; H = y1-y0, W = x1-x0.

    flows: (V, H, W, 2) float32, where in the view (px of its crop) each pixel comes from, wherever its weight is not 0.
    weights: (V, H, W) float32, share of each view, sum 1. face: (H, W) float32, soft coverage of the face.
    ids: (H, W) int32 triangle of each pixel, -1 outside the mesh. table: (F+1, 6) float32, of each triangle: mouth
    interior, eye interior, ring depth, log stretch, facing, share of other views; the last row for -1.
    """

    frame: tuple[int, int, int, int]
    flows: np.ndarray
    weights: np.ndarray
    face: np.ndarray
    ids: np.ndarray
    table: np.ndarray

    def used(self, view: int) -> bool:
        """Whether a view is seen in this frame at all; the first, the canvas, always is."""
        return view == 0 or bool(self.weights[view].max() > UNSEEN)

    def first(self, box: Box) -> tuple[int, int]:
        """Row and column of the arrays here at which a box of the crop begins."""
        return box[1] - self.frame[1], box[0] - self.frame[0]


_NEAR = np.exp(-((mesh.MEAN_FACE[:468, None] - mesh.MEAN_FACE[None, :468]) ** 2).sum(-1) / (2 * 0.12**2)).astype(
    np.float32
)


def light_gain(canvas: View, other: View) -> np.ndarray:
    """Factor (64, 64, 3) over other's crop that brings its light to the canvas'.

    Where both photos show the face their smoothed colours are compared; from there the ratio is carried over the
    face to the parts that only the other shows.
    """
    vertex_facing = lambda view: _vertex_mean(view.mesh.facing)
    both = np.clip(4 * np.minimum(vertex_facing(canvas), vertex_facing(other)) - 1, 0, 1) + 1e-4
    colour = [
        sample(cv2.GaussianBlur(v.image, (0, 0), 5), v.landmarks[None, :468, :2].astype(np.float32))[0]
        for v in (canvas, other)
    ]
    ratio = np.clip(np.log((colour[0] + 8.0) / (colour[1] + 8.0)), -1, 1)  # (468, 3)
    near = _NEAR * both
    ratio = (near @ ratio) / near.sum(1, keepdims=True)
    seeds, count = np.zeros((64, 64, 3), np.float32), np.zeros((64, 64), np.float32)
    at = np.clip(other.landmarks[:468, :2] * (64 / CROP), 0, 63).astype(int)
    np.add.at(seeds, (at[:, 1], at[:, 0]), ratio.astype(np.float32))
    np.add.at(count, (at[:, 1], at[:, 0]), 1)
    smooth = push_pull(seeds / np.maximum(count, 1)[..., None], np.minimum(count, 1))
    return np.exp(cv2.GaussianBlur(smooth, (0, 0), 1.5))


def relight(image: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """image (H, W, 3) uint8 times gain, enlarged over it."""
    gain = cv2.resize(gain, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(image, gain, dtype=cv2.CV_8U)


def _vertex_mean(of_triangles: np.ndarray) -> np.ndarray:
    """Mean over the triangles at each of the 468 face points."""
    face = mesh.TRIANGLES[LABELS < RING]
    values = np.repeat(of_triangles[LABELS < RING], 3)
    count = np.bincount(face.ravel(), minlength=mesh.N_LANDMARKS)
    return (np.bincount(face.ravel(), values, mesh.N_LANDMARKS) / np.maximum(count, 1))[:468]


def _part_masks() -> np.ndarray:
    """How far each triangle belongs to _PARTS, softly, (P, F)."""
    masks = np.stack([proximity(points, reach) for points, reach in _PARTS])
    masks = np.concatenate([masks, np.zeros((len(masks), mesh.N_RINGS * len(mesh.OVAL)))], 1)
    return np.where(LABELS >= RING, 0, np.clip(1.5 * masks[:, TRIANGLES].mean(2), 0, 1))


_PARTS = ((OUTER_LIPS, 0.09), (RIGHT_EYE, 0.045), (LEFT_EYE, 0.045))  # each fused as a whole; reach in face heights
_PART_MASKS = _part_masks()
_FIT_NOISE, _FIT_RAMP = 0.03, 0.08  # of the distance of openness: below it photos count as alike; to take over


def _sharpened(shares: np.ndarray) -> np.ndarray:
    """Shares (V, ...) with the largest made larger still, sum 1 where there is any: two photos mixed look double."""
    powers = shares**4
    return powers / np.maximum(powers.sum(0), 1e-12)


class Warper:
    """Warps the views of one person; the first is the canvas, whose pose and place the output keeps."""

    def __init__(self, views: list[View], frame: tuple[int, int, int, int] = (0, 0, CROP, CROP)):
        self.views, self.frame = views, frame
        self._facing = np.stack([v.mesh.facing for v in views])  # (V, F)
        self._openness = np.stack([openness(v.landmarks) for v in views])  # (V, 4)
        # How well each view shows each of _PARTS, (V, P).
        self._shown = np.clip((self._facing @ _PART_MASKS.T / _PART_MASKS.sum(1) - 0.25) / 0.25, 0, 1)
        # One row per triangle, one more for "outside the mesh": the maps, of which three change with the pose.
        depth = np.where(LABELS >= RING, (LABELS - RING + 1) / 6, 0)
        table = np.stack([LABELS == MOUTH, LABELS == EYE, depth, depth * 0, depth * 0, depth * 0], 1)
        self._table = np.concatenate([table, [[0, 0, 1, 0, 1, 0]]]).astype(np.float32)
        self._is_face = np.append(LABELS < RING, False)

    def _view_weights(self, vertices: np.ndarray) -> np.ndarray:
        """Share of each view in each triangle, (V, F+1). At the canvas' own pose and expression all is the canvas'.

        Another view helps where the canvas is turned away, and so would be stretched, while the other is not and the
        target turns towards the camera; another photo also where its mouth or eyes are nearer to the target's.
        All of it is continuous in the target: what moves smoothly does not pop.
        """
        canvas = self._facing[0]
        share = np.zeros((len(self.views), len(LABELS) + 1), np.float32)
        if len(self.views) > 1:
            mirror = np.array([[view.is_mirror] for view in self.views[1:]])
            turned = np.clip((mesh.facing(vertices) - canvas) / 0.2, 0, 1)
            needed = turned * np.clip((np.where(mirror, 0.55, 0.75) - canvas) / 0.3, 0, 1)
            gain = np.clip((self._facing[1:] - canvas - 0.15) / 0.3, 0, 1) * np.where(LABELS >= RING + 2, 0, needed)
            share[1:, :-1] = _sharpened(gain * np.where(mirror, 0.5, 1)) * gain.max(0)
        for part, better in zip(_PART_MASKS, self._expression_weights(openness(vertices[: mesh.N_LANDMARKS])).T):
            if better.any():
                share[1:, :-1] = share[1:, :-1] * (1 - part * better.sum()) + part * better[1:, None]
        share[0] = 1 - share[1:].sum(0)
        return share

    def _expression_weights(self, target: np.ndarray) -> np.ndarray:
        """Share of each view in each of _PARTS by its expression, (V, P): of the photos that are nearer to the
        target's openness (4,) than the canvas by more than noise, the nearest. Mirrored views have the canvas' own."""
        gap = np.abs(self._openness - target)
        distance = np.stack([gap[:, 0] + gap[:, 1], gap[:, 2], gap[:, 3]], 1)  # (V, P)
        better = np.clip((distance[:1] - distance - _FIT_NOISE) / _FIT_RAMP, 0, 1) * self._shown
        better[[view.is_mirror for view in self.views]] = 0
        return _sharpened(better) * better.max(0)

    def warp(self, target: np.ndarray) -> Warp:
        """Flow and maps that bring the views to target landmarks (478, 3), px of the crop."""
        vertices = self.views[0].mesh.posed(target)
        share = self._view_weights(vertices)
        ids = mesh.rasterise(vertices, self.frame)
        face = np.take(self._is_face, ids, mode="wrap").astype(np.float32)  # -1 takes the last
        shell_weight = cv2.GaussianBlur(1 - face, (0, 0), _SHELL_BLUR)
        weights = np.zeros((len(self.views), *ids.shape), np.float32)
        flows = np.zeros((len(self.views), *ids.shape, 2), np.float32)
        weights[0] = 1
        stretch = np.zeros(self._facing.shape, np.float32)
        for n, view in enumerate(self.views):
            part = (0, 0, *ids.shape)  # rows and columns in which the view is used
            if n:
                if share[n].max() <= UNSEEN:
                    continue
                mask = np.take(share[n], ids, mode="wrap")
                part = _grown(cv2.boundingRect((mask > 0).astype(np.uint8)), 4 * _SHARE_BLUR, ids.shape)
                some = np.s_[part[0] : part[2], part[1] : part[3]]
                weights[n][some] = cv2.GaussianBlur(mask[some], (0, 0), _SHARE_BLUR)
                weights[0][some] -= weights[n][some]
            maps, area = mesh.triangle_maps(vertices, view.mesh.vertices)
            stretch[n] = np.clip(np.log(np.maximum(area, 1e-2)), -3, 3) / 3
            self._fill_flow(ids, maps, shell_weight, part, flows[n])
        best = share[:, :-1].argmax(0)
        table = self._table.copy()  # frames are made in several threads
        each = np.arange(len(best))
        table[:-1, 3], table[:-1, 4] = stretch[best, each], self._facing[best, each]
        table[:-1, 5] = 1 - share[0, :-1]
        # The face's own edge against the plate is softened: a hard maximum with the matte would be jagged.
        return Warp(self.frame, flows, weights, cv2.GaussianBlur(face, (0, 0), 1.0), ids, table)

    def _fill_flow(self, ids: np.ndarray, maps: np.ndarray, weight: np.ndarray, part: tuple, flow: np.ndarray) -> None:
        """Write a view's flow (H, W, 2) in a part of the frame, its displacement blurred within the shell.

        The quads between rings are two triangles each; where a turn stretches them, hair would show their zigzag.
        """
        corner = self.frame[:2]
        y0, x0, y1, x1 = _grown((part[1], part[0], part[3] - part[1], part[2] - part[0]), 4 * _SHELL_BLUR, ids.shape)
        shell = np.empty((y1 - y0, x1 - x0, 2), np.float32)
        kernels.triangle_flow(ids, maps, self._is_face, (y0, x0), corner, flow, shell)
        blurred = cv2.GaussianBlur(shell, (0, 0), _SHELL_BLUR)
        kernels.smooth_shell(ids, self._is_face, blurred, weight, (y0, x0), corner, flow)


def _grown(rect: tuple[int, int, int, int], margin: int, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Rows and columns (begin, begin, end, end) of a rectangle (x, y, width, height) and a margin around it."""
    x, y, width, height = rect
    return max(y - margin, 0), max(x - margin, 0), min(y + height + margin, shape[0]), min(x + width + margin, shape[1])


def over(photo: np.ndarray, matte: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """photo over plate (H, W, 3) by matte (H, W), float32."""
    return plate + matte[..., None] * (photo - plate)


def sample(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """image (H, W[, C]) at flow (h, w, 2), px with centres at +0.5; replicated beyond the border."""
    return cv2.remap(image, flow - 0.5, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def moved_views(warp: Warp, views: list[View], box: Box) -> np.ndarray:
    """The views' colours (0..255) and mattes, moved and blended, in a box of the crop: (h, w, 4) float32."""
    x0, y0, x1, y1 = box
    moved = np.zeros((y1 - y0, x1 - x0, 4), np.float32)
    for n, view in enumerate(views):
        if warp.used(n):
            kernels.gather(view.image, view.matte, warp.flows[n], warp.weights[n], warp.first(box), moved)
    return moved


def condition(warp: Warp, views: list[View], plate: np.ndarray, target: np.ndarray, box: Box = WHOLE) -> np.ndarray:
    """The generator's input in a box of the crop, (h, w, 13) float32: colours -1..1, maps 0..1 (stretch -1..1), matte
    0..1.

    warp must cover the box; plate: (256, 256, 3) uint8, the background behind the person; target: (478, 3) px.
    """
    moved = moved_views(warp, views, box)
    x = np.empty((*moved.shape[:2], N_CHANNELS), np.float32)
    drawing = mesh.draw_landmarks(target)
    first = (box[1], box[0])
    kernels.assemble(moved, warp.face, plate, drawing, warp.ids, warp.table, warp.first(box), first, x)
    return x
