"""What fine-tuning learns from: pairs of pictures of one person."""

import numpy as np
import torch

from portrait_anim.painting.painter import Painter
from portrait_anim.training.pairs import PairsConfig, TrainingPairs

FEW = PairsConfig(crop=64, crops=3)


def test_items_depend_on_their_number_and_hold_back_what_is_measured_with(tiny, mona, three):
    painter = Painter(tiny, device="cpu", precision="fp32")
    for views in (mona, three):
        one, other, seed4 = (TrainingPairs(views, painter, seed, FEW).item(5) for seed in (3, 3, 4))
        assert all(torch.equal(one[k].nan_to_num(), other[k].nan_to_num()) for k in one)
        assert not torch.equal(one["x"], seed4["x"])
        assert not torch.equal(one["x"], TrainingPairs(views, painter, 3, FEW).item(5, held_out=True)["x"])
    both_ways = [
        TrainingPairs(mona, painter, 3, FEW)._reposed(np.random.default_rng(j))[2] is mona[0] for j in range(12)
    ]
    assert 2 <= sum(both_ways) <= 10  # the photo from another pose, or the other pose from the photo
    shots = TrainingPairs(three, painter, 0, FEW)
    nose = lambda view: view.landmarks[1, 0]
    targets = lambda held_out: {nose(shots._pair(np.random.default_rng(j), held_out)[2]) for j in range(12)}
    assert targets(True) == {nose(three[shots.kept_back])}
    assert targets(False) == {nose(view) for view in three} - targets(True)
