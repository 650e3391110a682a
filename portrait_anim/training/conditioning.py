"""The differentiable twin of `painting.conditioning` and `painting.compose`: the same picture, in torch on any device.

The run-time form is made for one frame on a processor; this one for B episodes, each with V views that are warped to R
boxes of a common size. The geometry is the run-time's own: `warp_numbers` asks the Warper. Of a view only those
episodes are computed that use it, unless shapes must not change (on a GPU).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import mesh, mouth
from ..geometry.view import CROP
from ..geometry.warp import IS_FACE, Box, Warper
from ..networks.generator import Painting
from ..painting.compose import TOLERANCE, TRUST_BLUR

# The warp is computed a little beyond the crop, since its blurs reach so far; px. At run time it is the photo's region.
AROUND: Box = (-24, -24, CROP + 24, CROP + 24)


def warp_numbers(warper: Warper, target: np.ndarray, box: Box) -> dict[str, np.ndarray]:
    """Return the warp to target landmarks in a box of the crop, to be stacked as `Warps` over episodes.

    The warper covers AROUND; its views need no pictures. Sides and place of the box are multiples of 2 px.
    """
    warp = warper.warp(target)
    rows, columns = warp.cells(box)
    used = np.array(warp.used)
    weights = np.where(used[:, None, None], warp.weights[:, rows, columns], 0)
    return {
        "ids": mesh.rasterise(warp.vertices, box).astype(np.int16),
        "maps": warp.maps,
        "shifts": warp.shifts[:, rows, columns].transpose(0, 3, 1, 2).copy(),
        "weights": weights[:, None],
        "face": warp.face[None, rows, columns].copy(),
        "shown": warp.shown[None, rows, columns].copy(),
        "cavity": warp.cavity[None, rows, columns].copy(),
        "lips": mouth.lip_places(warper.views[0].landmarks).astype(np.float32),
        "table": warp.table,
        "used": used,
    }


@dataclass
class Warps:
    """The geometry of R boxes of each of B episodes.

    ids: (B, R, h, w) integers, the triangle of every pixel, -1 outside. maps: (B, R, V, F+1, 6). table: (B, R, F+1, 6).
    On the grid of 2 px: shifts (B, R, V, 2, h/2, w/2), weights (B, R, V, 1, h/2, w/2), face, shown and cavity (B, R, 1,
    h/2, w/2); see `geometry.warp.Warp`. lips: (B, R, 10, 2) px of the crop, `mouth.lip_places` of the canvas, the same
    for all boxes. corners: (B, R, 2) numpy, x and y of the boxes in px. episodes: of each view the numbers of the
    episodes that use it, None for all of them.
    """

    ids: Tensor
    maps: Tensor
    table: Tensor
    shifts: Tensor
    weights: Tensor
    face: Tensor
    shown: Tensor
    cavity: Tensor
    lips: Tensor
    corners: np.ndarray
    episodes: list[Tensor | None]

    @property
    def side(self) -> int:
        """The side of the boxes, px."""
        return self.ids.shape[-1]


@dataclass
class Seen:
    """What the generator sees of N = B R boxes, the twin of `painting.conditioning.Condition`.

    x: (N, 13, h, w). flows, weights: of each view, (b, R, 2, h, w) px and (b, R, 1, h, w) for the b episodes that use
    it, None if there are none. face, shown, cavity: (N, 1, h, w). dark: (N, 3, 1, 1), the colour of the cavity.
    """

    x: Tensor
    flows: list[Tensor | None]
    weights: list[Tensor | None]
    face: Tensor
    shown: Tensor
    cavity: Tensor
    dark: Tensor
    warps: Warps


def condition(warps: Warps, views: Tensor, plate: Tensor, drawing: Tensor) -> Seen:
    """Return what the generator sees.

    views: (B, V, 4, 512, 512), colours in -1..1 and mattes in 0..1. plate, drawing: (N, 3, h, w) in -1..1, cut to the
    boxes.
    """
    ids = torch.where(warps.ids < 0, len(IS_FACE) - 1, warps.ids.long())
    enlarged = lambda a: F.interpolate(a.flatten(0, 1), scale_factor=2, mode="bilinear", align_corners=False)
    places = _places(warps)
    is_face = torch.from_numpy(IS_FACE).to(ids.device)[ids][:, :, None]
    flows, weights = [], []
    for view, episodes in enumerate(warps.episodes):
        if episodes is not None and not len(episodes):
            flows.append(None)
            weights.append(None)
            continue
        some = (lambda a, n=view: a[:, :, n]) if episodes is None else (lambda a, n=view, e=episodes: a[e][:, :, n])
        of = lambda a, e=episodes: a if e is None else a[e]
        shifts = some(warps.shifts)
        shape = shifts.shape[:2]
        weights.append(enlarged(some(warps.weights)).unflatten(0, shape))
        shell = of(places) + enlarged(shifts).unflatten(0, shape)
        flows.append(torch.where(of(is_face), _mapped(of(ids), some(warps.maps), of(places)), shell))
    soft = map(enlarged, (warps.face, warps.shown, warps.cavity))
    seen = Seen(torch.empty(0), flows, weights, *soft, _cavity_colour(warps, views), warps)
    colours, matte = _moved(views, seen)
    count = len(ids.flatten(0, 1))
    table = _looked_up(warps.table.flatten(0, 1), ids.flatten(0, 1).flatten(1)).transpose(1, 2)
    maps = table.reshape(count, -1, *ids.shape[2:])
    seen.x = torch.cat([plate + matte * (colours - plate), drawing, maps, matte], 1)
    return seen


def _cavity_colour(warps: Warps, views: Tensor) -> Tensor:
    """Return the colour of the cavity of the canvas' mouth for every box, (N, 3, 1, 1), as `View.cavity`."""
    lips = _looked_at(views[:, 0, :3].float(), warps.lips[:, :1, :, :, None].transpose(2, 3)).mean((3, 4))
    return (mouth.DARK * (lips + 1) - 1).repeat_interleave(warps.corners.shape[1], 0).flatten(0, 1)[..., None, None]


