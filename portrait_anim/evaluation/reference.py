"""What a reenacted picture is measured against: the true frame, and where in it face, mouth, eyes and the edge are."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from ..geometry.mesh import LEFT_EYE, OUTER_LIPS, RIGHT_EYE, HeadMesh, face_height, head_axes

SIDE = 256  # px of the pictures that are measured, as in the papers and in all earlier figures
EDGE = 0.06  # face heights: half the width of the band around the head's edge
AROUND_LIPS, AROUND_LIDS = 1.15, 1.5  # how much larger the regions of mouth and eyes are than their outlines


@dataclass(frozen=True)
class Reference:
    """A true frame and the photo that was driven to it, at 256 px.

    image, photo: (256, 256, 3) uint8. points, photo_points: landmarks (478, 3), px of these. matte, photo_matte: (256,
    256) float32, 1 where the person is. opening: (256, 256) bool, the inside of the mouth in the target's pose. sharp:
    (S, S, 3) uint8, the true frame at the size that the clip has, 512 px or 256.
    """

    image: np.ndarray
    points: np.ndarray
    matte: np.ndarray
    opening: np.ndarray
    photo: np.ndarray
    photo_points: np.ndarray
    photo_matte: np.ndarray
    sharp: np.ndarray

    @cached_property
    def regions(self) -> dict[str, np.ndarray]:
        """The parts of the true frame by name, (256, 256) bool each: face, mouth, eyes, edge."""
        return regions(self.points, self.matte)


def regions(points: np.ndarray, matte: np.ndarray) -> dict[str, np.ndarray]:
    """Return where the face, the mouth, the eyes and the edge of the head are in a square picture, (H, W) bool each.

    points: landmarks (478, 3) px. matte: (H, W). The edge is a band along the matte's outline, with hair and ears: all
    that lies between the face and the first ring. Both only above the chin, where shoulders are not meant.
    """
    shape = matte.shape
    face = filled(points[:468, :2], shape)
    mouth = filled(_grown(points[OUTER_LIPS, :2], AROUND_LIPS), shape)
    eyes = np.zeros(shape, bool)
    for lids in (RIGHT_EYE, LEFT_EYE):
        eyes |= filled(_grown(points[lids, :2], AROUND_LIDS), shape)
    beside = filled(HeadMesh(points).rings[0, :, :2], shape) & ~face & (matte > 0.5)
    near = np.abs(signed_distance(matte > 0.5)) < max(2.0, EDGE * face_height(points))
    edge = (near | beside) & around_head(points, shape) & ~face
    return {"face": face, "mouth": mouth, "eyes": eyes, "edge": edge}


def around_head(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels (H, W) bool in which a head with these landmarks, its hair and what is close to it may be.

    It is the fourth ring of the mesh, as far as it lies above the chin.
    """
    mesh = HeadMesh(points)
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    down = head_axes(points)[1, :2]
    below = (x - points[152, 0]) * down[0] + (y - points[152, 1]) * down[1] > 0
    return filled(mesh.rings[3, :, :2], shape) & ~below


def filled(outline: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the convex hull of points (N, 2) px as (H, W) bool."""
    hull = cv2.convexHull(np.round(outline - 0.5).astype(np.int32))
    return cv2.fillConvexPoly(np.zeros(shape, np.uint8), hull, 1) > 0


def signed_distance(inside: np.ndarray) -> np.ndarray:
    """Return the distance of each pixel from the border of a region (H, W) bool, px, negative inside."""
    into, out = (cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 5) for part in (inside, ~inside))
    return np.where(inside, 0.5 - into, out - 0.5)


def _grown(outline: np.ndarray, factor: float) -> np.ndarray:
    """Return points moved away from their mean, and two px up or down, since eyes and lips may be closed."""
    middle = outline.mean(0)
    away = outline - middle
    return middle + away * factor + np.sign(away) * np.array([0, 2])
