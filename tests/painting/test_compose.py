"""The composite: what the command computes in compiled loops is what plain arithmetic gives."""

import cv2
import numpy as np
import pytest
from reference import BOX, bilinear, channels, moved, turned
from support import ASTRONAUT, MONA_LISA, portrait_of

from portrait_anim.geometry import mesh
from portrait_anim.geometry.mesh import HeadMesh
from portrait_anim.geometry.view import CROP
from portrait_anim.geometry.warp import IS_FACE, STEP, UNSEEN
from portrait_anim.painting import kernels
from portrait_anim.painting.compose import N_RESULT, compose_frame, paint_box, window
from portrait_anim.painting.conditioning import carried, condition
from portrait_anim.painting.renderer import Renderer
from portrait_anim.portrait.portrait import Portrait


def test_a_painting_that_changes_nothing_is_the_warp(portrait):
    target = turned(portrait.views[0].landmarks, 0.1)
    nothing = np.zeros((CROP, CROP, 7), np.float32)
    nothing[..., 0] = 0.7  # of the mask
    frames = []
    for painting in (None, nothing):
        warp = portrait.warper().warp(target)
        seen = condition(warp, portrait.views, portrait.plate, target)
        painted = paint_box(seen, portrait.views, portrait.plate, painting)
        frames.append(compose_frame(portrait, warp, painted).astype(int))
    assert np.abs(frames[0] - frames[1]).max() <= 1


def test_the_background_stands_still_or_moves_as_asked():
    """Behind a turned head the background keeps its place, unless --background warp."""
    made = {}
    for background in ("still", "warp"):
        portrait = Portrait.load(ASTRONAUT, background=background)
        landmarks = portrait.views[0].landmarks
        nothing = np.zeros((CROP + 2, CROP + 2, N_RESULT), np.float32)
        frame = compose_frame(portrait, portrait.warper().warp(landmarks + [24, 0, 0]), nothing)
        made[background] = np.abs(frame.astype(int) - portrait.photo).mean(-1)
        person = portrait.region.rgba[..., 3] > 0
    x0, y0, x1, y1 = portrait.region.box
    behind = portrait_of(ASTRONAUT).region.rgba[..., 3] == 0
    ring = HeadMesh(portrait.landmarks).rings[0, :, :2] - (x0, y0)  # in it the plate is what was filled in
    behind &= cv2.fillPoly(np.zeros(behind.shape, np.uint8), [ring.astype(np.int32)], 1) == 0
    behind = cv2.erode(behind.astype(np.uint8), np.ones((61, 61))) > 0  # far from where the head moves to
    still, moved = (made[b][y0:y1, x0:x1][behind].mean() for b in ("still", "warp"))
    assert person.all() and still < 0.1 < moved


