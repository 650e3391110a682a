"""The paper's networks have the size that the paper says, and run."""

import pytest
import torch

from portrait_anim.networks.config import ModelConfig
from portrait_anim.networks.critic import Discriminator
from portrait_anim.networks.embedder import Embedder
from portrait_anim.networks.paper import PaperGenerator, SelfAttention

PAPER = ModelConfig.paper()


@torch.no_grad()
def test_size_and_cost(millions, gmac, meta):
    generator, embedder, critic = (part(PAPER).to("meta") for part in (PaperGenerator, Embedder, Discriminator))
    assert millions(embedder) == pytest.approx(14.9, abs=0.05)
    assert millions(generator) == pytest.approx(38.1, abs=0.05)
    assert millions(critic) == pytest.approx(19.6, abs=0.05)  # without W, the videos' vectors
    psi = meta(1, sum(generator.coeffs))
    assert gmac(generator, meta(1, 3, 256, 256), psi) == pytest.approx(47, rel=0.01)
    for network, count in ((generator, 2), (embedder, 1), (critic, 1)):
        assert sum(isinstance(m, SelfAttention) for m in network.modules()) == count


def test_networks_run(tiny_paper):
    generator, embedder = PaperGenerator(tiny_paper), Embedder(tiny_paper)
    critic = Discriminator(tiny_paper, n_videos=5)
    drawing, photo = torch.rand(2, 3, 128, 128) * 2 - 1, torch.rand(2, 3, 128, 128) * 2 - 1
    e = embedder(photo, drawing)
    assert e.shape == (2, 16) and (e >= 0).all()  # ReLU, then the sum
    made = generator(drawing, generator.projection(e))
    assert made.shape == photo.shape and made.abs().max() <= 1
    (score,), features = critic(made, drawing, torch.tensor([0, 4]), torch.rand(2, 3, 2))
    assert score.shape == (2,) and len(features) == 5
    score.sum().backward()
    for network in (generator, embedder):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
