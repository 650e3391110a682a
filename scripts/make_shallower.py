"""Take residual blocks out of a generator: python make_shallower.py WEIGHTS OUT --middle 1 --last 1

The blocks named (counted from 0) stay, with their rows of P; E stays as it is, D is left out. A residual block is near
the identity, and training brings back what is lost: the weights that ship began so, see the model card.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from portrait_anim.errors import PortraitAnimError, UsageError
from portrait_anim.networks import weights
from portrait_anim.networks.networks import Generator


def shallower(generator: Generator, middle: list[int], last: list[int]) -> Generator:
    """A generator with these of the blocks only, in their order. Raises UsageError for a block that is not there."""
    kept = {"middle": sorted(set(middle)), "last": sorted(set(last))}
    for part, numbers in kept.items():
        count = len(getattr(generator, part))
        if wrong := [n for n in numbers if not 0 <= n < count]:
            raise UsageError(f"--{part} {wrong[0]}: there are {count} such blocks, counted from 0.")
    parts = [(part, n) for part in ("middle", "ups", "last") for n in range(len(getattr(generator, part)))]
    coefficients = dict(zip(parts, generator.projection.weight.split(generator.coeffs)))
    offsets = dict(zip(parts, generator.projection.bias.split(generator.coeffs)))
    stays = [(part, n) for part, n in parts if n in kept.get(part, [n])]
    made = Generator(replace(generator.config, **{part: len(numbers) for part, numbers in kept.items()}))
    state = {k: v for k, v in generator.state_dict().items() if k.split(".")[0] not in (*kept, "projection")}
    for part, numbers in kept.items():
        for new, old in enumerate(numbers):
            block = getattr(generator, part)[old].state_dict()
            state |= {f"{part}.{new}.{key}": value for key, value in block.items()}
    state["projection.weight"] = torch.cat([coefficients[part] for part in stays])
    state["projection.bias"] = torch.cat([offsets[part] for part in stays])
    made.load_state_dict(state)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--middle", type=int, nargs="*", default=[1], help="blocks at the coarsest level that stay")
    parser.add_argument("--last", type=int, nargs="*", default=[1], help="blocks at the finest level that stay")
    options = parser.parse_args()
    try:
        start = weights.load(options.weights)
        generator = shallower(start.generator, options.middle, options.last)
        info = start.info | {"training": f"{start.info['training']}, less some of its blocks"}
        weights.save(options.out, generator, start.embedder, generator.config, info)
    except PortraitAnimError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
