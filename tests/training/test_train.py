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
from support import ASTRONAUT, CLIP, PATIENCE, run_animate, run_tool

from portrait_anim.errors import InputError
from portrait_anim.networks import weights
from portrait_anim.networks.config import ModelConfig
from portrait_anim.training import checkpoints
from portrait_anim.training.batches import collate
from portrait_anim.training.episodes import EpisodeConfig
from portrait_anim.training.shards import load_shards
from portrait_anim.training.train import meta_train
from portrait_anim.training.trainer import TrainConfig, Trainer

SMALL = EpisodeConfig(side=160, targets=1)
FEW = TrainConfig(batch=2, margin=16, adversarial_after=1, local_side=64, bf16=False, episodes=SMALL)
PAPER = ModelConfig(
    "paper", 64, 16, in_channels=3, widths=(8, 16, 16), middle=1, critic_widths=(8, 16), embedder_widths=(8, 16)
)


@pytest.fixture(scope="module")
def train(shards):
    return load_shards(shards, held_out=False)


def batch_of(trainer: Trainer, step: int = 0) -> dict:
    size = trainer.config.batch
    return collate([trainer.episodes[step * size + n] for n in range(size)])


def _train_until(
    shards: Path, out: Path, step: int, model: ModelConfig, config: TrainConfig = FEW, **options
) -> Trainer:
    """meta_train, stopped as by SIGTERM once it has made `step` steps."""
    original = Trainer.train_step

    def stepping(self, episodes):
        report = original(self, episodes)
        if self.step >= step:
            signal.raise_signal(signal.SIGTERM)
        return report

    with mock.patch.object(Trainer, "train_step", stepping):
        return meta_train(shards, out, workers=0, model=model, config=config, **options)


def test_untrained_it_is_the_warp_and_training_goes_down_on_one_batch(train, tiny_model):
    config = replace(FEW, batch=1, warm_up=5, learning_rate=2e-3, adversarial_after=10**6)
    trainer = Trainer(train, tiny_model, config)
    batch = batch_of(trainer)
    reports = [trainer.train_step(batch) for _ in range(20)]
    assert reports[0]["l1"] == pytest.approx(reports[0]["l1 warp"].item(), abs=1e-3)
    total = [float(r["image"] + r["warp"] + r["paint"] + r["face"] + r["face_local"]) for r in reports]
    assert np.isfinite(total).all() and np.mean(total[-4:]) < 0.95 * total[0]


def test_every_term_and_every_network_takes_part(train, tiny_model):
    sharp = [replace(shard, header={**shard.header, "size": 512}) for shard in train]
    trainer = Trainer(sharp, tiny_model, replace(FEW, adversarial_after=0))
    trainer.generator.out.weight.data.normal_(std=0.1)  # which starts at zero, and hides all that is before it
    before = {n: [p.clone() for p in getattr(trainer, n).parameters()] for n in ("generator", "encoder", "critic")}
    report = trainer.train_step(batch_of(trainer))
    expected = {"image", "warp", "paint", "smooth_flow", "keep", "matte", "face", "look", "face_local", "sharp_local"}
    assert expected | {"score", "features", "match", "critic", "l1", "l1 warp"} == set(report)
    for name, old in before.items():
        changed = [not torch.equal(p, q) for p, q in zip(getattr(trainer, name).parameters(), old)]
        assert np.mean(changed) > 0.9, name


def test_what_costs_most_is_done_on_some_steps_only(train, tiny_model):
    config = replace(FEW, adversarial_after=0, critic_every=3, source_every=2, look_every=2)
    trainer = Trainer(train, tiny_model, config)
    trainer.generator.out.weight.data.normal_(std=0.1)
    learned = []
    for step in range(4):
        before = trainer.encoder.stem[1].weight.clone()
        report = trainer.train_step(batch_of(trainer, step))
        learned.append(["critic" in report, not torch.equal(before, trainer.encoder.stem[1].weight), "look" in report])
    assert learned == [[True, True, True], [False, False, False], [False, True, True], [True, False, False]]


