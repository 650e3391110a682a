"""Meta-training: it learns, stops, resumes exactly, and refuses what is not its own."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from support import ASTRONAUT, CLIP, PATIENCE, run_animate, run_tool

from portrait_anim.errors import InputError
from portrait_anim.networks import weights
from portrait_anim.networks.config import ModelConfig
from portrait_anim.training import adversary, checkpoints
from portrait_anim.training.batches import collate
from portrait_anim.training.episodes import EpisodeConfig
from portrait_anim.training.history import read_log
from portrait_anim.training.shards import load_shards, make_shard
from portrait_anim.training.train import meta_train, own_config
from portrait_anim.training.trainer import TrainConfig, Trainer

SMALL = EpisodeConfig(side=160, targets=1)
FEW = TrainConfig(
    batch=2, margin=16, adversarial_after=1, local_side=64, settle_every=2, bf16=False, episodes=SMALL
)  # fmt: skip
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
        return meta_train(shards, out, model=model, config=config, cache=out.parent / "decoded", **options)


def test_untrained_it_is_the_warp_and_training_goes_down_on_one_batch(train, tiny_model):
    config = replace(FEW, batch=1, warm_up=5, learning_rate=5e-4, adversarial_after=10**6)
    trainer = Trainer(train, tiny_model, config)
    batch = batch_of(trainer)
    reports = [trainer.train_step(batch) for _ in range(20)]
    assert reports[0]["l1"] == pytest.approx(reports[0]["l1 warp"].item(), abs=1e-3)
    total = [float(r["image"] + r["warp"] + r["paint"] + r["face"] + r["face_local"]) for r in reports]
    assert np.isfinite(total).all() and np.median(total[-5:]) < 0.9 * total[0]


def as_sharp(shards: list) -> list:
    """The same clips as if they had 512 px."""
    found = []
    for shard in shards:
        frames = np.stack([shard.image(t, 512) for t in range(0, len(shard), 4)])
        mattes, landmarks = shard.decode()[1][::4], shard.landmarks[::4] * (512 / shard.size)
        found.append(make_shard({"group": shard.group}, frames, mattes, landmarks))
    return found


@pytest.fixture(scope="module")
def sharp(train):
    return as_sharp(train[:1])


def test_every_term_and_every_network_takes_part(sharp, tiny_model, monkeypatch):
    monkeypatch.setattr(adversary, "_FIRST", -150)  # without the ramp
    trainer = Trainer(sharp, tiny_model, replace(FEW, adversarial_after=0))
    trainer.generator.out.weight.data.normal_(std=0.1)  # which starts at zero, and hides all that is before it
    networks = {"generator": trainer.generator, "encoder": trainer.encoder, "critic": trainer.adversary.network}
    before = {name: [p.clone() for p in network.parameters()] for name, network in networks.items()}
    report = trainer.train_step(batch_of(trainer))
    expected = {"image", "warp", "paint", "smooth_flow", "keep", "matte", "face", "look", "face_local", "sharp_local"}
    assert expected | {"critic", "critic's own", "l1", "l1 warp"} == set(report) and report["critic"] > 0
    for name, old in before.items():
        changed = [not torch.equal(p, q) for p, q in zip(networks[name].parameters(), old)]
        assert np.mean(changed) > 0.9, name


def test_the_critic_learns_to_tell_what_is_made_from_the_truth_and_is_held_at_its_share(sharp, tiny_model, monkeypatch):
    monkeypatch.setattr(adversary, "_FIRST", -150)
    trainer = Trainer(sharp, tiny_model, replace(FEW, adversarial_after=0, learning_rate=0.0, critic_rate=3e-3))
    batch = batch_of(trainer)
    asked = {}
    original = trainer.adversary.terms

    def terms(judged):
        found = original(judged)
        norm = lambda loss: torch.autograd.grad(loss, trainer.generator.out.weight, retain_graph=True)[0].norm()
        asked["share"] = float(norm(found["critic"]) / norm(sum(judged.terms.values())))
        return found

    monkeypatch.setattr(trainer.adversary, "terms", terms)
    reports = [trainer.train_step(batch) for _ in range(1)]
    assert asked["share"] == pytest.approx(trainer.config.weights.critic, rel=0.01)
    monkeypatch.undo()
    reports += [trainer.train_step(batch) for _ in range(11)]
    assert reports[-1]["critic's own"] < 0.85 * reports[0]["critic's own"]


def test_clips_of_256_px_only_are_trained_on_without_the_critic(train, tiny_model):
    trainer = Trainer(train[:1], tiny_model, replace(FEW, adversarial_after=0))
    assert "critic" not in trainer.train_step(batch_of(trainer))


def test_what_costs_most_is_done_on_some_steps_only(train, tiny_model):
    config = replace(FEW, adversarial_after=9, source_every=2, look_every=3)
    trainer = Trainer(train, tiny_model, config)
    trainer.generator.out.weight.data.normal_(std=0.1)
    learned = []
    for step in range(4):
        before = trainer.encoder.stem[1].weight.clone()
        report = trainer.train_step(batch_of(trainer, step))
        learned.append([not torch.equal(before, trainer.encoder.stem[1].weight), "look" in report])
    assert learned == [[True, True], [False, False], [True, False], [False, True]]


def test_a_step_whose_gradient_is_no_number_is_left_out(train, tiny_model):
    trainer = Trainer(train, tiny_model, FEW)
    trainer.train_step(batch_of(trainer))
    before = [p.clone() for p in trainer.painters]
    trainer._update(trainer.optimiser, trainer.painters, sum(p.sum() for p in trainer.painters) * torch.nan)
    assert all(torch.equal(p, q) for p, q in zip(trainer.painters, before))
    trainer._update(trainer.optimiser, trainer.painters, sum(p.sum() for p in trainer.painters))
    assert not any(torch.equal(p, q) for p, q in zip(trainer.painters, before))


def test_e_starts_standardised_without_changing_what_the_generator_does(train, tiny_model):
    people = [replace(shard, header={**shard.header, "group": str(n)}) for n, shard in enumerate(train)]
    trainer = Trainer(people, tiny_model, FEW)
    with torch.no_grad():
        before = trainer.generator.projection(checkpoints._people(trainer))
        checkpoints.standardise(trainer)
        e = checkpoints._people(trainer)
        assert torch.allclose(before, trainer.generator.projection(e), atol=1e-4)
    assert torch.allclose(e.mean(0), torch.zeros(16), atol=1e-3)


def test_slices_of_a_run_are_the_run(shards, tmp_path, tiny_model):
    """Ended between two settled steps, a slice is taken up at the first of these; nothing differs afterwards."""
    torch.set_num_threads(1)
    config = replace(FEW, steps=20, warm_up=1, adversarial_after=1)

    def run(folder: str, stops: list[int]) -> Trainer:
        for stop in stops:
            trainer = _train_until(shards, tmp_path / folder / "run", stop, tiny_model, config)
        return trainer

    whole, parts = run("whole", [6]), run("parts", [3, 6])
    assert whole.step == parts.step == 6
    for name in ("painters", "average"):
        assert all(torch.equal(a, b) for a, b in zip(getattr(whole, name), getattr(parts, name)))
    for a, b in zip(whole.adversary.network.state_dict().values(), parts.adversary.network.state_dict().values()):
        assert torch.equal(a, b)
    one, other = (trainer.optimiser.state_dict()["state"] for trainer in (whole, parts))
    assert all(torch.equal(one[n][name], other[n][name]) for n in one for name in one[n])
    steps = [row["step"] for row in read_log(tmp_path / "parts" / "run" / "log.jsonl")]
    assert steps == [6]  # that of the first slice, step 3, was made again


def test_the_rate_of_a_run_that_is_planned_by_time_spans_its_slices(shards, tmp_path, tiny_model):
    config = replace(FEW, plan_minutes=0.001, warm_up=1)
    first = meta_train(shards, tmp_path / "run", model=tiny_model, config=config, cache=tmp_path / "decoded")
    assert first.step == 3 and first.planned > 0.06  # the first block took longer; its end is seen after it
    assert first.optimiser.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
    again = meta_train(shards, tmp_path / "run", model=tiny_model, config=config, cache=tmp_path / "decoded")
    assert again.step == 3
    longer = replace(config, plan_minutes=100.0)
    half = Trainer(load_shards(shards, held_out=False), tiny_model, longer)
    checkpoints.load(half, tmp_path / "run" / "checkpoint.pt")
    half.planned = 3000.0
    assert half._rate_share() == pytest.approx(0.5)


def test_a_slice_ends_after_its_minutes_at_a_step_that_is_kept(shards, tmp_path, tiny_model):
    out, cache = tmp_path / "run", tmp_path / "decoded"
    trainer = meta_train(shards, out, 1e-4, model=tiny_model, config=FEW, cache=cache)
    assert trainer.step == FEW.settle_every
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == trainer.step


def test_a_run_of_steps_ends_there_with_its_rate_at_nothing(shards, tmp_path, tiny_model):
    config = replace(FEW, steps=3, warm_up=1)
    trainer = meta_train(shards, tmp_path / "run", model=tiny_model, config=config, cache=tmp_path / "decoded")
    assert trainer.step == 3
    assert trainer.optimiser.param_groups[0]["lr"] == pytest.approx(config.learning_rate / 4)  # of the last step
    made = [p.clone() for p in trainer.average]
    again = meta_train(shards, tmp_path / "run", model=tiny_model, config=config, cache=tmp_path / "decoded")
    assert again.step == 3 and all(torch.equal(a, b) for a, b in zip(made, again.average))


def test_a_run_can_start_from_a_weights_file(shards, tmp_path, tiny):
    start = weights.load(tiny, critic=True)
    trainer = _train_until(shards, tmp_path / "run", 1, ModelConfig(), replace(FEW, learning_rate=1e-9), init=tiny)
    assert trainer.model == start.config
    for name in ("source", "generator"):
        mine, theirs = trainer.averaged()[name].state_dict(), getattr(start, name).state_dict()
        assert all(torch.allclose(mine[key], value, atol=1e-6) for key, value in theirs.items())


def test_a_checkpoint_of_another_model_is_refused(shards, train, tmp_path, tiny_model):
    trainer = _train_until(shards, tmp_path / "run", 1, tiny_model)
    assert trainer.step == 1
    other = Trainer(train, replace(tiny_model, middle=2), FEW)
    with pytest.raises(InputError, match="another model"):
        checkpoints.load(other, tmp_path / "run" / "checkpoint.pt")
    path = tmp_path / "run" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    torch.save({**state, "format": 2}, path)
    with pytest.raises(InputError, match="made by an earlier version"):
        checkpoints.load(trainer, path)
    state["painters"]["planes"][0] = state["painters"]["planes"][0][:-20]
    torch.save(state, path)
    for _ in range(2):
        with pytest.raises(InputError, match="not a readable checkpoint"):
            checkpoints.load(trainer, path)
        path.write_bytes(b"not a checkpoint")


@pytest.mark.parametrize("there", [True, False])
def test_training_is_in_bf16_only_where_the_processor_multiplies_in_it(monkeypatch, there):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: there, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert TrainConfig.for_cpu().bf16 == there


# ---------------------------------------------------------------- the paper's kind


def test_the_papers_kind_trains_and_keeps_the_norms_that_spectral_norm_learned(train):
    whole = own_config(torch.device("cpu"), paper=True, batch=2, adversarial_after=0, bf16=False)
    trainer = Trainer(train, PAPER, whole)
    report = trainer.train_step(batch_of(trainer))
    assert {"image", "face", "look", "score", "match", "critic's own"} <= set(report) and "warp" not in report
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
def test_the_command_trains_shows_samples_and_its_weights_animate(shards, tmp_path, tiny):
    """Two slices by two processes; the second goes on where the first has ended."""
    arguments = ("--out", "run", "--minutes", "0.02", "--batch", 1, "--init", tiny, "--device", "cpu", "--processes", 2)
    for _ in range(2):
        done = run_tool("meta-train", shards, *arguments, "--cache", "decoded", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} > {"checkpoint.pt", "losses.png", "through-time.png"}
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 16 and "held-out L1" in log[-1] and "frames/s" in log[0]
    assert cv2.imread(str(run / "through-time.png")).shape[1] == 4 * 256  # source, target, two moments
    assert "16 steps, 128 frames" in done.stdout
    assert weights.load(run / "weights.safetensors", critic=True).critic is not None  # passed on
    arguments = ("-d", CLIP, "--end", "0.2", "--weights", run / "weights.safetensors", "--max-size", "256")
    done = run_animate(ASTRONAUT, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_papers_configuration_trains_with_the_same_command(shards, tmp_path, tiny):
    arguments = ("--out", "paper", "--paper", "--minutes", "0.01", "--batch", 1, "--adversarial-after", 0)
    done = run_tool("meta-train", shards, *arguments, "--processes", 1, "--cache", "decoded", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    arguments = ("--weights", tiny, "--paper", "paper/weights.safetensors", "--out", "result")
    done = run_tool("evaluate", shards, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the paper's configuration" in done.stdout


IMPOSSIBLE = [("--batch", 0), ("--threads", 0), ("--workers", -1), ("--steps", 0), ("--processes", 0)]
IMPOSSIBLE += [("--minutes", 0), ("--plan-minutes", -1), ("--cache-gb", 0), ("--steps", 5, "--plan-minutes", 5)]


@pytest.mark.parametrize("arguments", IMPOSSIBLE)
def test_impossible_numbers_are_refused(shards, tmp_path, arguments):
    done = run_tool("meta-train", shards, "--out", "run", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and arguments[0] in done.stderr


TWO = """
import sys, torch
from pathlib import Path
from portrait_anim.networks.config import ModelConfig
from portrait_anim.training.episodes import EpisodeConfig
from portrait_anim.training.train import meta_train
from portrait_anim.training.trainer import TrainConfig

