"""Shared by the tests of the networks: a model small enough to be run in no time, and ways to fill and to weigh one."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from portrait_anim.networks.config import ModelConfig


@pytest.fixture(scope="session")
def tiny():
    """The config of a small model of our kind; its boxes come in multiples of 32 px, as the real one's."""
    return ModelConfig(
        size=64,
        embedding=10,
        widths=(8, 12, 16, 20),
        feature_widths=(4, 6, 8),
        source_widths=(6, 8, 10, 12),
        critic_widths=(8, 12, 16),
        local_widths=(6, 8),
        local_side=16,
    )


@pytest.fixture(scope="session")
def tiny_paper():
    """The config of a small model of the paper's kind."""
    widths = (8, 8, 16, 16)
    return ModelConfig("paper", 128, 16, 3, widths=widths, critic_widths=widths, embedder_widths=widths)


@pytest.fixture(scope="session")
def fill():
    """Give each parameter of a network numbers that are large enough for all of them to matter."""

    def fill(network):
        state = network.state_dict()
        for i, key in enumerate(sorted(state)):
            ramp = torch.arange(state[key].numel(), dtype=torch.float64).reshape(state[key].shape)
            size = 0.3 if state[key].dim() < 2 else 0.8 / state[key][0].numel() ** 0.5
            state[key].copy_(torch.sin(ramp * 0.37 + i) * size)
        return network.eval()

    return fill


@pytest.fixture(scope="session")
def maps():
    """Make random features for pictures of height x width, as (n, channels, side) of each level."""

    def maps(config, n, height, width):
        strides = [config.unshuffle << level for level in range(len(config.feature_widths))]
        return [torch.randn(n, c, height // s, width // s) for c, s in zip(config.feature_widths, strides)]

    return maps


@pytest.fixture(scope="session")
def millions():
    """Count the parameters of a network, in millions."""
    return lambda network: sum(p.numel() for p in network.parameters()) / 1e6


@pytest.fixture(scope="session")
def gmac():
    """Count the multiplications of a call, in billions."""

    def gmac(function, *inputs):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            function(*inputs)
        return counter.get_total_flops() / 2e9

    return gmac


@pytest.fixture(scope="session")
def meta():
    """Make a shape without memory or arithmetic: a network moved there tells its cost for nothing."""
    return lambda *shape: torch.zeros(*shape, device="meta")


@pytest.fixture(autouse=True)
def same_numbers():
    """Every test begins with the same random numbers."""
    torch.manual_seed(0)
