"""A GPU makes the frames that the processor makes. `./dev test -m gpu` runs these alone; the report names the card."""

import json

import numpy as np
import pytest
import torch
from support import ASTRONAUT, MONA_LISA, portrait_of, read_frames, run_animate_alone, run_tool_alone

from portrait_anim.geometry.mesh import openness
from portrait_anim.motion.retarget import Retargeter
from portrait_anim.painting.painter import Painter, choose_device
from portrait_anim.painting.person import Person
from portrait_anim.painting.renderer import Renderer, painted_box
from portrait_anim.training.batches import collate
from portrait_anim.training.shards import load_shards
from portrait_anim.training.trainer import TrainConfig, Trainer

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")]


def frames(driver, painter: Painter) -> np.ndarray:
    """The Mona Lisa at rest, with the mouth widest open, and where the head is turned farthest."""
    portrait = portrait_of(MONA_LISA)
    canvas = portrait.views[0]
    targets = Retargeter(driver, canvas.landmarks)
    opening = [openness(targets[t])[0] for t in range(len(targets))]
    turned = [np.abs(targets[t] - canvas.landmarks).mean() for t in range(len(targets))]
    person = Person.of([portrait], painter)
    renderer = Renderer.of(portrait, person.generator(), painted_box(targets, canvas))
    chosen = (int(np.argmin(turned)), int(np.argmax(opening)), int(np.argmax(turned)))
    return np.stack([renderer.frame(targets[t]) for t in chosen]).astype(int)


@pytest.fixture(scope="module")
def reference(driver):
    return frames(driver, Painter(device="cpu", precision="fp32"))


def test_auto_takes_the_gpu_in_half_precision():
    assert choose_device("auto").type == DEVICE and Painter().dtype == torch.float16


@pytest.mark.parametrize("precision, most, mean", [("fp32", 3, 0.02), ("fp16", 24, 0.3), ("bf16", 40, 0.6)])
def test_frames_are_those_of_the_processor(driver, reference, precision, most, mean):
    """fp32 differs by the order of sums and, on cards that multiply in TF32, by 10 bits of mantissa."""
    made = frames(driver, Painter(device=DEVICE, precision=precision))
    error = np.abs(made - reference)
    assert error.max() <= most and error.mean() <= mean, (error.max(), error.mean())


def test_a_person_encoded_on_the_gpu_is_the_same():
    view = [portrait_of(ASTRONAUT).views[0]]
    ours, theirs = (Painter(device=device, precision="fp32").encode(view) for device in ("cpu", DEVICE))
    assert (ours.code - theirs.code).abs().max() < 0.01 * ours.code.abs().max()
    for one, two in zip(ours.features[0], theirs.features[0]):
        assert np.abs(one - two).max() < 0.01 * np.abs(one).max()


def test_the_command_on_the_gpu(tmp_path, clip):
    made = {}
    for device in ("cpu", DEVICE):
        options = ["-d", clip, "--device", device, "--crf", 0, "--max-size", 512, "-o", f"{device}.mp4", "--json"]
        done = run_animate_alone(ASTRONAUT, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["frames"] == 6 and f"Running on {device}" in done.stderr
        made[device] = read_frames(tmp_path / f"{device}.mp4").astype(int)
    assert np.abs(made["cpu"] - made[DEVICE]).mean() < 1


def test_several_threads_share_the_gpu(tmp_path, clip):
    made = []
    for threads in (1, 4):
        options = ["-d", clip, "--device", DEVICE, "--precision", "fp32", "--crf", 0, "--threads", threads]
        done = run_animate_alone(ASTRONAUT, *options, "--max-size", 256, "-o", f"{threads}.mp4", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        made.append(read_frames(tmp_path / f"{threads}.mp4").astype(int))
    assert np.abs(made[0] - made[1]).max() <= 2


def test_a_step_of_training_has_the_losses_of_the_processor(shards, tiny_model):
    losses = []
    for device in ("cpu", DEVICE):
        torch.manual_seed(0)
        config = TrainConfig.for_cpu(batch=2, adversarial_after=10)
        trainer = Trainer(load_shards(shards, held_out=False), tiny_model, config, torch.device(device))
        report = trainer.train_step(collate([trainer.episodes[n] for n in range(2)]))
        losses.append({name: float(value) for name, value in report.items()})
    assert losses[0].keys() == losses[1].keys()
    for name, value in losses[0].items():
        assert losses[1][name] == pytest.approx(value, rel=0.05, abs=0.01), name


def test_training_and_fine_tuning_as_commands(tmp_path, shards, clip):
    options = ["--out", "run", "--steps", 2, "--batch", 2, "--workers", 0, "--device", DEVICE]
    done = run_tool_alone("meta-train", shards, *options, cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "run" / "weights.safetensors").exists(), done.stderr
    photos = [ASTRONAUT, "-d", clip, "--finetune", 20, "--device", DEVICE, "--max-size", 256, "-o", "x.mp4"]
    done = run_animate_alone(*photos, cwd=tmp_path)
    assert done.returncode == 0 and len(read_frames(tmp_path / "x.mp4")) == 6, done.stderr