def test_e_starts_standardised_without_changing_what_the_generator_does(train, tiny_model):
    people = [replace(shard, header={**shard.header, "group": str(n)}) for n, shard in enumerate(train)]
    trainer = Trainer(people, tiny_model, FEW)
    with torch.no_grad():
        before = trainer.generator.projection(checkpoints._people(trainer))
        checkpoints.standardise(trainer)
        e = checkpoints._people(trainer)
        assert torch.allclose(before, trainer.generator.projection(e), atol=1e-4)
    assert torch.allclose(trainer.critic.videos.weight, e, atol=1e-4)
    assert torch.allclose(e.mean(0), torch.zeros(16), atol=1e-3)


def test_a_resumed_run_continues_exactly(shards, tmp_path, tiny_model):
    torch.set_num_threads(1)

    def run(folder: str, steps: list[int]) -> Trainer:
        for stop in steps:
            trainer = _train_until(shards, tmp_path / folder, stop, tiny_model)
        return trainer

    whole, parts = run("whole", [4]), run("parts", [2, 4])
    assert whole.step == parts.step == 4
    for a, b in zip(whole.average, parts.average):
        assert torch.equal(a, b)
    for a, b in zip(whole.critic.parameters(), parts.critic.parameters()):
        assert torch.equal(a, b)


def test_a_run_of_steps_ends_there_with_its_rate_at_nothing(shards, tmp_path, tiny_model):
    config = replace(FEW, steps=3, warm_up=1)
    trainer = meta_train(shards, tmp_path / "run", workers=0, model=tiny_model, config=config)
    assert trainer.step == 3
    assert trainer.optimiser.param_groups[0]["lr"] == pytest.approx(config.learning_rate / 4)  # of the last step
    made = [p.clone() for p in trainer.average]
    again = meta_train(shards, tmp_path / "run", workers=0, model=tiny_model, config=config)
    assert again.step == 3 and all(torch.equal(a, b) for a, b in zip(made, again.average))


def test_a_run_can_start_from_a_weights_file(shards, tmp_path, tiny):
    start = weights.load(tiny, critic=True)
    trainer = _train_until(shards, tmp_path / "run", 1, ModelConfig(), replace(FEW, learning_rate=1e-9), init=tiny)
    assert trainer.model == start.config
    for name in ("source", "generator"):
        mine, theirs = trainer.averaged()[name].state_dict(), getattr(start, name).state_dict()
        assert all(torch.allclose(mine[key], value, atol=1e-6) for key, value in theirs.items())
    own = dict(trainer.critic.named_parameters())
    assert torch.equal(own["linear.bias"], start.critic.linear.bias)


def test_a_checkpoint_of_another_model_is_refused(shards, train, tmp_path, tiny_model):
    trainer = _train_until(shards, tmp_path / "run", 1, tiny_model)
    assert trainer.step == 1
    other = Trainer(train, replace(tiny_model, middle=2), FEW)
    with pytest.raises(InputError, match="another model"):
        checkpoints.load(other, tmp_path / "run" / "checkpoint.pt")
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        checkpoints.load(trainer, tmp_path / "run" / "checkpoint.pt")


@pytest.mark.parametrize("there", [True, False])
def test_training_is_in_bf16_only_where_the_processor_multiplies_in_it(monkeypatch, there):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: there, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert TrainConfig.for_cpu().bf16 == there


# ---------------------------------------------------------------- the paper's kind


def test_the_papers_kind_trains_and_keeps_the_norms_that_spectral_norm_learned(train):
    whole = replace(FEW, margin=0, adversarial_after=0, episodes=EpisodeConfig(targets=1))
    trainer = Trainer(train, PAPER, whole)
    report = trainer.train_step(batch_of(trainer))
    assert {"image", "face", "look", "score", "match", "critic"} <= set(report) and "warp" not in report
    drawing, psi = torch.randn(1, 3, 64, 64), torch.randn(1, sum(trainer.generator.coeffs))
    for _ in range(3):
        trainer.generator(drawing, psi)
    trainer.average = [p.detach().clone() for p in trainer.painters]
    with torch.no_grad():
        made = trainer.averaged()["generator"](drawing, psi)
        assert torch.allclose(made, trainer.generator.eval()(drawing, psi), atol=1e-5)


