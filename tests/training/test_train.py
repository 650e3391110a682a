"""Meta-training: it learns, stops, resumes exactly, and refuses what is not its own."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from portrait_anim.networks.networks import ModelConfig
from support import ASTRONAUT, PATIENCE, run_animate, run_tool

from portrait_anim.errors import InputError
from portrait_anim.training.episodes import EpisodeConfig
from portrait_anim.training.prepare import load_shards
from portrait_anim.training.train import TrainConfig, Trainer, meta_train

TINY = TrainConfig(batch=2, adversarial_after=1, critic_every=1, episodes=EpisodeConfig(crop=64, crops=2))


def _train_until(shards: Path, out: Path, step: int) -> Trainer:
    """meta_train, stopped as by SIGTERM once it has made `step` steps."""
    original = Trainer.train_step

    def stepping(self, batch):
        report = original(self, batch)
        if self.step >= step:
            signal.raise_signal(signal.SIGTERM)
        return report

    with mock.patch.object(Trainer, "train_step", stepping):
        return meta_train(shards, out, workers=0, config=TINY)


def test_e_starts_standardised_without_changing_what_the_generator_does(shards):
    config = TrainConfig(batch=2, episodes=EpisodeConfig(crop=64, crops=2))
    trainer = Trainer(load_shards(shards, held_out=False), config=config)
    batch = torch.utils.data.default_collate([trainer.episodes[j] for j in range(2)])
    with torch.no_grad():
        before = trainer.generator.projection(trainer.embed(batch))
        trainer.standardise()
        after = trainer.generator.projection(trainer.embed(batch))
    assert torch.allclose(before, after, atol=1e-4)
    assert torch.allclose(trainer.critic.videos.weight.mean(0), torch.zeros(256), atol=1e-3)


def test_averaged_networks_keep_the_norms_that_spectral_norm_learned(shards):
    small = dict(widths=(8, 16, 16), middle=1, critic_widths=(8, 16), embedder_widths=(8, 16))
    model = ModelConfig("paper", 64, 16, in_channels=3, last=0, embedder_size=64, embedder_slope=0.0, **small)
    trainer = Trainer(load_shards(shards, held_out=False), model, TINY)
    drawing, psi = torch.randn(1, 3, 64, 64), torch.randn(1, sum(trainer.generator.coeffs))
    for _ in range(3):
        trainer.generator(drawing, psi)
    with torch.no_grad():
        assert torch.allclose(trainer.averaged()[0](drawing, psi), trainer.generator.eval()(drawing, psi), atol=1e-5)


@pytest.mark.parametrize("there", [True, False])
def test_training_is_in_bf16_only_where_the_processor_multiplies_in_it(monkeypatch, there):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: there, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert TrainConfig().bf16 == there


def test_training_goes_down_on_one_batch(shards):
    config = TrainConfig(batch=2, warm_up=20, adversarial_after=99, episodes=EpisodeConfig(crop=64, crops=2))
    trainer = Trainer(load_shards(shards, held_out=False), config=config)
    batch = torch.utils.data.default_collate([trainer.episodes[j] for j in range(2)])
    reports = [trainer.train_step(batch) for _ in range(40)]
    assert reports[0]["l1"] == pytest.approx(reports[0]["l1 warp"], abs=1e-3)  # untrained it is the warp
    total = [r["image"] + r["warp"] + r["paint"] + r["face"] for r in reports]
    assert np.mean(total[-4:]) < 0.95 * total[0]


def test_a_resumed_run_continues_exactly(shards, tmp_path):
    torch.set_num_threads(1)

    def run(folder: str, steps: list[int]) -> Trainer:
        for stop in steps:
            trainer = _train_until(shards, tmp_path / folder, stop)
        return trainer

    whole, parts = run("whole", [4]), run("parts", [2, 4])
    assert whole.step == parts.step == 4
    for a, b in zip(whole.average, parts.average):
        assert torch.equal(a, b)
    for a, b in zip(whole.critic.parameters(), parts.critic.parameters()):
        assert torch.equal(a, b)


def test_a_run_of_steps_ends_there_with_its_rate_at_nothing(shards, tmp_path):
    config = replace(TINY, steps=3, warm_up=1, critic_every=2)
    trainer = meta_train(shards, tmp_path / "run", workers=0, config=config)
    assert trainer.step == 3
    assert trainer.optimiser.param_groups[0]["lr"] == pytest.approx(config.learning_rate / 4)  # of the last step
    asked = trainer.critic_optimiser.state_dict()["state"]
    assert {int(state["step"]) for state in asked.values()} == {1}  # at step 2 of 0, 1, 2
    made = [p.clone() for p in trainer.average]
    again = meta_train(shards, tmp_path / "run", workers=0, config=config)
    assert again.step == 3 and all(torch.equal(a, b) for a, b in zip(made, again.average))


def test_a_checkpoint_of_another_model_is_refused(shards, tmp_path):
    trainer = _train_until(shards, tmp_path / "run", 1)
    assert trainer.step == 1
    other = Trainer(load_shards(shards, held_out=False), ModelConfig(widths=(32, 64, 128)), TINY)
    with pytest.raises(InputError, match="another model"):
        other.load(tmp_path / "run" / "checkpoint.pt")
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        trainer.load(tmp_path / "run" / "checkpoint.pt")


def test_the_command_trains_shows_samples_and_its_weights_animate(shards, short_clip, tmp_path):
    done = run_tool(
        "meta-train", shards, "--out", "run", "--minutes", "0.05", "--batch", 2, "--adversarial-after", 1, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    assert (run / "checkpoint.pt").exists() and list(run.glob("samples-*.png"))
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] >= 1 and "held-out L1" in log[-1]
    options = ["--weights", run / "weights.safetensors", "--max-size", "256"]
    done = run_animate(ASTRONAUT, "-d", short_clip, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_papers_configuration_trains_with_the_same_command(shards, tmp_path):
    options = ["--minutes", "0.01", "--batch", 1, "--adversarial-after", 0]
    done = run_tool("meta-train", shards, "--out", "paper", "--paper", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run_tool("evaluate", shards, "--paper", "paper/weights.safetensors", "--out", "result", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the paper's configuration" in done.stdout


@pytest.mark.slow
def test_two_processes_train_one_model(shards, tmp_path):
    """torchrun with gloo: both processes end with the same weights, from different episodes."""
    script = tmp_path / "two.py"
    script.write_text(
        "import sys, torch, torch.distributed as dist\n"
        "from pathlib import Path\n"
        "from portrait_anim.training.prepare import load_shards\n"
        "from portrait_anim.training.train import *\n"
        "from portrait_anim.training.episodes import EpisodeConfig\n"
        "dist.init_process_group('gloo'); torch.set_num_threads(1)\n"
        "config = TrainConfig(batch=1, adversarial_after=1, episodes=EpisodeConfig(crop=64, crops=1))\n"
        "trainer = meta_train(Path(sys.argv[1]), Path(sys.argv[2]), minutes=0.03, workers=0, config=config)\n"
        "mine = torch.cat([p.detach().flatten() for p in trainer.painters])\n"
        "both = [torch.empty_like(mine) for _ in range(2)]\n"
        "dist.all_gather(both, mine)\n"
        "assert torch.equal(both[0], both[1]) and trainer.step >= 1\n"
        "print('same', trainer.step)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script)]
    done = subprocess.run(
        [*command, str(shards), str(tmp_path / "run")], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("same") == 2
