"""The generator made ready for one person gives what the generator gives, for boxes at their places, and fast."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from portrait_anim.networks import folding
from portrait_anim.networks.config import ModelConfig
from portrait_anim.networks.generator import Generator, split_painting
from portrait_anim.networks.inference import PersonGenerator

CPU = torch.device("cpu")
PACKED = pytest.mark.skipif(not folding.packs(torch.empty(0)), reason="torch has no oneDNN here")


def cut(features, place, size, strides=(4, 8, 16)):
    """The part of feature maps that a box of the frame sees."""
    (top, left), (height, width) = place, size
    return [f[:, :, top // s : (top + height) // s, left // s : (left + width) // s] for f, s in zip(features, strides)]


def pixels(*size):
    """A random picture in 256 steps from -1 to 1, as the generator takes it, and as cells of 4 x 4 px."""
    levels = torch.randint(0, 256, (1, 13, *size), dtype=torch.uint8)
    n, c, height, width = levels.shape
    cells = levels.permute(0, 2, 3, 1).reshape(n, height // 4, 4, width // 4, 4 * c).transpose(2, 3)
    return levels / 127.5 - 1, cells.reshape(n, height // 4, width // 4, 16 * c).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def real():
    """A generator of the real size that is not at its beginning, a psi, and the own features of a canvas."""
    torch.manual_seed(1)
    generator = Generator(ModelConfig()).eval()
    torch.nn.init.normal_(generator.out.weight, std=0.05)
    torch.nn.init.normal_(generator.out.bias, std=0.2)
    own = [torch.randn(1, c, side, side) for c, side in ((16, 128), (48, 64), (96, 32))]
    return generator, torch.randn(1, sum(generator.coeffs)) * 0.2, own


@pytest.mark.parametrize("packed", [False, pytest.param(True, marks=PACKED)])
@pytest.mark.parametrize("place, size", [((0, 0), (512, 512)), ((96, 32), (64, 96)), ((320, 352), (192, 160))])
def test_it_is_the_same_function_of_a_box(real, maps, place, size, packed, monkeypatch):
    monkeypatch.setattr(folding, "packs", lambda like: packed)
    generator, psi, own = real
    (x, cells), carried = pixels(*size), maps(generator.config, 1, *size)
    before = [a.clone() for a in (cells, *carried)]
    with torch.inference_mode():
        expected = generator(x, carried, cut(own, place, size), psi)
    person = PersonGenerator(generator, psi, own, CPU, torch.float32)
    for _ in range(2):  # what works in place leaves its input as it was, and so the own features
        for one, two in zip(expected, split_painting(person(cells, place, carried))):
            assert one.shape == two.shape and two.dtype == torch.float32
            assert (one - two).abs().max() < 1e-4
            assert one.std() > 1e-3
    assert all(torch.equal(a, b) for a, b in zip(before, (cells, *carried)))


def test_colours_in_bf16_are_within_two_steps_of_256(real, maps):
    generator, psi, own = real
    (x, cells), carried = pixels(128, 96), maps(generator.config, 1, 128, 96)
    with torch.inference_mode():
        exact = generator(x, carried, cut(own, (64, 64), (128, 96)), psi)
    folded = split_painting(PersonGenerator(generator, psi, own, CPU, torch.bfloat16)(cells, (64, 64), carried))
    error = (exact.colour - folded.colour).abs() * 127.5
    assert error.square().mean().sqrt() < 1 and exact.colour.std() * 127.5 > 10
    for one, two, step in zip(exact, folded, (1 / 255, 0.25, 2 / 255, 1 / 255)):  # the flow's in px
        assert (one - two).square().mean().sqrt() < step


def test_rounding_is_hardly_worse_than_that_of_the_generator_itself(real, maps):
    generator, psi, own = real
    (x, cells), carried = pixels(128, 128), maps(generator.config, 1, 128, 128)
    still = cut(own, (0, 0), (128, 128))
    half = lambda features: [f.bfloat16() for f in features]
    with torch.inference_mode():
        exact = generator(x, carried, still, psi)
        rounded = Generator(generator.config).to(torch.bfloat16)
        rounded.load_state_dict(generator.state_dict())
        rounded = rounded(x.bfloat16(), half(carried), half(still), psi.bfloat16())
    folded = split_painting(PersonGenerator(generator, psi, own, CPU, torch.bfloat16)(cells, (0, 0), carried))
    for one, two, three in list(zip(exact, folded, rounded))[1:]:
        assert (one - two).square().mean() <= 1.5 * (one - three).square().mean()
    assert (exact.mask - folded.mask).square().mean().sqrt() < 1e-3


def test_levels_of_the_same_width_are_folded_too(tiny, fill, maps):
    """Their blocks have no convolution of what they skip."""
    generator = fill(Generator(replace(tiny, widths=(8, 8, 12, 12), feature_widths=(4, 6, 6))))
    psi, own = torch.randn(1, sum(generator.coeffs)) * 0.2, maps(generator.config, 1, 96, 96)
    (x, cells), carried = pixels(96, 96), maps(generator.config, 1, 96, 96)
    with torch.inference_mode():
        expected = generator(x, carried, own, psi)
    again = split_painting(PersonGenerator(generator, psi, own, CPU, torch.float32)(cells, (0, 0), carried))
    for one, two in zip(expected, again):
        assert (one - two).abs().max() < 1e-4 and one.std() > 1e-3


@pytest.mark.parametrize("sizes", [[(96, 96), (128, 96), (96, 96), (128, 128)]])
def test_sizes_may_alternate_and_threads_may_share_it(tiny, fill, maps, sizes):
    generator = fill(Generator(tiny))
    psi, own = torch.randn(1, sum(generator.coeffs)) * 0.2, maps(tiny, 1, 256, 256)
    person = PersonGenerator(generator, psi, own, CPU, torch.float32)
    boxes = [(*pixels(*size), (32, 64), maps(tiny, 1, *size)) for size in sizes * 4]
    with torch.inference_mode():
        expected = [generator(x, carried, cut(own, place, x.shape[2:]), psi) for x, _, place, carried in boxes]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda box: person(*box[1:]), boxes))
    for one, two in zip(expected, made):
        assert all((a - b).abs().max() < 1e-4 for a, b in zip(one, split_painting(two)))


def test_weights_are_kept_for_the_last_sizes_only():
    conv = folding.FoldedConv(torch.randn(8, 4, 3, 3), torch.randn(8), torch.empty(0))
    for side in range(8, 8 + 2 * folding.SIZES):
        conv(torch.randn(1, 4, side, side))
    assert len(conv._packed) <= folding.SIZES


@pytest.mark.parametrize("size", [(256, 224), (224, 160)])
def test_weights_are_laid_out_once_for_all_frames(real, maps, size, capfd):
    """Laid out for another size they were laid out anew in every frame, which took 180 ms of 240."""
    generator, psi, own = real
    if not folding.packs(torch.empty(0)):
        pytest.skip("this torch lays out no weights")
    person = PersonGenerator(generator, psi, own, CPU, torch.float32)
    _, cells = pixels(*size)
    carried = [m.to(memory_format=torch.channels_last) for m in maps(generator.config, 1, *size)]
    person(pixels(64, 64)[1], (0, 0), maps(generator.config, 1, 64, 64))
    person(cells, (0, 0), carried)
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        person(cells, (0, 0), carried)
    done = [line for line in capfd.readouterr().out.splitlines() if "exec,cpu" in line]
    assert sum(",convolution," in line for line in done) > 20
    assert not [line for line in done if ",reorder," in line and ",1x" not in line]  # 1 x ... is a frame's


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_touches_no_values_on_the_way(tiny, dtype):
    """On the meta device nothing has a value: whatever leaves the device, or depends on a value, fails here."""
    meta = torch.device("meta")
    sides = (4, 8, 16)
    with meta:
        generator = Generator(tiny)
        psi = torch.empty(1, sum(generator.coeffs))
        own = [torch.empty(1, c, 256 // s, 256 // s) for c, s in zip(tiny.feature_widths, sides)]
        cells = torch.empty(1, 16 * 13, 48, 40, dtype=torch.uint8)
        carried = [torch.empty(1, c, 192 // s, 160 // s) for c, s in zip(tiny.feature_widths, sides)]
        painting = split_painting(PersonGenerator(generator, psi, own, meta, dtype)(cells, (32, 64), carried))
    assert [part.shape for part in painting] == [(1, c, 192, 160) for c in (1, 2, 3, 1)]
    assert all(part.device.type == "meta" and part.dtype == torch.float32 for part in painting)
