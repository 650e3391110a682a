"""Warn of portraits that will look bad when they move, and say why.

Only what landmarks and pixels of the face tell reliably is checked. Hands before the face and sunglasses are not.
"""

import cv2
import numpy as np

from ..geometry.mesh import LEFT_EYE, MEAN_FACE, RIGHT_EYE, face_height
from ..geometry.pose import estimate_poses

SMALL_FACE = 80  # px, height of the landmarks' box; the networks see a face of about 120
MAX_TURN = 35.0  # degrees to the side: the far cheek is hidden
MAX_TILT = 30.0  # degrees up or down
OPEN_MOUTH = 0.12  # gap of the lips in face heights; a broad smile has 0.07
CLOSED_EYES = 0.12  # gap of the lids over the eye's width; open eyes have 0.17 and more
DARK = 80  # grey value, 0-255, that the brightest twentieth of the face exceeds in good light, whatever the skin
LOW_CONTRAST = 32  # grey values between the darkest and the brightest twentieth of the face


def portrait_warnings(name: str, photo: np.ndarray, landmarks: np.ndarray) -> list[str]:
    """Return sentences about what will look bad in a portrait.

    name: the photo's name, with which each sentence begins. photo: (H, W, 3) uint8 RGB. landmarks: (478, 3) in its px.
    """
    found = (*_size(landmarks), *_turn(landmarks), *_expression(landmarks), *_light(photo, landmarks))
    return [f"{name}: {text}" for text in found]


def _size(landmarks: np.ndarray) -> list[str]:
    height = float(np.ptp(landmarks[:468, 1]))
    if height >= SMALL_FACE:
        return []
    return [f"the face is only {height:.0f} px high and will look soft; use a larger photo, or raise --max-size."]


def _turn(landmarks: np.ndarray) -> list[str]:
    rotation = estimate_poses(landmarks[None], MEAN_FACE).rotation[0]
    turn = np.degrees(np.arctan2(rotation[0, 2], rotation[2, 2]))
    tilt = np.degrees(np.arcsin(np.clip(-rotation[1, 2], -1, 1)))
    if abs(turn) > MAX_TURN:
        return [
            f"the head is turned about {abs(turn):.0f} degrees to the side, so half of the face has to be guessed; "
            "use a photo that looks at the camera."
        ]
    if abs(tilt) > MAX_TILT:
        where = "down" if tilt < 0 else "up"
        return [f"the head looks about {abs(tilt):.0f} degrees {where}; use a photo that looks at the camera."]
    return []


def _expression(landmarks: np.ndarray) -> list[str]:
    found = []
    distance = lambda a, b: np.linalg.norm(landmarks[a, :2] - landmarks[b, :2], axis=-1)
    if distance(13, 14) / face_height(landmarks) > OPEN_MOUTH:
        found.append("the mouth is wide open, and closing it leaves folds; use a photo with closed lips.")
    gaps = [distance(eye[1:8], eye[:8:-1]).mean() / distance(eye[0], eye[8]) for eye in (RIGHT_EYE, LEFT_EYE)]
    if max(gaps) < CLOSED_EYES:
        found.append("the eyes are closed or nearly so, and have to be guessed; use a photo with open eyes.")
    return found


def _light(photo: np.ndarray, landmarks: np.ndarray) -> list[str]:
    x0, y0 = np.maximum(landmarks[:468, :2].min(0).astype(int), 0)
    x1, y1 = landmarks[:468, :2].max(0).astype(int) + 1
    grey = cv2.cvtColor(np.ascontiguousarray(photo[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY)
    mask = np.zeros(grey.shape, np.uint8)
    hull = cv2.convexHull((landmarks[:468, :2] - (x0, y0)).astype(np.float32))
    cv2.fillConvexPoly(mask, hull.astype(np.int32), 1)
    low, high = np.percentile(grey[mask > 0], (5, 95))
    if high < DARK:
        return ["the face is very dark, so lids and lips are hard to tell; brighten the photo or use another."]
    if high - low < LOW_CONTRAST:
        return ["the face has hardly any contrast; raise the photo's contrast or use another."]
    return []
