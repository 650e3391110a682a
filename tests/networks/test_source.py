"""The source encoder gives features where the generator wants them, and a vector that tells photos apart."""

import pytest
import torch

from portrait_anim.networks.config import ModelConfig
from portrait_anim.networks.inference import SourceFeatures
from portrait_anim.networks.source import SourceEncoder


@torch.no_grad()
def test_shapes_size_and_cost(millions, gmac, meta):
    source = SourceEncoder(ModelConfig()).to("meta")
    features, e = source(meta(2, 7, 512, 512))
    assert [f.shape for f in features] == [(2, 16, 128, 128), (2, 48, 64, 64), (2, 96, 32, 32)]
    assert e.shape == (2, 256)
    assert millions(source) == pytest.approx(4.1, abs=0.05)
    assert gmac(source, meta(1, 7, 512, 512)) == pytest.approx(4.9, abs=0.1)


def test_a_new_encoder_tells_photos_apart_and_learns(tiny):
    source = SourceEncoder(tiny)
    features, e = source(torch.rand(2, 7, 64, 64))
    assert all((f[0] - f[1]).norm() > 0.01 for f in (*features, e))
    (e.square().mean() + sum(f.square().mean() for f in features)).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in source.parameters())


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_at_run_time_it_is_the_same_function(tiny, fill, dtype, tolerance):
    source, x = fill(SourceEncoder(tiny)), torch.rand(2, 7, 64, 64)
    with torch.no_grad():
        expected, person = source(x)
    features, e = SourceFeatures(source, torch.device("cpu"), dtype)(x)
    for made, wanted in zip((*features, e), (*expected, person)):
        assert made.dtype == torch.float32 and (made - wanted).abs().max() <= tolerance * wanted.std()
    assert source.out.weight.dtype == torch.float32  # it is left as it was
