"""Fill the holes of a picture smoothly from what is around them."""

import cv2
import numpy as np


def push_pull(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Fill an image (H, W, 3) float32 smoothly where its weight (H, W) float32 is 0.

    Where the weight is 1 the image stays as it is. This is the push-pull algorithm on a weighted pyramid (Gortler et
    al., The Lumigraph, SIGGRAPH 1996).
    """
    levels = [(image * weight[..., None], weight)]
    while min(levels[-1][1].shape) > 2:
        colour, w = levels[-1]
        levels.append((cv2.pyrDown(colour), cv2.pyrDown(w)))
    colour, w = levels[-1]
    filled = colour / (w[..., None] + 1e-4)
    for colour, w in levels[-2::-1]:
        keep = np.minimum(w, 1)[..., None]
        up = cv2.pyrUp(filled, dstsize=w.shape[::-1])
        filled = up * (1 - keep) + colour / (w[..., None] + 1e-4) * keep
    return filled
