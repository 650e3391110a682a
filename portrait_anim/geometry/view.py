"""The photos of a person as the warp needs them: cut to the crop, with landmarks and matte, in the light of the first.

The crop is a square of CROP px around the head, the same at training and at run time.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from . import mesh, mouth
from .fill import push_pull
from .mesh import LABELS, RING, HeadMesh

CROP = 512  # px: side of the crop that the networks work on
_GREY = 1.0  # of 255, mean distance between the channels of a photo without colour
GAIN = 64  # cells along a side of the maps that say by how much the light of a view was changed


@dataclass
class View:
    """One photo of the person, cut to the crop.

    image: (512, 512, 3) uint8 RGB. landmarks: (478, 3) px of the crop. matte: (512, 512) float32, 1 where the person
    is, 0 in the background. is_mirror: whether this is a photo flipped left to right. mesh: of the landmarks. gain: the
    factor by which the light of the image was changed, (64, 64, 3) float32 as `light_gain` makes it, None if it was
    not.
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

    @cached_property
    def is_grey(self) -> bool:
        """Whether the photo has no colours, up to the rounding of a JPEG."""
        return bool(np.ptp(self.image, axis=2).mean() < _GREY)

    @cached_property
    def lip(self) -> np.ndarray:
        """The colour of its lower lip, (3,) float32 in 0..255."""
        places = mouth.lip_places(self.landmarks)[None].astype(np.float32)
        return sample(self.image, places)[0].mean(0, dtype=np.float32)

    @cached_property
    def cavity(self) -> np.ndarray:
        """The colour of the cavity of its mouth, (3,) float32 in 0..255, see `mouth`."""
        return mouth.DARK * self.lip

    def lit_as(self, canvas: "View") -> "View":
        """Return the same view in the light of the view `canvas`, without colours if that has none."""
        gain = light_gain(canvas, self)
        image = relight(self.image, gain)
        lit = View(grey(image) if canvas.is_grey else image, self.landmarks, self.matte, self.is_mirror)
        lit.gain = gain
        return lit

    def mirrored(self) -> "View":
        """Return the photo flipped left to right, in the light of this photo.

        It shows what the other side of the head may look like.
        """
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
    """Estimate the factor that brings the light of the view `other` to that of the view `canvas`.

    Returns float32 (64, 64, 3) over the crop of `other`. Where both photos show the face, their smoothed colours are
    compared. From there the ratio is carried over the face to the parts that only `other` shows.
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
    """Multiply an image (H, W, 3) uint8 by a gain (h, w, 3) that is enlarged to its size."""
    gain = cv2.resize(gain, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(image, gain, dtype=cv2.CV_8U)


def grey(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) uint8 without its colours, of the same shape."""
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)


def _vertex_mean(of_triangles: np.ndarray) -> np.ndarray:
    """Average values of triangles (F,) over those at each of the 468 face points: (468,)."""
    face = mesh.TRIANGLES[LABELS < RING]
    values = np.repeat(of_triangles[LABELS < RING], 3)
    count = np.bincount(face.ravel(), minlength=mesh.N_LANDMARKS)
    return (np.bincount(face.ravel(), values, mesh.N_LANDMARKS) / np.maximum(count, 1))[:468]


def sample(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Read an image (H, W[, C]) bilinearly at the places flow (h, w, 2), px with centres at +0.5.

    Beyond the border its edge is replicated.
    """
    no_second_map: Any = None  # its type is missing in OpenCV's stubs
    return cv2.remap(image, flow - 0.5, no_second_map, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
