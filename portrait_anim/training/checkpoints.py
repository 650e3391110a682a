"""How a run of training begins, from nothing or from a weights file, and how it is kept to continue exactly."""

from __future__ import annotations

import pickle
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..networks.config import ModelConfig
from ..networks.weights import Weights, parts_of
from ..painting.painter import source_input
from ..system.files import atomic_write
from .trainer import Trainer

FORMAT = 2
_PARTS = ("generator", "encoder", "critic", "optimiser", "critic_optimiser")


def save(trainer: Trainer, path: Path) -> None:
    """Write everything that a later process needs to continue exactly, whole or not at all."""
    state = {
        "format": FORMAT, "model": asdict(trainer.model), "groups": trainer.episodes.groups, "step": trainer.step,
        "seconds": trainer.seconds, "random": torch.get_rng_state(), "average": trainer.average,
        **{name: getattr(trainer, name).state_dict() for name in _PARTS},
    }  # fmt: skip
    with atomic_write(path) as partial:
        torch.save(state, partial)


def load(trainer: Trainer, path: Path) -> None:
    """Continue a saved run. Raises InputError when it belongs to another model or other people."""
    try:
        state = torch.load(path, weights_only=True, map_location=trainer.device)
        same = state["format"] == FORMAT and ModelConfig(**state["model"]) == trainer.model
        if not same or state["groups"] != trainer.episodes.groups:
            raise InputError(f"{path}: made with another model or other shards; give --out another folder.")
        for name in _PARTS:
            getattr(trainer, name).load_state_dict(state[name])
        trainer.average, trainer.step, trainer.seconds = state["average"], state["step"], state["seconds"]
        torch.set_rng_state(state["random"].cpu())
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        kind = type(error).__name__
        raise InputError(f"{path}: not a readable checkpoint ({kind}); delete it to start again.") from error


def start_from(trainer: Trainer, start: Weights) -> None:
    """Take the networks of a weights file of the same model, with its critic if it has one."""
    trainer.generator.load_state_dict(start.generator.state_dict())
    trainer.encoder.load_state_dict(getattr(start, parts_of(start.config)[0]).state_dict())
    if start.critic is not None:  # which knows nobody of these people
        trainer.critic.load_state_dict(start.critic.state_dict(), strict=False)
    trainer.average = [p.detach().clone() for p in trainer.painters]
    meet_people(trainer)


@torch.no_grad()
def meet_people(trainer: Trainer) -> None:
    """Let the critic's rows of the people be e of a photo of each: what L_MCH asks for, from the first step on."""
    trainer.critic.videos.weight.copy_(_people(trainer))


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
    trainer.critic.videos.weight.copy_((e - mean) / spread)
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
