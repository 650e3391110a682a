"""The state of networks and optimisers in 7 bytes for each weight, so that a checkpoint is small.

A checkpoint in fp32 has 16 bytes a weight: the weight, its moving average and Adam's two moments. Here
- a weight has 24 bits: fp32 without the last 8 bits of its mantissa (precision 2^-17 of its value);
- its average is kept as the difference to the weight, in bf16;
- Adam's moments, the second as its root, have 8 bits (float8 e4m3, scaled by the largest of each tensor). They forget
  within 10 and 100 steps anyway.
The step counts of Adam and all buffers are kept as they are. What is compressible, the exponents, is compressed.

`settle` rounds the live state to what will be read back. A run does this every few steps, whether or not a checkpoint
is written there: so the run that was interrupted and the run that was not are the same.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_LARGEST = 448.0  # of float8 e4m3
_SMALLEST = 2.0**-9
_DROPPED = 256  # values of the bits of a weight that are rounded away

Packed = dict[str, Any]


@torch.no_grad()
def settle(parameters: list[nn.Parameter], optimiser: torch.optim.Optimizer, average: list[Tensor] | None) -> Packed:
    """Round parameters, their average and the optimiser's moments in place, and return them packed.

    The result is made of tensors on the CPU; `compressed` makes it small.
    """
    packed: Packed = {"weights": [], "averages": [], "moments": [], "steps": []}
    for n, p in enumerate(parameters):
        bits = (p.detach().view(torch.int32) + _DROPPED // 2) & -_DROPPED
        p.copy_(bits.view(torch.float32))
        packed["weights"].append(_flat(bits))
        if average is not None:
            apart = (average[n] - p).bfloat16()
            average[n].copy_(p + apart.float())
            packed["averages"].append(_flat(apart))
        state = optimiser.state.get(p)
        packed["steps"].append(int(state["step"]) if state else 0)
        packed["moments"].append([_settle_moments(state["exp_avg"], state["exp_avg_sq"])] if state else [])
    return packed


def _settle_moments(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, float, float]:
    """Round Adam's moments in place; return both as bytes with their scales."""
    root = second.sqrt()
    scales = [float(a.abs().max()) / _LARGEST or 1.0 for a in (first, root)]
    # A root that became 0 would make the next step of its weight as long as the smallest of numbers allows.
    small = (first / scales[0]).to(torch.float8_e4m3fn), (root / scales[1]).clamp(_SMALLEST).to(torch.float8_e4m3fn)
    first.copy_(small[0].float() * scales[0])
    second.copy_((small[1].float() * scales[1]) ** 2)
    return _flat(small[0]), _flat(small[1]), *scales


@torch.no_grad()
def restore(
    packed: Packed, parameters: list[nn.Parameter], optimiser: torch.optim.Optimizer, average: list[Tensor] | None
) -> None:
    """Give networks and optimiser the state of `settle`. Raises ValueError when it is that of other networks."""
    if [len(w) for w in packed["weights"]] != [p.numel() for p in parameters]:
        raise ValueError("other networks")
    for n, p in enumerate(parameters):
        p.copy_(_shaped(packed["weights"][n].view(torch.float32), p))
        if average is not None:
            average[n].copy_(p + _shaped(packed["averages"][n], p).float())
        optimiser.state.pop(p, None)
        for first, second, scale, root_scale in packed["moments"][n]:
            moments = _shaped(first, p).float() * scale, (_shaped(second, p).float() * root_scale) ** 2
            first, second = (torch.empty_like(p).copy_(moment) for moment in moments)
            step = torch.tensor(float(packed["steps"][n]), device=p.device)
            optimiser.state[p] = {"step": step, "exp_avg": first, "exp_avg_sq": second}


def compressed(packed: Packed) -> Packed:
    """Return a packed state as few arrays of bytes."""
    of = lambda index: [m[0][index].view(torch.uint8) for m in packed["moments"] if m]
    joined = lambda parts, kind: torch.cat(parts).numpy() if parts else np.zeros(0, kind)
    weights = joined(packed["weights"], np.int32).view(np.uint8).reshape(-1, 4)  # low byte first
    averages = joined([a.view(torch.int16) for a in packed["averages"]], np.int16).view(np.uint8).reshape(-1, 2)
    planes = [weights[:, 3], weights[:, 2], weights[:, 1], averages[:, 1], averages[:, 0]]
    planes += [joined(of(0), np.uint8), joined(of(1), np.uint8)]
    squeeze = lambda plane: torch.frombuffer(
        bytearray(zlib.compress(np.ascontiguousarray(plane), 1)), dtype=torch.uint8
    )
    return {
        "planes": [squeeze(plane) for plane in planes],
        "sizes": [len(w) for w in packed["weights"]],
        "averaged": bool(packed["averages"]),
        "steps": packed["steps"],
        "scales": torch.tensor([m[0][2:] for m in packed["moments"] if m], dtype=torch.float64),
        "learned": [bool(m) for m in packed["moments"]],
    }


def expanded(state: Packed) -> Packed:
    """Return what `compressed` was given. Raises ValueError when it is damaged."""
    sizes, learned = state["sizes"], state["learned"]
    total, moved = sum(sizes), sum(size for size, there in zip(sizes, learned) if there)
    lengths = [total] * 3 + [total * state["averaged"]] * 2 + [moved] * 2
    planes = [_inflated(plane, length) for plane, length in zip(state["planes"], lengths, strict=True)]
    weights = np.stack([np.zeros(total, np.uint8), *planes[2::-1]], 1).view(np.int32)[:, 0]
    averages = np.stack([planes[4], planes[3]], 1).view(np.int16)[:, 0]
    cut = lambda array, parts: [torch.from_numpy(a.copy()) for a in np.split(array, np.cumsum(parts)[:-1])]
    own = [size for size, there in zip(sizes, learned) if there]
    moments = zip(*(cut(plane, own) for plane in planes[5:]), state["scales"].tolist()) if own else iter(())
    as_small = lambda a: a.view(torch.float8_e4m3fn)
    return {
        "weights": cut(weights, sizes),
        "averages": [a.view(torch.bfloat16) for a in cut(averages, sizes)] if state["averaged"] else [],
        "steps": state["steps"],
        "moments": [[(as_small(f), as_small(s), *scales) for f, s, scales in [next(moments)]] if there else []
                    for there in learned],
    }  # fmt: skip


def _inflated(plane: Tensor, length: int) -> np.ndarray:
    data = zlib.decompressobj().decompress(plane.numpy().tobytes(), length + 1)
    if len(data) != length:
        raise ValueError(f"{len(data)} bytes, not {length}")
    return np.frombuffer(data, np.uint8)


def _flat(a: Tensor) -> Tensor:
    """Return the values as a row on the CPU, in the order of the shape, whatever the layout in memory."""
    return a.cpu().contiguous().reshape(-1)


def _shaped(row: Tensor, p: Tensor) -> Tensor:
    return row.view(p.shape).to(p.device)
