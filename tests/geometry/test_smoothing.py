"""Smoothing in time: jitter goes, motion is not delayed, jumps are eased."""

import numpy as np

from portrait_anim.geometry.smoothing import CausalOneEuro, Crossfade, one_euro, soft_limit


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
