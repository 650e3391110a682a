"""Smoothing in time: jitter goes, motion is not delayed, jumps are eased."""

import numpy as np
import pytest

from portrait_anim.geometry.smoothing import CausalOneEuro, Crossfade, add_one_euro, one_euro, soft_limit, split_at_cuts
from portrait_anim.system import sequences
from portrait_anim.system.sequences import ArrayFile


def test_smoothing_removes_jitter_without_delay():
    rng = np.random.default_rng(0)
    t = np.arange(200) / 25
    clean = np.sin(2 * np.pi * 0.8 * t)
    noise = rng.normal(0, 0.05, 200)
    smooth = one_euro(clean + noise, 25, 1.5, 4.0)
    still = one_euro(noise, 25, 1.5, 4.0)
    jitter = lambda x: np.abs(np.diff(x, 2)).mean()
    assert jitter(still) < 0.5 * jitter(noise) and jitter(smooth) < 0.75 * jitter(clean + noise)
    shifts = [np.abs(np.roll(smooth, k) - clean)[10:-10].mean() for k in (-2, -1, 0, 1, 2)]
    assert int(np.argmin(shifts)) == 2
    assert np.allclose(one_euro(np.ones(10), 25, 1.5, 4.0), 1)


def whole_one_euro(values: np.ndarray, fps: float, min_cutoff: float, beta: float, cuts=()) -> np.ndarray:
    """The same filter, in the fewest lines, on what is in memory."""
    out = np.zeros(values.shape, np.float32)
    share = lambda cutoff: (r := 2 * np.pi * cutoff / fps) / (r + 1)
    for a, b in split_at_cuts(len(values), cuts):
        for x, result in ((values[a:b], out[a:b]), (values[a:b][::-1], out[a:b][::-1])):
            previous, speed = x[0], np.zeros_like(x[0])
            result[0] += previous / 2
            for t in range(1, len(x)):
                speed = speed + share(1.0) * ((x[t] - x[t - 1]) * fps - speed)
                previous = previous + share(min_cutoff + beta * np.abs(speed)) * (x[t] - previous)
                result[t] += previous / 2
    return out


@pytest.mark.parametrize("cuts", [(), (1, 50, 51, 214, 999)])
def test_smoothing_by_blocks_gives_the_same_bits(driver, monkeypatch, cuts):
    monkeypatch.setattr(sequences, "BLOCK", 16)
    for values, kinds in (
        (driver.landmarks / 300, (3.5, 60.0)),
        (driver.landmarks[:, 4, 0].astype(np.float64), (1, 9)),
    ):
        whole = whole_one_euro(values, 25, *kinds, cuts)
        assert np.array_equal(one_euro(values, 25, *kinds, cuts), whole)
    smooth, values = ArrayFile((478, 3), len(driver)), driver.landmarks / 300
    add_one_euro(ArrayFile.of([values]), smooth, 25, 3.5, 60.0, cuts)
    assert np.array_equal(smooth[:], whole_one_euro(values, 25, 3.5, 60.0, cuts))


def test_soft_limit_keeps_small_values_and_bounds_large_ones():
    values = np.array([-100.0, -1.0, 0.0, 5.0, 6.0, 9.0, 100.0])
    bent = soft_limit(values, 10.0)
    assert np.allclose(bent[1:5], values[1:5]) and np.all(np.diff(bent) > 0) and np.abs(bent).max() <= 10


def test_jumps_one_after_another_stay_smooth():
    values = np.where(np.arange(40) % 10 < 5, 0.0, 20.0)
    eased = Crossfade([np.full((478, 3), v) for v in values], 10, range(5, 40, 5))
    assert np.abs(np.diff([eased[t][0, 0] for t in range(40)])).max() < 9


def test_the_causal_filter_takes_jitter_at_any_pace_and_begins_anew():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.02, 0.09, 200))
    noise = rng.normal(0, 0.05, (200, 3))
    smooth = CausalOneEuro(1.5, 4.0)
    values = np.stack([smooth(value, step) for value, step in zip(noise, np.diff(times, prepend=0))])
    assert np.abs(np.diff(values, 2, axis=0)).mean() < 0.6 * np.abs(np.diff(noise, 2, axis=0)).mean()
    assert np.allclose(smooth(np.full(3, 9.0), 0.04), 9.0, atol=4) and not np.allclose(values[-1], 9.0, atol=4)
    smooth.reset()
    assert np.array_equal(smooth(np.ones(3), 0.04), np.ones(3))
