"""Warp the views of a person to target landmarks, and make the generator's input from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from . import kernels, mesh
from .mesh import EYE, LABELS, LEFT_EYE, MOUTH, OUTER_LIPS, RIGHT_EYE, RING, TRIANGLES, openness, proximity
from .view import CROP, View

_WEIGHT_BLUR, _RINGS_BLUR = 2, 3  # px, sigma; OpenCV's kernels reach four times as far
UNSEEN = 0.01  # a view whose weight is nowhere larger is left out
Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in px of the crop
WHOLE: Box = (0, 0, CROP, CROP)
N_CHANNELS = 13  # of the generator's input: warped photo 3, drawing 3, maps 6, warped matte 1


@dataclass
class Warp:
    """How one frame is made from the views: for each pixel where it comes from, and how much each view counts.

    frame: (x0, y0, x1, y1) px of the crop, the part that the arrays cover; H = y1 - y0, W = x1 - x0.
    flows: (V, H, W, 2) float32, the backward flow of each view: where in it, in px of its crop, each pixel comes from.
    It is valid where the view's weight is not 0. weights: (V, H, W) float32, the share of each view, with sum 1.
    face: (H, W) float32, 1 in the face and 0 outside it, with a soft edge. ids: (H, W) int32, the triangle of each
    pixel, -1 outside the mesh. table: (F+1, 6) float32, six values of each triangle: whether it is inside the mouth,
    whether it is inside an eye, the depth of its ring, the logarithm of its stretch, how far it faces the camera, and
    the share of the views other than the first. The last row is for -1.
    """

    frame: tuple[int, int, int, int]
    flows: np.ndarray
    weights: np.ndarray
    face: np.ndarray
    ids: np.ndarray
    table: np.ndarray

    def used(self, view: int) -> bool:
        """Tell whether a view is seen in this frame at all. The first, the canvas, always is."""
        return view == 0 or bool(self.weights[view].max() > UNSEEN)

    def first(self, box: Box) -> tuple[int, int]:
        """Return the row and column at which a box of the crop begins in the arrays of this warp."""
        return box[1] - self.frame[1], box[0] - self.frame[0]


def _part_masks() -> np.ndarray:
    """Return how far each triangle belongs to each of _PARTS, 0 to 1 with soft edges: (P, F)."""
    masks = np.stack([proximity(points, reach) for points, reach in _PARTS])
    masks = np.concatenate([masks, np.zeros((len(masks), mesh.N_RINGS * len(mesh.OVAL)))], 1)
    return np.where(LABELS >= RING, 0, np.clip(1.5 * masks[:, TRIANGLES].mean(2), 0, 1))


_PARTS = ((OUTER_LIPS, 0.09), (RIGHT_EYE, 0.045), (LEFT_EYE, 0.045))  # each fused as a whole; reach in face heights
_PART_MASKS = _part_masks()
# Differences in the distance of openness: below the first, photos count as alike; so much more, and one takes over.
_FIT_NOISE, _FIT_RAMP = 0.03, 0.08


def _sharpened(shares: np.ndarray) -> np.ndarray:
    """Make the largest of the weights (V, ...) larger still, with sum 1 where any is above 0.

    Two photos in equal shares would look like a double picture.
    """
    powers = shares**4
    return powers / np.maximum(powers.sum(0), 1e-12)


class Warper:
    """Warps the views of one person to target landmarks.

    views: the first is the canvas, whose pose and place the output keeps. frame: (x0, y0, x1, y1) px of the crop, the
    part for which warps are made; it may be larger than the crop.
    """

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
        """Return the weight of each view in each triangle of the target: (V, F+1), the last column for no triangle.

        In the canvas' own pose and expression the canvas has all the weight. Another view helps where the canvas would
        be stretched: the canvas is turned away there, the other view is not, and the target turns towards the camera.
        Another photo also helps where its mouth or eyes are nearer to the target's. The weights change continuously
        with the target, so nothing pops in a smooth motion.
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
        """Return the weight that each view gets in each of _PARTS because of its expression: (V, P).

        Of the photos that are nearer to the target's openness (4,) than the canvas, by more than noise, the nearest
        gets it. Mirrored views get none, because their expression is that of the canvas.
        """
        gap = np.abs(self._openness - target)
        distance = np.stack([gap[:, 0] + gap[:, 1], gap[:, 2], gap[:, 3]], 1)  # (V, P)
        better = np.clip((distance[:1] - distance - _FIT_NOISE) / _FIT_RAMP, 0, 1) * self._shown
        better[[view.is_mirror for view in self.views]] = 0
        return _sharpened(better) * better.max(0)

    def warp(self, target: np.ndarray) -> Warp:
        """Compute the Warp that brings the views to target landmarks (478, 3), px of the crop."""
        vertices = self.views[0].mesh.posed(target)
        share = self._view_weights(vertices)
        ids = mesh.rasterise(vertices, self.frame)
        face = np.take(self._is_face, ids, mode="wrap").astype(np.float32)  # -1 takes the last
        rings_weight = cv2.GaussianBlur(1 - face, (0, 0), _RINGS_BLUR)
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
                part = _grown(cv2.boundingRect((mask > 0).astype(np.uint8)), 4 * _WEIGHT_BLUR, ids.shape)
                some = np.s_[part[0] : part[2], part[1] : part[3]]
                weights[n][some] = cv2.GaussianBlur(mask[some], (0, 0), _WEIGHT_BLUR)
                weights[0][some] -= weights[n][some]
            maps, area = mesh.triangle_maps(vertices, view.mesh.vertices)
            stretch[n] = np.clip(np.log(np.maximum(area, 1e-2)), -3, 3) / 3
            self._fill_flow(ids, maps, rings_weight, part, flows[n])
        best = share[:, :-1].argmax(0)
        table = self._table.copy()  # frames are made in several threads
        each = np.arange(len(best))
        table[:-1, 3], table[:-1, 4] = stretch[best, each], self._facing[best, each]
        table[:-1, 5] = 1 - share[0, :-1]
        # The face's own edge against the plate is softened: a hard maximum with the matte would be jagged.
        return Warp(self.frame, flows, weights, cv2.GaussianBlur(face, (0, 0), 1.0), ids, table)

    def _fill_flow(self, ids: np.ndarray, maps: np.ndarray, weight: np.ndarray, part: tuple, flow: np.ndarray) -> None:
        """Write a view's flow (H, W, 2) in one part of the frame, with its displacement blurred within the rings.

        Between rings the mesh consists of quads of two triangles each. Where a turn of the head stretches them, hair
        would show their zigzag.
        """
        corner = self.frame[:2]
        y0, x0, y1, x1 = _grown((part[1], part[0], part[3] - part[1], part[2] - part[0]), 4 * _RINGS_BLUR, ids.shape)
        shell = np.empty((y1 - y0, x1 - x0, 2), np.float32)
        kernels.triangle_flow(ids, maps, self._is_face, (y0, x0), corner, flow, shell)
        blurred = cv2.GaussianBlur(shell, (0, 0), _RINGS_BLUR)
        kernels.smooth_shell(ids, self._is_face, blurred, weight, (y0, x0), corner, flow)


