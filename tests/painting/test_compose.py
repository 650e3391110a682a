"""The composite: what the command computes in compiled loops is what plain arithmetic and torch give."""

import cv2
import numpy as np
import torch
from reference import BOX, bilinear, moved, turned
from support import ASTRONAUT, MONA_LISA, portrait_of

from portrait_anim.geometry import mesh
from portrait_anim.geometry.warp import CROP, UNSEEN, condition
from portrait_anim.networks.networks import Painting
from portrait_anim.painting.compose import compose_frame, paint_box, window
from portrait_anim.portrait.portrait import Portrait
from portrait_anim.training import losses


def test_the_two_composites_agree(portrait):
    """Training composes in torch, the command in numpy: the same numbers must come out."""
    target = turned(portrait.views[0].landmarks, -0.2)
    warp = portrait.warper().warp(target)
    x = condition(warp, portrait.views, portrait.plate, target)
    rng = np.random.default_rng(0)
    mask = rng.uniform(0, 1, (CROP, CROP)).astype(np.float32)
    flow = rng.normal(0, 2, (CROP, CROP, 2)).astype(np.float32)
    delta = rng.normal(0, 0.1, (CROP, CROP, 3)).astype(np.float32)
    channels_first = lambda a: torch.from_numpy(np.ascontiguousarray(np.moveaxis(a, -1, 0)))
    crop = np.s_[-warp.frame[1] : CROP - warp.frame[1], -warp.frame[0] : CROP - warp.frame[0]]
    batch = {
        "x": channels_first(x)[None, None],
        "plate": channels_first(portrait.plate)[None, None],
        "flows": torch.stack([channels_first(f[crop]) for f in warp.flows])[None, :, None],
        "weights": torch.stack([torch.from_numpy(w[crop].copy())[None] for w in warp.weights])[None, :, None],
        "photos": torch.stack([channels_first(v.image) for v in portrait.views])[None],
    }
    painting = Painting(torch.from_numpy(mask)[None, None], channels_first(flow)[None], channels_first(delta)[None])
    expected = losses.compose(batch, painting).image[0].permute(1, 2, 0).numpy()
    refined, added = paint_box(warp, portrait.views, portrait.plate, x, Painting(mask, flow, delta))
    inside = window() > 0.999
    difference = np.abs(refined + added - np.clip(expected, -1, 1))[inside]
    assert difference.mean() < 0.01 and np.quantile(difference, 0.99) < 0.05  # remap rounds positions to 1/32 px


def test_a_painting_that_changes_nothing_is_the_warp(portrait):
    target = turned(portrait.views[0].landmarks, 0.1)
    nothing = Painting(
        np.full((CROP, CROP), 0.7, np.float32),
        np.zeros((CROP, CROP, 2), np.float32),
        np.zeros((CROP, CROP, 3), np.float32),
    )
    frames = []
    for painting in (None, nothing):
        warp = portrait.warper().warp(target)
        x = condition(warp, portrait.views, portrait.plate, target)
        refined, added = paint_box(warp, portrait.views, portrait.plate, x, painting)
        frames.append(compose_frame(portrait, warp, refined, added).astype(int))
    assert np.abs(frames[0] - frames[1]).max() <= 1


def test_the_background_stands_still_or_moves_as_asked():
    """Behind a turned head the background keeps its place, unless --background warp."""
    made = {}
    for background in ("still", "warp"):
        portrait = Portrait.load(ASTRONAUT, background=background)
        landmarks = portrait.views[0].landmarks
        nothing = np.zeros((CROP, CROP, 3), np.float32)
        frame = compose_frame(portrait, portrait.warper().warp(landmarks + [12, 0, 0]), nothing, nothing)
        made[background] = np.abs(frame.astype(int) - portrait.photo).mean(-1)
        person = portrait.region.rgba[..., 3] > 0
    x0, y0, x1, y1 = portrait.region.box
    behind = portrait_of(ASTRONAUT).region.rgba[..., 3] == 0
    behind = cv2.erode(behind.astype(np.uint8), np.ones((61, 61))) > 0  # far from where the head moves to
    still, moved = (made[b][y0:y1, x0:x1][behind].mean() for b in ("still", "warp"))
    assert person.all() and still < 0.1 < moved


def test_input_and_refined_warp_are_those_of_plain_arithmetic(frame):
    portrait, target, warp, x, painting, flows, refined, added = frame
    x0, y0, x1, y1 = BOX
    i, j = warp.first(BOX)
    part = np.s_[i : i + y1 - y0, j : j + x1 - x0]
    plate = portrait.plate[y0:y1, x0:x1].astype(float)
    start = moved(portrait, warp, flows)
    matte = start[..., 3] + warp.face[part] * (1 - start[..., 3])
    over = lambda colour: (plate + matte[..., None] * (colour[..., :3] - plate)) / 127.5 - 1
    drawing = mesh.draw_landmarks(target)[y0:y1, x0:x1] / 127.5 - 1
    expected = np.dstack([over(start), drawing, warp.table[warp.ids[part]], matte])
    assert np.abs(x - expected).max() < 1e-4
    share = window(BOX)[..., None]
    after = flows.copy()
    after[:, part[0], part[1]] += painting.flow * share
    used = [n for n in range(len(portrait.views)) if warp.used(n)]
    assert np.abs(warp.flows[used] - after[used]).max() < 1e-4
    again = over(moved(portrait, warp, warp.flows))
    assert np.abs(refined - again).max() < 1e-4
    painted = x[..., :3] + painting.delta
    image = np.clip(painting.mask[..., None] * (again - painted) + painted, -1, 1)
    assert np.abs(added - (image - again) * share).max() < 1e-4


