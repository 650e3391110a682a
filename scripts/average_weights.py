"""Average runs that began from the same weights: python average_weights.py OUT WEIGHTS WEIGHTS...

The mean of the source encoder and the generator can be better than each of the runs ("Model soups", arXiv 2203.05482),
and costs nothing more to use. The critic is that of the first: it learns against a generator, and is there for
fine-tuning only.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import nn

from portrait_anim.errors import InputError, PortraitAnimError
from portrait_anim.networks import weights


def set_to_mean(network: nn.Module, others: list[nn.Module]) -> None:
    """Parameters and buffers of network become the mean of its own and those of the others, which are alike."""
    states = [other.state_dict() for other in others]
    with torch.no_grad():
        for name, value in network.state_dict().items():
            value.copy_(torch.stack([value, *(state[name] for state in states)]).float().mean(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="file, or folder for a file named by its hash")
    parser.add_argument("weights", type=Path, nargs="+", help="two or more")
    options = parser.parse_args()
    if len(options.weights) < 2:
        parser.error("give two or more weights files.")
    try:
        first, *rest = (weights.load(path, critic=True) for path in options.weights)
        for path, other in zip(options.weights[1:], rest):
            if other.config != first.config:
                raise InputError(f"{path}: is not a model of the same size as {options.weights[0]}.")
        networks = {part: getattr(first, part) for part in weights.parts_of(first.config)}
        for part, network in networks.items():
            set_to_mean(network, [getattr(other, part) for other in rest])
        info = first.info | {"training": f"mean of {len(options.weights)} runs; {first.info['training']}"}
        print(weights.save(options.out, first.config, info, **networks, critic=first.critic))
    except PortraitAnimError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