def _grown(rect: Sequence[int], margin: int, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the rows and columns (y0, x0, y1, x1) of a rectangle (x, y, width, height) and a margin around it.

    They are kept within an array of the given shape.
    """
    x, y, width, height = rect
    return max(y - margin, 0), max(x - margin, 0), min(y + height + margin, shape[0]), min(x + width + margin, shape[1])


def over(photo: np.ndarray, matte: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """Put a photo over a background plate, both (H, W, 3) float32, by a matte (H, W) float32."""
    return plate + matte[..., None] * (photo - plate)


def moved_views(warp: Warp, views: list[View], box: Box) -> np.ndarray:
    """Warp and blend the views in a box of the crop: (h, w, 4) float32, colours 0 to 255 and the matte 0 to 1."""
    x0, y0, x1, y1 = box
    moved = np.zeros((y1 - y0, x1 - x0, 4), np.float32)
    for n, view in enumerate(views):
        if warp.used(n):
            kernels.gather(view.image, view.matte, warp.flows[n], warp.weights[n], warp.first(box), moved)
    return moved


def condition(warp: Warp, views: list[View], plate: np.ndarray, target: np.ndarray, box: Box = WHOLE) -> np.ndarray:
    """Make the generator's input in a box of the crop: (h, w, 13) float32.

    Its channels are the warped photo over the plate (3) and the drawing of the landmarks (3), both -1 to 1, the six
    values of `Warp.table`, 0 to 1 but for the stretch with -1 to 1, and the warped matte, 0 to 1.

    warp: must cover the box. plate: (256, 256, 3) uint8, the background behind the person. target: (478, 3) px.
    """
    moved = moved_views(warp, views, box)
    x = np.empty((*moved.shape[:2], N_CHANNELS), np.float32)
    drawing = mesh.draw_landmarks(target)
    first = (box[1], box[0])
    kernels.assemble(moved, warp.face, plate, drawing, warp.ids, warp.table, warp.first(box), first, x)
    return x
