"""Measure what people see first: the outline of the head, what was left behind of it, rims along it, and sharpness."""

import cv2
import numpy as np

from ..geometry.mesh import face_height
from ..training.shards import resized
from .perception import PerceptualDistance
from .reference import Reference, around_head, signed_distance

PERSON, BACKGROUND = 0.9, 0.1  # of a matte: above and below it is sure
APART = 0.05  # face heights that a residue is away from the true head, whose edge may be a little beside its place
AROUND, SMOOTH = 0.06, 0.1  # face heights: how far around the former head, and up to which size details count
CONTRAST = 6.0  # of 255, rms: with fewer details of its own nothing can be told of the photo's head
LEAST = 40  # px: a smaller area says nothing
ACROSS, ALONG = 0.09, 9  # face heights and px: how far across the edge a rim is looked for, and averaged along it
REGIONS = ("face", "mouth", "eyes", "edge")  # for which the sharpness is measured


def outline(image: np.ndarray, reference: Reference, distance: PerceptualDistance) -> tuple[float, float]:
    """Return the L1 error (0..255) and the perceptual distance in the band around the head's edge, hair and ears."""
    edge = reference.regions["edge"]
    if edge.sum() < LEAST:
        return float("nan"), float("nan")
    error = np.abs(image.astype(np.float32) - reference.image).mean(-1)
    return float(error[edge].mean()), distance(image, reference.image, edge)


def residue(image: np.ndarray, reference: Reference) -> float:
    """Return how much, in %, of the photo's head is still seen where the true frame has background.

    Details of the picture there, and along the outline that the head had, are explained by those of the photo and those
    of the true frame together, by least squares. What counts is the photo's share: 100 is the head as it was. A
    background that is another than the true one, but shows nothing of the head, has none. NaN where the head hardly
    moved, or has no details that the background has not.
    """
    height, head = face_height(reference.points), around_head(reference.photo_points, reference.matte.shape)
    apart = signed_distance(reference.matte > BACKGROUND) > APART * height
    left = apart & head & (reference.photo_matte > PERSON)
    there = apart & head & (signed_distance(left) < AROUND * height) if left.any() else left
    if left.sum() < LEAST:
        return float("nan")
    detail = lambda picture: _without_light(picture, SMOOTH * height)[there].ravel()
    photo, true, made = (detail(picture) for picture in (reference.photo, reference.image, image))
    photo = photo - true * float(photo @ true) / max(float(true @ true), 1e-6)  # what only the photo has
    power = float(photo @ photo)
    if power < CONTRAST**2 * len(photo):
        return float("nan")
    return 100 * max(0.0, float(photo @ made) / power)


def _without_light(image: np.ndarray, scale: float) -> np.ndarray:
    """Return a picture less its blurred self, so that only what is smaller than `scale` px is left, float32."""
    image = image.astype(np.float32)
    return image - cv2.GaussianBlur(image, (0, 0), scale)


def rim(image: np.ndarray, reference: Reference) -> float:
    """Return how strong (0..255) a light or dark contour along the head's edge is that the true frame lacks.

    The brightness along lines across the edge of the matte is averaged along it. A rim is a ridge or a groove in such a
    profile: its height over both of its sides. Edges that are soft or beside their place have none.
    """
    profiles = _profiles(image, reference)
    if len(profiles) < LEAST:
        return float("nan")
    true = _profiles(reference.image, reference)
    surplus = [_prominence(s * profiles) - _prominence(s * true) for s in (1, -1)]
    return float(sum(np.maximum(0, part).mean() for part in surplus))


def sharpness(image: np.ndarray, reference: Reference) -> dict[str, float]:
    """Return the variance of the Laplacian over that of the true frame, at the clip's own size, for each of REGIONS.

    1 is as sharp as the true frame. image: (H, W, 3) uint8 of any size.
    """
    size = len(reference.sharp)
    made, true = (laplacian(resized(picture, size, cv2.INTER_CUBIC)) for picture in (image, reference.sharp))
    result = {}
    for name in REGIONS:
        part = cv2.resize(reference.regions[name].astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST) > 0
        result[name] = float(made[part].var() / max(true[part].var(), 1e-6)) if part.sum() >= LEAST else float("nan")
    return result


def laplacian(image: np.ndarray) -> np.ndarray:
    """Return the Laplacian of the brightness of a picture (H, W, 3) uint8: (H, W) float32."""
    return cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), cv2.CV_32F)


def _profiles(image: np.ndarray, reference: Reference) -> np.ndarray:
    """Return the brightness of a picture across the head's edge, (points of the edge, places across it) float32."""
    signed = cv2.GaussianBlur(signed_distance(reference.matte > 0.5).astype(np.float32), (0, 0), 1.5)
    contours, _ = cv2.findContours((signed < 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    head, reach = around_head(reference.points, signed.shape), ACROSS * face_height(reference.points)
    across = np.arange(-np.ceil(reach), np.ceil(reach) + 1, dtype=np.float32)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    normal_y, normal_x = np.gradient(signed)
    found = []
    for contour in contours:
        x, y = contour[:, 0].T
        inside = np.minimum(np.minimum(x, y), len(grey) - 1 - np.maximum(x, y)) > len(across) // 2
        n = np.stack([normal_x[y, x], normal_y[y, x]], -1)
        n = n / np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-6)
        at = np.stack([x, y], -1)[:, None] + across[:, None] * n[:, None]
        lines = cv2.remap(grey, at.astype(np.float32), None, cv2.INTER_LINEAR)
        lines = cv2.blur(lines, (1, ALONG), borderType=cv2.BORDER_REPLICATE)
        found.append(lines[inside & head[y, x]])
    return np.concatenate(found) if found else np.zeros((0, len(across)), np.float32)


def _prominence(profiles: np.ndarray) -> np.ndarray:
    """Return how high the highest ridge of each profile (N, K) rises over both of its sides: (N,)."""
    left = np.minimum.accumulate(profiles, axis=1)
    right = np.minimum.accumulate(profiles[:, ::-1], axis=1)[:, ::-1]
    return np.minimum(profiles - left, profiles - right).max(1)
