"""The scripts that make weights files from others."""

import importlib.util

import pytest
import torch
from portrait_anim.networks.networks import Embedder, Generator, ModelConfig
from reference import fill, wave
from support import ROOT

from portrait_anim.errors import UsageError

TINY = ModelConfig(widths=(8, 12, 16), embedding=10, middle=2, last=2, embedder_widths=(6, 8, 12), embedder_slope=0.0)


def load_script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@torch.no_grad()
def test_weights_are_averaged_value_by_value():
    one, two, three = (Embedder(TINY) for _ in range(3))
    means = {k: (v + two.state_dict()[k] + three.state_dict()[k]) / 3 for k, v in one.state_dict().items()}
    assert any((means[k] - v).abs().max() > 1e-3 for k, v in one.state_dict().items())
    load_script("average_weights").set_to_mean(one, [two, three])
    assert all(torch.allclose(v, means[k], atol=1e-6) for k, v in one.state_dict().items())


@torch.no_grad()
def test_a_block_that_adds_nothing_can_be_taken_out():
    script = load_script("make_shallower")
    generator, e, x = fill(Generator(TINY)), wave(1, 10), wave(1, 13, 32, 32)
    generator.middle[0].conv2.weight.zero_(), generator.middle[0].conv2.bias.zero_()
    less = script.shallower(generator, middle=[1], last=[1, 0])
    assert len(less.middle) == 1 and len(less.last) == 2
    for made, expected in zip(less(x, less.projection(e)), generator(x, generator.projection(e))):
        assert torch.allclose(made, expected, atol=1e-6)
    with pytest.raises(UsageError, match="--last 2: there are 2 such blocks, counted from 0"):
        script.shallower(generator, middle=[0], last=[2])
