"""From episodes and their pictures to what a step of training computes with, on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.view import CROP
from .augmentation import gain_of_light, recoloured, sampling_grid, taken
from .conditioning import Warps, cut
from .frames import Pictures

_FLOATS = ("maps", "table", "shifts", "weights", "face", "shown", "cavity", "lips")
_NUMBERS = ("flip", "back", "nodes", "light", "colours", "tone")


@dataclass
class Batch:
    """B episodes of V views and R boxes each, N = B R; colours and drawings are in -1..1.

    views: (B, V, 4, 512, 512), colours and mattes: the canvas, its mirror image, the other photos. drawings: (B, V, 3,
    512, 512), of the views. plate, target, drawing: (N, 3, h, w), cut to the boxes. centres: (N, 4, 2) px of the boxes,
    mouth, eyes and the head's edge. present: (B, V), 1 for photos that count for the person. person: (B,) numbers.
    seen: (B, V) bool on the CPU, the views that matter, None for all. sharp: how many of the episodes, the first ones,
    are of 512 px clips.
    """

    views: Tensor
    drawings: Tensor
    plate: Tensor
    target: Tensor
    drawing: Tensor
    centres: Tensor
    present: Tensor
    person: Tensor
    warps: Warps
    seen: Tensor | None
    sharp: int

    @property
    def boxes(self) -> int:
        """R, the boxes of each episode."""
        return self.warps.corners.shape[1]

    def source(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """Return the views as the source encoder takes them, (B V, 7, 512, 512), or only some rows of that."""
        return torch.cat([self.views.flatten(0, 1)[rows], self.drawings.flatten(0, 1)[rows]], 1)


def make_batch(episodes: dict[str, Tensor], pictures: Pictures, device: torch.device, sharp: int) -> Batch:
    """Change the pictures as the episodes say, and bring everything to the device.

    episodes: as Episodes makes them, collated. On a GPU shapes depend on nothing that was drawn.
    """
    there = {name: episodes[name].to(device, non_blocking=True) for name in (*_FLOATS, *_NUMBERS, "ids", "centres")}
    used, present = episodes["used"], episodes["present"]
    static = device.type == "cuda"
    which = [None, *(used[:, view].nonzero()[:, 0].to(device) for view in range(1, used.shape[1]))]
    warps = Warps(
        there["ids"], *(there[name] for name in _FLOATS), episodes["corners"].numpy(),
        [None] * used.shape[1] if static else _shortened(which, len(used)),
    )  # fmt: skip
    counts = torch.cat([present[:, :1], torch.zeros_like(present[:, :1]), present[:, 1:]], 1)  # (B, V)
    seen = used | counts
    numbers = {name: there[name] for name in _NUMBERS}
    if static:
        views, plate, target = _changed(pictures, numbers, warps)
    else:  # what nobody looks at is left out
        views, plate, target = _changed_each(pictures, numbers, warps, seen)
    as_colour = lambda drawing: drawing.to(device, non_blocking=True).float() / 127.5 - 1
    drawn = as_colour(episodes["source_drawings"])
    drawings = torch.cat([drawn[:, :1], drawn[:, :1].flip(4), drawn[:, 1:]], 1)
    return Batch(
        views,
        drawings,
        plate,
        target,
        as_colour(episodes["drawings"]).flatten(0, 1),
        there["centres"].flatten(0, 1),
        counts.to(device).float(),
        torch.as_tensor(episodes.get("person", torch.zeros(len(used), dtype=torch.long))).to(device),
        warps,
        None if static or seen.all() else seen,
        sharp,
    )


def _shortened(which: list[Tensor | None], count: int) -> list[Tensor | None]:
    """None in place of all numbers there are."""
    return [None if rows is None or len(rows) == count else rows for rows in which]


def _changed(pictures: Pictures, numbers: dict[str, Tensor], warps: Warps) -> tuple[Tensor, Tensor, Tensor]:
    """Return views (B, V, 4, 512, 512), plate and target (N, 3, h, w), changed as the numbers say."""
    grid, light = sampling_grid(numbers), gain_of_light(numbers)
    count = pictures.photos.shape[1]
    whole = torch.cat([pictures.photos.flatten(1, 2), pictures.plates], 1)
    colours = taken(whole, grid).unflatten(1, (-1, 3))  # photos, then the plate
    mattes = taken(pictures.mattes, grid) / 255
    mirror = _mirror(pictures, colours[:, :1], grid)
    colours = recoloured(torch.cat([colours, mirror], 1), numbers, light[:, None])
    photos, plate, mirror = colours[:, :count], colours[:, count], colours[:, count + 1 :]
    images = torch.cat([photos[:, :1], mirror, photos[:, 1:]], 1)
    mattes = torch.cat([mattes[:, :1], mattes[:, :1].flip(3), mattes[:, 1:]], 1)
    views = torch.cat([images, mattes[:, :, None]], 2)
    return views, cut(plate, warps), _targets(pictures, numbers, warps, grid, light)


def _mirror(pictures: Pictures, canvas: Tensor, grid: Tensor) -> Tensor:
    """Return the mirror image of the canvas as it is now, in the light that was found for it before.

    Other light comes after this: a mirror image is brought to the light of its canvas, whatever that is.
    """
    gain = F.interpolate(pictures.gains.float().flip(3), (CROP, CROP), mode="bilinear", align_corners=False)
    return (canvas * taken(gain, grid)[:, None]).clamp(0, 255).flip(4)


def _targets(
    pictures: Pictures, numbers: dict[str, Tensor], warps: Warps, grid: Tensor, light: Tensor | None
) -> Tensor:
    places = cut(grid.permute(0, 3, 1, 2), warps).permute(0, 2, 3, 1)
    target = taken(pictures.targets.flatten(0, 1), places).unflatten(0, (len(grid), -1))
    light = None if light is None else cut(light, warps).unflatten(0, (len(grid), -1))
    return recoloured(target, numbers, light).flatten(0, 1)


def _changed_each(
    pictures: Pictures, numbers: dict[str, Tensor], warps: Warps, seen: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Do what `_changed` does for the views that matter, (B, V) bool; the others are black."""
    grid = sampling_grid(numbers)
    light = gain_of_light(numbers) if numbers["light"].any() else None
    views = torch.zeros(*seen.shape, 4, CROP, CROP, device=grid.device)
    plates = []
    for n in range(len(grid)):
        own = Pictures(*(part[n : n + 1] for part in vars(pictures).values()))
        here, of_n = grid[n : n + 1], {name: value[n : n + 1] for name, value in numbers.items()}
        rows = [0, *(seen[n, 2:].nonzero()[:, 0] + 1).tolist()]  # photos
        slots = [row + (row > 0) for row in rows]
        colours = taken(torch.cat([own.photos[0, rows].flatten(0, 1), own.plates[0]])[None], here).unflatten(1, (-1, 3))
        mattes = taken(own.mattes[:, rows], here)[0] / 255
        if seen[n, 1]:
            colours = torch.cat([colours, _mirror(own, colours[:, :1], here)], 1)
            mattes = torch.cat([mattes, mattes[:1].flip(2)])
            slots.append(1)
        colours = recoloured(colours, of_n, None if light is None else light[n : n + 1, None])[0]
        plates.append(colours[len(rows)])
        for slot, image, matte in zip(slots, [*colours[: len(rows)], *colours[len(rows) + 1 :]], mattes):
            views[n, slot, :3], views[n, slot, 3] = image, matte
    return views, cut(torch.stack(plates), warps), _targets(pictures, numbers, warps, grid, light)


def collate(items: list[dict]) -> dict[str, Tensor]:
    """Stack episodes."""
    return {name: torch.from_numpy(np.stack([np.asarray(item[name]) for item in items])) for name in items[0]}
