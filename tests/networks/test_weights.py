"""Weights files: what is saved is loaded, what is broken is refused in one sentence."""

import json
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from portrait_anim.errors import InputError, OutputError
from portrait_anim.networks import weights
from portrait_anim.networks.config import ModelConfig
from portrait_anim.networks.critic import Discriminator
from portrait_anim.networks.embedder import Embedder
from portrait_anim.networks.generator import Generator
from portrait_anim.networks.paper import PaperGenerator
from portrait_anim.networks.source import SourceEncoder

CONFIG = ModelConfig(
    size=64,
    embedding=10,
    widths=(8, 12, 16),
    middle=1,
    feature_widths=(4, 6),
    source_widths=(6, 8, 12),
    critic_widths=(8, 12),
    local_widths=(6, 8),
    local_side=16,
)
INFO = {"name": "tiny", "training": "none", "licence": "none"}
HEADER = {"format": 2, "config": weights.asdict(CONFIG), "info": INFO}


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return {"generator": Generator(CONFIG), "source": SourceEncoder(CONFIG)}


@pytest.fixture
def good(networks, tmp_path):
    return weights.save(tmp_path, CONFIG, INFO, **networks)


def craft(path, tensors, header):
    """A file as `save` writes it, but with anything in it and under a name without a hash."""
    text = header if isinstance(header, str) else json.dumps(header)
    save_file(tensors, path, {weights.KEY: text})
    return path


def refusal(path):
    """The message of the InputError that loading `path` must end in: one sentence, which names the file."""
    with pytest.raises(InputError) as caught:
        weights.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and message.endswith(".") and "\n" not in message
    assert re.search(r"; (get it again|use |update |check )", message), "says nothing of what to do"
    return message.removeprefix(f"{path}: ")


def test_what_is_saved_is_loaded(networks, good):
    loaded = weights.load(good)
    assert re.fullmatch(r"portrait_anim-[0-9a-f]{8}\.safetensors", good.name)
    assert loaded.sha256[:8] == good.stem[-8:]
    assert loaded.config == CONFIG and loaded.info == INFO
    assert loaded.embedder is None and loaded.critic is None
    for part, before in networks.items():
        after = getattr(loaded, part)
        assert not after.training
        for key, value in after.state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, before.state_dict()[key].half().float()), key
    with torch.no_grad():
        features, e = loaded.source(torch.rand(1, 7, 64, 64))
        loaded.generator(torch.rand(1, 13, 64, 64), features, features, loaded.generator.projection(e))


def test_the_discriminator_is_kept_without_its_videos_and_loaded_when_asked_for(networks, tmp_path):
    critic = Discriminator(CONFIG, n_videos=5)
    path = weights.save(tmp_path, CONFIG, INFO, **networks, critic=critic)
    assert "critic.videos.weight" not in load_file(path)
    assert weights.load(path).critic is None
    loaded = weights.load(path, critic=True).critic
    assert loaded.videos is None and not loaded.training
    photo, person, centres = torch.rand(2, 3, 64, 64), torch.randn(2, 10), torch.full((2, 1, 2), 30.0)
    with torch.no_grad():
        scores = [d(photo, photo, person, centres)[0] for d in (loaded, critic.eval())]
        assert len(scores[0]) == 3
        for a, b in zip(*scores):
            assert torch.allclose(a, b, atol=0.02)
    tensors = load_file(path)
    del tensors["critic.linear.bias"]
    broken = craft(tmp_path / "broken.safetensors", tensors, HEADER)
    with pytest.raises(InputError, match=r"lacks critic\.linear"):
        weights.load(broken, critic=True)


def test_files_without_a_discriminator_are_loaded_all_the_same(good):
    assert weights.load(good, critic=True).critic is None


def test_saving_twice_gives_the_same_file(networks, good, tmp_path):
    again = weights.save(tmp_path / "mine.safetensors", CONFIG, INFO, **networks)
    assert again.read_bytes() == good.read_bytes()
    assert weights.load(str(again)).sha256 == weights.load(good).sha256  # a name without a hash will do
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.safetensors", good.name]


def test_dtype(good):
    assert weights.load(good, torch.bfloat16).generator.out.weight.dtype == torch.bfloat16


def test_the_papers_model_is_saved_too(tiny_paper, tmp_path):
    generator, embedder = PaperGenerator(tiny_paper), Embedder(tiny_paper)
    critic = Discriminator(tiny_paper, n_videos=2)
    path = weights.save(tmp_path, tiny_paper, INFO, generator=generator, embedder=embedder, critic=critic)
    loaded = weights.load(path, critic=True)
    assert loaded.config == tiny_paper and loaded.source is None and loaded.critic.local is None
    with torch.no_grad():
        photo = torch.rand(1, 3, 128, 128)
        e = embedder.eval()(photo, photo)
        assert torch.allclose(loaded.embedder(photo, photo), e, atol=0.02 * e.max())
        psi = generator.projection(torch.rand(1, 16))
        assert torch.allclose(loaded.generator(photo, psi), generator.eval()(photo, psi), atol=0.03)


def test_shipped_weights():
    path = weights.find_default()
    assert path is not None and path.with_name("MODEL_CARD.md").is_file() and path.stat().st_size < 40e6
    loaded = weights.load()
    assert loaded.sha256[:8] == path.stem[-8:]
    ramp = torch.arange(20 * 128 * 128, dtype=torch.float64).reshape(1, 20, 128, 128)
    view, x = torch.sin(ramp * 0.37).float().split([7, 13], 1)
    with torch.no_grad():
        features, e = loaded.source(view)
        painting = loaded.generator(x, features, features, loaded.generator.projection(e))
    assert all(part.isfinite().all() for part in painting)
    assert painting.mask.std() > 0.01 and painting.flow.abs().max() > 0.1  # it is trained


