"""The colours of a painting: in a photo without colour, and inside an opened mouth.

The networks have learned from photos. There the inside of a mouth is redder than the skin: on the clips of twelve
people that no training saw, the hue angle of its darker half is less than that of their cheeks by 16 degrees in the
median, quartiles 7 and 20. In front of a face under yellow varnish, such as the Mona Lisa's with 80 degrees, the
networks keep the hue of the skin, and a dark yellow is an olive green.
"""

from typing import NamedTuple

import cv2
import numpy as np

from ..geometry.smoothing import smoothstep
from ..geometry.view import View

REDDER = 16.0  # degrees, see above
_YELLOW = 70.0, 78.0  # degrees of the skin's hue: of 53 clips of people one had more than the first, by half a degree
_DARK = 0.4, 0.8  # of the skin's lightness: below the first is no tooth, above the second is one
CHEEKS = (50, 280, 101, 330)  # landmarks
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of RGB
_SIDE = 0.03  # of the face's width, of the square around each that is looked at


class MouthPalette(NamedTuple):
    """How the inside of a mouth is to be coloured.

    hue: degrees in CIELAB, beyond which colours are turned back towards it. strength: 0 to 1. lightness: CIELAB's L* of
    the skin.
    """

    hue: float
    strength: float
    lightness: float

    @classmethod
    def of(cls, view: View) -> "MouthPalette | None":
        """Return the palette that a portrait's skin asks for, None for photos: their mouths stay as painted."""
        half = max(1, round(_SIDE * float(np.ptp(view.landmarks[:468, 0]))))
        size = view.image.shape[0]
        at = np.clip(np.round(view.landmarks[list(CHEEKS), :2]).astype(int), half, size - half - 1)
        skin = [view.image[y - half : y + half + 1, x - half : x + half + 1].reshape(-1, 3) for x, y in at]
        lightness, red, yellow = np.median(_to_lab(np.concatenate(skin)[None])[0], 0)
        hue = float(np.degrees(np.arctan2(yellow, red)))
        strength = float(smoothstep((hue - _YELLOW[0]) / (_YELLOW[1] - _YELLOW[0])))
        return cls(hue - REDDER, strength, float(lightness)) if strength > 0 and hue < 120 else None

    def apply(self, painted: np.ndarray, mouth: np.ndarray) -> None:
        """Turn the colours inside the mouth of a painted box, in place; its lightness and its chroma stay.

        painted: as of `compose.paint_box`. mouth: (h, w) bool, what is inside the mouth.
        """
        x, y, width, height = cv2.boundingRect(mouth.astype(np.uint8))
        if not width:
            return
        part = painted[y + 1 : y + 1 + height, x + 1 : x + 1 + width]
        picture = np.clip(part[..., :3] + part[..., 3:6], 0, 255)
        lab = _to_lab(picture)
        low, high = (share * self.lightness for share in _DARK)
        dark = 1 - smoothstep((lab[..., 0] - low) / (high - low))
        much = self.strength * mouth[y : y + height, x : x + width] * dark
        hue, chroma = np.arctan2(lab[..., 2], lab[..., 1]), np.hypot(lab[..., 1], lab[..., 2])
        hue -= much * np.clip(hue - np.radians(self.hue), 0, np.radians(2 * REDDER))
        lab[..., 1], lab[..., 2] = chroma * np.cos(hue), chroma * np.sin(hue)
        turned = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255
        part[..., 3:6] += np.where(much[..., None] > 0, turned - picture, 0)  # elsewhere it would be rounding alone


def keep_grey(painted: np.ndarray) -> None:
    """Make what a painting adds grey, in place. painted: as of `compose.paint_box`."""
    painted[..., 3:6] = (painted[..., 3:6] @ LUMA)[..., None]


def _to_lab(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.asarray(picture, np.float32) / 255, cv2.COLOR_RGB2LAB)
