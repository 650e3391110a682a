"""Choose which frames of held-out clips are reenacted from which."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from ..geometry.mesh import openness
from ..geometry.view import View
from ..training.shards import Shard
from .reference import SIDE, Reference


@dataclass(frozen=True, eq=False)
class Pair:
    """Frames of one held-out clip: the sources, of which the first is the canvas, and the target."""

    shard: Shard
    sources: tuple[int, ...]
    target: int

    @property
    def name(self) -> str:
        """Clip and frames, as in a file's name."""
        stem = str(self.shard.header.get("video", self.shard.group)).rsplit(".", 1)[0]
        return f"{stem}-{self.sources[0]}-{self.target}"

    @property
    def photos(self) -> list[View]:
        """The sources as views."""
        return [self.shard.view(t) for t in self.sources]

    def image(self, t: int) -> np.ndarray:
        """Return a frame of the clip at the size of the measures, (256, 256, 3) uint8."""
        return self.shard.image(t, SIDE)

    def reference(self, opening: np.ndarray) -> Reference:
        """Return what pictures of this pair are measured against.

        opening: (512, 512) bool, where the inside of the mouth is in the target's pose.
        """
        shard, photo, target = self.shard, self.sources[0], self.target
        step = len(opening) // SIDE
        return Reference(
            shard.image(target, SIDE), shard.points(target, SIDE), shard.matte(target, SIDE), opening[::step, ::step],
            shard.image(photo, SIDE), shard.points(photo, SIDE), shard.matte(photo, SIDE),
            shard.image(target, shard.size),
        )  # fmt: skip


def choose_pairs(
    shards: list[Shard], shots: int = 1, per_clip: int = 2, limit: int | None = None, seed: int = 1
) -> list[Pair]:
    """Return pairs of sources and target, the same in every run and on every machine.

    What is drawn of a clip depends on its name alone, not on what else is in the folder. The first source is the first
    frame of a clip (in its second pair the middle one). The target is that of eight random frames whose mouth and eyes
    differ most from it. Further sources are spread over the clip. Clips that are too short are left out. limit: of more
    pairs than that, so many are taken, of all people in turn.
    """
    pairs = []
    for shard in shards:
        rng = np.random.default_rng((seed, _number(str(shard.header.get("video", shard.group)))))
        opening = openness(shard.landmarks)
        for number in range(per_clip):
            source = 0 if number == 0 else len(shard) // 2
            candidates = rng.integers(0, len(shard), 8)
            target = int(candidates[np.abs(opening[candidates] - opening[source]).sum(1).argmax()])
            spread = np.linspace(0, len(shard) - 1, shots + 2).astype(int).tolist()
            others = sorted(set(spread) - {source, target})
            if len(others) >= shots - 1 and target != source:
                pairs.append(Pair(shard, (source, *others[: shots - 1]), target))
    return pairs if limit is None else _of_everybody(pairs, limit)


def choose_tuning_pairs(shards: list[Shard], shots: int, people: int | None = None, targets: int = 4) -> list[Pair]:
    """Return pairs for the evaluation of fine-tuning, from the longest clip of each person.

    people: how many persons are taken, None for all; tuning takes about a minute for each. The sources are spread over
    the clip. The targets are away from all sources, and differ most from the canvas and from one another. Clips without
    so many frames are left out.
    """
    longest = {s.group: s for s in sorted(shards, key=len)}
    groups = sorted(longest)
    pairs = []
    for group in groups:
        shard, opening = longest[group], openness(longest[group].landmarks)
        sources = tuple(np.linspace(0, len(shard) - 1, shots + 1).astype(int)[:shots].tolist())
        rest = np.array([t for t in range(len(shard)) if min(abs(t - s) for s in sources) > 1])
        if len(set(sources)) < shots or len(rest) < targets:
            continue
        distance = np.abs(opening[rest] - opening[0]).sum(1)
        for _ in range(targets):
            target = int(rest[distance.argmax()])
            distance = np.minimum(distance, np.abs(opening[rest] - opening[target]).sum(1))
            pairs.append(Pair(shard, sources, target))
    chosen = sorted({pair.shard.group for pair in pairs})
    chosen = chosen[:: max(1, len(chosen) // (people or len(chosen) or 1))][:people]
    return [pair for pair in pairs if pair.shard.group in chosen]


def _number(name: str) -> int:
    """Return a number that stands for a name, the same everywhere."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)


def _of_everybody(pairs: list[Pair], limit: int) -> list[Pair]:
    """Return at most so many pairs, a first one of each person, then a second one..., in their former order."""
    of_person: dict[str, int] = defaultdict(int)
    turns = []
    for number, pair in enumerate(pairs):
        turns.append((of_person[pair.shard.group], number))
        of_person[pair.shard.group] += 1
    return [pairs[number] for number in sorted(number for _, number in sorted(turns)[:limit])]
