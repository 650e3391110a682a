"""A person's own generator is the same function as the generator, only faster."""

import pytest
import torch

from portrait_anim.networks import inference
from portrait_anim.networks.inference import PersonGenerator
from portrait_anim.networks.networks import Generator, ModelConfig
from portrait_anim.networks.weights import load
from portrait_anim.painting.painter import Painter

CPU = torch.device("cpu")
PACKED = pytest.mark.skipif(not inference._packs(torch.empty(0)), reason="torch has no oneDNN here")


@pytest.mark.parametrize("packed", [False, pytest.param(True, marks=PACKED)])
@pytest.mark.parametrize("size", [(64, 96), (192, 160)])
def test_a_persons_generator_is_the_same_function(size, packed, monkeypatch):
    monkeypatch.setattr(inference, "_packs", lambda like: packed)
    generator = load().generator
    psi = torch.randn(1, sum(generator.coeffs)) * 0.2
    x = torch.rand(2, 13, *size) * 2 - 1
    before = x.clone()
    with torch.inference_mode():
        expected = generator(x, psi)
    again = PersonGenerator(generator, psi, CPU, torch.float32)
    for _ in range(2):  # what works in place leaves its input as it was
        for one, two in zip(expected, again(x)):
            assert (one - two).abs().max() < 1e-4
            assert one.std() > 1e-3
    assert (x == before).all()


@pytest.mark.parametrize("size", [(240, 240), (208, 160)])
def test_weights_are_laid_out_once_for_all_frames(size, capfd):
    """Laid out for another size they were laid out anew in every frame, which took 180 ms of 240."""
    generator = load().generator
    like = torch.empty(0)
    if not inference._packs(like):
        pytest.skip("this torch lays out no weights")
    person = PersonGenerator(generator, torch.randn(1, sum(generator.coeffs)) * 0.2, CPU, torch.float32)
    x = torch.rand(1, 13, *size).to(memory_format=torch.channels_last)
    person(torch.rand(1, 13, 64, 64)), person(x)
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        person(x)
    done = [line for line in capfd.readouterr().out.splitlines() if "exec,cpu" in line]
    assert sum(",convolution," in line for line in done) > 20
    assert not [line for line in done if ",reorder," in line and ",1x" not in line]  # 1 x ... is a frame's


def test_a_persons_generator_rounds_no_more_than_the_generator_itself(frame):
    portrait, _, _, x, *_ = frame
    painter = Painter(precision="bf16")
    generator, psi = painter.weights.generator, painter.embed_person(portrait.views[:1])
    x = torch.from_numpy(x)[None].permute(0, 3, 1, 2)
    with torch.inference_mode():
        exact, folded = generator(x, psi), painter.generator_for(psi).generator(x)
        rounded = generator.to(torch.bfloat16)(x.bfloat16(), psi.bfloat16())
    for one, two, three in zip(exact, folded, rounded):
        assert (one - two).square().mean() <= 1.1 * (one - three).square().mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_generator_touches_no_values_on_the_way(dtype):
    """On the meta device nothing has a value: whatever leaves the device, or depends on a value, fails here."""
    meta = torch.device("meta")
    with meta:
        generator = Generator(ModelConfig())
        x, psi = torch.empty(2, 13, 192, 160, dtype=dtype), torch.empty(1, sum(generator.coeffs))
        generator = PersonGenerator(generator, psi, meta, dtype)
    mask, flow, delta = generator(x)
    assert [p.shape[1:] for p in (mask, flow, delta)] == [(c, 192, 160) for c in (1, 2, 3)]
    assert all(p.device.type == "meta" and p.dtype == torch.float32 for p in (mask, flow, delta))
