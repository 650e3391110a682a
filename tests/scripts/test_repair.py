"""The repair of the bundled scan: the streak goes, the rest stays."""

import importlib.util

import cv2
import numpy as np
from support import MONA_LISA, ROOT

from portrait_anim.media.photo import load_photo


def test_a_streak_goes_and_the_rest_stays():
    spec = importlib.util.spec_from_file_location("repair", ROOT / "scripts" / "repair_mona_lisa.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    photo = load_photo(MONA_LISA)
    streaked = cv2.line(photo.copy(), (297, 0), (297, 90), (90, 220, 150), 9)
    streak = (streaked != photo).any(-1)
    repaired = script.repair(streaked)
    difference = lambda image: np.abs(cv2.blur(image, (9, 9)).astype(int) - cv2.blur(photo, (9, 9)))[streak].mean()
    assert difference(streaked) > 40 and difference(repaired) < 10
    assert (repaired[140:] == photo[140:]).all() and (repaired[:, 330:] == photo[:, 330:]).all()


def test_the_bundled_picture_has_no_bright_green_above_the_head():
    above = load_photo(MONA_LISA)[:100, 260:330].astype(int)
    green = above[..., 1] - above[..., 0]
    assert (green > 40).mean() < 0.01  # in the original scan it is a twentieth
