"""The generator starts as the plain warp, keeps its bounds, paints boxes as it paints the frame, and learns."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from portrait_anim.networks.config import ModelConfig
from portrait_anim.networks.generator import Generator, Painting


def psi_of(generator, n=1):
    return generator.projection(torch.randn(n, generator.config.embedding))


@torch.no_grad()
@pytest.mark.parametrize("height, width", [(512, 512), (96, 128), (32, 32)])
def test_untrained_it_is_exactly_the_warp(maps, height, width):
    generator = Generator(ModelConfig())
    x, config = torch.rand(1, 13, height, width) * 2 - 1, generator.config
    painting = generator(x, maps(config, 1, height, width), maps(config, 1, height, width), psi_of(generator))
    assert isinstance(painting, Painting)
    assert [part.shape for part in painting] == [(1, c, height, width) for c in (1, 2, 3, 1)]
    assert not painting.flow.any() and not painting.colour.any() and not painting.matte.any()
    warped = x[:, :3]
    image = painting.mask * warped + (1 - painting.mask) * (warped + painting.colour)
    assert torch.allclose(image, warped, atol=1e-6)


@torch.no_grad()
def test_a_new_one_neither_silences_nor_drowns_its_last_layer(maps):
    """With 3 times as much there, training from nothing was dead within 100 steps."""
    g, seen = Generator(ModelConfig()), []
    g.out.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    g(torch.rand(2, 13, 96, 96) * 2 - 1, maps(g.config, 2, 96, 96), maps(g.config, 2, 96, 96), psi_of(g))
    assert 0.1 < seen[0].std() < 0.6


@torch.no_grad()
def test_size_and_cost(millions, gmac, meta):
    generator = Generator(ModelConfig()).to("meta")
    features = [meta(1, c, side, side) for c, side in ((16, 128), (48, 64), (96, 32))]
    assert millions(generator) == pytest.approx(4.8, abs=0.05)
    psi = meta(1, sum(generator.coeffs))
    assert gmac(generator, meta(1, 13, 512, 512), features, features, psi) == pytest.approx(5.0, abs=0.1)


@torch.no_grad()
def test_painting_keeps_its_bounds(tiny, maps):
    generator = Generator(tiny)
    nn.init.normal_(generator.out.weight, std=10)
    x, features = torch.randn(1, 13, 64, 64), maps(tiny, 1, 64, 64)
    mask, flow, colour, matte = generator(x, features, features, psi_of(generator))
    assert 0 <= mask.min() and mask.max() <= 1
    assert 31 < flow.abs().max() <= 32 and 1.9 < colour.abs().max() <= 2 and 0.9 < matte.abs().max() <= 1


@torch.no_grad()
def test_a_box_is_painted_as_the_whole_frame_away_from_its_border(tiny, fill, maps):
    """A box whose place and sides are multiples of 32 px: at another place pixels would fall into other squares."""
    config = replace(tiny, middle=1)
    generator, side, reach = fill(Generator(config)), 768, 256  # px; what is further away is not seen
    x, carried, own = torch.randn(1, 13, side, side), maps(config, 1, side, side), maps(config, 1, side, side)
    psi = psi_of(generator)
    top, left, height, width = 32, 96, 672, 576
    cut = lambda a, s: a[:, :, top // s : (top + height) // s, left // s : (left + width) // s]
    boxes = [[cut(a, s) for a, s in zip(features, (4, 8, 16))] for features in (carried, own)]
    inside = (..., slice(reach, -reach), slice(reach, -reach))
    painting = generator(cut(x, 1), *boxes, psi)
    for part, whole in zip(painting, generator(x, carried, own, psi)):
        assert part[inside].std() > 1e-3
        assert (part[inside] - cut(whole, 1)[inside]).abs().max() < 1e-5
        assert (part - cut(whole, 1)).abs().max() > 1e-3  # at its border it does not know what is beyond


@torch.no_grad()
def test_one_psi_serves_all_frames(tiny, fill, maps):
    generator = fill(Generator(tiny))
    x, features, psi = torch.randn(3, 13, 32, 32), maps(tiny, 3, 32, 32), psi_of(generator)
    shared, repeated = (generator(x, features, features, p) for p in (psi, psi.expand(3, -1)))
    for one, two in zip(shared, repeated):
        assert torch.allclose(one, two, atol=1e-5)


def test_every_parameter_learns_and_so_do_both_features(tiny, fill, maps):
    generator = fill(Generator(tiny))
    features = [[m.requires_grad_() for m in maps(tiny, 2, 32, 32)] for _ in range(2)]
    painting = generator(torch.randn(2, 13, 32, 32), *features, psi_of(generator, 2))
    sum(part.square().mean() for part in painting).backward()
    for p in (*generator.parameters(), *features[0], *features[1]):
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any()


def test_psi_can_be_tuned_in_place_of_p(tiny, fill, maps):
    generator = fill(Generator(tiny))
    psi, features = psi_of(generator).detach().requires_grad_(), maps(tiny, 1, 32, 32)
    sum(p.square().mean() for p in generator(torch.randn(1, 13, 32, 32), features, features, psi)).backward()
    assert (psi.grad != 0).all()
    assert generator.projection.weight.grad is None


@torch.no_grad()
def test_bf16_is_close_to_fp32(tiny, fill, maps):
    generator = fill(Generator(tiny)).to(memory_format=torch.channels_last)
    x, features, psi = torch.randn(1, 13, 64, 64), maps(tiny, 1, 64, 64), psi_of(generator)
    full = generator(x, features, features, psi)
    rounded = [m.bfloat16() for m in features]
    half = generator.to(torch.bfloat16)(x.bfloat16(), rounded, rounded, psi)
    assert all(part.dtype == torch.float32 for part in half)
    assert (full.mask - half.mask).abs().mean() < 0.005 and (full.flow - half.flow).abs().mean() < 0.2