def test_frame_is_that_of_plain_arithmetic(frame):
    portrait, _, warp, _, _, _, refined, added = frame
    region, scale, origin = portrait.region, portrait.scale, portrait.sources[0].origin
    height, width = region.hold.shape

    def grow(small, corner, constant=False):
        """A map of the crop's resolution over the region, float64; at 1/32 px."""
        axes = []
        for n, o, c, size in (
            (height, origin[1], corner[1], small.shape[0]),
            (width, origin[0], corner[0], small.shape[1]),
        ):
            at = np.round(((np.arange(n) + 0.5 - o) * scale - c - 0.5) * 32) / 32
            axes.append((np.floor(at).astype(int), at - np.floor(at), size))
        pad = (1, "constant") if constant else (1, "edge")
        padded = np.pad(small.astype(float), [(1, 1), (1, 1)] + [(0, 0)] * (small.ndim - 2), pad[1])
        (y, lower, rows), (x, right, columns) = axes
        pixel = lambda i, j: padded[np.clip(i + 1, 0, rows + 1)][:, np.clip(j + 1, 0, columns + 1)]
        extend = (...,) + (None,) * (small.ndim - 2)
        lower, right = lower[:, None][extend], right[None][extend]
        upper = pixel(y, x) * (1 - right) + pixel(y, x + 1) * right
        return upper * (1 - lower) + (pixel(y + 1, x) * (1 - right) + pixel(y + 1, x + 1) * right) * lower

    corner = warp.frame[:2]
    picture, so_far = 0, 0
    for n, source in enumerate(portrait.sources):
        if not warp.used(n):
            continue
        at = grow(warp.flows[n], corner) / source.scale
        if source.is_mirror:
            at[..., 0] = CROP / source.scale - at[..., 0]
        so_far = so_far + warp.weights[n]
        among = warp.weights[n] / np.maximum(so_far, 1e-6)
        share = grow(np.where(among > UNSEEN, among, 0), corner)[..., None]
        picture = picture + share * (bilinear(source.rgba, at + source.origin) - picture)
    background = (1 - grow(warp.face, corner)) * (1 - region.hold) * (1 - picture[..., 3] / 255)
    picture = picture[..., :3] + background[..., None] * (region.plate - picture[..., :3])
    detail = added - cv2.blur(added, (31, 31))
    much = cv2.dilate(np.clip(np.abs(detail).max(-1) * 8 - 0.6, 0, 1), np.ones((3, 3)))
    much = cv2.GaussianBlur(much, (0, 0), 1.0)
    share = grow(much, BOX[:2], constant=True)[..., None]
    picture += share * (grow((np.clip(refined, -1, 1) + 1) * 127.5, BOX[:2]) - picture)
    picture = np.clip(picture + grow(added * 127.5, BOX[:2], constant=True), 0, 255)
    x0, y0, x1, y1 = region.box
    hold = region.hold[..., None]
    expected = portrait.photo.astype(float)
    expected[y0:y1, x0:x1] = picture + hold * (expected[y0:y1, x0:x1] - picture)
    error = np.abs(compose_frame(portrait, warp, refined, added, BOX) - expected)
    # A coordinate that falls on the other side of a 32nd moves its pixel by that much: rarely, and at edges only.
    assert error.mean() < 0.3 and (error > 1.5).mean() < 1e-3 and error.max() < 32


def test_there_is_no_seam_around_the_moving_region():
    """Before the encoder: the region's border is exactly the photo, in a frame with a large turn."""
    portrait = portrait_of(MONA_LISA)
    x0, y0, x1, y1 = portrait.region.box
    angle = 0.35
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    landmarks = portrait.views[0].landmarks
    centre = landmarks.mean(0)
    warp = portrait.warper().warp((landmarks - centre) @ turn.T + centre)
    nothing = np.zeros((256, 256, 3), np.float32)
    frame = compose_frame(portrait, warp, nothing, nothing).astype(int)
    photo = portrait.photo.astype(int)
    assert np.abs(frame[y0:y1, x0:x1] - photo[y0:y1, x0:x1]).mean() > 3  # something moved
    height, width = photo.shape[:2]
    for inside, edges in (
        ((y0, x0), (np.s_[y0, x0:x1], np.s_[y0:y1, x0])),
        ((y1 < height, x1 < width), (np.s_[y1 - 1, x0:x1], np.s_[y0:y1, x1 - 1])),
    ):
        for active, edge in zip(inside, edges):
            if active:
                assert np.abs(frame[edge] - photo[edge]).max() <= 4  # of 255: rounding of the sampling positions
    frame[y0:y1, x0:x1] = photo[y0:y1, x0:x1]
    assert (frame == photo).all()  # and outside nothing is touched at all
