"""Simple ways to compute what the package computes in fast ones, and made-up faces and networks to compute with."""

import math

import numpy as np
import torch
from torch import nn

from portrait_anim.geometry.mesh import MEAN_FACE

BOX = (96, 64, 480, 416)
PORTRAIT = MEAN_FACE * 240 + [256, 220, 0]  # landmarks of a made-up portrait


def turned(landmarks: np.ndarray, yaw: float) -> np.ndarray:
    rotation = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    centre = landmarks.mean(0)
    return (landmarks - centre) @ rotation.T + centre


def channels(seen) -> np.ndarray:
    """The generator's input of a Condition as a picture (h, w, 13)."""
    return np.dstack([seen.channel(n) for n in range(13)])


def bilinear(image: np.ndarray, at: np.ndarray) -> np.ndarray:
    """image (H, W[, C]) at px `at` (..., 2), rounded to 1/32 and replicated, in float64."""
    fixed = np.floor(at.astype(np.float32) * 32 - np.float32(15.5)).astype(int)
    (x, y), (right, lower) = np.moveaxis(fixed >> 5, -1, 0), np.moveaxis((fixed & 31) / 32, -1, 0)
    pixel = lambda i, j: image[np.clip(i, 0, image.shape[0] - 1), np.clip(j, 0, image.shape[1] - 1)].astype(float)
    extend = (...,) + (None,) * (image.ndim - 2)
    right, lower = right[extend], lower[extend]
    upper = pixel(y, x) * (1 - right) + pixel(y, x + 1) * right
    return upper * (1 - lower) + (pixel(y + 1, x) * (1 - right) + pixel(y + 1, x + 1) * right) * lower


def moved(portrait, seen, flows) -> np.ndarray:
    """Colours and matte of all views in a box, (h, w, 4)."""
    total = 0
    for view, flow, weight in zip(portrait.views, flows, seen.weights):
        if flow is not None:
            rgba = np.dstack([view.image, view.matte * 255])
            total = total + weight[..., None] * np.rint(bilinear(rgba, flow))  # as 8 bits
    colours, matte = total[..., :3], total[..., 3:] / 255 * seen.shown[..., None]
    return np.dstack([colours + seen.cavity[..., None] * (portrait.views[0].cavity - colours), matte])


def covered(corners: np.ndarray, size: tuple[int, int]) -> tuple:
    """The part of the pixels (H, W) around a triangle (3, 2), which of them have their centres in it, and which lie
    too near to a side to tell."""
    begin, end = np.maximum(np.floor(corners.min(0)), 0).astype(int), np.ceil(corners.max(0)).astype(int) + 1
    end = np.maximum(np.minimum(end, size[::-1]), begin)
    here = np.stack(np.meshgrid(*[np.arange(a, b) for a, b in zip(begin, end)]), -1)
    ways, at = np.roll(corners, -1, 0) - corners, here[:, :, None] - corners
    side = ways[:, 0] * at[..., 1] - ways[:, 1] * at[..., 0]
    side *= np.sign(np.cross(ways[0], ways[1])) / np.maximum(np.linalg.norm(ways, axis=1), 1e-12)
    return np.s_[begin[1] : end[1], begin[0] : end[0]], side.min(-1) > 0, np.abs(side.min(-1)) < 1e-6


def wave(*shape, phase=0.0):
    """Numbers that no library's random generator can change."""
    ramp = torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)
    return torch.sin(ramp * 0.37 + phase).float()


def fill(network):
    """Each parameter a wave of its own, large enough that all of them matter."""
    state = network.state_dict()
    for i, key in enumerate(sorted(state)):
        value = state[key]
        value.copy_(wave(*value.shape, phase=i) * (0.3 if value.dim() < 2 else 0.6 / value[0].numel() ** 0.5))
    return network.eval()


def vgg(stages: tuple[int, ...]) -> nn.Sequential:
    """A VGG of random weights laid out as torchvision's `features`."""
    torch.manual_seed(0)
    layers, channels = [], 3
    for width, count in zip((64, 128, 256, 512, 512), stages, strict=True):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers += [nn.MaxPool2d(2)]
    return nn.Sequential(*layers).requires_grad_(False)
