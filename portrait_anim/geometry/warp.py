"""Warp the photos of a person to target landmarks: where in which photo every pixel of a frame comes from.

The flow of the face is exact, because each triangle of the mesh has an affine map that can be evaluated at any
resolution. The shell of rings around the face moves smoothly, so its displacement is kept on a coarse grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from . import kernels, mesh, mouth
from .anatomy import inside_shown
from .mesh import EYE, LABELS, LEFT_EYE, MOUTH, OUTER_LIPS, RIGHT_EYE, RING, TRIANGLES, openness, proximity
from .pose import canonical, estimate_poses
from .view import CROP, View

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in px of the crop
WHOLE: Box = (0, 0, CROP, CROP)
STEP = 2  # px of the crop per cell of the coarse grid
_SHARE_BLUR, _SHELL_BLUR = 2, 2.5  # cells, sigma; OpenCV's kernels reach four times as far
_REACH = 4 * _SHARE_BLUR  # cells that a blurred share reaches beyond itself
_RIM = 9  # cells, twice the width of the rim along the outline of a face that hides something
_FACE_BLUR = 0.75  # cells, sigma
_COUNTED = 0.15  # of a triangle of the shell: how much of it is seen is counted in cells, and so rough
_ALONG = np.exp(-((np.arange(-6, 7) / 2.5) ** 2) / 2)  # triangles along a ring over which that is evened
_TURNED = np.sin(np.radians(20))  # of the photo, away from the camera
_IS_OUTER = np.append(LABELS >= RING + 2, True)
UNSEEN = 0.01  # a view whose share is nowhere larger is left out
_IS_MOUTH = np.append(LABELS == MOUTH, False)
_FINE = 4  # parts of a cell's side, in which it is looked at how much of it lies in the mouth
_EVERYWHERE = np.ones((CROP // STEP, CROP // STEP), np.float32)
_CAVITY_COVER = np.append(mouth.COVER * mesh.IS_CAVITY, 0).astype(np.float32)
IS_FACE = np.append(LABELS < RING, False)  # of every triangle, and of "outside the mesh"


@dataclass
class Warp:
    """The geometry of one frame over `frame`, a box of the crop whose sides and place are multiples of STEP.

    vertices: (676, 3) of the mesh in the frame's pose, px of the crop. maps: (V, F+1, 6) float32, the affine map of
    every triangle into each view, see `mesh.triangle_maps`. shifts: (V, H, W, 2) float32, the displacement of the shell
    in px, where the view is seen. weights: (V, H, W) float32, the share of each view, with sum 1. face: (H, W) float32,
    soft coverage of the face. shown: (H, W) float32, 0 where the person has left a place in the photo, so that the
    background is seen, else 1. cavity: (H, W) float32, how much is covered by the colour of the cavity of a
    mouth, see `mouth`. These have a cell for every STEP px. unknown: how much of the inside of the mouth no view
    shows, 0 to 1. table: (F+1, 6) float32, of each triangle: mouth interior, eye interior, ring depth, log stretch,
    facing, share of other views; the last row is for "outside".
    """

    frame: Box
    vertices: np.ndarray
    maps: np.ndarray
    shifts: np.ndarray
    weights: np.ndarray
    face: np.ndarray
    shown: np.ndarray
    cavity: np.ndarray
    unknown: float
    table: np.ndarray
    used: list[bool]  # whether each view is seen in this frame; the canvas always is

    def cells(self, box: Box) -> tuple[slice, slice]:
        """Return rows and columns of the coarse grid that a box of the crop covers."""
        x0, y0 = self.frame[:2]
        return (
            slice((box[1] - y0) // STEP, (box[3] - y0) // STEP),
            slice((box[0] - x0) // STEP, (box[2] - x0) // STEP),
        )

    def enlarged(self, coarse: np.ndarray, box: Box) -> np.ndarray:
        """Return a coarse map (H, W[, C]) in a box of the crop, a value for every px."""
        part = np.ascontiguousarray(coarse[self.cells(box)])
        return cv2.resize(part, (box[2] - box[0], box[3] - box[1]), interpolation=cv2.INTER_LINEAR)

    def flow(self, view: int, ids: np.ndarray, box: Box) -> np.ndarray:
        """Return the backward flow into a view, (h, w, 2) float32: px of the view for every px of a box.

        ids: (h, w) int32, the triangles of the box as `rasterise` gives them.
        """
        flow = self.enlarged(self.shifts[view], box)
        kernels.triangle_flow(ids, self.maps[view], IS_FACE, box[:2], flow)
        return flow


def _part_masks() -> np.ndarray:
    """How far each triangle belongs to _PARTS, softly, (P, F)."""
    masks = np.stack([proximity(points, reach) for points, reach in _PARTS])
    rings = np.zeros((len(masks), mesh.N_RINGS * len(mesh.OVAL)))
    masks = np.concatenate([masks, rings, masks[:, mouth.UPPER], masks[:, mouth.LOWER]], 1)
    return np.where(LABELS >= RING, 0, np.clip(1.5 * masks[:, TRIANGLES].mean(2), 0, 1))


def _nearby() -> tuple[np.ndarray, np.ndarray]:
    """Return two matrices that together average over the neighbourhood of each triangle of the face, float32.

    The first (n, f) averages at the points of a grid over the mean face, the second (f, n) over the points near to a
    triangle. One matrix (f, f) would do the same with ten times the work.
    """
    middles = mesh.HeadMesh(mesh.MEAN_FACE).vertices[TRIANGLES[IS_FACE[:-1]]].mean(1)[:, :2]
    low, high = middles.min(0), middles.max(0)
    grid = np.stack(np.meshgrid(*(np.arange(a, b, _NEAR) for a, b in zip(low, high))), -1).reshape(-1, 2)
    apart = np.linalg.norm(grid[:, None] - middles[None], axis=-1)
    weights = np.exp(-((apart / _NEAR) ** 2)).astype(np.float32)  # twice the variance of each is that of both
    return weights / weights.sum(1, keepdims=True), (weights / weights.sum(0)).T.copy()


def _evened(values: np.ndarray) -> np.ndarray:
    """Return values (V, f) of the face's triangles, averaged over the neighbourhood of each."""
    gathered, spread = _NEARBY
    # einsum, because BLAS would start threads for each of these small products, which spin in the way of other frames.
    return np.einsum("vn,fn->vf", np.einsum("vf,nf->vn", values.astype(np.float32), gathered), spread)


