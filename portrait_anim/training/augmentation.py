"""Random changes of an episode's pictures: clips are cut and lit alike, users' photos are not.

One change is the same for all pictures of an episode. The workers draw its numbers and move the landmarks; the
pictures are moved and recoloured on the device, by the second half of this module.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import mesh
from ..geometry.view import CROP, sample

NODES = 5  # of the smooth field, along a side


@dataclass(frozen=True)
class AugmentationConfig:
    """How far pictures are changed; lengths in px of the 512 px crop."""

    flipped: float = 0.5  # share of episodes that are flipped left to right
    still: float = 0.1  # share that is neither turned nor bent
    scale: tuple[float, float] = (0.85, 1.2)
    turn: float = 12.0  # degrees
    shift: float = 24.0
    bend: float = 8.0  # greatest standard deviation of a smooth field: a face bent smoothly is somebody else's
    plain: float = 0.15  # share that keeps its colours
    palettes: float = 0.45  # of the others, share in the colours of old photos and paintings
    lit: float = 0.35  # share in another light, see Augmentation.light
    light: float = 0.5  # greatest change of the light's logarithm from the middle to a side


@dataclass(frozen=True)
class Augmentation:
    """One random change of pictures.

    flip is applied first, then matrix (2, 3), px to px, then nodes (5, 5, 2), px: each pixel shows what lies so far
    away from it in the turned picture. scale: by how much the matrix enlarges, for the depth of landmarks. light: (5,
    5, 3), logarithm of a gain that is smooth over the frame. It stays where it is while the head moves, as light does:
    on the face the target's light differs from what the warp brings along with the photo. colours: (3, 3), maps RGB in
    0 to 255. tone: gamma, gain and lift.
    """

    flip: bool
    matrix: np.ndarray
    nodes: np.ndarray
    scale: float
    light: np.ndarray
    colours: np.ndarray
    tone: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, config: AugmentationConfig) -> Augmentation:
        """Draw a change at random."""
        flip = bool(rng.random() < config.flipped)
        scale, angle = rng.uniform(*config.scale), rng.uniform(-config.turn, config.turn)
        shift = rng.uniform(-config.shift, config.shift, 2)
        stretch = np.exp(rng.normal(0, config.bend / 120))
        nodes = rng.normal(0, rng.uniform(0, 1) * config.bend, (NODES, NODES, 2)).astype(np.float32)
        matrix = cv2.getRotationMatrix2D((0, 0), angle, scale)
        matrix[:, :2] *= (stretch**0.5, stretch**-0.5)
        matrix[:, 2] = CROP / 2 + shift - matrix[:, :2].sum(1) * CROP / 2
        if rng.random() < config.still:
            matrix, nodes, scale = np.eye(2, 3), np.zeros_like(nodes), 1.0
        plain, strong, lit = rng.random(3) < (config.plain, config.palettes, config.lit)
        colours, tone = (np.eye(3), (1.0, 1.0, 0.0)) if plain else palette(rng, bool(strong))
        light = sidelight(rng, config.light) if lit else np.zeros((NODES, NODES, 3), np.float32)
        return cls(flip, matrix, nodes, scale, light, colours, np.array(tone))

    def moved(self, landmarks: np.ndarray) -> np.ndarray:
        """Return landmarks (478, 3) where the changed picture shows them."""
        points = np.array(mesh.mirrored_landmarks(landmarks, CROP) if self.flip else landmarks, np.float64)
        points[:, :2] = points[:, :2] @ self.matrix[:, :2].T + self.matrix[:, 2]
        points[:, 2] *= self.scale
        if self.nodes.any():
            field = cv2.resize(self.nodes, (CROP, CROP), interpolation=cv2.INTER_CUBIC)
            place = points[:, :2]
            for _ in range(8):  # the pixel that shows them: place + field(place) = points
                place = points[:, :2] - sample(field, place[None].astype(np.float32))[0]
            points[:, :2] = place
        return points

    def numbers(self) -> dict[str, np.ndarray]:
        """Return what `sampling_grid` and `recoloured` need, to be stacked over episodes."""
        back = cv2.invertAffineTransform(self.matrix)
        numbers = {"flip": self.flip, "back": back, "nodes": self.nodes, "light": self.light, "colours": self.colours,
                   "tone": self.tone}  # fmt: skip
        return {name: np.asarray(value, np.float32) for name, value in numbers.items()}


def sidelight(rng: np.random.Generator, most: float) -> np.ndarray:
    """Draw a light from one side, a little uneven and tinted: the logarithm of its gain at (5, 5, 3) nodes."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, most)
    y, x = np.mgrid[-1 : 1 : NODES * 1j, -1 : 1 : NODES * 1j]
    slope = strength * (np.cos(angle) * x + np.sin(angle) * y)
    uneven = rng.normal(0, 0.15 * most, (NODES, NODES))
    tint = 1 + rng.normal(0, 0.15, 3)  # bright parts are warmer or cooler than dark ones
    return ((slope + uneven)[..., None] * tint).astype(np.float32)


