"""The inside of a mouth that opens: dark where little is known of it, and with teeth where the photo shows none.

A network that is trained by distance to the truth paints the mean of all mouths that there might be, a pale fog. A row
of plain teeth in the light of the photo is not the person's own either, but it is what a mouth looks like. They are
fixed to the skull, not to the lips: a lip that rises shows more of them, and a turn of the head takes them along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import cv2
import numpy as np

from ..geometry import mouth
from ..geometry.anatomy import lip_gap
from ..geometry.mesh import LEFT_EYE, MEAN_FACE, RIGHT_EYE
from ..geometry.pose import canonical, estimate_poses
from ..geometry.smoothing import smoothstep
from ..geometry.view import View, sample
from .palette import CHEEKS, LUMA

if TYPE_CHECKING:
    from .conditioning import Condition

_Value = TypeVar("_Value", float, np.ndarray)

# Lengths are in face heights, of which an adult's has about 180 mm; gaps are `lip_gap`.
_BORDERS = np.array([0, 0.048, 0.085, 0.12, 0.148, 0.172])  # between the teeth, seen from the front, from the middle
_DROP = 0.03  # how far the edges of the incisors lie below the edge of the closed upper lip ...
_BEHIND = 0.01  # ... and behind it
_SMILE, _ARCH = 1.3, 5.0  # edges rise, and teeth lie further back, by so much times the squared distance to the middle
_CORNER = 0.006  # how much shorter a tooth is at its sides
_LONG, _GUM = 0.05, 0.012  # a tooth, over which light falls off upwards, and how soft it ends there
_WIDEST = 0.16  # from the middle to where no light comes to the teeth any more
_SHADE = 0.022  # sigma of the shade of the lips: what is nearer to them, or in a gap as narrow, has less light
_SHADED = 0.25  # share of the light that is missing right beside the lips, behind the teeth
_WIDE = 0.15, 0.4  # height over width of a cavity: from the first to the second its light is taken back
_DIMMER = 0.8  # share of the light added by a painting that is taken back
_FAR = 0.14, 0.28  # gap: from the first to the second one looks into the throat
_THROAT = 0.4  # share of the light that is missing in its middle
_TONGUE = 0.6  # share of the colour of the lip, instead of its own, that the floor of the mouth has
_THROAT_SIZE = 0.2, 0.09  # its deviations, of the gap and in face heights
_PROFILE = 0.15  # foreshortening of the row, beyond which it stays as it is: a profile shows no row
_EDGE = 4.0  # a blurred edge is so many deviations wide, by its contrast over its steepest slope
# Of 123 people the brightest 15 % inside an opened mouth have .63 of the lightness of the lip, .14 of the cheek's and
# .45 of the white of the eye's; where teeth are seen they are lighter. Their colour departs from grey by .62 of what
# the cheek's does, and by less without the tongue. What is more than skin has is the light's or a varnish's, and
# that is on teeth, too.
_LIGHT = 1.3 * np.array([0.63, 0.14, 0.45])
_TINT, _SKIN = 0.55, 0.25


def keep_dark(painted: np.ndarray, cavity: np.ndarray, unknown: float = 0.0) -> None:
    """Take back a part of the light that a painting adds in the cavity of a mouth, in place.

    By distance to the truth the fog is best; by eye a dark mouth is, the more so the wider it is open, and the less is
    known of it.

    painted: as of `compose.paint_box`. cavity: (h, w) float32, unknown: 0 to 1, see `geometry.warp.Warp`.
    """
    x, y, width, height = cv2.boundingRect((cavity > 0).astype(np.uint8))
    if not width:
        return
    part = cavity[y : y + height, x : x + width, None]
    ratio = 4 / np.pi * float(part.sum()) / max(width, height) ** 2  # of an ellipse in any direction
    added = painted[y + 1 : y + 1 + height, x + 1 : x + 1 + width, 3:6]
    added -= _DIMMER * max(_between(_WIDE, ratio), unknown) * part * np.maximum(added, 0)


class MouthInside(NamedTuple):
    """What is known of the inside of a person's mouth before it opens.

    edge: where the edges of the middle incisors are on the canonical shape, (3,). colour: of teeth in full light, (3,)
    float32 in 0..255. lip: the colour of the lip, and of gums, (3,) float32. blur: how soft edges are in the canvas,
    sigma in px of the crop. teeth: whether any are invented where no view shows them.
    """

    edge: np.ndarray
    colour: np.ndarray
    lip: np.ndarray
    blur: float
    teeth: bool

    @classmethod
    def of(cls, canvas: View, teeth: bool = True) -> MouthInside:
        """Return the inside of the mouth of the person in the canvas. teeth: whether to invent any."""
        landmarks = canvas.landmarks[None]
        edge = canonical(landmarks, estimate_poses(landmarks, MEAN_FACE))[0, 13] + (0, _DROP, _BEHIND)
        return cls(edge, _colour_of_teeth(canvas), canvas.lip, _blur(canvas), teeth)

    def paint(self, painted: np.ndarray, seen: Condition, unknown: float, target: np.ndarray) -> None:
        """Paint the inside of the mouth over what the networks paint there, in place.

        painted: as of `compose.paint_box`. unknown: see `geometry.warp.Warp`. target: landmarks (478, 3), px of the
        crop.
        """
        x, y, width, height = cv2.boundingRect((seen.cavity > 0).astype(np.uint8))
        if not width:
            return
        around, covered = painted[y : y + height + 2, x : x + width + 2], seen.cavity[y : y + height, x : x + width]
        keep_dark(around, covered, unknown)
        pose = estimate_poses(target[None], MEAN_FACE)
        columns, rows = np.arange(width) + (x + seen.box[0] + 0.5), np.arange(height) + (y + seen.box[1] + 0.5)
        pixels = np.stack(np.meshgrid(columns, rows), -1)
        across, down = self._on_teeth(pixels, pose.rotation[0], pose.scale[0], pose.shift[0])
        shape = canonical(target[None], pose)[0]
        inside = covered / np.float32(mouth.COVER)
        upper, lower = shape[[13, 14], 1] - self.edge[1]
        depth = (down - upper) / max(float(lower - upper), 1e-3)
        throat = np.exp(-(((depth - 0.45) / _THROAT_SIZE[0]) ** 2) - (across / _THROAT_SIZE[1]) ** 2)
        part = around[1:-1, 1:-1]
        picture = part[..., :3] + part[..., 3:6]
        deep = _between(_FAR, float(lip_gap(shape))) * inside
        tongue = _TONGUE * deep * smoothstep((depth - 0.4) / 0.3)
        red = (picture @ LUMA)[..., None] * (self.lip / max(float(self.lip @ LUMA), 1.0)) - picture
        sigma = float(_SHADE * pose.scale[0])
        light = cv2.GaussianBlur(inside, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)  # what the lips leave of it
        missing = _THROAT * deep * throat + _SHADED * unknown * (1 - light) * inside
        change = tongue[..., None] * red - missing[..., None] * picture
        if self.teeth and unknown > 0:
            cover, row = self._row_of_teeth(across, -down)
            change += (unknown * inside * cover * light)[..., None] * (row - picture - change)
        part[..., 3:6] += change

    def _on_teeth(
        self, pixels: np.ndarray, rotation: np.ndarray, scale: float, shift: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return which places of the row of teeth pixels (h, w, 2) show: across it and down from its edge, (h, w)."""
        seen = (pixels - shift[:2]) / scale - rotation[:2] @ self.edge
        (a, b), (c, d) = rotation[:2, :2]
        flatten = np.array([[d, -c], [-b, a]]) / max(float(a * d - b * c), _PROFILE)
        flat = seen @ flatten
        for _ in range(2):  # the arch of the teeth depends on the place across it, which depends on the arch
            back = _ARCH * np.clip(flat[..., :1], -_WIDEST, _WIDEST) ** 2
            flat = (seen - rotation[:2, 2] * back) @ flatten
        return flat[..., 0], flat[..., 1]

    def _row_of_teeth(self, across: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where the row of teeth is, (h, w), and its colours, (h, w, 3), as sharp as the photo.

        across, up: places on the row as of `_on_teeth`, (h, w).
        """
        side = np.abs(across)
        number = np.clip(np.searchsorted(_BORDERS, side, "right") - 1, 0, len(_BORDERS) - 2)
        first, last = _BORDERS[number], _BORDERS[number + 1]
        within = np.clip((side - first) / (last - first), 0, 1) * 2 - 1  # -1 and 1 at the sides of a tooth
        up = up - _SMILE * side**2 - _CORNER * within**6
        light = 1 - 0.12 * within**8 - 0.55 * np.clip(side / _WIDEST, 0, 1) ** 2
        light *= 1 - 0.25 * np.clip(up / _LONG, 0, 1)
        gum = smoothstep((up - _LONG) / _GUM)[..., None]
        row = light[..., None] * self.colour * (1 - gum) + self.lip * gum
        cover = (up > 0).astype(np.float64)
        layers = cv2.GaussianBlur(np.dstack([row * cover[..., None], cover]), (0, 0), self.blur)
        return layers[..., 3], layers[..., :3] / np.maximum(layers[..., 3:], 1e-3)


def _blur(view: View) -> float:
    """Return how soft the sharpest edges around the eyes are, sigma in px of the crop."""
    grey = view.image @ LUMA
    slope = np.hypot(*(cv2.Sobel(grey, cv2.CV_32F, *way, scale=1 / 8) for way in ((1, 0), (0, 1))))
    widths = []
    for lids in (RIGHT_EYE, LEFT_EYE):
        eye = cv2.dilate(_filled(view, lids), np.ones((9, 9), np.uint8)) > 0
        if eye.any():
            widths.append(np.ptp(np.percentile(grey[eye], (2, 98))) / max(float(np.percentile(slope[eye], 98)), 1.0))
    return float(np.clip(min(widths, default=0) / _EDGE, 0.5, 5))


def _filled(view: View, outline: list[int]) -> np.ndarray:
    """Return where the area within an outline of landmarks is, (512, 512) uint8."""
    area = np.zeros(view.image.shape[:2], np.uint8)
    return cv2.fillPoly(area, [np.round(view.landmarks[outline, :2]).astype(np.int32)], 1)


def _colour_of_teeth(view: View) -> np.ndarray:
    """Guess the colour of teeth in the light of a photo from the whites of the eyes, the lips and the cheeks."""
    eyes = _filled(view, RIGHT_EYE) | _filled(view, LEFT_EYE)
    whites = float(np.percentile(view.image[eyes > 0] @ LUMA, 85)) if eyes.any() else 0.0
    cheeks = sample(view.image, view.landmarks[None, CHEEKS, :2].astype(np.float32))[0].mean(0)
    lightness = float(cheeks @ LUMA)
    tint = cheeks / max(lightness, 1.0)
    tint -= (1 - _TINT) * np.clip(tint - 1, -_SKIN, _SKIN)
    return (min(_LIGHT @ (view.lip @ LUMA, lightness, whites), 235.0) * tint).astype(np.float32)


def _between(ends: tuple[float, float], value: _Value) -> _Value:
    """Return how far a value is between two ends, smoothly from 0 to 1."""
    return smoothstep((value - ends[0]) / (ends[1] - ends[0]))
