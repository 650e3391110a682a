"""Fine-tuning on the photos of one person: what it learns from, what it promises, how it is stopped."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ASTRONAUT, CLIP, MONA_LISA, PATIENCE, assert_refused, read_frames, run_animate, start_python, track

from portrait_anim.geometry.mesh import face_height, openness
from portrait_anim.networks import weights
from portrait_anim.networks.networks import Discriminator, Embedder, Generator, ModelConfig
from portrait_anim.painting.painter import Painter
from portrait_anim.portrait.portrait import Portrait
from portrait_anim.portrait.source_video import choose_frames, portraits_of_video
from portrait_anim.training.finetune import FinetuneConfig, ended_by_interrupt, finetune
from portrait_anim.training.losses import LossWeights
from portrait_anim.training.pairs import Shots, ShotsConfig
from portrait_anim.training.reposing import repose

TINY = ModelConfig(
    widths=(16, 24, 32), embedding=16, middle=1, embedder_widths=(8, 12, 16), critic_widths=(16, 24, 32),
    local_widths=(8, 12, 16),
)  # fmt: skip
FEW = ShotsConfig(crop=64, crops=3)
QUICK = FinetuneConfig(pairs=1, checks=2, check_every=20, shots=FEW)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A weights file of small, untrained networks: G is the mesh warp."""
    torch.manual_seed(0)
    networks = Generator(TINY), Embedder(TINY)
    info = {"name": "tiny", "training": "none", "licence": "none"}
    return weights.save(tmp_path_factory.mktemp("tiny"), *networks, TINY, info, Discriminator(TINY, n_videos=3))


@pytest.fixture(scope="session")
def mona():
    return [Portrait.load(MONA_LISA).views[0]]


@pytest.fixture(scope="session")
def three():
    """Three photos of one person."""
    frames, motion = read_frames(CLIP), track(CLIP)
    scale = frames.shape[2] / motion.size[0]
    return [Portrait(frames[t], motion.landmarks[t].astype(np.float64) * scale).views[0] for t in (0, 60, 120)]


# ------------------------------------------------------------------------------------------- what is learned from


def test_reposed_faces_are_faces_in_other_poses(mona):
    own = mona[0].landmarks
    poses = np.stack([repose(own, np.random.default_rng(j)) for j in range(60)])
    assert np.isfinite(poses).all()
    moved = np.linalg.norm(poses - own, axis=2).mean(1) / face_height(own)
    assert 0.02 < moved.min() and moved.max() < 0.5
    opening = openness(poses)
    assert opening[:, 0].max() > openness(own)[0] + 0.08  # mouths open
    assert opening[:, 2].min() < 0.6 * openness(own)[2]  # eyes close
    assert (poses[:, 14, 1] - poses[:, 13, 1]).min() > -0.03 * face_height(own)  # lips do not cross


def test_items_depend_on_their_number_and_hold_back_what_is_measured_with(tiny, mona, three):
    painter = Painter(tiny, device="cpu", precision="fp32")
    for views in (mona, three):
        one, other, seed4 = (Shots(views, painter, seed, FEW).item(5) for seed in (3, 3, 4))
        assert all(torch.equal(one[k].nan_to_num(), other[k].nan_to_num()) for k in one)
        assert not torch.equal(one["x"], seed4["x"])
        assert not torch.equal(one["x"], Shots(views, painter, 3, FEW).item(5, held_out=True)["x"])
    both_ways = [Shots(mona, painter, 3, FEW)._reposed(np.random.default_rng(j))[2] is mona[0] for j in range(12)]
    assert 2 <= sum(both_ways) <= 10  # the photo from another pose, or the other pose from the photo
    shots = Shots(three, painter, 0, FEW)
    nose = lambda view: view.landmarks[1, 0]
    targets = lambda held_out: {nose(shots._pair(np.random.default_rng(j), held_out)[2]) for j in range(12)}
    assert targets(True) == {nose(three[shots.kept_back])}
    assert targets(False) == {nose(view) for view in three} - targets(True)


# ------------------------------------------------------------------------------------------- what is promised


def test_it_learns_the_person_and_leaves_the_weights_alone(mona):
    start = weights.load(critic=True)
    before = {k: v.clone() for k, v in start.generator.state_dict().items()}
    seen = []
    tuned = finetune(mona, start, 300, steps=8, config=QUICK, progress=lambda *a: seen.append(a))
    assert tuned.helped and tuned.after < tuned.before and tuned.steps == 8
    assert seen == [(n, 8) for n in range(9)]
    assert all(torch.equal(v, before[k]) for k, v in start.generator.state_dict().items())
    state = tuned.generator.state_dict()
    assert any(not torch.equal(v, before[k]) for k, v in state.items())
    assert all(torch.equal(v, v.half().float()) for v in (*state.values(), tuned.psi))  # as a file will keep them


