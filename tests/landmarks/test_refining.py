"""Landmarks of photos, refined: steady under what should not matter, and of the face that was asked for."""

import cv2
import numpy as np
import pytest
from PIL import Image
from support import ASTRONAUT, MONA_LISA, portrait_of

from portrait_anim.geometry.mesh import OUTER_LIPS, mirrored_landmarks
from portrait_anim.landmarks.refining import Refiner
from portrait_anim.landmarks.tracking import MediaPipeTracker
from portrait_anim.portrait.portrait import cut_square, head_square


@pytest.fixture(scope="module")
def refiner():
    refiner = Refiner()
    yield refiner
    refiner.close()


def seen(tracker: MediaPipeTracker, image: np.ndarray) -> np.ndarray:
    return tracker.faces(image)[0].landmarks


def head(path) -> np.ndarray:
    """The 256 px crop around a photo's head."""
    return cv2.resize(portrait_of(path).views[0].image, (256, 256), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("path", [ASTRONAUT, MONA_LISA], ids=["photo", "painting"])
def test_landmarks_of_a_photo_depend_less_on_how_it_was_cut(refiner, path):
    crop, tracker = head(path), MediaPipeTracker(max_faces=1)
    once, refined = [], []
    for dx, dy, scale, angle in ((0, 0, 1, 0), (9, -5, 0.9, 4), (-7, 6, 1.08, -5), (4, 9, 0.95, 8), (-9, -8, 1.04, -8)):
        matrix = cv2.getRotationMatrix2D((127.5, 127.5), angle, scale) + np.array([[0, 0, dx], [0, 0, dy]])
        cut = cv2.warpAffine(crop, matrix, (256, 256), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        back = cv2.invertAffineTransform(matrix)
        for found, points in ((once, seen(tracker, cut)), (refined, refiner(cut, seen(tracker, cut)))):
            found.append((points[:, :2] - 0.5) @ back[:, :2].T + back[:, 2])
    spread = lambda found, part: np.linalg.norm(np.std(found, axis=0)[part], axis=1).mean()
    assert spread(refined, slice(468)) < 0.6 * spread(once, slice(468))
    assert spread(refined, OUTER_LIPS) < 0.7 * spread(once, OUTER_LIPS)


def test_a_picture_and_its_mirror_image_have_the_same_landmarks(refiner):
    crop, tracker = head(ASTRONAUT), MediaPipeTracker(max_faces=1)
    flipped = np.ascontiguousarray(crop[:, ::-1])
    apart = lambda a, b: np.linalg.norm((a - mirrored_landmarks(b, 256))[:468, :2], axis=1).mean()
    once = [seen(tracker, image) for image in (crop, flipped)]
    assert apart(*(refiner(image, points) for image, points in zip((crop, flipped), once))) < 0.3 < apart(*once)


def test_depth_keeps_its_scale(refiner):
    crop = head(ASTRONAUT)
    once = seen(MediaPipeTracker(max_faces=1), crop)
    assert np.polyfit(once[:468, 2], refiner(crop, once)[:468, 2], 1)[0] == pytest.approx(1, abs=0.1)


def test_without_a_face_landmarks_stay_as_they_were(refiner):
    crop = head(ASTRONAUT)
    points = seen(MediaPipeTracker(max_faces=1), crop)
    assert refiner(np.zeros_like(crop), points) is points
    elsewhere = points + (60, 0, 0)
    assert refiner(crop, elsewhere) is elsewhere  # what is seen there is not near enough to be that face


def test_of_two_faces_each_keeps_its_own(refiner):
    photo = np.asarray(Image.open(ASTRONAUT).convert("RGB"))
    whole = np.concatenate([photo[:256, 100:356], photo[:256, 100:356][:, ::-1]], 1)
    faces = sorted(MediaPipeTracker().faces(whole), key=lambda face: face.centre[0])
    assert len(faces) == 2
    for face in faces:
        assert np.linalg.norm((refiner(whole, face.landmarks) - face.landmarks)[:, :2], axis=1).mean() < 3


def test_a_loaded_photo_has_refined_landmarks(refiner):
    portrait = portrait_of(ASTRONAUT)
    centre, side = head_square(portrait.landmarks)
    crop = cut_square(portrait.photo, centre - side / 2, side, 256)
    again = refiner(crop, portrait.views[0].landmarks)
    assert np.linalg.norm((again - portrait.views[0].landmarks)[:468, :2], axis=1).mean() < 0.2
