"""Measure a picture against its target at 256 px, by the measures of the papers and some of mouth and eyes alone."""

import cv2
import numpy as np
import torch

from ..geometry.mesh import LEFT_EYE, OUTER_LIPS, RIGHT_EYE
from ..landmarks.refining import Refiner
from ..landmarks.tracking import MediaPipeTracker
from ..networks.perceptual import FaceNet, centred_cosine, face_chip, perceptual_distance
from ..training.shards import Shard

SIDE = 256  # px of the pictures that are measured, as in the papers and in all earlier figures
LOCAL = 72  # px, side of the crops of mouth and eyes
METRICS = {  # key: (heading, decimals); all but the last three are better when lower
    "l1": ("L1", 2), "mouth_inside": ("inside the mouth", 1), "mouth_l1": ("mouth crop", 2),
    "eyes_l1": ("eyes crop", 2), "mouth_perceptual": ("per-m", 3), "eyes_perceptual": ("per-e", 3), "akd": ("AKD", 2),
    "psnr": ("PSNR", 2), "ssim": ("SSIM", 3), "csim": ("CSIM", 3),
}  # fmt: skip


def reduced(image: np.ndarray) -> np.ndarray:
    """Return a picture of the networks' size, reduced to the size of the measures."""
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


class Meter:
    """Measures pictures against their targets, both (256, 256, 3) uint8.

    mean: the mean embedding of the people in the given shards, by which CSIM is centred.
    """

    def __init__(self, shards: list[Shard]):
        self.net = FaceNet()
        self.tracker, self.refiner = MediaPipeTracker(max_faces=1), Refiner()
        self.mean = torch.cat([self.embed(s.image(0, SIDE), s.points(0, SIDE)) for s in shards]).mean(0)

    def __call__(
        self, image: np.ndarray, target: np.ndarray, points: np.ndarray, mouth: np.ndarray
    ) -> dict[str, float]:
        """Return the METRICS of a picture, NaN where one cannot be measured.

        points: landmarks (478, 3) of the target. mouth: (256, 256) bool, the inside of the mouth in the target's pose.
        """
        from skimage.metrics import structural_similarity

        error = np.abs(image.astype(np.float32) - target).mean(-1)
        squared = ((image.astype(np.float32) - target) ** 2).mean()
        result = {"l1": error.mean(), "psnr": 10 * np.log10(255**2 / max(squared, 1e-6))}
        result["mouth_inside"] = error[mouth].mean() if mouth.sum() > 20 else np.nan
        for name, part in (("mouth", OUTER_LIPS), ("eyes", np.concatenate([RIGHT_EYE, LEFT_EYE]))):
            x, y = np.clip(np.round(points[part, :2].mean(0) - LOCAL / 2), 0, SIDE - LOCAL).astype(int)
            cut = np.s_[y : y + LOCAL, x : x + LOCAL]
            result[f"{name}_l1"] = error[cut].mean()
            pictures = (_to_tensor(i[cut]) for i in (image, target))
            result[f"{name}_perceptual"] = perceptual_distance(self.net, *pictures).item()
        result["ssim"] = structural_similarity(image, target, channel_axis=-1)
        result["csim"] = self.likeness(self.embed(target, points), image, points)
        found = self.tracker.faces(image)
        result["akd"] = np.nan
        if found:
            landmarks = self.refiner(image, found[0].landmarks)
            result["akd"] = np.linalg.norm((landmarks - points)[:468, :2], axis=1).mean()
        return {key: float(value) for key, value in result.items()}

    def likeness(self, embedding: torch.Tensor, image: np.ndarray, landmarks: np.ndarray) -> float:
        """Return the centred cosine of a picture's face with an embedding."""
        return centred_cosine(self.embed(image, landmarks), embedding, self.mean).item()

    @torch.inference_mode()
    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> torch.Tensor:
        """Return the face embedding of a picture with its landmarks."""
        return self.net.embed(_to_tensor(face_chip(image, landmarks)))


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
