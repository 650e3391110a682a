"""Refine the landmarks of a picture by averaging over several looks at it.

MediaPipe's points depend a little on how the face lies in the square that its network sees, and they differ between a
picture and its mirror image. In a crop of 256 px, the points of one look at a photo are 1.0 px away from the mean of
two dozen looks, and 0.7 px at the lips. The mean of the four looks here is 0.25 px and 0.2 px away. It takes 40 ms.
"""

import cv2
import numpy as np

from ..geometry.mesh import mirrored_landmarks
from .tracking import MediaPipeTracker

_SIDE = 256  # px, of the square that MediaPipe looks at
_FILL = 2.0  # the side of that square over the side of the landmarks' box
_LOOKS = [(turn, scale, mirrored) for turn, scale in ((-6, 0.95), (6, 1.05)) for mirrored in (False, True)]
_OTHER_FACE = 0.1  # of the side of the landmarks' box: if the points moved farther on average, they are another face's
_EYES = [[33, 133], [362, 263]]  # corners of the right eye and of the left


class Refiner:
    """Refines the landmarks of faces: `refiner(image, landmarks)`.

    The landmarks that it is given must be MediaPipe's.
    """

    def __init__(self) -> None:
        self._tracker = MediaPipeTracker(video=True, max_faces=1)

    def __call__(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Return refined landmarks (478, 3), px, of a face in an image (H, W, 3) uint8 RGB.

        They are the mean over looks at the face turned, scaled and mirrored, or the given landmarks if MediaPipe does
        not find the face again. A crop of 256 px around the head is large enough.
        """
        low, high = landmarks[:468, :2].min(0), landmarks[:468, :2].max(0)
        side = max(high - low)
        right, left = (landmarks[eye, :2].mean(0) for eye in _EYES)
        roll = np.degrees(np.arctan2(*(left - right)[::-1]))
        seen = []
        for turn, scale, mirrored in _LOOKS:
            matrix = _similarity((low + high) / 2, roll + turn, scale * _SIDE / (_FILL * side))
            points = self._look(image, matrix, mirrored)
            if points is not None and np.linalg.norm((points - landmarks)[:, :2], axis=1).mean() < _OTHER_FACE * side:
                seen.append(points)
        return np.mean(seen, 0) if seen else landmarks

    def _look(self, image: np.ndarray, matrix: np.ndarray, mirrored: bool) -> np.ndarray | None:
        """Return the landmarks (478, 3), px of the image, that one look finds, or None if it finds no face.

        matrix: (2, 3), from the image to the square that is looked at. mirrored: whether the square is mirrored.
        """
        by_index = matrix.copy()
        by_index[:, 2] += (matrix[:, :2].sum(1) - 1) / 2  # pixel centres are at +0.5
        square = cv2.warpAffine(image, by_index, (_SIDE, _SIDE), borderMode=cv2.BORDER_REPLICATE)
        if mirrored:
            square = np.ascontiguousarray(square[:, ::-1])
        self._tracker.faces(square)  # the second time it follows the landmarks of the first
        found = self._tracker.faces(square)
        if not found:
            return None
        points = mirrored_landmarks(found[0].landmarks, _SIDE) if mirrored else found[0].landmarks.copy()
        back = cv2.invertAffineTransform(matrix)
        points[:, :2] = points[:, :2] @ back[:, :2].T + back[:, 2]
        points[:, 2] *= np.linalg.norm(back[:, 0])
        return points

    def close(self) -> None:
        """Free the tracker."""
        self._tracker.close()


def _similarity(centre: np.ndarray, degrees: float, scale: float) -> np.ndarray:
    """Return the matrix (2, 3) that turns and scales about a centre and moves it to the middle of the square."""
    cos, sin = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    linear = np.array([[cos, sin], [-sin, cos]])
    return np.hstack([linear, (_SIDE / 2 - linear @ centre)[:, None]])
