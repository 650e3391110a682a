"""prepare, meta-train and evaluate on the bundled clip: small, but the real networks, losses and commands."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import CLIP, PATIENCE, read_frames, write_video

pytest.importorskip("safetensors")
from portrait_anim.errors import InputError
from portrait_anim.networks.networks import ModelConfig
from portrait_anim.training.episodes import EpisodeConfig, Episodes, augment, palette
from portrait_anim.training.losses import jittered
from portrait_anim.training.prepare import is_held_out, load_shard, load_shards
from portrait_anim.training.train import TrainConfig, Trainer, meta_train

TINY = TrainConfig(batch=2, adversarial_after=1, critic_every=1, episodes=EpisodeConfig(crop=64, crops=2))


def run_tool(*arguments, cwd: Path, timeout: float = PATIENCE) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "portrait_anim.commands.tools", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> Path:
    """Shards of two "people" cut from the bundled clip, one on each side of the split, and a report of bad files."""
    folder = tmp_path_factory.mktemp("videos")
    frames = read_frames(CLIP)
    names = {side: next(f"p{k}" for k in range(99) if is_held_out(f"p{k}") == side) for side in (False, True)}
    with open(folder / "groups.jsonl", "w") as groups:
        for side, part in ((False, frames[:60]), (True, frames[60:110])):
            write_video(folder / f"clip{int(side)}.mp4", part)
            groups.write(json.dumps({"id": f"clip{int(side)}", "group": names[side]}) + "\n")
    cut = np.concatenate([frames[:30], np.full_like(frames[:5], 50), frames[150:180]])
    write_video(folder / "with_gap.mp4", cut)
    (folder / "broken.mp4").write_bytes(CLIP.read_bytes()[:2_000])
    done = run_tool("prepare", folder, "--out", "shards", "--groups", "groups.jsonl", "--workers", 2, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "report.txt").write_text(done.stderr + done.stdout)
    return folder / "shards"


def test_prepare_reports_what_it_kept_and_why_not(shards):
    report = (shards.parent / "report.txt").read_text()
    assert "INFO:" not in report and "W0000" not in report  # what MediaPipe says to itself
    assert "broken.mp4: " in report and "not a video" in report
    assert "with_gap.mp4: kept" in report and "2 shards" in report and "no face" in report
    rows = [json.loads(line) for line in (shards / "index.jsonl").read_text().splitlines()]
    assert {Path(r["video"]).name for r in rows} == {"clip0.mp4", "clip1.mp4", "with_gap.mp4", "broken.mp4"}


def test_prepare_goes_on_where_it_stopped(shards):
    stamps = {p: p.stat().st_mtime_ns for p in shards.glob("*.npz")}
    done = run_tool("prepare", shards.parent, "--out", "shards", "--groups", "groups.jsonl", cwd=shards.parent)
    assert done.returncode == 0
    assert {p: p.stat().st_mtime_ns for p in shards.glob("*.npz")} == stamps


def test_a_shard_holds_upright_heads_with_their_landmarks(shards):
    shard = load_shards(shards, held_out=True)[0]
    assert shard.image(0).shape == (256, 256, 3)
    points = shard.landmarks[:, :468, :2]
    assert 90 < np.ptp(points[0, :, 1]) < 150  # about half of the crop's height
    assert np.abs(points.mean((0, 1)) - 128).max() < 40
    matte = shard.matte(0)
    nose = shard.landmarks[0, 1, :2].astype(int)
    assert matte[nose[1], nose[0]] > 0.95 and matte[:20, :20].mean() < 0.2


def test_a_damaged_shard_is_refused(shards, tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(next(shards.glob("*.npz")).read_bytes()[:5000])
    with pytest.raises(InputError, match="x.npz: not a readable shard"):
        load_shard(path)
    with pytest.raises(InputError, match="no training people"):
        load_shards(tmp_path / "nothing", held_out=False)


def test_the_split_is_by_person_fixed_and_about_a_seventh():
    held_out = [is_held_out(str(k)) for k in range(2000)]
    assert 0.12 < np.mean(held_out) < 0.17
    assert [k for k in range(40) if held_out[k]] == [3, 18, 19, 20, 27]  # changing it would spoil every comparison


def test_episodes_depend_on_their_number_only(shards):
    train = load_shards(shards, held_out=False)
    one, other = Episodes(train, seed=3)[17], Episodes(train, seed=3)[17]
    assert all(torch.equal(one[k].nan_to_num(-1), other[k].nan_to_num(-1)) for k in one)
    assert not torch.equal(one["x"], Episodes(train, seed=4)[17]["x"])
    assert one["x"].shape == (3, 13, 80, 80) and one["photos"].shape == (3, 3, 256, 256)
    assert one["x"][:, :6].abs().max() <= 1.001


@pytest.mark.parametrize("bend", [0.0, 4.0])
def test_landmarks_move_with_the_pictures_they_lie_on(bend):
    rows, columns = np.mgrid[:256, :256] + 0.5
    places = np.stack(np.meshgrid(*[np.linspace(64, 192, 5)] * 2), -1).reshape(-1, 2)
    away = lambda place: np.hypot(columns - place[0], rows - place[1])
    dots = np.uint8(255 * sum(np.exp(-((away(place) / 3) ** 2)) for place in places))
    points = np.zeros((478, 3))
    points[:, :2] = places[np.arange(478) % 25]
    for seed in range(12):
        (image, same), (moved, other) = augment([dots, dots], [points, points], np.random.default_rng(seed), bend)
        assert np.array_equal(image, same) and np.array_equal(moved, other)
        for place in np.unique(moved[:, :2].round(6), axis=0):
            if (place > 16).all() and (place < 240).all():
                weight = image * (away(place) < 9)
                shown = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
                assert np.abs(shown - place).max() < 0.35, (seed, place, shown)


def test_local_heads_are_told_where_mouth_and_eyes_are(shards):
    batch = Episodes(load_shards(shards, held_out=False), seed=3)[17]
    assert batch["mouth"].shape == (3, 1, 2) and batch["eyes"].shape == (3, 2, 2)
    x, y = batch["mouth"][0, 0].round().int().tolist()  # the first crop shows the mouth: lips are drawn around there
    red = batch["x"][0, 3]
    assert red[y - 12 : y + 12, x - 20 : x + 20].max() > 0.5
    for part in ("mouth", "eyes"):
        seen = batch[part][batch[part].isfinite()]
        assert len(seen) and (seen >= 8).all() and (seen <= 72).all()


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


def test_perceptual_networks_meet_the_generators_strides_at_every_offset():
    image = torch.arange(80 * 80.0).reshape(1, 1, 80, 80)
    cuts = [jittered(step, image, -image) for step in range(300)]
    assert all(a.shape == (1, 1, 72, 72) and torch.equal(a, -b) for a, b in cuts)
    corners = {divmod(int(a[0, 0, 0, 0]), 80) for a, _ in cuts}
    assert {y for y, _ in corners} == {x for _, x in corners} == set(range(9))
    assert torch.equal(jittered(7, image)[0], cuts[7][0])  # a resumed run sees the same


def test_palettes_reach_the_looks_of_old_pictures():
    rng = np.random.default_rng(0)
    red = np.full((1, 1, 3), (200, 60, 60), np.uint8)
    saturation = []
    for _ in range(200):
        matrix, curve = palette(rng, strong=True)
        colour = cv2.LUT(cv2.transform(red, matrix), curve)[0, 0].astype(int)
        saturation.append(np.ptp(colour))
    assert min(saturation) == 0 and max(saturation) > 100  # from monochrome to nearly untouched


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


def test_the_papers_perceptual_losses_join_when_their_networks_are_given(shards, tmp_path):
    from test_perceptual import vgg

    file = tmp_path / "vgg19.pth"
    torch.save(vgg((2, 2, 4, 4, 1)).state_dict(), file)
    config = TrainConfig(batch=1, vgg19=file, episodes=EpisodeConfig(crop=64, crops=1))
    trainer = Trainer(load_shards(shards, held_out=False), config=config)
    report = trainer.train_step(torch.utils.data.default_collate([trainer.episodes[0]]))
    assert report["vgg19"] > 0 and "vggface" not in report


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


def _train_until(shards: Path, out: Path, step: int) -> Trainer:
    """meta_train, stopped as by SIGTERM once it has made `step` steps."""
    import signal
    from unittest import mock

    original = Trainer.train_step

    def stepping(self, batch):
        report = original(self, batch)
        if self.step >= step:
            signal.raise_signal(signal.SIGTERM)
        return report

    with mock.patch.object(Trainer, "train_step", stepping):
        return meta_train(shards, out, workers=0, config=TINY)


def test_a_checkpoint_of_another_model_is_refused(shards, tmp_path):
    trainer = _train_until(shards, tmp_path / "run", 1)
    assert trainer.step == 1
    other = Trainer(load_shards(shards, held_out=False), ModelConfig(widths=(32, 64, 128)), TINY)
    with pytest.raises(InputError, match="another model"):
        other.load(tmp_path / "run" / "checkpoint.pt")
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        trainer.load(tmp_path / "run" / "checkpoint.pt")


def test_the_command_trains_shows_samples_and_its_weights_animate(shards, tmp_path):
    done = run_tool(
        "meta-train", shards, "--out", "run", "--minutes", "0.05", "--batch", 2, "--adversarial-after", 1, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    assert (run / "checkpoint.pt").exists() and list(run.glob("samples-*.png"))
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] >= 1 and "held-out L1" in log[-1]
    from conftest import ASTRONAUT, run_animate

    done = run_animate(
        ASTRONAUT,
        "-d",
        CLIP,
        "--end",
        "0.2",
        "--weights",
        run / "weights.safetensors",
        "--max-size",
        "256",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_evaluate_gives_the_table_and_the_pictures(shards, tmp_path):
    done = run_tool("evaluate", shards, "--shots", 1, "--shots", 4, "--out", "result", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "result" / "evaluation.json").read_text())
    assert set(report["shots"]) == {"1", "4"}
    rows = report["shots"]["1"]["rows"]
    assert set(rows) == {"still photo", "mesh warp", "model"}
    assert rows["mesh warp"]["l1"] < rows["still photo"]["l1"]
    assert all(np.isfinite(rows["model"][k]) for k in ("l1", "ssim", "csim", "akd", "mouth_perceptual"))
    assert "| mesh warp |" in done.stdout and (tmp_path / "result" / "contact-sheet.png").exists()


@pytest.mark.slow
def test_evaluate_measures_fine_tuned_persons(shards, tmp_path):
    arguments = ("--shots", 2, "--finetune", 5, "--people", 1, "--out", "result")
    done = run_tool("evaluate", shards, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "result" / "evaluation.json").read_text())
    table = report["shots"]["2"]
    assert report["people"] == 1 and table["pairs"] == 4 and table["people helped by fine-tuning"] in (0, 1)
    assert set(table["rows"]) == {"still photo", "mesh warp", "model", "fine-tuned"}
    assert np.isfinite(table["rows"]["fine-tuned"]["mouth_perceptual"])
    done = run_tool("evaluate", shards, "--people", 3, cwd=tmp_path)
    assert done.returncode == 2 and "--people" in done.stderr


@pytest.mark.slow
def test_the_papers_configuration_trains_with_the_same_command(shards, tmp_path):
    done = run_tool(
        "meta-train",
        shards,
        "--out",
        "paper",
        "--paper",
        "--minutes",
        "0.01",
        "--batch",
        1,
        "--adversarial-after",
        0,
        cwd=tmp_path,
    )
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
