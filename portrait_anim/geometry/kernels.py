"""The loops over pixels and triangles, compiled by numba.

Each loop does in one pass what would be a dozen passes of array operations.

Coordinates are px, with a pixel's centre at +0.5. All arrays are C-contiguous. The last arguments are those that are
written. Numba keeps the machine code beside this file or in the user's cache folder.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a function at its first call, or load it from numba's cache.

    This is not done earlier because numba takes a third of a second to import. The compiled function frees the GIL, so
    that frames can be made in several threads at once.
    """

    @cache
    def machine_code():
        import numba

        options: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no folder for the cache can be written to: every process compiles anew
            return numba.njit(**options)(function)

    return lambda *arguments: machine_code()(*arguments)


@compiled
def rasterise(corners, order, ids):
    """Paint triangles over each other in the given order, each as its own number.

    A triangle covers the pixels whose centres lie in it or on its sides. A side is computed in the same way for both
    triangles that share it, so that no pixel between them is missed.

    corners: (F, 3, 2) float64, where a pixel's centre is at whole numbers. order: numbers of triangles. ids: (H, W)
    int32.
    """
    height, width = ids.shape
    for index in order:
        top = min(corners[index, 0, 1], corners[index, 1, 1], corners[index, 2, 1])
        bottom = max(corners[index, 0, 1], corners[index, 1, 1], corners[index, 2, 1])
        for row in range(max(int(np.ceil(top)), 0), min(int(np.floor(bottom)) + 1, height)):
            left, right = np.inf, -np.inf
            for k in range(3):
                upper, lower = k, (k + 1) % 3
                if corners[index, upper, 1] > corners[index, lower, 1]:
                    upper, lower = lower, upper
                a, b = corners[index, upper, 1], corners[index, lower, 1]
                if a <= row <= b and a < b:  # a level side's ends are those of the others
                    begin, end = corners[index, upper, 0], corners[index, lower, 0]
                    crossing = begin + (end - begin) * ((row - a) / (b - a))
                    left, right = min(left, crossing), max(right, crossing)
            if left <= right:
                for column in range(max(int(np.ceil(left)), 0), min(int(np.floor(right)) + 1, width)):
                    ids[row, column] = index


@compiled
def areas(shape, triangles, turn, area):
    """Compute twice the area of each triangle as seen from the front, for `anatomy`.

    shape: (478, 3). triangles: (F, 3) landmark numbers. turn: (F,) -1 for triangles that are listed clockwise, else 1.
    area: (F,) float64.
    """
    for n in range(len(triangles)):
        a, b, c = triangles[n]
        one = (shape[b, 0] - shape[a, 0]) * (shape[c, 1] - shape[a, 1])
        area[n] = (one - (shape[b, 1] - shape[a, 1]) * (shape[c, 0] - shape[a, 0])) * turn[n]


@compiled
def fitting_share(shape, offsets, area, triangles, turn, least, share):
    """Compute for each triangle the share of the offsets, up to 1, that leaves it `least` of its area, for `anatomy`.

    With a share f of the offsets (478, 3) the triangle has the area area + linear f + square f^2. The other arguments
    are those of `areas`. share: (F,).
    """
    small = 0.1 * area.mean()
    for n in range(len(triangles)):
        a, b, c = triangles[n]
        share[n] = 1
        ux, uy = shape[b, 0] - shape[a, 0], shape[b, 1] - shape[a, 1]
        vx, vy = shape[c, 0] - shape[a, 0], shape[c, 1] - shape[a, 1]
        dux, duy = offsets[b, 0] - offsets[a, 0], offsets[b, 1] - offsets[a, 1]
        dvx, dvy = offsets[c, 0] - offsets[a, 0], offsets[c, 1] - offsets[a, 1]
        linear = (ux * dvy - uy * dvx + dux * vy - duy * vx) * turn[n]
        square, spare = (dux * dvy - duy * dvx) * turn[n], area[n] * (1 - least)
        within = linear * linear - 4 * square * spare
        if area[n] > small and within >= 0 and np.sqrt(within) > linear:
            share[n] = min(1.0, 2 * spare / max(np.sqrt(within) - linear, 1e-12))