def test_finding_costs_no_torch():
    code = "import sys, portrait_anim.networks.weights as w; w.find_default(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("layout", ["checkout", "installed"])
def test_default_is_found_in_checkout_and_wheel(layout, monkeypatch, tmp_path, good):
    package = tmp_path / "portrait_anim"
    folder = tmp_path / "weights" if layout == "checkout" else package / "weights"
    folder.mkdir(parents=True)
    monkeypatch.setattr(weights, "__file__", str(package / "networks" / "weights.py"))
    (folder / "other.safetensors").touch()
    assert weights.find_default() is None
    with pytest.raises(InputError, match="name a weights file"):
        weights.load()
    good.rename(folder / good.name)
    assert weights.find_default() == folder / good.name
    assert weights.load().config == CONFIG


def test_no_such_file(tmp_path):
    assert "no such weights file" in refusal(tmp_path / "nothing.safetensors")
    assert "no such weights file" in refusal(tmp_path)


def test_pickles_are_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("the pickle was opened",)

    torch.save({"G": Trap()}, tmp_path / "model.pt")
    assert "not a safetensors file" in refusal(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:5],
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data + b"more",
        lambda data: b"\xff" * 8 + data[8:],  # a header of 2**64 bytes
        lambda data: (90_000_000).to_bytes(8, "little") + data[8:],
        lambda data: data[:8] + b"[" + data[9:],
        lambda data: b"GIF89a" + data,
    ],
)
def test_not_a_whole_safetensors_file(good, change):
    good.write_bytes(change(good.read_bytes()))
    assert "not a safetensors file, or only part of one" in refusal(good)


def test_damage_shows_in_the_checksum(good):
    data = bytearray(good.read_bytes())
    data[-100] ^= 1
    good.write_bytes(data)
    assert "damaged" in refusal(good)
    weights.load(good.rename(good.with_name("no-hash.safetensors")))


@pytest.mark.parametrize(
    "header, words",
    [
        ("", "holds no portrait-anim model"),
        ("[" * 100_000, "holds no portrait-anim model"),
        ("[]", "holds no portrait-anim model"),
        ({"format": 2}, "holds no portrait-anim model"),
        (HEADER | {"config": "big"}, "holds no portrait-anim model"),
        (HEADER | {"info": None}, "holds no portrait-anim model"),
        (
            HEADER | {"format": 1},
            "holds the networks of an earlier version (format 1), which this one cannot use; use the weights",
        ),
        (HEADER | {"format": 3}, "of format '3', this version reads 2; update"),
        (HEADER | {"config": HEADER["config"] | {"dropout": 0.1}}, "unknown field 'dropout'"),
        (HEADER | {"config": {"kind": "feature-warp"}}, "lacks 'critic_unshuffle'"),
        (HEADER | {"config": HEADER["config"] | {"kind": "other"}}, "kind cannot be 'other'"),
        (HEADER | {"config": HEADER["config"] | {"widths": [10**9]}}, "widths cannot be"),
        (HEADER | {"config": HEADER["config"] | {"widths": [64, 64, 1.5]}}, "no network can be built"),
        (HEADER | {"config": HEADER["config"] | {"widths": [8, 12, 20]}}, "F16 (20, 12, 3, 3)"),
        (HEADER | {"config": HEADER["config"] | {"widths": [4096] * 10}}, "feature_widths cannot be"),
        (HEADER | {"config": HEADER["config"] | {"widths": [8, 12, 4096]}}, "F16 (4096, 12, 3, 3)"),  # would be large
    ],
)
def test_wrong_headers(good, tmp_path, header, words):
    assert words in refusal(craft(tmp_path / "file.safetensors", load_file(good), header))


def test_other_peoples_safetensors(good, tmp_path):
    path = tmp_path / "other.safetensors"
    save_file(load_file(good), path)
    assert "holds no portrait-anim model" in refusal(path)


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("generator.out.weight", None, "lacks generator.out.weight"),
        ("generator.extra", torch.zeros(1), "unknown tensor 'generator.extra'"),
        ("generator.out.bias", torch.zeros(95), "generator.out.bias is F32 (95,), not F16 (112,)"),
        ("generator.out.bias", torch.zeros(112, dtype=torch.int64), "is I64 (112,)"),
        ("generator.out.bias", torch.full((112,), torch.nan), "holds NaN"),
        ("source.out.bias", torch.full((10,), torch.inf), "holds NaN or infinity"),
    ],
)
def test_wrong_tensors(good, tmp_path, key, value, words):
    tensors = load_file(good) | {key: value}
    tensors = {k: v for k, v in tensors.items() if v is not None}
    assert words in refusal(craft(tmp_path / "file.safetensors", tensors, HEADER))


def test_saving_refuses(networks, tmp_path):
    with pytest.raises(ValueError, match="licence"):
        weights.save(tmp_path, CONFIG, {"name": "a", "training": "b"}, **networks)
    with pytest.raises(ValueError, match="made of source and generator"):
        weights.save(tmp_path, CONFIG, INFO, generator=networks["generator"])
    for nowhere in (tmp_path / "no" / "folder.safetensors", f"{__file__}/x.safetensors"):
        with pytest.raises(OutputError, match="cannot be written"):
            weights.save(nowhere, CONFIG, INFO, **networks)
    diverged = Generator(CONFIG)
    torch.nn.init.constant_(diverged.out.bias, 1e6)
    with pytest.raises(OutputError, match=r"generator\.out\.bias"):
        weights.save(tmp_path, CONFIG, INFO, generator=diverged, source=networks["source"])
    assert not list(tmp_path.iterdir())
