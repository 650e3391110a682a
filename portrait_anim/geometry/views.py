"""Views: the photos of one person in the crop, which is the square around the head that the networks work on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from . import mesh
from .fill import push_pull
from .mesh import LABELS, RING, HeadMesh

CROP = 512  # px: side of the crop, the same at training and at run time
GAIN = 64  # cells along a side of the maps that say by how much the light of a view was changed


@dataclass
class View:
    """One photo of the person, cut to the crop.

    image: (512, 512, 3) uint8 RGB. landmarks: (478, 3) px of the crop. matte: (512, 512) float32, 1 where the person
    is. is_mirror: the photo is flipped left to right. gain: (64, 64, 3) float32, by how much its light was changed; see
    `light_gain`.
    """

    image: np.ndarray
    landmarks: np.ndarray
    matte: np.ndarray
    is_mirror: bool = False
    mesh: HeadMesh = field(init=False)
    gain: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.mesh = HeadMesh(self.landmarks)

    @cached_property
    def rgba(self) -> np.ndarray:
        """The picture with the matte as its fourth channel, (512, 512, 4) uint8."""
        return np.dstack([self.image, np.rint(np.clip(self.matte, 0, 1) * 255).astype(np.uint8)])

    def lit_as(self, canvas: View) -> View:
        """The same view in the light of canvas."""
        gain = light_gain(canvas, self)
        lit = View(relight(self.image, gain), self.landmarks, self.matte, self.is_mirror)
        lit.gain = gain
        return lit

    def mirrored(self) -> View:
        """The same photo flipped left to right, in this photo's light: what the other side of the head looks like."""
        flipped = View(
            np.ascontiguousarray(self.image[:, ::-1]),
            mesh.mirrored_landmarks(self.landmarks, CROP),
            np.ascontiguousarray(self.matte[:, ::-1]),
            is_mirror=True,
        )
        return flipped.lit_as(self)


_NEAR = np.exp(-((mesh.MEAN_FACE[:468, None] - mesh.MEAN_FACE[None, :468]) ** 2).sum(-1) / (2 * 0.12**2)).astype(
    np.float32
)


def light_gain(canvas: View, other: View) -> np.ndarray:
    """Factor (64, 64, 3) over other's crop that brings its light to the canvas'.

    Where both photos show the face their smoothed colours are compared; from there the ratio is carried over the
    face to the parts that only the other shows.
    """
    vertex_facing = lambda view: _vertex_mean(view.mesh.seen)
    both = np.clip(4 * np.minimum(vertex_facing(canvas), vertex_facing(other)) - 1, 0, 1) + 1e-4
    colour = [
        sample(cv2.GaussianBlur(v.image, (0, 0), 10), v.landmarks[None, :468, :2].astype(np.float32))[0]
        for v in (canvas, other)
    ]
    ratio = np.clip(np.log((colour[0] + 8.0) / (colour[1] + 8.0)), -1, 1)  # (468, 3)
    near = _NEAR * both
    ratio = (near @ ratio) / near.sum(1, keepdims=True)
    seeds, count = np.zeros((GAIN, GAIN, 3), np.float32), np.zeros((GAIN, GAIN), np.float32)
    at = np.clip(other.landmarks[:468, :2] * (GAIN / CROP), 0, GAIN - 1).astype(int)
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


def sample(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Return image (H, W[, C]) at flow (h, w, 2), px with centres at +0.5; beyond the border it is replicated."""
    return cv2.remap(image, flow - 0.5, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
