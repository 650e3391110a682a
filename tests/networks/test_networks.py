"""The networks compute what the prototype computed, cost what they promise, and start as the plain warp."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from reference import fill, wave
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from portrait_anim.networks.networks import (
    Discriminator,
    Embedder,
    Generator,
    LocalHead,
    ModelConfig,
    Painting,
    SelfAttention,
)

OURS, PAPER = ModelConfig(), ModelConfig.paper()
TINY = replace(OURS, widths=(8, 12, 16), embedding=10, middle=2, last=2, embedder_widths=(6, 8, 12))
TINY = replace(TINY, critic_widths=(8, 12), local_widths=(6, 8), embedder_slope=0.0)


def millions(network):
    return sum(p.numel() for p in network.parameters()) / 1e6


def gmac(function, *inputs):
    with FlopCounterMode(display=False) as counter:
        function(*inputs)
    return counter.get_total_flops() / 2e9


def meta(*shape):
    """Shapes without memory or arithmetic: a network moved there tells its cost for nothing."""
    return torch.zeros(*shape, device="meta")


@torch.no_grad()
def test_generator_computes_what_the_prototype_computed():
    generator = fill(Generator(TINY))
    painting = generator(wave(2, 13, 32, 48), generator.projection(wave(2, 10, phase=1.0)))
    expected = {  # mean, standard deviation, one pixel, as the prototype's own code gives them
        "mask": (0.7279804, 0.0475428, 0.8162572),
        "flow": (0.1447663, 3.6882205, 6.2873030),
        "delta": (0.0377257, 0.4411461, -0.1869735),
    }
    for name, numbers in expected.items():
        value = getattr(painting, name)
        got = value.mean().item(), value.std().item(), value[1, 0, 20, 31].item()
        assert got == pytest.approx(numbers, abs=1e-4), name


@torch.no_grad()
def test_embedder_computes_what_the_prototype_computed():
    e = fill(Embedder(TINY))(wave(2, 3, 32, 32), wave(2, 3, 32, 32, phase=2.0))
    assert e[0, :4].tolist() == pytest.approx([0.2879413, 0.2452216, 0.2814795, 0.1970837], abs=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("height, width", [(256, 256), (96, 128), (16, 16)])
def test_untrained_generator_is_exactly_the_warp(height, width):
    generator = Generator(OURS)
    x = torch.rand(1, 13, height, width) * 2 - 1
    mask, flow, delta = generator(x, generator.projection(torch.randn(1, 256)))
    assert (mask.shape, flow.shape) == ((1, 1, height, width), (1, 2, height, width))
    assert not flow.any() and not delta.any()
    warped = x[:, :3]
    assert torch.allclose(mask * warped + (1 - mask) * (warped + delta), warped, atol=1e-6)


@torch.no_grad()
def test_a_new_generator_neither_silences_nor_drowns_its_last_layer():
    """With 3 times as much there, training from nothing was dead within 100 steps."""
    torch.manual_seed(0)
    g, seen = Generator(OURS), []
    g.out.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    g(torch.rand(2, OURS.in_channels, 80, 80) * 2 - 1, g.projection(torch.randn(2, OURS.embedding)))
    assert 0.1 < seen[0].std() < 0.4


@torch.no_grad()
def test_painting_keeps_its_bounds():
    generator = Generator(TINY)
    nn.init.normal_(generator.out.weight, std=10)
    mask, flow, delta = generator(torch.randn(1, 13, 32, 32), generator.projection(torch.randn(1, 10)))
    assert 0 <= mask.min() and mask.max() <= 1
    assert 15 < flow.abs().max() <= 16 and 1.9 < delta.abs().max() <= 2


@torch.no_grad()
def test_our_size_and_cost():
    generator, embedder, critic = (part(OURS).to("meta") for part in (Generator, Embedder, Discriminator))
    assert millions(generator) == pytest.approx(3.55, abs=0.01)
    assert millions(embedder) == pytest.approx(2.98, abs=0.01)
    psi, photo, crop = meta(1, sum(generator.coeffs)), meta(1, 3, 128, 128), meta(1, 3, 96, 96)
    assert gmac(generator, meta(1, 13, 256, 256), psi) < 3.1
    assert gmac(embedder, photo, photo) < 0.5
    # the discriminator costs less than what it trains
    assert gmac(critic, crop, crop, meta(1, 256)) < gmac(generator, meta(1, 13, 96, 96), psi)


@torch.no_grad()
def test_one_psi_serves_all_frames():
    generator = fill(Generator(TINY))
    x, psi = wave(3, 13, 32, 32), generator.projection(wave(1, 10))
    for shared, repeated in zip(generator(x, psi), generator(x, psi.expand(3, -1))):
        assert torch.allclose(shared, repeated, atol=1e-5)


def test_psi_can_be_tuned_in_place_of_p():
    generator = fill(Generator(TINY))
    psi = generator.projection(wave(1, 10)).detach().requires_grad_()
    sum(part.square().mean() for part in generator(wave(1, 13, 32, 32), psi)).backward()
    assert (psi.grad != 0).all()
    assert generator.projection.weight.grad is None


def test_every_parameter_learns():
    config = replace(TINY, embedder_slope=0.2)
    generator, embedder = fill(Generator(config)), fill(Embedder(config))
    e = embedder(wave(2, 3, 32, 32), wave(2, 3, 32, 32, phase=2.0))
    painting = generator(wave(2, 13, 32, 32), generator.projection(e))
    sum(part.square().mean() for part in painting).backward()
    for p in (*generator.parameters(), *embedder.parameters()):
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any()


def test_a_new_embedder_tells_photos_apart():
    embedder = Embedder(OURS)
    with torch.no_grad():
        a, b = embedder(torch.rand(2, 3, 128, 128) * 2 - 1, torch.rand(2, 3, 128, 128) * 2 - 1)
    assert (a - b).norm() > 0.01
    with torch.no_grad():  # even if all that reaches the pooling is negative, where a ReLU would be dead
        embedder.encoder.blocks[-1].conv2.bias.fill_(-100)
    embedder(torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128)).sum().backward()
    assert embedder.encoder.blocks[0].conv1.weight.grad.any()


@torch.no_grad()
def test_bf16_is_close_to_fp32():
    generator = fill(Generator(TINY)).to(memory_format=torch.channels_last)
    x, psi = wave(1, 13, 64, 64), generator.projection(wave(1, 10))
    full, half = generator(x, psi), generator.to(torch.bfloat16)(x.bfloat16(), psi)
    assert isinstance(half, Painting) and half.mask.dtype == torch.float32
    assert (full.mask - half.mask).abs().mean() < 0.005 and (full.flow - half.flow).abs().mean() < 0.1


@pytest.mark.parametrize("side", [96, 128])
def test_discriminator_scores(side):
    critic = Discriminator(TINY, n_videos=3)
    photo, drawing, person = torch.rand(4, 3, side, side), torch.rand(4, 3, side, side), torch.randn(4, 10)
    scores, features = critic(photo, drawing, person)
    assert [s.shape for s in scores] == [(4,), (4, 1, side // 4, side // 4)]
    mouth, eyes = torch.full((4, 1, 2), side / 2.0), torch.rand(4, 2, 2) * side
    mouth[1] = math.nan  # this crop shows no mouth, and of this one's eyes only one
    eyes[2, 0] = math.nan
    scores, more = critic(photo, drawing, person, mouth, eyes)
    assert [len(s) for s in scores] == [4, 4, 3, 7] and len(more) == len(features) + 4
    nobody = torch.tensor([math.nan, 5.0]).expand(4, 1, 2)
    assert len(critic(photo, drawing, person, nobody, nobody)[0]) == 2
    assert critic(photo, drawing, torch.tensor([0, 2, 2, 1]))[0][0].shape == (4,)


def test_discriminator_score_is_the_papers_linear_form():
    critic = Discriminator(TINY, n_videos=3).eval()
    photo, drawing, i = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64), torch.tensor([2, 0])
    (score, *_), features = critic(photo, drawing, i)
    v = features[-1].relu().mean((2, 3))
    w0, b = critic.linear.weight[0], critic.linear.bias
    assert torch.allclose(score, (v * (critic.videos.weight[i] + w0)).sum(1) + b, atol=1e-5)
    assert torch.allclose(critic(photo, drawing, critic.videos.weight[i])[0][0], score, atol=1e-5)


@torch.no_grad()
def test_local_head_looks_where_it_is_told():
    head, person = LocalHead(replace(TINY, local_side=16)).eval(), torch.randn(2, 10)
    centres = torch.tensor([[[20.0, 40.0], [0.0, 63.0]], [[math.nan, 1.0], [30.0, 30.0]]])
    x = torch.rand(2, 6, 64, 64)
    before, _ = head(x, person, centres)
    x[0, :, 32:48, 12:28] = 0  # the first crop, and nothing of the second, which is pushed inside the picture
    after, _ = head(x, person, centres)
    assert [torch.equal(a, b) for a, b in zip(before, after)] == [False, True, True]
    x[0, :, 48:, :16] = 0  # the second
    x[1, :, :22] = 0  # beside the third
    last, _ = head(x, person, centres)
    assert [torch.equal(a, b) for a, b in zip(after, last)] == [True, False, True]


@pytest.mark.parametrize("config", [TINY, PAPER], ids=["ours", "paper"])
def test_all_of_the_discriminator_has_spectral_norm(config):
    config = replace(config, critic_widths=(8, 8))
    layers = [m for m in Discriminator(config).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert layers and all(hasattr(layer, "parametrizations") for layer in layers)


@torch.no_grad()
def test_papers_size_and_cost():
    generator, embedder, critic = (part(PAPER).to("meta") for part in (Generator, Embedder, Discriminator))
    assert millions(embedder) == pytest.approx(14.8, rel=0.01)
    assert millions(generator) == pytest.approx(37.9, rel=0.01)
    assert millions(critic) == pytest.approx(19.5, rel=0.01)  # without W, the videos' vectors
    psi = meta(1, sum(generator.coeffs))
    assert gmac(generator, meta(1, 3, 256, 256), psi) == pytest.approx(47, rel=0.01)
    for network, count in ((generator, 2), (embedder, 1), (critic, 1)):
        assert sum(isinstance(m, SelfAttention) for m in network.modules()) == count


def test_papers_networks_run():
    small = {"widths": (8, 8, 16, 16), "critic_widths": (8, 8, 16, 16), "embedder_widths": (8, 8, 16, 16)}
    config = replace(PAPER, embedding=16, **small)
    generator, embedder, critic = Generator(config), Embedder(config), Discriminator(config, n_videos=5)
    drawing, photo = torch.rand(2, 3, 128, 128) * 2 - 1, torch.rand(2, 3, 128, 128) * 2 - 1
    e = embedder(photo, drawing)
    assert e.shape == (2, 16) and (e >= 0).all()  # ReLU, then the sum
    made = generator(drawing, generator.projection(e))
    assert made.shape == photo.shape and made.abs().max() <= 1
    (score,), features = critic(made, drawing, torch.tensor([0, 4]))
    assert score.shape == (2,) and len(features) == 5
    score.sum().backward()
    for network in (generator, embedder):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("config", [OURS, PAPER, TINY], ids=["ours", "paper", "tiny"])
def test_config_survives_json(config):
    assert ModelConfig(**json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    "field, value",
    [
        ("kind", "other"),
        ("kind", None),
        ("size", 0),
        ("size", True),
        ("size", 256.0),
        ("middle", -1),
        ("middle", 10**9),
        ("widths", []),
        ("widths", [64, "128"]),
        ("widths", [64] * 11),
        ("widths", 64),
        ("max_flow", math.nan),
        ("max_flow", "16"),
    ],
)
def test_config_refuses(field, value):
    with pytest.raises(ValueError, match=field):
        ModelConfig(**{field: value})