@compiled
def affine_maps(target, source, triangles, maps, area):
    """Compute the affine map from each target triangle to the source triangle, for `mesh.triangle_maps`.

    target, source: vertices (V, 2 or 3) float64. triangles: (F, 3). maps: (F, 6) float32. area: (F,) float64.
    """
    for n in range(len(triangles)):
        a, b, c = triangles[n]
        t1x, t1y = target[b, 0] - target[a, 0], target[b, 1] - target[a, 1]
        t2x, t2y = target[c, 0] - target[a, 0], target[c, 1] - target[a, 1]
        det = t1x * t2y - t1y * t2x
        if abs(det) < 0.02:  # edge-on: a single pixel of it may be seen
            for k in range(2):
                maps[n, 2 * k], maps[n, 2 * k + 1] = 0, 0
                maps[n, 4 + k] = (source[a, k] + source[b, k] + source[c, k]) / 3
            area[n] = 1
            continue
        for k in range(2):
            s1, s2 = source[b, k] - source[a, k], source[c, k] - source[a, k]
            by_x, by_y = (s1 * t2y - s2 * t1y) / det, (s2 * t1x - s1 * t2x) / det
            maps[n, 2 * k], maps[n, 2 * k + 1] = by_x, by_y
            maps[n, 4 + k] = source[a, k] - by_x * target[a, 0] - by_y * target[a, 1]
        s1x, s1y = source[b, 0] - source[a, 0], source[b, 1] - source[a, 1]
        s2x, s2y = source[c, 0] - source[a, 0], source[c, 1] - source[a, 1]
        area[n] = (s1x * s2y - s1y * s2x) / det


@compiled
def triangle_flow(ids, maps, is_face, corner, flow):
    """Turn displacements into backward flow, in place: exact in the face, whose triangles have maps.

    ids: (h, w) int32 triangles, -1 outside. maps: (F+1, 6) float32, the last row for -1. is_face: (F+1,) bool. corner:
    (x, y) px of the box. flow: (h, w, 2) float32, in which the displacement of the shell is given.
    """
    for i in range(ids.shape[0]):
        y = np.float32(corner[1] + i) + np.float32(0.5)
        for j in range(ids.shape[1]):
            x = np.float32(corner[0] + j) + np.float32(0.5)
            t = ids[i, j]
            if is_face[t]:
                flow[i, j, 0] = maps[t, 0] * x + maps[t, 1] * y + maps[t, 4]
                flow[i, j, 1] = maps[t, 2] * x + maps[t, 3] * y + maps[t, 5]
            else:
                flow[i, j, 0] += x
                flow[i, j, 1] += y


@compiled
def shell_shift(ids, maps, is_face, corner, step, shift):
    """Write the displacement of every cell by its triangle's map, 0 in the face: shift (h, w, 2) float32, px.

    ids, maps, is_face: as of `triangle_flow`. corner: (x, y) px of the first cell. step: px per cell.
    """
    for i in range(shift.shape[0]):
        y = np.float32(corner[1]) + np.float32(step) * (np.float32(i) + np.float32(0.5))
        for j in range(shift.shape[1]):
            x = np.float32(corner[0]) + np.float32(step) * (np.float32(j) + np.float32(0.5))
            t = ids[i, j]
            if is_face[t]:
                shift[i, j, 0] = 0
                shift[i, j, 1] = 0
            else:
                shift[i, j, 0] = maps[t, 0] * x + maps[t, 1] * y + maps[t, 4] - x
                shift[i, j, 1] = maps[t, 2] * x + maps[t, 3] * y + maps[t, 5] - y
