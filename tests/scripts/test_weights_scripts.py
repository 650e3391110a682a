"""The scripts that make weights files from others."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import torch

from portrait_anim.networks import weights
from portrait_anim.networks.critic import Discriminator
from portrait_anim.networks.generator import Generator
from portrait_anim.networks.source import SourceEncoder

AVERAGE = Path(__file__).parents[2] / "scripts/average_weights.py"


@torch.no_grad()
def test_weights_are_averaged_value_by_value(tiny_model):
    spec = importlib.util.spec_from_file_location("average_weights", AVERAGE)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    one, two, three = (SourceEncoder(tiny_model) for _ in range(3))
    means = {k: (v + two.state_dict()[k] + three.state_dict()[k]) / 3 for k, v in one.state_dict().items()}
    assert any((means[k] - v).abs().max() > 1e-3 for k, v in one.state_dict().items())
    script.set_to_mean(one, [two, three])
    assert all(torch.allclose(v, means[k], atol=1e-6) for k, v in one.state_dict().items())


def test_the_mean_of_two_files_is_a_weights_file(tiny_model, tmp_path):
    info = {"name": "tiny", "training": "none", "licence": "none"}
    for name in ("one", "two"):
        networks = dict(generator=Generator(tiny_model), source=SourceEncoder(tiny_model))
        weights.save(tmp_path / f"{name}.safetensors", tiny_model, info, **networks, critic=Discriminator(tiny_model))
    command = [sys.executable, AVERAGE, "mean.safetensors", "one.safetensors", "two.safetensors"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, two, mean = (weights.load(tmp_path / f"{n}.safetensors", critic=True) for n in ("one", "two", "mean"))
    assert mean.info["training"].startswith("mean of 2 runs")
    for part in ("source", "generator"):
        first, second, made = (getattr(w, part).state_dict() for w in (one, two, mean))
        assert all(torch.allclose(made[k], (first[k] + second[k]) / 2, atol=2e-3) for k in made)
    assert torch.equal(mean.critic.linear.bias, one.critic.linear.bias)