if __name__ == "__main__":
    torch.set_num_threads(1)
    model = ModelConfig(widths=(8, 12, 16, 20), source_widths=(6, 8, 10, 12))
    config = TrainConfig.for_cpu(
        batch=1, steps=3, adversarial_after=1, local_side=64, episodes=EpisodeConfig(side=160, targets=1)
    )
    out, cache = Path(sys.argv[2]), Path(sys.argv[3])
    trainer = meta_train(Path(sys.argv[1]), out, model=model, config=config, processes=int(sys.argv[4]), cache=cache)
    assert trainer.step == 3 and trainer.world == 2
    state = {name: getattr(trainer, name) for name in ("painters", "average")}
    torch.save(state, out / f"{trainer.rank}.pt")
"""


@pytest.mark.slow
def test_two_processes_train_one_model(shards, tmp_path):
    """Both processes of torchrun end with the same weights; so do two that the library starts itself."""
    script = tmp_path / "two.py"
    script.write_text(TWO)
    run = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    for name, before, processes in (("torchrun", run, 1), ("own", [], 2)):
        command = [sys.executable, *before, script, shards, tmp_path / name, tmp_path / "decoded", processes]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr[-2000:]
    states = [torch.load(tmp_path / file) for file in ("torchrun/0.pt", "torchrun/1.pt", "own/0.pt")]
    for other in states[1:]:
        for part in ("painters", "average"):
            assert all(torch.equal(a, b) for a, b in zip(states[0][part], other[part]))
