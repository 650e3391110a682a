"""Measure whether two pictures show the same person: CSIM."""

from pathlib import Path

import numpy as np
import torch

from ..networks.perceptual import FaceNet, centred_cosine, face_chip
from .perception import to_tensor


class Likeness:
    """Embeds faces, and compares the embeddings less their mean, without which all people look alike.

    The mean is that of one frame each of 18 people whom no training saw (mean_face.npz), the same for everybody, so
    that figures of different folders can be compared.
    """

    def __init__(self) -> None:
        self.net = FaceNet()
        with np.load(Path(__file__).with_name("mean_face.npz")) as file:
            self._mean = torch.from_numpy(file["embedding"])

    @torch.inference_mode()
    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> torch.Tensor:
        """Return the embedding (1, 128) of a face. image: (H, W, 3) uint8. landmarks: (478, 3) px."""
        return self.net.embed(to_tensor(face_chip(image, landmarks)))

    def __call__(self, embedding: torch.Tensor, image: np.ndarray, landmarks: np.ndarray) -> float:
        """Return the centred cosine of a picture's face with an embedding, 1 for the same picture."""
        return centred_cosine(self.embed(image, landmarks), embedding, self._mean).item()

    def mean(self, embedding: torch.Tensor, images: list[np.ndarray], landmarks: np.ndarray) -> float:
        """Return the mean over pictures with their landmarks (T, 478, 3), NaN where the face was not found."""
        found = [self(embedding, i, points) for i, points in zip(images, landmarks) if np.isfinite(points).all()]
        return float(np.mean(found)) if found else float("nan")