def _moved(views: Tensor, seen: Seen, residual: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the views' colours (N, 3, h, w) and the matte (N, 1, h, w), moved by the flows and blended."""
    colours, matte = carry(views, seen, residual=residual).split([3, 1], 1)
    matte = matte * seen.shown
    colours = colours + seen.cavity * (seen.dark - colours)
    return colours, matte + seen.face * (1 - matte)


def carry(images: Tensor, seen: Seen, residual: Tensor | None = None) -> Tensor:
    """Move images (B, V, C, S, S), of any S, by the flows and blend them: (N, C, h, w).

    residual: (N, 2, h, w) px, is added to the flows.
    """
    total = None
    for view, (flow, weight, episodes) in enumerate(zip(seen.flows, seen.weights, seen.warps.episodes)):
        if flow is None:
            continue
        if residual is not None:
            added = residual.unflatten(0, (-1, flow.shape[1]))
            flow = flow + (added if episodes is None else added[episodes])
        image = images[:, view] if episodes is None else images[episodes, view]
        moved = weight * _looked_at(image.float(), flow)
        if total is None:
            total = moved  # the canvas is used by all
        else:
            total = total + moved if episodes is None else total.index_add(0, episodes, moved)
    return total.flatten(0, 1)


def carried(features: list[Tensor], seen: Seen, fold: int = 4) -> list[Tensor]:
    """Move the views' features by the warp, at each level: [(N, C, h/4, w/4), ...].

    features: of each level (B, V, C, s, s) for the whole crop, the first with a cell for every `fold` px.
    """
    levels = []
    for level, of_views in enumerate(features):
        seen = _pooled(seen, 2 if level else fold)
        moved = carry(of_views, seen)
        levels.append(moved.to(of_views.dtype, memory_format=torch.channels_last))
    return levels


def _pooled(seen: Seen, cell: int) -> Seen:
    """Return flows and weights as means over cells of so many px."""
    pool = lambda a: None if a is None else F.avg_pool2d(a.flatten(0, 1), cell).unflatten(0, a.shape[:2])
    return replace(seen, flows=[*map(pool, seen.flows)], weights=[*map(pool, seen.weights)])


def cut(images: Tensor, warps: Warps) -> Tensor:
    """Cut the boxes out of images (B, C, S, S) of the whole crop: (N, C, s, s), where s is the boxes' side in cells."""
    cells = CROP // images.shape[-1]
    side, boxes = warps.side // cells, warps.corners.shape[1]
    if warps.side == CROP:
        return images.repeat_interleave(boxes, 0)
    corners = warps.corners.reshape(-1, 2) // cells
    return torch.stack([images[n // boxes, :, y : y + side, x : x + side] for n, (x, y) in enumerate(corners)])


@dataclass
class Composite:
    """image: the picture. refined: the warp with the painting's flow and matte. painted: the same with its colour.

    All are (N, 3, h, w) in about -1..1.
    """

    image: Tensor
    refined: Tensor
    painted: Tensor


def compose(seen: Seen, views: Tensor, plate: Tensor, painting: Painting) -> Composite:
    """Make the picture of a painting; `painting.compose.paint_box` says how. views, plate: as of `condition`."""
    colours, matte = _moved(views, seen, painting.flow)
    refined = plate + (matte + painting.matte).clamp(0, 1) * (colours - plate)
    warped = seen.x[:, :3].float()
    apart = 127.5 * (refined.detach() - warped).abs().amax(1, keepdim=True)
    trust = (1 + (blurred(apart, TRUST_BLUR) / TOLERANCE) ** 2) ** -2
    painted = refined + seen.face * (warped - refined) + torch.maximum(trust, seen.face) * painting.colour
    return Composite(refined + (1 - painting.mask) * (painted - refined), refined, painted)


def _places(warps: Warps) -> Tensor:
    """Return the px of the crop of every pixel of the boxes, (B, R, 2, h, w) x and y."""
    steps = torch.arange(warps.side, device=warps.ids.device) + 0.5
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"))
    return torch.from_numpy(warps.corners).to(grid)[..., None, None] + grid


def _mapped(ids: Tensor, maps: Tensor, places: Tensor) -> Tensor:
    """Return where the affine maps (b, R, F+1, 6) of their triangles bring the pixels, (b, R, 2, h, w)."""
    m = _looked_up(maps.flatten(0, 1), ids.flatten(0, 1).flatten(1)).view(*ids.shape, 6)
    x, y = places.unbind(2)
    return torch.stack([m[..., 0] * x + m[..., 1] * y + m[..., 4], m[..., 2] * x + m[..., 3] * y + m[..., 5]], 2)


def _looked_up(table: Tensor, ids: Tensor) -> Tensor:
    """Return the rows of table (N, F+1, 6) for ids (N, P): (N, P, 6)."""
    first = torch.arange(len(table), device=ids.device)[:, None] * table.shape[1]
    return table.flatten(0, 1).index_select(0, (ids + first).flatten()).view(*ids.shape, -1)


def _looked_at(image: Tensor, flow: Tensor) -> Tensor:
    """Return image (b, C, S, S), of any S, at flow (b, R, 2, h, w) px of the crop: (b, R, C, h, w)."""
    boxes, height, width = flow.shape[1], *flow.shape[3:]
    grid = flow.permute(0, 1, 3, 4, 2).reshape(len(flow), boxes * height, width, 2) * (2 / CROP) - 1
    moved = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return moved.unflatten(2, (boxes, height)).transpose(1, 2)


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Return image (N, C, h, w) blurred as by OpenCV, without a gradient.

    Two products with a banded matrix are far faster than a convolution of one channel.
    """
    with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
        down, across = (_blur_matrix(side, sigma, image.device) for side in image.shape[2:])
        return down @ (image.float() @ across.T)


@cache
def _blur_matrix(side: int, sigma: float, device: torch.device) -> Tensor:
    kernel = cv2.getGaussianKernel(round(8 * sigma) | 1, sigma)
    return torch.from_numpy(cv2.sepFilter2D(np.eye(side, dtype=np.float32), -1, np.ones(1), kernel)).to(device)
