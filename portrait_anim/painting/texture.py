"""Give the skin, the canvas or the cloth back the texture that a painting takes away.

A network that is unsure where a pore or a crack in the varnish comes to lie averages, and so smooths. The photo still
has that texture, and the warp carries it. What a painting adds is therefore compared with the warp's own detail: as far
as it is that detail with the opposite sign, it is left out. Light, and detail of the painting's own, stay. Where the
painting changes much, as in a mouth that opens, it is left alone.
"""

import cv2
import numpy as np

from ..geometry.kernels import compiled
from .compose import enlarging_grid
from .kernels import ONE

CELL = 8  # px: detail is what differs from the means of cells of this side
_NOISE = 3.0  # of 255, squared, sum of three colours: detail below that is not the photo's
_AROUND, _SURE = np.ones((3, 3), np.uint8), 2.0  # cells around one whose strength is 1 / _SURE are left alone
_STEP = 2  # px: every second one is enough to measure


def keep_texture(painted: np.ndarray) -> None:
    """Take back what a painting subtracts from the texture of the refined picture, in place.

    painted: (h+2, w+2, N_RESULT) float32 of `compose.paint_box`, whose channels 3 to 5, what is added, are changed. h
    and w are multiples of CELL.
    """
    height, width = ((side - 2) // CELL for side in painted.shape[:2])
    means = np.empty((height, width, 7), np.float32)
    _cell_means(painted, means)
    whole = (0, 0, CELL * width, CELL * height)
    grid = enlarging_grid(0, 0, 1, whole, whole, CELL)
    products = np.empty((height, width, 2), np.float32)
    _cell_products(painted, means, grid, products)
    products = cv2.GaussianBlur(products, (0, 0), 1.0)
    changed = np.clip(_SURE * cv2.dilate(np.ascontiguousarray(means[..., 6]), _AROUND), 0, 1)
    taken = np.clip(-products[..., 0] / (products[..., 1] + _NOISE), 0, 1)
    _give_back(painted, means, grid, taken * (1 - cv2.GaussianBlur(changed, (0, 0), 1.0)))


@compiled
def _cell_means(painted, means):
    """Write the means of cells: refined picture 3, what is added 3, strength 1. means: (h/CELL, w/CELL, 7)."""
    count = np.float32((CELL // _STEP) ** 2)
    for i in range(means.shape[0]):
        for j in range(means.shape[1]):
            for k in range(7):
                total = np.float32(0)
                for y in range(1 + CELL * i, 1 + CELL * (i + 1), _STEP):
                    for x in range(1 + CELL * j, 1 + CELL * (j + 1), _STEP):
                        total += painted[y, x, k]
                means[i, j, k] = total / count


@compiled
def _cell_products(painted, means, grid, products):
    """Write the mean products of the refined picture's detail with that of what is added, and with itself.

    The products of the three colours of a pixel are added. grid: enlarges cells to pixels. products: (h/CELL, w/CELL,
    2) float32.
    """
    height, width = means.shape[:2]
    line = np.empty((width, 7), np.float32)
    products[:] = 0
    share = np.float32((_STEP / CELL) ** 2)
    for p in range(0, CELL * height, _STEP):
        i, part = grid.rows[p], grid.row_parts[p]
        for j in range(width):
            for k in range(7):
                line[j, k] = means[i, j, k] + part * (means[i + 1, j, k] - means[i, j, k])
        for q in range(0, CELL * width, _STEP):
            j, part = grid.columns[q], grid.column_parts[q]
            for k in range(3):
                own = painted[p + 1, q + 1, k] - (line[j, k] + part * (line[j + 1, k] - line[j, k]))
                added = painted[p + 1, q + 1, k + 3] - (line[j, k + 3] + part * (line[j + 1, k + 3] - line[j, k + 3]))
                products[p // CELL, q // CELL, 0] += share * own * added
                products[p // CELL, q // CELL, 1] += share * own * own


@compiled
def _give_back(painted, means, grid, taken):
    """Add the refined picture's detail as far as it was taken, a share (h/CELL, w/CELL) float32 of it.

    grid: enlarges cells to pixels.
    """
    height, width = taken.shape
    line = np.empty((width, 4), np.float32)
    for p in range(CELL * height):
        i, part = grid.rows[p], grid.row_parts[p]
        for j in range(width):
            for k in range(3):
                line[j, k] = means[i, j, k] + part * (means[i + 1, j, k] - means[i, j, k])
            line[j, 3] = taken[i, j] + part * (taken[i + 1, j] - taken[i, j])
        for q in range(CELL * width):
            j, part = grid.columns[q], grid.column_parts[q]
            back = line[j, 3] + part * (line[j + 1, 3] - line[j, 3])
            if back > 0:
                back *= ONE - painted[p + 1, q + 1, 6]
                for k in range(3):
                    smooth = line[j, k] + part * (line[j + 1, k] - line[j, k])
                    painted[p + 1, q + 1, 3 + k] += back * (painted[p + 1, q + 1, k] - smooth)
