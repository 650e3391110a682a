"""Choose which frames of held-out clips are reenacted from which."""

from dataclasses import dataclass

import numpy as np

from ..geometry.mesh import openness
from ..geometry.view import View
from ..training.shards import Shard
from .meter import SIDE


@dataclass(frozen=True)
class Pair:
    """Frames of one held-out clip: the sources, of which the first is the canvas, and the target."""

    shard: Shard
    sources: tuple[int, ...]
    target: int

    @property
    def photos(self) -> list[View]:
        """The sources as views."""
        return [self.shard.view(t) for t in self.sources]

    def image(self, t: int) -> np.ndarray:
        """Return a frame of the clip at the size of the measures, (256, 256, 3) uint8."""
        return self.shard.image(t, SIDE)


def choose_pairs(shards: list[Shard], shots: int = 1, per_clip: int = 2, seed: int = 1) -> list[Pair]:
    """Return pairs of sources and target, the same in every run on the same shards.

    The first source is the first frame of a clip (in its second pair the middle one). The target is that of eight
    random frames whose mouth and eyes differ most from it. Further sources are spread over the clip. Clips that are too
    short are left out.
    """
    rng = np.random.default_rng(seed)
    pairs = []
    for shard in shards:
        opening = openness(shard.landmarks)
        for number in range(per_clip):
            source = 0 if number == 0 else len(shard) // 2
            candidates = rng.integers(0, len(shard), 8)
            target = int(candidates[np.abs(opening[candidates] - opening[source]).sum(1).argmax()])
            others = [
                t for t in np.linspace(0, len(shard) - 1, shots + 2).astype(int).tolist() if t not in (source, target)
            ]
            if len(others) >= shots - 1 and target != source:
                pairs.append(Pair(shard, (source, *others[: shots - 1]), target))
    return pairs


def choose_tuning_pairs(shards: list[Shard], shots: int, people: int | None = None, targets: int = 4) -> list[Pair]:
    """Return pairs for the evaluation of fine-tuning, from the longest clip of each person.

    people: how many persons are taken, None for all; tuning takes about a minute for each. The sources are spread over
    the clip. The targets are away from all sources, and differ most from the canvas and from one another.
    """
    longest = {s.group: s for s in sorted(shards, key=len) if len(s) >= 4 * shots + targets}
    groups = sorted(longest)
    pairs = []
    for group in groups[:: max(1, len(groups) // (people or len(groups) or 1))][:people]:
        shard, opening = longest[group], openness(longest[group].landmarks)
        sources = tuple(np.linspace(0, len(shard) - 1, shots + 1).astype(int)[:shots].tolist())
        rest = np.array([t for t in range(len(shard)) if min(abs(t - s) for s in sources) > 1])
        distance = np.abs(opening[rest] - opening[0]).sum(1)
        for _ in range(targets):
            target = int(rest[distance.argmax()])
            distance = np.minimum(distance, np.abs(opening[rest] - opening[target]).sum(1))
            pairs.append(Pair(shard, sources, target))
    return pairs
