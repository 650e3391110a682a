"""Samples of held-out people while training."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from portrait_anim.evaluation.progress import COLUMNS, ProgressSamples
from portrait_anim.networks import weights
from portrait_anim.training.shards import load_shards


@pytest.fixture(scope="module")
def trainer(tiny):
    start = weights.load(tiny)
    networks = {"source": start.source, "generator": start.generator}
    return SimpleNamespace(model=start.config, averaged=lambda: networks, step=7)


def test_samples_are_those_of_the_averaged_weights_on_the_same_pairs_each_time(shards, trainer, tmp_path):
    samples = ProgressSamples(load_shards(shards, held_out=True))
    report = samples(trainer, tmp_path)
    assert report["held-out L1"] == pytest.approx(report["held-out L1 warp"], abs=0.05)  # untrained it is the warp
    assert {"held-out inside the mouth", "held-out per-m", "held-out CSIM"} <= set(report)
    assert cv2.imread(str(tmp_path / "samples-0000007.png")).shape == (len(samples.pairs) * 256, 4 * 256, 3)
    trainer.step = 12
    again = samples(trainer, tmp_path)
    assert all(again[key] == value for key, value in report.items() if key != "held-out AKD")  # which varies
    sheet = cv2.imread(str(tmp_path / "through-time.png"))
    assert sheet.shape == (len(samples.pairs) * 256, 4 * 256, 3)
    assert np.array_equal(sheet[64:256, 512:768], sheet[64:256, 768:])  # below the label


def test_through_time_shows_few_moments_of_many_and_the_last(shards, trainer, tmp_path):
    samples = ProgressSamples(load_shards(shards, held_out=True))
    height = len(samples.pairs) * 256
    for step in range(30):
        cv2.imwrite(str(tmp_path / f"samples-{step:07d}.png"), np.full((height, 1024, 3), step, np.uint8))
    (tmp_path / "samples-0000003.png").write_bytes(b"damaged")
    cv2.imwrite(str(tmp_path / "samples-0000040.png"), np.zeros((height, 1024, 3), np.uint8))  # of another run
    samples._through_time(tmp_path, 29)
    columns = cv2.imread(str(tmp_path / "through-time.png"))[200].reshape(-1, 256, 3)[:, 0, 0]
    assert len(columns) == 2 + COLUMNS and columns[2] == 0 and columns[-1] == 29