def test_the_same_seed_gives_the_same_person(tiny, mona):
    start = weights.load(tiny, critic=True)
    forced = replace(QUICK, weights=replace(LossWeights(), image=0.0, face=-1.0))  # what is best is the last
    a, b, c = (finetune(mona, start, 300, steps=3, seed=seed, config=forced) for seed in (1, 1, 2))
    assert a.helped and torch.equal(a.psi, b.psi) and not torch.equal(a.psi, c.psi)
    assert all(torch.equal(x, y) for x, y in zip(a.generator.parameters(), b.generator.parameters()))


def test_a_person_that_got_worse_is_not_returned(tiny, mona):
    start = weights.load(tiny, critic=True)
    ruin = replace(QUICK, learning_rate=3.0, psi_rate=3.0, average=0.0)
    tuned = finetune(mona, start, 120, steps=5, config=ruin)
    assert not tuned.helped and tuned.after == tuned.before
    for key, value in start.generator.state_dict().items():
        assert torch.equal(tuned.generator.state_dict()[key], value)


def test_weights_without_a_discriminator_can_be_tuned(tiny, mona):
    start = weights.load(tiny)
    assert start.critic is None
    assert finetune(mona, start, 120, steps=2, config=QUICK).steps == 2


def test_it_ends_when_told_to(tiny, mona):
    start = weights.load(tiny, critic=True)
    calls = []
    tuned = finetune(
        mona, start, 120, config=QUICK, should_stop=lambda: len(calls) == 4, progress=lambda *a: calls.append(a)
    )
    assert tuned.steps == 3 and calls[-1][1] == 120
    endless = replace(QUICK, check_every=10**9)
    assert finetune(mona, start, 10, config=endless).seconds < PATIENCE  # by its checks it would never end


def test_the_first_ctrl_c_is_a_wish_the_second_an_end():
    before = signal.getsignal(signal.SIGINT)
    with ended_by_interrupt() as asked:
        assert not asked()
        signal.raise_signal(signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


# ------------------------------------------------------------------------------------------- the command


@pytest.mark.slow
def test_ctrl_c_ends_the_tuning_and_the_video_is_made(tiny, tmp_path):
    command = ["-m", "portrait_anim", MONA_LISA, "-d", CLIP, "--end", "0.2", "--max-size", "256"]
    command += ["--weights", tiny, "--finetune", "600", "-o", "out.mp4"]
    process = start_python(*command, cwd=tmp_path)
    assert any(line.startswith("Fine-tuning to the photos first") for line in process.stderr)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0, process.stderr.read()
    assert (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("value", ["3", "-5", "nan", "inf", "long", "", "1e9"])
def test_impossible_budgets_are_refused(value, tmp_path):
    done = run_animate(MONA_LISA, "-d", CLIP, f"--finetune={value}", cwd=tmp_path)
    assert_refused(done, 2, "--finetune", "auto, off", folder=tmp_path)


def test_a_negative_seed_is_refused(tmp_path):
    done = run_animate(MONA_LISA, "-d", CLIP, "--seed", "-1", cwd=tmp_path)
    assert_refused(done, 2, "--seed", folder=tmp_path)


# ------------------------------------------------------------------------------------------- a video for photos


def test_frames_of_a_video_are_sharp_and_different():
    portraits = portraits_of_video(CLIP, 4, max_size=512)
    assert len(portraits) == 4
    opening = np.stack([openness(p.landmarks) for p in portraits])
    motion = track(CLIP)
    everything = openness(motion.landmarks)
    assert opening[0, 0] < np.median(everything[:, 0]) + 0.02  # the canvas is calm
    consecutive = np.abs(everything[1:5] - everything[0]).sum(1).mean()
    apart = np.abs(opening[1:] - opening[0]).sum(1)
    assert apart.min() > consecutive
    blurred = np.full(len(motion), 1.0)
    blurred[:40] = 0.0
    motion.found[100:] = False
    assert all(40 <= t < 100 for t in choose_frames(motion, blurred, 8))


def test_a_video_animates_itself(tmp_path):
    arguments = ("--shots", 2, "-d", CLIP, "--end", "0.2", "--finetune", "off", "--max-size", 256, "-o", "o.mp4")
    done = run_animate("--source-video", CLIP, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o.mp4").exists()
    done = run_animate("--source-video", ASTRONAUT.with_name("no.mp4"), "-d", CLIP, cwd=tmp_path)
    assert_refused(done, 3, "no.mp4")
    done = run_animate("--source-video", CLIP, "--shots", 0, "-d", CLIP, cwd=tmp_path)
    assert_refused(done, 2, "--shots")
