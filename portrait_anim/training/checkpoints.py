"""How a run of training begins, from nothing or from a weights file, and how it is kept to continue exactly."""

from __future__ import annotations

import pickle
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, PortraitAnimError
from ..networks.config import ModelConfig
from ..networks.weights import Weights, parts_of
from ..painting.painter import source_input
from ..system.files import atomic_write
from . import packing
from .trainer import Trainer

FORMAT = 3


def settle(trainer: Trainer) -> dict[str, Any]:
    """Round the state of a run to what a checkpoint holds, and return it for `save`.

    It is to be done every so many steps, whether or not it is saved, see `packing`. In the other processes of a run it
    does the same. Raises PortraitAnimError when the networks have gone astray.
    """
    adversary = trainer.adversary
    painters = packing.settle(trainer.painters, trainer.optimiser, trainer.average)
    critic = packing.settle(list(adversary.network.parameters()), adversary.optimiser, None)
    if not all(p.isfinite().all() for p in trainer.painters):
        raise PortraitAnimError("Training went astray (numbers without bounds); use a lower --learning-rate.")
    return {
        "format": FORMAT, "model": asdict(trainer.model), "groups": trainer.episodes.groups, "step": trainer.step,
        "world": trainer.world, "seconds": trainer.seconds, "planned": trainer.planned,
        "random": torch.get_rng_state(), "painters": painters, "critic": critic, "adversary": {
            name: value.clone() for name, value in adversary.state().items()
        }, "buffers": [[b.detach().cpu().clone() for b in network.buffers()] for network in _networks(trainer)],
    }  # fmt: skip


def save(state: dict[str, Any], path: Path) -> None:
    """Write what `settle` returned to a file, whole or not at all."""
    state = state | {name: packing.compressed(state[name]) for name in ("painters", "critic")}
    with atomic_write(path) as partial:
        torch.save(state, partial)


def load(trainer: Trainer, path: Path) -> None:
    """Continue a saved run. Raises InputError when it belongs to another model or other people."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        if state["format"] != FORMAT:
            raise InputError(f"{path}: made by an earlier version; give --out another folder, --init its weights.")
        if ModelConfig(**state["model"]) != trainer.model or state["groups"] != trainer.episodes.groups:
            raise InputError(f"{path}: made with another model or other shards; give --out another folder.")
        adversary = trainer.adversary
        critic = list(adversary.network.parameters())
        packing.restore(packing.expanded(state["painters"]), trainer.painters, trainer.optimiser, trainer.average)
        packing.restore(packing.expanded(state["critic"]), critic, adversary.optimiser, None)
        adversary.load_state(state["adversary"])
        for network, buffers in zip(_networks(trainer), state["buffers"], strict=True):
            for buffer, value in zip(network.buffers(), buffers, strict=True):
                buffer.copy_(value)
        trainer.step, trainer.seconds, trainer.planned = (state[name] for name in ("step", "seconds", "planned"))
        torch.set_rng_state(state["random"])
    except _DAMAGED as error:
        kind = type(error).__name__
        raise InputError(f"{path}: not a readable checkpoint ({kind}); delete it to start again.") from error


_DAMAGED = (
    OSError, KeyError, IndexError, TypeError, ValueError, RuntimeError, EOFError, zlib.error, pickle.UnpicklingError
)  # fmt: skip


def _networks(trainer: Trainer) -> list[nn.Module]:
    return [trainer.generator, trainer.encoder, trainer.adversary.network]


@torch.no_grad()
def start_from(trainer: Trainer, start: Weights) -> None:
    """Take the networks of a weights file of the same model; of the paper's kind with its critic, if it has one."""
    trainer.generator.load_state_dict(start.generator.state_dict())
    trainer.encoder.load_state_dict(getattr(start, parts_of(start.config)[0]).state_dict())
    trainer.average = [p.detach().clone() for p in trainer.painters]
    if trainer.is_paper:
        critic = trainer.adversary.network
        if start.critic is not None:  # which knows nobody of these people
            critic.load_state_dict(start.critic.state_dict(), strict=False)
        critic.videos.weight.copy_(_people(trainer))  # what L_MCH asks for, from the first step on


@torch.no_grad()
def standardise(trainer: Trainer) -> None:
    """Give e mean 0 and deviation 1 over people, without changing what G does. It is for new networks of our kind.

    An average over a photo's pixels hardly differs between people: left alone, e becomes a constant and is ignored.
    (Data-dependent initialisation as in LSUV, Mishkin and Matas, ICLR 2016.)
    """
    e = _people(trainer)
    mean = e.mean(0)
    spread = e.std(0, correction=0).clamp(min=1e-3 * float(mean.abs().mean()))
    out, projection = trainer.encoder.out, trainer.generator.projection
    projection.bias += projection.weight @ mean
    projection.weight *= spread
    out.weight /= spread[:, None]
    out.bias.sub_(mean).div_(spread)
    trainer.average = [p.detach().clone() for p in trainer.painters]


def _people(trainer: Trainer) -> Tensor:
    """Return e of the first frame of each person, (P, n), in the order of the critic's rows."""
    first = {shard.group: shard for shard in reversed(trainer.shards)}
    found = []
    for _, shard in sorted(first.items()):
        x = source_input(shard.view(0)).to(trainer.device, memory_format=torch.channels_last)
        with trainer.autocast():
            if trainer.is_paper:
                small = F.interpolate(x, (trainer.model.size, trainer.model.size), mode="area")
                found.append(trainer.encoder(small[:, :3], small[:, 4:]).float())
            else:
                found.append(trainer.encoder(x)[1].float())
    return torch.cat(found)
