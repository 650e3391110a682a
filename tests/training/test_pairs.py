"""What fine-tuning learns from: pairs of pictures of one person."""

from dataclasses import replace

import numpy as np
import torch

from portrait_anim.painting.painter import Painter
from portrait_anim.training.pairs import PairsConfig, TrainingPairs

FEW = PairsConfig(boxes=replace(PairsConfig().boxes, side=160))


def same(one, other) -> bool:
    """Whether two items are equal, numbers and pictures."""
    numbers = all(np.array_equal(one[0][name], other[0][name]) for name in one[0])
    return numbers and all(torch.equal(a, b) for a, b in zip(vars(one[1]).values(), vars(other[1]).values()))


def test_items_depend_on_their_number_and_hold_back_what_is_measured_with(tiny, mona, three):
    painter = Painter(tiny, device="cpu", precision="fp32")
    for views in (mona, three):
        one, other, seed4 = (TrainingPairs(views, painter, seed, FEW).item(5) for seed in (3, 3, 4))
        assert same(one, other) and not same(one, seed4)
        assert not same(one, TrainingPairs(views, painter, 3, FEW).item(5, held_out=True))
    pairs = TrainingPairs(mona, painter, 3, FEW)
    both_ways = [pairs._reposed(np.random.default_rng(j))[2] is mona[0] for j in range(12)]
    assert 2 <= sum(both_ways) <= 10  # the photo from another pose, or the other pose from the photo
    pairs = TrainingPairs(three, painter, 0, FEW)
    nose = lambda view: view.landmarks[1, 0]
    targets = lambda held_out: {nose(pairs._pair(np.random.default_rng(j), held_out)[2]) for j in range(12)}
    assert targets(True) == {nose(three[pairs.kept_back])}
    assert targets(False) == {nose(view) for view in three} - targets(True)


def test_a_photo_in_another_pose_is_as_sharp_as_the_photo(tiny, mona):
    pairs = TrainingPairs(mona, Painter(tiny, device="cpu", precision="fp32"), 3, FEW)
    rng = np.random.default_rng(0)
    detail = lambda view: np.abs(np.diff(view.image[150:360, 150:360].astype(float), axis=1)).mean()
    for _ in range(4):
        sources, _, target = pairs._reposed(rng)
        assert 0.8 < detail(sources[0]) / detail(target) < 1.25
