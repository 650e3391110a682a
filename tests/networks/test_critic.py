"""The discriminator's scores are the paper's linear form, of patches, and of crops where it is told to look."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from portrait_anim.networks.config import ModelConfig
from portrait_anim.networks.critic import Discriminator, crops


def test_scores_and_features(tiny):
    critic = Discriminator(tiny, n_videos=3)
    photo, drawing, person = torch.rand(4, 3, 64, 64), torch.rand(4, 3, 64, 64), torch.randn(4, 10)
    scores, features = critic(photo, drawing, person)
    assert [s.shape for s in scores] == [(4,), (4, 1, 4, 4)]
    scores, more = critic(photo, drawing, person, torch.rand(4, 3, 2) * 64)
    assert [s.shape for s in scores] == [(4,), (4, 1, 4, 4), (12, 1, 4, 4)] and len(more) == len(features) + 2
    assert critic(photo, drawing, torch.tensor([0, 2, 2, 1]))[0][0].shape == (4,)


def test_score_is_the_papers_linear_form(tiny):
    critic = Discriminator(tiny, n_videos=3).eval()
    photo, drawing, i = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64), torch.tensor([2, 0])
    (score, *_), features = critic(photo, drawing, i)
    v = features[-1].relu().mean((2, 3))
    w0, b = critic.linear.weight[0], critic.linear.bias
    assert torch.allclose(score, (v * (critic.videos.weight[i] + w0)).sum(1) + b, atol=1e-5)
    assert torch.allclose(critic(photo, drawing, critic.videos.weight[i])[0][0], score, atol=1e-5)


def test_crops_are_cut_at_whole_pixels_within_the_frame():
    x = torch.arange(2 * 3 * 40 * 64, dtype=torch.float32).reshape(2, 3, 40, 64).requires_grad_()
    cut = crops(x, torch.tensor([[30.2, 17.9], [1.0, 39.0]]), 16)
    assert torch.equal(cut[0], x[0, :, 10:26, 22:38])
    assert torch.equal(cut[1], x[1, :, 24:, :16])  # moved into the frame
    cut.sum().backward()
    assert x.grad.sum() == 2 * 3 * 16 * 16 and (x.grad[0, :, 10:26, 22:38] == 1).all()


@torch.no_grad()
def test_local_part_looks_where_it_is_told(tiny):
    critic, photo, drawing = Discriminator(tiny).eval(), torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    centres, person = torch.tensor([[[20.0, 40.0], [0.0, 63.0]], [[30.0, 30.0], [50.0, 8.0]]]), torch.randn(2, 10)
    look = lambda: critic(photo, drawing, person, centres)[0][2]
    before = look()
    photo[0, :, 32:48, 12:28] = 0  # the first crop, and nothing of the second, which is moved into the picture
    after = look()
    assert [torch.equal(a, b) for a, b in zip(before, after)] == [False, True, True, True]
    drawing[1, :, 0:16, 42:58] = 0  # the fourth
    last = look()
    assert [torch.equal(a, b) for a, b in zip(after, last)] == [True, True, True, False]


def test_all_parts_learn(tiny):
    critic = Discriminator(tiny, n_videos=2)
    scores, _ = critic(torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64), torch.tensor([0, 1]), torch.rand(2, 2, 2))
    sum(score.square().mean() for score in scores).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in critic.parameters())


@pytest.mark.parametrize("config", [ModelConfig(), ModelConfig.paper()], ids=["ours", "paper"])
def test_all_of_it_has_spectral_norm(config):
    config = replace(config, critic_widths=(8, 8), local_widths=(8, 8))
    layers = [m for m in Discriminator(config).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert layers and all(hasattr(layer, "parametrizations") for layer in layers)


@torch.no_grad()
def test_it_costs_less_than_what_it_trains(gmac, meta):
    critic, photo = Discriminator(ModelConfig()).to("meta"), meta(1, 3, 512, 512)
    assert gmac(critic, photo, photo, meta(1, 256)) < 5.0