LOOKS = {  # name: (its share, tone of the colours, least and most wash to grey, gamma, gain, lift)
    "monochrome": (0.14, (1, 1, 1), (1, 1), (0.7, 1.6), (0.6, 1.15), (-8, 25)),
    "print": (0.06, (1, 1, 1), (1, 1), (0.45, 2.2), (0.9, 1.4), (-30, 0)),  # hard contrast, blacks that close
    "sepia": (0.14, (1.1, 0.95, 0.72), (0.7, 1), (0.7, 1.6), (0.6, 1.15), (-8, 25)),
    "varnish": (0.24, (1.08, 0.92, 0.55), (0.15, 0.7), (0.7, 1.6), (0.6, 1.15), (-8, 25)),
    "oil": (0.16, (1.15, 0.85, 0.5), (0.0, 0.45), (1.1, 2.1), (0.7, 1.2), (-15, 8)),  # dark, warm, full of colour
    "fresco": (0.1, (1.02, 0.98, 0.88), (0.3, 0.8), (0.8, 1.3), (0.45, 0.7), (30, 75)),  # pale
    "tint": (0.16, None, (0, 0), (0.7, 1.6), (0.6, 1.15), (-8, 25)),  # coloured light
}


def palette(rng: np.random.Generator, strong: bool) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Draw a look: a colour matrix (3, 3) for RGB in 0..255, then gamma, gain and lift of the tones.

    strong: one of LOOKS, those of old photos, prints and paintings; else the jitter of ordinary cameras.
    """
    if not strong:
        colours = np.eye(3) * rng.uniform(0.93, 1.07, 3)[:, None]
        return colours, (rng.uniform(0.75, 1.3), rng.uniform(0.85, 1.15), rng.uniform(-12, 12))
    grey = np.full((3, 3), 1) * np.array([0.299, 0.587, 0.114])
    kind = rng.choice(list(LOOKS), p=[look[0] for look in LOOKS.values()])
    _, tone, washes, gammas, gains, lifts = LOOKS[kind]
    wash = rng.uniform(*washes)
    if tone is None:
        tone = rng.uniform(0.55, 1.15, 3)
    elif tone != (1, 1, 1):
        tone = np.array(tone) * rng.uniform(0.9, 1.1, 3)
    mixed = wash * grey + (1 - wash) * np.eye(3)
    if kind == "oil":  # pigments are not a camera's primaries
        mixed = mixed @ (np.eye(3) + rng.normal(0, 0.08, (3, 3)))
        mixed /= mixed.sum(1, keepdims=True)
    return np.array(tone)[:, None] * mixed, (rng.uniform(*gammas), rng.uniform(*gains), rng.uniform(*lifts))


# ---------------------------------------------------------------- on the device


def sampling_grid(numbers: dict[str, Tensor]) -> Tensor:
    """Return where in the unchanged pictures each pixel comes from: (B, 512, 512, 2), as grid_sample takes it."""
    nodes, back, flip = numbers["nodes"], numbers["back"], numbers["flip"]
    field = F.interpolate(nodes.permute(0, 3, 1, 2), (CROP, CROP), mode="bicubic", align_corners=False)
    at = torch.arange(CROP, device=nodes.device) + 0.5
    x, y = at + field[:, 0], at[:, None] + field[:, 1]
    entry = lambda row, column: back[:, row, column, None, None]
    across = entry(0, 0) * x + entry(0, 1) * y + entry(0, 2)
    down = entry(1, 0) * x + entry(1, 1) * y + entry(1, 2)
    flip = flip[:, None, None]
    across = flip * (CROP - across) + (1 - flip) * across
    return torch.stack([across, down], -1) * (2 / CROP) - 1


def taken(images: Tensor, grid: Tensor) -> Tensor:
    """Return images (B, C, S, S), of any S, as a sampling grid (B, h, w, 2) moves them: (B, C, h, w) float32."""
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def gain_of_light(numbers: dict[str, Tensor]) -> Tensor:
    """Return by what the light multiplies the changed pictures: (B, 3, 512, 512)."""
    light = numbers["light"].permute(0, 3, 1, 2)
    return F.interpolate(light, (CROP, CROP), mode="bicubic", align_corners=False).exp()


def recoloured(images: Tensor, numbers: dict[str, Tensor], gain: Tensor | None = None) -> Tensor:
    """Return images (B, K, 3, h, w) of 0..255 in the episodes' colours, in -1..1.

    gain: that of the light where the images are, (B, 1 or K, 3, h, w); None where there is none.
    """
    images = images if gain is None else images * gain
    images = torch.einsum("bij,bkjhw->bkihw", numbers["colours"], images).clamp(0, 255) / 255
    gamma, gain, lift = (value[:, None, None, None, None] for value in numbers["tone"].unbind(1))
    return (images**gamma * gain + lift / 255).clamp(0, 1) * 2 - 1