def test_input_and_refined_warp_are_those_of_plain_arithmetic(frame):
    portrait, target, warp, seen, painting, painted = frame
    x0, y0, x1, y1 = BOX
    plate = portrait.plate[y0:y1, x0:x1].astype(float)

    def over(colours, change=0.0):
        matte = np.clip(colours[..., 3] + seen.face * (1 - colours[..., 3]) + change, 0, 1)
        return plate + matte[..., None] * (colours[..., :3] - plate), matte

    start, matte = over(moved(portrait, seen, seen.flows))
    drawing = mesh.draw_landmarks(target)[y0:y1, x0:x1] / 127.5 - 1
    expected = np.dstack([start / 127.5 - 1, drawing, warp.table[mesh.rasterise(warp.vertices, BOX)], matte])
    assert np.abs(seen.warped - start).mean() < 0.01 and np.quantile(np.abs(seen.warped - start), 0.999) < 2.5
    error = np.abs(channels(seen) - expected)  # in steps of 1 / 127.5
    assert error.mean() < 0.5 / 127.5 and np.quantile(error, 0.999) < 0.02
    share = window(BOX)[..., None]
    flows = [None if flow is None else flow + painting[..., 1:3] * share for flow in seen.flows]
    refined, _ = over(moved(portrait, seen, flows), painting[..., 6] * share[..., 0])
    apart = cv2.GaussianBlur(np.abs(refined - start).max(-1), (0, 0), 1.5)
    trust = np.maximum((1 + (apart / 20) ** 2) ** -2.0, seen.face)[..., None]
    face = seen.face[..., None]
    painted_alone = face * start + (1 - face) * refined + trust * painting[..., 3:6] * 127.5
    image = np.clip(painting[..., :1] * refined + (1 - painting[..., :1]) * painted_alone, 0, 255)
    added = (image - refined) * share
    made = painted[1:-1, 1:-1]
    difference = np.abs(made[..., :6] - np.dstack([refined, added]))  # remap rounds differently now and then
    assert difference.mean() < 0.03 and np.quantile(difference, 0.999) < 2.5
    assert np.allclose(made[..., 7:], np.dstack([painting[..., 6:7], painting[..., 1:3]]) * share, atol=1e-5)
    half = cv2.resize(added, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    much = np.clip(np.abs(half - cv2.blur(half, (31, 31))).max(-1) * 8 / 127.5 - 0.6, 0, 1)
    much = cv2.GaussianBlur(cv2.dilate(much, np.ones((3, 3))), (0, 0), 1.0)
    much = cv2.resize(much, added.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    assert np.abs(made[..., 6] - much).mean() < 1e-3
    border = np.ones(painted.shape[:2], bool)
    border[1:-1, 1:-1] = False
    assert not painted[border].any()


def test_features_are_carried_as_pixels_are(frame):
    """Features that are the picture itself, made smaller, arrive where the picture does."""
    portrait, _, _, seen, *_ = frame
    shrunk = lambda image, size: cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    features = [[shrunk(view.image, size) for size in (128, 64, 32)] for view in portrait.views]
    expected = moved(portrait, seen, seen.flows)[..., :3]
    for level, made in enumerate(carried(features, seen)):
        size = made.shape[1::-1]
        assert size == tuple(side // (4 << level) for side in (BOX[2] - BOX[0], BOX[3] - BOX[1]))
        difference = np.abs(made - cv2.resize(expected, size, interpolation=cv2.INTER_AREA))
        assert difference.mean() < 6  # of 255: enlarging what was made smaller blurs it


def test_frame_is_that_of_plain_arithmetic(frame):
    portrait, _, warp, _, _, painted = frame
    region, scale, origin = portrait.region, portrait.scale, portrait.sources[0].origin
    height, width = region.hold.shape

    def grow(small, corner, step, constant=False):
        """A map of the crop, a value for every `step` px, over the region, float64; at 1/32 of a step."""
        axes = []
        for n, o, c, size in (
            (height, origin[1], corner[1], small.shape[0]),
            (width, origin[0], corner[0], small.shape[1]),
        ):
            at = np.round((((np.arange(n) + 0.5 - o) * scale - c) / step - 0.5) * 32) / 32
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
    over_box = lambda values: grow(values, BOX[:2], 1, constant=True)
    painted_box, painted = painted, painted[1:-1, 1:-1]
    in_region = warp.vertices / scale
    in_region[:, :2] += origin
    ids = mesh.rasterise(in_region, (0, 0, width, height), face_only=True)
    here = np.stack(np.meshgrid(np.arange(width) + 0.5 - origin[0], np.arange(height) + 0.5 - origin[1]), -1) * scale
    picture, so_far = 0, 0
    for n, source in enumerate(portrait.sources):
        if not warp.used[n]:
            continue
        m = warp.maps[n][ids].astype(float)
        exact = np.stack([(m[..., :2] * here).sum(-1) + m[..., 4], (m[..., 2:4] * here).sum(-1) + m[..., 5]], -1)
        at = np.where(IS_FACE[ids][..., None], exact, here + grow(warp.shifts[n], corner, STEP))
        at = (at + over_box(painted[..., 8:])) / source.scale
        if source.is_mirror:
            at[..., 0] = CROP / source.scale - at[..., 0]
        so_far = so_far + warp.weights[n]
        among = warp.weights[n] / np.maximum(so_far, 1e-6)
        share = grow(np.where(among > UNSEEN, among, 0), corner, STEP)[..., None]
        picture = picture + share * (bilinear(source.rgba, at + source.origin) - picture)
    soft = np.rint(picture).astype(np.uint8)
    kernels.soften_edge(ids, IS_FACE, soft.copy(), (0, 0), soft)
    picture = soft.astype(float)
    behind = (1 - grow(warp.face, corner, STEP)) * (1 - grow(warp.shown, corner, STEP) * picture[..., 3] / 255)
    behind = np.clip(behind - over_box(painted[..., 7]), 0, 1)[..., None]
    picture = picture[..., :3] + behind * (region.plate - picture[..., :3])
    share = over_box(painted[..., 6])[..., None]
    picture += share * (grow(painted[..., :3], BOX[:2], 1) - picture)
    picture = np.clip(picture + over_box(painted[..., 3:6]), 0, 255)
    x0, y0, x1, y1 = region.box
    hold = region.hold[..., None]
    expected = portrait.photo.astype(float)
    expected[y0:y1, x0:x1] = picture + hold * (expected[y0:y1, x0:x1] - picture)
    error = np.abs(compose_frame(portrait, warp, painted_box, BOX) - expected)
    # A coordinate that falls on the other side of a 32nd moves its pixel by that much: rarely, and at edges only.
    assert error.mean() < 0.3 and (error > 2.5).mean() < 1e-3 and error.max() < 48


def test_the_edge_of_the_face_is_softened_and_nothing_else():
    ids = np.full((24, 24), -1, np.int32)
    ids[8:16, 8:16] = 0
    picture = np.zeros((24, 24, 4), np.uint8)
    picture[8:16, 8:16] = 200
    soft = picture.copy()
    kernels.soften_edge(ids, np.array([True, False]), picture[4:20, 4:20].copy(), (4, 4), soft)
    changed = (soft != picture).any(-1)
    assert changed[6:18, 6:18].sum() == changed.sum() > 40 and not changed[10:14, 10:14].any()
    assert 0 < soft[7, 12, 0] < soft[8, 12, 0] < 200


def test_a_renderer_without_a_portrait_makes_squares_only(portrait):
    renderer = Renderer(portrait.views, portrait.plate)
    assert renderer.square(portrait.views[0].landmarks).image.shape == (CROP, CROP, 3)
    with pytest.raises(ValueError, match="squares only"):
        renderer.frame(portrait.views[0].landmarks)


def test_there_is_no_seam_around_the_moving_region():
    """Before the encoder: the region's border is exactly the photo, in a frame with a large turn."""
    portrait = portrait_of(MONA_LISA)
    x0, y0, x1, y1 = portrait.region.box
    angle = 0.35
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    landmarks = portrait.views[0].landmarks
    centre = landmarks.mean(0)
    warp = portrait.warper().warp((landmarks - centre) @ turn.T + centre)
    frame = compose_frame(portrait, warp, np.zeros((CROP + 2, CROP + 2, N_RESULT), np.float32)).astype(int)
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
