"""Time: speed, loops, back and forth, starts from elsewhere."""

import numpy as np
import pytest

from portrait_anim.errors import UsageError
from portrait_anim.motion.timeline import Timeline


class Ramp:
    """Targets that move by one each frame."""

    def __init__(self, length: int):
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, t: int) -> np.ndarray:
        assert 0 <= t < self._length
        return np.full((478, 3), float(t))


def shown(*arguments, **options) -> list[float]:
    line = Timeline(Ramp(11), 10, *arguments, **options)
    return [float(line[t][0, 0]) for t in range(len(line))]


def test_speed_and_pingpong():
    assert shown() == list(range(11))
    assert shown(speed=2) == [0, 2, 4, 6, 8, 10]
    assert np.allclose(shown(speed=0.5), np.arange(0, 10.1, 0.5))
    assert shown(pingpong=True) == [*range(11), *range(9, 0, -1)]
    assert shown(pingpong=True, loop=3) == [*range(11), *range(9, 0, -1)] * 3


def test_the_seam_of_a_loop_is_eased_over():
    once, twice = shown(), shown(loop=2)
    assert len(twice) == 22 and twice[:11] == once
    assert np.abs(np.diff(twice)).max() < 5 and twice[11] == pytest.approx(10)  # 10 without easing
    assert twice[16:] == once[5:]


def test_a_start_from_elsewhere_is_eased_and_then_forgotten():
    far = np.full((478, 3), 30.0)
    line = Timeline(Ramp(30), 10, start=far)
    values = [line[t][0, 0] for t in range(30)]
    assert values[0] == 30 and values[10:] == list(range(10, 30)) and np.abs(np.diff(values)).max() < 6


@pytest.mark.parametrize(
    "options", [{"speed": 0}, {"speed": float("nan")}, {"speed": 99}, {"loop": 0}, {"loop": 10**6}]
)
def test_impossible_times(options):
    with pytest.raises(UsageError, match="--speed|--loop"):
        Timeline(Ramp(3), 25, **options)
