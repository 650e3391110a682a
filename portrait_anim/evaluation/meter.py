"""Measure a picture against its target at 256 px, by the measures of the papers and by those of edges and sharpness."""

from pathlib import Path

import cv2
import numpy as np

from ..geometry.mesh import LEFT_EYE, OUTER_LIPS, RIGHT_EYE
from ..landmarks.refining import Refiner
from ..landmarks.tracking import MediaPipeTracker
from ..networks.perceptual import perceptual_distance
from ..training.shards import resized
from . import edges
from .likeness import Likeness
from .perception import PerceptualDistance, to_tensor
from .reference import SIDE, Reference
from .tables import Column

LOCAL = 72  # px, side of the crops of mouth and eyes


# The columns of the tables by the tables' captions. FID is of all pairs together, see `results`.
TABLES = {
    "Whole picture": (
        Column("ssim", "SSIM", 3, "high"),
        Column("csim", "CSIM", 3, "high"),
        Column("perceptual", "perceptual", 3),
        Column("psnr", "PSNR", 2, "high"),
        Column("l1", "L1", 2),
        Column("akd", "AKD", 2),
    ),
    "Face": (
        Column("mouth_inside", "inside the mouth", 1),
        Column("mouth_l1", "mouth crop", 2),
        Column("eyes_l1", "eyes crop", 2),
        Column("mouth_perceptual", "per-m", 3),
        Column("eyes_perceptual", "per-e", 3),
    ),
    "Edge of the head": (
        Column("outline_l1", "outline L1", 2),
        Column("outline_perceptual", "outline perceptual", 3),
        Column("residue", "residue, %", 1),
        Column("rim", "rim", 2),
    ),
    "Sharpness": tuple(Column(f"sharp_{name}", f"sharp {name}", 2, "one") for name in edges.REGIONS),
}
METRICS = {column.key: column for columns in TABLES.values() for column in columns}


def reduced(image: np.ndarray) -> np.ndarray:
    """Return a square picture at the size of the measures."""
    return resized(image, SIDE, cv2.INTER_CUBIC)


class Meter:
    """Measures pictures against their references.

    alexnet: AlexNet's weights, for LPIPS.
    """

    def __init__(self, alexnet: Path | None = None):
        self._likeness, self.perceptual = Likeness(), PerceptualDistance(alexnet)
        self._tracker = MediaPipeTracker(max_faces=1)

    def __call__(self, picture: np.ndarray, reference: Reference) -> dict[str, float]:
        """Return the METRICS of a square picture (H, W, 3) uint8, NaN where one cannot be measured.

        All but the sharpness are measured at 256 px.
        """
        from skimage.metrics import structural_similarity

        image, target, points = reduced(picture), reference.image, reference.points
        error = np.abs(image.astype(np.float32) - target).mean(-1)
        squared = ((image.astype(np.float32) - target) ** 2).mean()
        result = {"l1": error.mean(), "psnr": 10 * np.log10(255**2 / max(squared, 1e-6))}
        opening = reference.opening
        result["mouth_inside"] = error[opening].mean() if opening.sum() > 20 else np.nan
        for name, part in (("mouth", OUTER_LIPS), ("eyes", np.concatenate([RIGHT_EYE, LEFT_EYE]))):
            x, y = np.clip(np.round(points[part, :2].mean(0) - LOCAL / 2), 0, SIDE - LOCAL).astype(int)
            cut = np.s_[y : y + LOCAL, x : x + LOCAL]
            result[f"{name}_l1"] = error[cut].mean()
            pictures = (to_tensor(i[cut]) for i in (image, target))
            result[f"{name}_perceptual"] = perceptual_distance(self._likeness.net, *pictures).item()
        result["ssim"] = structural_similarity(image, target, channel_axis=-1)
        result["csim"] = self._likeness(self._likeness.embed(target, points), image, points)
        result["akd"] = self._landmark_distance(image, points)
        result["perceptual"] = self.perceptual(image, target)
        result["outline_l1"], result["outline_perceptual"] = edges.outline(image, reference, self.perceptual)
        result["residue"], result["rim"] = edges.residue(image, reference), edges.rim(image, reference)
        result |= {f"sharp_{name}": value for name, value in edges.sharpness(picture, reference).items()}
        return {key: float(result[key]) for key in METRICS}

    def _landmark_distance(self, image: np.ndarray, points: np.ndarray) -> float:
        """Return the mean distance of the landmarks found again from those of the target, px."""
        found = self._tracker.faces(image)
        if not found:
            return float("nan")
        refiner = Refiner()  # a new one: what it finds depends a little on what it was shown before
        try:
            landmarks = refiner(image, found[0].landmarks)
        finally:
            refiner.close()
        return float(np.linalg.norm((landmarks - points)[:468, :2], axis=1).mean())
