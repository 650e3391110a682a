"""What the generator sees of a frame: the warped photo, maps of the mesh, and features carried by the same warp."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..geometry import mesh
from ..geometry.view import View, sample
from ..geometry.warp import WHOLE, Box, Warp
from . import kernels

STRIDE, PLACE = 32, 16  # px: the generator takes boxes whose sides and whose place are multiples of these
CELL = 4  # px: side of the squares of pixels that the generator takes as one
N_CHANNELS = 13  # of the generator's input: warped photo 3, drawing 3, maps 6, warped matte 1


@dataclass
class Condition:
    """One frame in a box of the crop, as the generator sees it; h and w are the box's sides in px.

    warped: (h, w, 3) float32, the warped photo over the plate in 0..255. cells: (h/4, w/4, 208) uint8, what the
    generator takes in 256 steps from -1 to 1: the 4x4 px of each cell row by row, of each px the 13 `channel`s.
    flows: of each view that is used, (h, w, 2) px, else None. weights: of each view, (h, w) float32. face, shown,
    cavity: (h, w) float32, see `Warp`.
    """

    box: Box
    warped: np.ndarray
    cells: np.ndarray
    flows: list[np.ndarray | None]
    weights: list[np.ndarray]
    face: np.ndarray
    shown: np.ndarray
    cavity: np.ndarray

    @property
    def mouth(self) -> np.ndarray:
        """Where the inside of the mouth is, (h, w) bool."""
        return self.channel(6) > 0.5

    @property
    def matte(self) -> np.ndarray:
        """The warped matte, (h, w) float32 in 0..1."""
        return self.channel(12)

    def channel(self, n: int) -> np.ndarray:
        """Return a channel of the generator's input as a picture, (h, w) float32.

        They are the warped photo over the plate 3 and the landmark drawing 3 in -1..1, maps of the mesh 6 (see
        `Warp.table`) in 0..1 (stretch and facing in -1..1), and the warped matte in 0..1.
        """
        rows, columns = (side // CELL for side in self.face.shape)
        values = self.cells.reshape(rows, columns, CELL, CELL, N_CHANNELS)[..., n].swapaxes(1, 2)
        return values.reshape(self.face.shape) / np.float32(127.5) - 1


def condition(warp: Warp, views: list[View], plate: np.ndarray, target: np.ndarray, box: Box = WHOLE) -> Condition:
    """Return what the generator sees in a box of the crop, which the warp must cover.

    plate: (512, 512, 3) uint8, the background behind the person. target: landmarks (478, 3), px of the crop.
    """
    ids = mesh.rasterise(warp.vertices, box)
    weights = [warp.enlarged(weight, box) for weight in warp.weights]
    used = [used and weight.max() > 0 for used, weight in zip(warp.used, weights)]
    flows = [warp.flow(n, ids, box) if here else None for n, here in enumerate(used)]
    face, shown, cavity = (warp.enlarged(a, box) for a in (warp.face, warp.shown, warp.cavity))
    moved = moved_views(views, flows, weights, shown, cavity)
    height, width = ids.shape
    warped = np.empty((height, width, 3), np.float32)
    cells = np.empty((height // CELL, width // CELL, CELL, CELL, N_CHANNELS), np.uint8)
    table = np.rint((warp.table + 1) * 127.5).astype(np.uint8)
    place = (box[1], box[0])
    kernels.assemble(moved, face, plate, mesh.draw_landmarks(target), ids, table, place, warped, cells)
    return Condition(box, warped, cells.reshape(height // CELL, width // CELL, -1), flows, weights, face, shown, cavity)


def moved_views(
    views: list[View],
    flows: list[np.ndarray | None],
    weights: list[np.ndarray],
    shown: np.ndarray,
    cavity: np.ndarray,
) -> np.ndarray:
    """Return the views' colours (0..255) and mattes (0..1), moved by the flows and blended: (h, w, 4) float32."""
    moved = np.zeros((*weights[0].shape, 4), np.float32)
    for view, flow, weight in zip(views, flows, weights):
        if flow is not None:
            x, y, width, height = cv2.boundingRect((weight > 0).astype(np.uint8))  # a small part, of all but the canvas
            pixels = sample(view.rgba, np.ascontiguousarray(flow[y : y + height, x : x + width]))
            kernels.add_view(pixels, weight, (y, x), moved)
    moved[..., 3] *= shown
    x, y, width, height = cv2.boundingRect((cavity > 0).astype(np.uint8))
    colours = moved[y : y + height, x : x + width, :3]
    colours += cavity[y : y + height, x : x + width, None] * (views[0].cavity - colours)
    return moved


def carried(features: list[list[np.ndarray]], seen: Condition) -> list[np.ndarray]:
    """Return the features of all views, moved by the flows and blended, at each level: (h/4, w/4, 16), ...

    features: of each view its levels, (128, 128, 16), (64, 64, 48) and (32, 32, 96) float32 for the whole crop.
    """
    height, width = seen.face.shape
    levels = [
        np.zeros((height // (4 << level), width // (4 << level), first.shape[2]), np.float32)
        for level, first in enumerate(features[0])
    ]
    for of_view, flow, weight in zip(features, seen.flows, seen.weights):
        if flow is not None:
            for level, (of_level, moved) in enumerate(zip(of_view, levels)):
                size = moved.shape[1::-1]  # each level is the mean of the one before it
                flow, weight = (cv2.resize(a, size, interpolation=cv2.INTER_AREA) for a in (flow, weight))
                kernels.gather_features(of_level, np.float32(1 / (4 << level)), flow, weight, moved)
    return levels