def _evened_along_rings(values: np.ndarray) -> np.ndarray:
    """Return values (F,) of triangles, in the shell averaged over the neighbours in the same ring."""
    rings = values[LABELS >= RING].reshape(mesh.N_RINGS, -1)  # triangles lie in their order around the head
    evened = values.copy()
    even = sum(share * np.roll(rings, place - len(_ALONG) // 2, 1) for place, share in enumerate(_ALONG))
    evened[LABELS >= RING] = (even / _ALONG.sum()).ravel()
    return evened


_PARTS = ((OUTER_LIPS, 0.09), (RIGHT_EYE, 0.045), (LEFT_EYE, 0.045))  # each fused as a whole; reach in face heights
_PART_MASKS = _part_masks()
_NEAR = 0.1  # face heights, sigma, over which the shares of views are alike
_NEARBY = _nearby()
_FIT_NOISE, _FIT_RAMP = 0.03, 0.08  # of the distance of openness: below it photos count as alike; to take over


def _sharpened(shares: np.ndarray) -> np.ndarray:
    """Shares (V, ...) with the largest made larger still, sum 1 where there is any: two photos mixed look double."""
    powers = shares**4
    return powers / np.maximum(powers.sum(0), 1e-12)


class Warper:
    """Warps the views of one person; the first is the canvas, whose pose and place the output keeps."""

    def __init__(self, views: list[View], frame: Box = WHOLE):
        self.views, self.frame = views, frame
        self._seen = np.stack([_evened_along_rings(v.mesh.seen) for v in views])  # (V, F)
        self._facing = np.stack([mesh.facing(v.mesh.vertices) for v in views])
        self._mouth_parts = np.stack([v.mesh.mouth_parts for v in views])  # (V, 2, 9)
        # How badly the canvas shows the neighbourhood of each triangle of the face, (f,).
        self._lacks = 1 - _evened(np.clip((self._seen[:1, IS_FACE[:-1]] - 0.55) / 0.3, 0, 1))[0]
        # Only a head that is turned aside hides much of its shell.
        self._is_turned = np.abs(mesh.head_axes(views[0].landmarks)[:2, 2]).max() > _TURNED
        self._faces = [_face_and_rims(v) for v in views] if self._is_turned else []
        # Where a view may lend what it shows; training's views have no pictures.
        self._lends = [_inner_matte(v) if v.is_mirror and v.matte.size else _EVERYWHERE for v in views]
        landmarks = np.stack([v.landmarks for v in views])
        self._shows = inside_shown(canonical(landmarks, estimate_poses(landmarks, mesh.MEAN_FACE)))  # (V,)
        self._openness = np.stack([openness(v.landmarks) for v in views])  # (V, 4)
        # How well each view shows each of _PARTS, (V, P).
        self._shown = np.clip((self._seen @ _PART_MASKS.T / _PART_MASKS.sum(1) - 0.25) / 0.25, 0, 1)
        # How far each can lend the inside of its mouth; a mirrored view has the canvas' own.
        self._opens = np.where([v.is_mirror for v in views], 0, self._shows * self._shown[:, 0])
        # One row per triangle, one more for "outside the mesh": the maps, of which three change with the pose.
        depth = np.where(LABELS >= RING, (LABELS - RING + 1) / 6, 0)
        table = np.stack([LABELS == MOUTH, LABELS == EYE, depth, depth * 0, depth * 0, depth * 0], 1)
        self._table = np.concatenate([table, [[0, 0, 1, 0, 1, 0]]]).astype(np.float32)

    def _parts_of_mouth(self, fits: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return the parts inside the mouth, (2, 9) over `rigid_size`, of whichever photo shows it.

        fits: (V, P). target: openness (4,).
        """
        lips = fits[:, 0].copy()
        lips[0] = 1 - lips.sum()
        return np.einsum("v,vpn->pn", self._inside(lips, target), self._mouth_parts)

    def _shares(self, vertices: np.ndarray, ids: np.ndarray, fits: np.ndarray) -> np.ndarray:
        """Return the share of each view in each triangle, (V, F+1).

        At the canvas' own pose and expression all is the canvas'.

        Another view helps where the canvas is turned away, and so would be stretched, while the other is not and the
        target turns towards the camera; another photo also where its mouth or eyes are nearer to the target's.
        All of it is continuous in the target: what moves smoothly does not pop.
        """
        canvas = self._seen[0]
        share = np.zeros((len(self.views), len(LABELS) + 1), np.float32)
        if len(self.views) > 1:
            mirror = np.array([[view.is_mirror] for view in self.views[1:]])
            slack = np.where(LABELS >= RING, _COUNTED, 0)
            turned = np.clip((_evened_along_rings(mesh.seen(vertices, ids, STEP)) - canvas - slack) / 0.2, 0, 1)
            needed = turned * np.clip((np.where(mirror, 0.55, 0.75) - canvas) / 0.3, 0, 1)
            gain = np.clip((self._seen[1:] - canvas - 0.15) / 0.3, 0, 1) * needed
            # Triangle by triangle, two halves of a face would be mottled.
            gain[:, IS_FACE[:-1]] = np.clip(1.5 * _evened(gain[:, IS_FACE[:-1]]), 0, self._lacks)
            share[1:, :-1] = _sharpened(gain * np.where(mirror, 0.5, 1)) * gain.max(0)
        for part, better in zip(_PART_MASKS, fits.T):
            if better.any():
                share[1:, :-1] = share[1:, :-1] * (1 - part * better.sum()) + part * better[1:, None]
        share[0] = 1 - share[1:].sum(0)
        return share

    def _fits(self, target: np.ndarray) -> np.ndarray:
        """Return the share of each view in each of _PARTS by its expression, (V, P).

        Of the photos that are nearer to the target's openness (4,) than the canvas by more than noise, the nearest
        counts. Mirrored views have the canvas' own expression.
        """
        distance = self._distance(target)
        better = np.clip((distance[:1] - distance - _FIT_NOISE) / _FIT_RAMP, 0, 1) * self._shown
        better[[view.is_mirror for view in self.views]] = 0
        return _sharpened(better) * better.max(0)

    def _distance(self, target: np.ndarray) -> np.ndarray:
        """Return how far each view is from the target's openness (4,) in each of _PARTS, (V, P)."""
        gap = np.abs(self._openness - target)
        return np.stack([gap[:, 0] + gap[:, 1], gap[:, 2], gap[:, 3]], 1)

    def _inside(self, share: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return the share of each view inside the mouth, from that which it has by pose and fit, both (V, ...).

        A photo in which the mouth is closed gives its share to those that show the inside, the more so the nearer
        their openness is to the target's (4,): their teeth come into view as soon as the lips part.
        """
        near = self._opens * np.exp(-self._distance(target)[:, 0] / _FIT_RAMP)
        kept = (share.T * (1 - (1 - self._shows) * self._opens.max())).T
        return kept + np.multiply.outer(near / max(near.sum(), 1e-9), 1 - kept.sum(0))

    def warp(self, target: np.ndarray) -> Warp:
        """Return the warp that brings the views to target landmarks (478, 3), px of the crop."""
        vertices = self.views[0].mesh.posed(target)
        size = mesh.rigid_size(target)
        wanted = openness(vertices[: mesh.N_LANDMARKS])
        fits = self._fits(wanted)
        lengths = mouth.fitting(self._parts_of_mouth(fits, wanted) * size, target)
        thirds = vertices.copy()  # of the mouth, as the views are compared
        vertices[-mouth.N_HEMS :] = mouth.hems(lengths, target)
        ids = mesh.rasterise(vertices, self.frame, STEP)
        share = self._shares(thirds, ids, fits)
        inside = np.zeros_like(share)
        inside[:, _IS_MOUTH] = self._inside(share[:, _IS_MOUTH], wanted)
        covered = np.take(_IS_MOUTH, ids, mode="wrap") * self._coverage(target[mesh.INNER_LIPS, :2], ids.shape)
        face = np.take(IS_FACE, ids, mode="wrap").astype(np.float32)  # -1 takes the last
        shell_weight = cv2.GaussianBlur(1 - face, (0, 0), _SHELL_BLUR)
        count = len(self.views)
        weights = np.zeros((count, *ids.shape), np.float32)
        shifts = np.zeros((count, *ids.shape, 2), np.float32)
        maps = np.zeros((count, len(LABELS) + 1, 6), np.float32)
        weights[0] = 1
        stretch = np.zeros(self._seen.shape, np.float32)
        used = [True] + [False] * (count - 1)
        near = far = np.zeros(ids.shape, np.float32)  # where the canvas has its face in front, see `_hidden`
        for n, view in enumerate(self.views):
            part = (0, 0, *ids.shape)  # rows and columns in which the view is used
            if n:
                helps = near if view.is_mirror else np.zeros_like(near)
                if max(share[n].max(), helps.max(), inside[n].max()) <= UNSEEN:
                    continue
                mask, within = (np.take(of[n], ids, mode="wrap") for of in (share, inside))
                lent = within * covered
                if max(mask.max(), helps.max(), lent.max()) <= UNSEEN:
                    continue
                where = (mask > 0) | (helps > 0) | (lent > 0)
                part = _grown(cv2.boundingRect(where.astype(np.uint8)), _REACH, ids.shape)
            maps[n], area = mesh.triangle_maps(vertices, view.mesh.with_mouth(lengths / size))
            self._fill_shift(ids, maps[n], shell_weight, part, shifts[n])
            if n:
                some = np.s_[part[0] : part[2], part[1] : part[3]]
                if helps.max() > UNSEEN:  # the mirror image takes what it and the canvas hold, nothing of other photos'
                    left = np.take(share[0] + share[n], ids[some], mode="wrap")
                    visible = 1 - self._hidden(n, ids, face, shifts[n])[0][some]
                    mask[some] = np.maximum(mask[some], left * helps[some] * visible)
                if view.is_mirror:  # beside its person it would open holes in the canvas'
                    lends = _looked_up(self._lends[n], self._places(shifts[n])[some])
                    mask[some] *= np.maximum(lends, face[some])
                blurred = cv2.GaussianBlur(mask[some], (0, 0), _SHARE_BLUR)
                if max(blurred.max(), lent.max()) <= UNSEEN:
                    continue
                # The share in the lips does not reach into the mouth.
                weights[n][some] = blurred + covered[some] * (within[some] - blurred)
                weights[0][some] -= weights[n][some]
                used[n] = True
            elif self._is_turned:
                near, far = self._hidden(0, ids, face, shifts[0])
            stretch[n] = np.clip(np.log(np.maximum(area, 1e-2)), -3, 3) / 3
        best = share[:, :-1].argmax(0)
        table = self._table.copy()  # frames are made in several threads
        each = np.arange(len(best))
        table[:-1, 3], table[:-1, 4] = stretch[best, each], self._facing[best, each]
        table[:-1, 5] = 1 - share[0, :-1]
        # The face's own edge against the plate is softened: a hard maximum with the matte would be jagged.
        soft = cv2.GaussianBlur(face, (0, 0), _FACE_BLUR)
        shown = 1 - cv2.GaussianBlur(np.maximum(far, near * weights[0]), (0, 0), _FACE_BLUR)
        cavity = np.take(_CAVITY_COVER, ids, mode="wrap")
        y0, x0, y1, x1 = _grown(cv2.boundingRect((cavity > 0).astype(np.uint8)), _REACH, ids.shape)
        cavity[y0:y1, x0:x1] = cv2.GaussianBlur(cavity[y0:y1, x0:x1], (0, 0), _FACE_BLUR)
        unknown = float((1 - self._shows) @ inside[:, _IS_MOUTH].mean(1))
        return Warp(self.frame, vertices, maps, shifts, weights, soft, shown, cavity, unknown, table, used)

    def _coverage(self, outline: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return how much of each cell lies within an outline (N, 2), px of the crop: (H, W) float32."""
        at = (outline - self.frame[:2]) / STEP
        low = np.clip(np.floor(at.min(0)).astype(int), 0, shape[::-1])
        high = np.clip(np.ceil(at.max(0)).astype(int), low, shape[::-1])
        covered = np.zeros(shape, np.float32)
        if (high > low).all():
            fine = np.zeros((high - low)[::-1] * _FINE, np.uint8)
            cv2.fillPoly(fine, [np.round(((at - low) * _FINE - 0.5) * 16).astype(np.int32)], (255,), shift=4)
            part = cv2.resize(fine, (high - low).tolist(), interpolation=cv2.INTER_AREA)
            covered[low[1] : high[1], low[0] : high[0]] = part / np.float32(255)
        return covered

    def _hidden(self, n: int, ids: np.ndarray, face: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where a view has its face in front of what the shell looks for there: near it and far, 0..1 (H, W).

        A head that turns back from a profile uncovers the shell behind it, and the background. The photo shows the
        profile's nose and lips at that place, which would be seen a second time beside the face. In the near rings
        only the inner part of the photo's face counts, because the shell begins at its outline, and the mirror image
        shows what is there. In the far rings and outside it is the background. There a rim around the photo's face
        counts, too, but not beside the face of the frame, whose own rim it may be.
        """
        at = self._places(shift)
        inner, face_itself, outer = self._faces[n]
        here = cv2.dilate(face, np.ones((_RIM, _RIM), np.uint8))
        near = _looked_up(inner, at) * (1 - face)
        far = np.maximum(_looked_up(outer, at) * (1 - here), _looked_up(face_itself, at) * (1 - face))
        is_far = np.take(_IS_OUTER, ids, mode="wrap")
        return np.where(is_far, 0, near).astype(np.float32), np.where(is_far, far, 0).astype(np.float32)

    def _places(self, shift: np.ndarray) -> np.ndarray:
        """Return where in a view the shell's cells look, (H, W, 2), in cells of the crop. shift: (H, W, 2) px."""
        (x0, y0), (height, width) = self.frame[:2], shift.shape[:2]
        at = shift / STEP
        at[..., 0] += np.arange(width, dtype=np.float32)[None] + np.float32(x0 / STEP)
        at[..., 1] += np.arange(height, dtype=np.float32)[:, None] + np.float32(y0 / STEP)
        return at

    def _fill_shift(
        self, ids: np.ndarray, maps: np.ndarray, weight: np.ndarray, part: tuple, shift: np.ndarray
    ) -> None:
        """Write the shell's displacement (H, W, 2) into a view, blurred within the shell, in a part of the grid.

        The quads between rings are two triangles each; where a turn stretches them, hair would show their zigzag.
        """
        rect = (part[1], part[0], part[3] - part[1], part[2] - part[0])
        y0, x0, y1, x1 = _grown(rect, round(4 * _SHELL_BLUR), ids.shape)
        here = np.s_[y0:y1, x0:x1]
        raw = np.empty((y1 - y0, x1 - x0, 2), np.float32)
        corner = self.frame[0] + x0 * STEP, self.frame[1] + y0 * STEP
        kernels.shell_shift(ids[here], maps, IS_FACE, corner, STEP, raw)
        shift[here] = cv2.GaussianBlur(raw, (0, 0), _SHELL_BLUR) / np.maximum(weight[here], 1e-3)[..., None]


def _face_and_rims(view: View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where a view's face is without its rim, as it is, and with a rim around it: (256, 256) float32, 0 or 1.

    There is a cell for every STEP px.
    """
    face = np.take(IS_FACE, mesh.rasterise(view.mesh.vertices, WHOLE, STEP), mode="wrap").astype(np.float32)
    rim = np.ones((_RIM, _RIM), np.uint8)
    return 1 - cv2.dilate(1 - face, rim), face, cv2.dilate(face, rim)


def _inner_matte(view: View) -> np.ndarray:
    """Return a view's matte without the rim that a blurred share reaches over, (256, 256) float32 in 0..1."""
    small = cv2.resize(view.matte, (CROP // STEP, CROP // STEP), interpolation=cv2.INTER_AREA)
    return cv2.erode(small, np.ones((_REACH + 1, _REACH + 1), np.uint8))


def _looked_up(image: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return image (H, W) at places (h, w, 2), in cells whose centres are whole numbers; 0 beyond its border."""
    return cv2.remap(image, at.astype(np.float32), np.empty(0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def _grown(rect: Sequence[int], margin: int, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return rows and columns (begin, begin, end, end) of a rectangle (x, y, width, height) and a margin around it."""
    x, y, width, height = rect
    return max(y - margin, 0), max(x - margin, 0), min(y + height + margin, shape[0]), min(x + width + margin, shape[1])


def over(photo: np.ndarray, matte: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """Return photo over plate (H, W, 3) by matte (H, W), float32."""
    return plate + matte[..., None] * (photo - plate)
