"""Fine-tuning on the photos of one person: what it promises, how it is stopped."""

import signal
from dataclasses import replace

import pytest
import torch
from support import CLIP, MONA_LISA, PATIENCE, start_python

from portrait_anim.networks import weights
from portrait_anim.painting.painter import Painter
from portrait_anim.training.finetune import ended_by_interrupt, finetune, tune_person
from portrait_anim.training.losses import LossWeights
from portrait_anim.training.pairs import PairsConfig
from portrait_anim.training.tuner import FinetuneConfig

FEW = PairsConfig(boxes=replace(PairsConfig().boxes, side=160, targets=1))
QUICK = FinetuneConfig(checks=2, check_every=20, local_side=64, examples=FEW)
# Only the face network's features count, and the farther the better: what is best is the last.
ONLY_FACE = LossWeights(**{name: 0.0 for name in vars(LossWeights())} | {"face": -1.0})


def test_it_learns_the_person_and_leaves_the_weights_alone(tiny, three):
    start = weights.load(tiny, critic=True)
    before = {k: v.clone() for k, v in start.generator.state_dict().items()}
    seen = []
    eager = replace(QUICK, learning_rate=3e-4, average=0.8, share=1.0, check_every=4, patience=9)
    tuned = finetune(three, start, 300, steps=16, config=eager, progress=lambda *a: seen.append(a))
    assert tuned.helped and tuned.after < tuned.before and tuned.steps == 16
    assert seen == [(n, 16) for n in range(17)]
    assert all(torch.equal(v, before[k]) for k, v in start.generator.state_dict().items())
    state = tuned.generator.state_dict()
    assert any(not torch.equal(v, before[k]) for k, v in state.items())
    assert all(torch.equal(v, v.half().float()) for v in (*state.values(), tuned.psi))  # as a file will keep them


@pytest.mark.parametrize("photos", ["mona", "three"])
def test_the_same_seed_gives_the_same_person(tiny, photos, request):
    start, views = weights.load(tiny, critic=True), request.getfixturevalue(photos)
    forced = replace(QUICK, weights=ONLY_FACE, learning_rate=1e-2)
    a, b, c = (finetune(views, start, 300, steps=2, seed=seed, config=forced) for seed in (1, 1, 2))
    assert a.helped and torch.equal(a.psi, b.psi)
    parameters = lambda tuned: torch.cat([p.flatten() for p in tuned.generator.parameters()])
    assert torch.equal(parameters(a), parameters(b)) and not torch.equal(parameters(a), parameters(c))


def test_a_person_that_got_worse_is_not_returned(tiny, mona):
    start = weights.load(tiny, critic=True)
    ruin = replace(QUICK, learning_rate=3.0, psi_rate=3.0, average=0.0, share=1.0)
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
    assert tuned.steps == 3 and calls[-2][1] == 120 and calls[-1][0] == calls[-1][1] < 120
    endless = replace(QUICK, check_every=10**9)
    assert finetune(mona, start, 3, config=endless).seconds < PATIENCE  # by its checks it would never end


def test_a_tuned_person_is_saved_and_paints_the_same_again(tiny, portrait, tmp_path, monkeypatch):
    from portrait_anim.painting.person import Person
    from portrait_anim.training import finetune as module

    monkeypatch.setattr(module, "AUTO_STEPS", 2)
    painter = Painter(tiny, device="cpu", precision="fp32")
    eager = replace(QUICK, weights=ONLY_FACE, learning_rate=1e-2)
    monkeypatch.setattr(module, "finetune", lambda *given: finetune(*given, config=eager))
    person = tune_person([portrait], painter, tiny)
    assert person.tuned and not person.notes
    person.save(tmp_path / "mona.safetensors")
    again = Person.load(tmp_path / "mona.safetensors", painter)
    assert again.tuned and torch.equal(again.encoding.code, person.encoding.code)
    own, read = (p.painter.weights.generator.state_dict() for p in (person, again))
    assert all(torch.equal(own[key], read[key]) for key in own)
    assert any(not torch.equal(own[key], value) for key, value in painter.weights.generator.state_dict().items())


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
    assert process.wait(PATIENCE) == 0 and "Fine-tuning ends early; " in process.stderr.read()
    assert (tmp_path / "out.mp4").exists()