def test_the_papers_perceptual_losses_join_when_their_networks_are_given(train, tmp_path, tiny_model):
    torch.manual_seed(0)
    layers, channels = [], 3
    for width, count in zip((64, 128, 256, 512, 512), (2, 2, 4, 4, 1)):
        for _ in range(count):
            layers += [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU()]
            channels = width
        layers += [torch.nn.MaxPool2d(2)]
    file = tmp_path / "vgg19.pth"
    torch.save(torch.nn.Sequential(*layers).state_dict(), file)
    trainer = Trainer(train, tiny_model, replace(FEW, batch=1, vgg19=file))
    report = trainer.train_step(batch_of(trainer))
    assert report["vgg19"] > 0 and "vggface" not in report


# ---------------------------------------------------------------- the command


@pytest.mark.slow
def test_the_command_trains_shows_samples_and_its_weights_animate(shards, tmp_path):
    arguments = ("--out", "run", "--minutes", "0.02", "--batch", 1, "--adversarial-after", 0, "--device", "cpu")
    done = run_tool("meta-train", shards, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    assert (run / "checkpoint.pt").exists() and list(run.glob("samples-*.png"))
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] >= 1 and "held-out L1" in log[-1]
    arguments = ("-d", CLIP, "--end", "0.2", "--weights", run / "weights.safetensors", "--max-size", "256")
    done = run_animate(ASTRONAUT, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_papers_configuration_trains_with_the_same_command(shards, tmp_path, tiny):
    arguments = ("--out", "paper", "--paper", "--minutes", "0.01", "--batch", 1, "--adversarial-after", 0)
    done = run_tool("meta-train", shards, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    arguments = ("--weights", tiny, "--paper", "paper/weights.safetensors", "--out", "result")
    done = run_tool("evaluate", shards, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the paper's configuration" in done.stdout


@pytest.mark.parametrize("arguments", [("--batch", 0), ("--threads", 0), ("--workers", -1), ("--steps", 0)])
def test_impossible_numbers_are_refused(shards, tmp_path, arguments):
    done = run_tool("meta-train", shards, "--out", "run", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and arguments[0] in done.stderr


@pytest.mark.slow
def test_two_processes_train_one_model(shards, tmp_path):
    """torchrun with gloo: both processes end with the same weights, from different episodes."""
    script = tmp_path / "two.py"
    script.write_text(
        "import sys, torch, torch.distributed as dist\n"
        "from pathlib import Path\n"
        "from portrait_anim.networks.config import ModelConfig\n"
        "from portrait_anim.training.episodes import EpisodeConfig\n"
        "from portrait_anim.training.train import join_processes, meta_train\n"
        "from portrait_anim.training.trainer import TrainConfig\n"
        "device = join_processes('cpu'); torch.set_num_threads(1)\n"
        "model = ModelConfig(widths=(8, 12, 16, 20), source_widths=(6, 8, 10, 12), critic_widths=(8, 12, 16))\n"
        "config = TrainConfig.for_cpu(batch=1, steps=3, adversarial_after=1, local_side=64,\n"
        "    episodes=EpisodeConfig(side=160, targets=1))\n"
        "trainer = meta_train(Path(sys.argv[1]), Path(sys.argv[2]), 1, 0, model, config, device=device)\n"
        "mine = torch.cat([p.detach().flatten() for p in trainer.painters])\n"
        "both = [torch.empty_like(mine) for _ in range(2)]\n"
        "dist.all_gather(both, mine)\n"
        "assert torch.equal(both[0], both[1]) and trainer.step == 3\n"
        "print('same', trainer.step)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script)]
    done = subprocess.run(
        [*command, str(shards), str(tmp_path / "run")], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("same") == 2
