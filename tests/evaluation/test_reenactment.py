"""Self-reenactment: which frames, the pictures, the tables."""

import json

import cv2
import numpy as np
import pytest
import torch
from support import assert_refused, run_tool

from portrait_anim.evaluation.meter import METRICS, Meter, reduced
from portrait_anim.evaluation.pairs import choose_pairs, choose_tuning_pairs
from portrait_anim.evaluation.reenactment import evaluate, reenact, to_markdown
from portrait_anim.painting.painter import Painter
from portrait_anim.training.shards import load_shards, make_shard


@pytest.fixture(scope="module")
def held_out(shards):
    return load_shards(shards, held_out=True)


def test_the_tables_and_the_pictures(shards, tiny, tmp_path):
    report = evaluate(shards, tiny, shots=(1, 3), out=tmp_path / "result")
    assert json.loads((tmp_path / "result" / "evaluation.json").read_text()) == report
    assert set(report["shots"]) == {"1", "3"}
    rows = report["shots"]["1"]["rows"]
    assert set(rows) == {"still photo", "mesh warp", "model"} and set(rows["model"]) == set(METRICS)
    assert rows["mesh warp"]["l1"] < rows["still photo"]["l1"]
    assert rows["model"]["l1"] == pytest.approx(rows["mesh warp"]["l1"], abs=0.05)  # untrained it is the warp
    assert all(np.isfinite(rows["model"][k]) for k in ("l1", "ssim", "csim", "akd", "mouth_perceptual"))
    table = to_markdown(report)
    assert (tmp_path / "result" / "evaluation.md").read_text() == table and "| mesh warp |" in table
    sheet = cv2.imread(str(tmp_path / "result" / "contact-sheet.png"))
    assert sheet.shape[1] == 2 * 4 * 256  # two columns of source, target, warp and model


def test_figures_do_not_depend_on_the_size_of_the_shards(held_out):
    """A small clip is enlarged for the networks, and measured at 256 px like all others."""
    shard, meter = held_out[0], Meter(held_out)
    found = []
    for size in (256, 512):
        frames = np.stack([shard.image(t, size) for t in range(len(shard))])
        landmarks = shard.landmarks * np.float32(size / shard.size)
        pair = choose_pairs([make_shard({"group": shard.group}, frames, shard.decode()[1], landmarks)])[0]
        square = reenact(pair, None)
        assert square.image.shape == (512, 512, 3)
        target, points = pair.image(pair.target), pair.shard.points(pair.target, 256)
        found.append(meter(reduced(square.image), target, points, square.mouth[::2, ::2]))
    assert found[0]["l1"] == pytest.approx(found[1]["l1"], rel=0.1)
    assert found[0]["akd"] == pytest.approx(found[1]["akd"], abs=0.2)


def test_pairs_are_the_same_for_everybody(held_out):
    one, other = (choose_pairs(held_out, 2) for _ in range(2))
    assert [(p.sources, p.target) for p in one] == [(p.sources, p.target) for p in other]
    assert all(len(p.sources) == 2 and p.target not in p.sources for p in one)
    tuning = choose_tuning_pairs(held_out, 2)
    assert len(tuning) == 4 and all(min(abs(p.target - s) for s in p.sources) > 1 for p in tuning)


def test_a_picture_measured_against_itself_has_no_error(held_out):
    meter, pair = Meter(held_out), choose_pairs(held_out)[0]
    target, points = pair.image(pair.target), pair.shard.points(pair.target, 256)
    found = meter(target, target, points, np.ones((256, 256), bool))
    assert found["l1"] == found["mouth_perceptual"] == 0 and found["csim"] == pytest.approx(1, abs=1e-4)
    assert found["ssim"] == pytest.approx(1) and found["akd"] < 2


def test_a_tuned_code_is_used(held_out, tiny):
    painter = Painter(tiny, device="cpu", precision="fp32")
    torch.nn.init.normal_(painter.weights.generator.out.weight, std=0.1)  # zero as it starts
    pair = choose_pairs(held_out)[0]
    own = reenact(pair, painter).image
    count = sum(painter.weights.generator.coeffs)
    assert not np.array_equal(own, reenact(pair, painter, torch.ones(1, count)).image)


@pytest.mark.slow
def test_the_command_measures_fine_tuned_persons(shards, tiny, tmp_path):
    arguments = ("--weights", tiny, "--shots", 2, "--finetune", 5, "--people", 1, "--out", "result")
    done = run_tool("evaluate", shards, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "result" / "evaluation.json").read_text())
    table = report["shots"]["2"]
    assert report["people"] == 1 and table["pairs"] == 4 and table["people helped by fine-tuning"] in (0, 1)
    assert set(table["rows"]) == {"still photo", "mesh warp", "model", "fine-tuned"}
    assert np.isfinite(table["rows"]["fine-tuned"]["mouth_perceptual"])
    done = run_tool("evaluate", shards, "--people", 3, cwd=tmp_path)
    assert done.returncode == 2 and "--people" in done.stderr


def test_clips_too_short_for_so_many_photos_are_refused(shards, tmp_path):
    done = run_tool("evaluate", shards, "--shots", 16, "--finetune", 10, "--out", "result", cwd=tmp_path)
    assert_refused(done, 3, "too short", "longer clips", folder=tmp_path)
