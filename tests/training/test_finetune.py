"""Fine-tuning on the photos of one person: what it promises, how it is stopped."""

import signal
from dataclasses import replace

import pytest
import torch
from support import CLIP, MONA_LISA, PATIENCE, start_python

from portrait_anim.networks import weights
from portrait_anim.training.finetune import FinetuneConfig, ended_by_interrupt, finetune
from portrait_anim.training.losses import LossWeights
from portrait_anim.training.pairs import PairsConfig

QUICK = FinetuneConfig(pairs=1, checks=2, check_every=20, examples=PairsConfig(crop=64, crops=3))


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
    assert finetune(mona, start, 3, config=endless).seconds < PATIENCE  # by its checks it would never end


def test_the_first_ctrl_c_is_a_wish_the_second_an_end():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in jobs of the background
    try:
        with ended_by_interrupt() as asked:
            assert not asked()
            signal.raise_signal(signal.SIGINT)
            assert asked()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_ctrl_c_ends_the_tuning_and_the_video_is_made(tiny, tmp_path):
    command = ["-m", "portrait_anim", MONA_LISA, "-d", CLIP, "--end", "0.2", "--max-size", "256"]
    command += ["--weights", tiny, "--finetune", "600", "-o", "out.mp4"]
    process = start_python(*command, cwd=tmp_path)
    assert any(line.startswith("Fine-tuning to the photos first") for line in process.stderr)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0, process.stderr.read()
    assert (tmp_path / "out.mp4").exists()
