"""Stay with one person in the pictures of a camera."""

import numpy as np

from ..landmarks.following import HOLD_SECONDS
from ..landmarks.tracking import Face, MediaPipeTracker

RELEASE_SECONDS = 3.0  # a person who was not alone and is gone for so long has left; whoever is there may follow
MAX_FACES = 3  # of which one is followed; without the others a second face could not be told from the first
_NEAR, _ALIKE = 0.7, 1.6  # face sizes and factor that a face may move and grow from one picture to the next


class FaceFollower:
    """Finds the face of one person in one picture after the other, and lets no second person take over.

    The first is the largest face. It is then the one near to where it was. When it was lost, it may return elsewhere
    after HOLD_SECONDS if no second face was in the pictures, else after RELEASE_SECONDS.

    It has these attributes. n_faces: how many the last picture shows. is_new: whether the face of the last picture may
    be that of another person than before.
    """

    def __init__(self) -> None:
        self._tracker = MediaPipeTracker(video=True, max_faces=MAX_FACES)
        self._place: Face | None = None  # as it was found last
        self._seen = 0.0  # when that was, s
        self._is_asked = False  # whether the next face is the one that is meant, whoever it is
        self._company = -np.inf  # when a second face was in the picture last, s
        self.n_faces, self.is_new = 0, False

    def see(self, image: np.ndarray, seconds: float) -> Face | None:
        """Return the person's face in a picture (H, W, 3) uint8 RGB, None if it is not seen. seconds: its time."""
        found = self._tracker.faces(image)
        return self.choose(found, seconds)

    def choose(self, found: list[Face], seconds: float) -> Face | None:
        """Return the person's face of those that were found, the largest first. seconds: the time of the picture."""
        self.n_faces, self.is_new = len(found), False
        here = self._near(found)
        if here is None and found:
            alone = len(found) == 1 and self._company < self._seen - RELEASE_SECONDS
            if self._place is None or seconds - self._seen > (HOLD_SECONDS if alone else RELEASE_SECONDS):
                here, self.is_new = found[0], not self._is_asked and (self._place is None or not alone)
        if len(found) > 1:
            self._company = seconds
        if here is not None:
            self._place, self._seen, self._is_asked = here, seconds, False
        return here

    def release(self) -> None:
        """Follow whoever is the largest in the next picture; this is no new person, for they have asked for it."""
        self._place, self._is_asked = None, True

    def close(self) -> None:
        """Free the tracker."""
        self._tracker.close()

    def _near(self, found: list[Face]) -> Face | None:
        """Return the face that is where the person's was."""
        place = self._place
        if place is None:
            return None
        away = lambda face: float(np.linalg.norm(face.centre - place.centre)) / place.size
        alike = [face for face in found if 1 / _ALIKE < face.size / place.size < _ALIKE and away(face) < _NEAR]
        return min(alike, key=away, default=None)
