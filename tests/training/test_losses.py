"""The losses: where they look, and those of the paper."""

import cv2
import numpy as np
import torch

from portrait_anim.networks.generator import Painting
from portrait_anim.training.conditioning import Composite
from portrait_anim.training.losses import LossWeights, blurred, jittered, pixel_losses


def test_perceptual_networks_meet_the_generators_strides_at_every_offset():
    image = torch.arange(80 * 80.0).reshape(1, 1, 80, 80)
    cuts = [jittered(step, image, -image) for step in range(300)]
    assert all(a.shape == (1, 1, 72, 72) and torch.equal(a, -b) for a, b in cuts)
    corners = {divmod(int(a[0, 0, 0, 0]), 80) for a, _ in cuts}
    assert {y for y, _ in corners} == {x for _, x in corners} == set(range(9))
    assert torch.equal(jittered(7, image)[0], cuts[7][0])  # a resumed run sees the same


def test_blur_is_that_of_opencv():
    image = np.random.default_rng(0).random((64, 48)).astype(np.float32)
    made = blurred(torch.from_numpy(image)[None, None], 6.0)[0, 0].numpy()
    assert np.abs(made - cv2.GaussianBlur(image, (0, 0), 6.0)).max() < 1e-5


def test_detail_that_a_small_clip_does_not_have_is_not_asked_for():
    """A checkerboard of single pixels is grey at half the size."""
    board = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2.0 - 1
    image, target = board.expand(2, 3, 32, 32), torch.zeros(2, 3, 32, 32)
    painting = Painting(torch.ones(2, 1, 32, 32), torch.zeros(2, 2, 32, 32), target, torch.zeros(2, 1, 32, 32))
    made, x = Composite(image, image, image), torch.zeros(2, 13, 32, 32)
    l1 = [float(pixel_losses(made, painting, target, x, sharp, LossWeights())["warp"]) for sharp in (0, 1, 2)]
    assert np.allclose(l1, [0, 1, 2], atol=1e-5)
