"""What was made fast gives what the simple way gives: compiled loops, the folded generator, the encoder's colours."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import CLIP, MONA_LISA, PATIENCE, track

from portrait_anim.geometry import anatomy, kernels, mesh
from portrait_anim.geometry.warp import CROP, UNSEEN, condition
from portrait_anim.media.writing import yuv420
from portrait_anim.motion.retarget import Retargeter
from portrait_anim.networks import inference
from portrait_anim.networks.inference import PersonGenerator
from portrait_anim.networks.networks import Generator, ModelConfig, Painting
from portrait_anim.networks.weights import load
from portrait_anim.painting.compose import compose_frame, paint_box, window
from portrait_anim.painting.painter import Painter
from portrait_anim.portrait.portrait import Portrait

BOX = (48, 32, 240, 208)


@pytest.fixture(scope="module")
def frame():
    """Portrait, target, warp, input, painting and pictures of one real frame in which the mirrored photo is used."""
    portrait = Portrait.load(MONA_LISA)
    targets = Retargeter(track(CLIP), portrait.views[0].landmarks)
    target = next(t for t in (targets[i] for i in range(0, len(targets), 10)) if portrait.warper().warp(t).used(1))
    warp = portrait.warper().warp(target)
    x = condition(warp, portrait.views, portrait.plate, target, BOX)
    rng = np.random.default_rng(0)
    size = (BOX[3] - BOX[1], BOX[2] - BOX[0])
    smooth = lambda channels: cv2.GaussianBlur(rng.normal(0, 6, (*size, channels)).astype(np.float32), (0, 0), 4)
    painting = Painting(np.clip(0.5 + smooth(1), 0, 1).reshape(size), 4 * smooth(2), smooth(3))
    flows = warp.flows.copy()
    refined, added = paint_box(warp, portrait.views, portrait.plate, x, painting, BOX)
    return portrait, target, warp, x, painting, flows, refined, added


def bilinear(image: np.ndarray, at: np.ndarray) -> np.ndarray:
    """image (H, W[, C]) at px `at` (..., 2), rounded to 1/32 and replicated, in float64."""
    fixed = np.floor(at.astype(np.float32) * 32 - np.float32(15.5)).astype(int)
    (x, y), (right, lower) = np.moveaxis(fixed >> 5, -1, 0), np.moveaxis((fixed & 31) / 32, -1, 0)
    pixel = lambda i, j: image[np.clip(i, 0, image.shape[0] - 1), np.clip(j, 0, image.shape[1] - 1)].astype(float)
    extend = (...,) + (None,) * (image.ndim - 2)
    right, lower = right[extend], lower[extend]
    upper = pixel(y, x) * (1 - right) + pixel(y, x + 1) * right
    return upper * (1 - lower) + (pixel(y + 1, x) * (1 - right) + pixel(y + 1, x + 1) * right) * lower


def moved(portrait, warp, flows) -> np.ndarray:
    """Colours and matte of all views in BOX, (h, w, 4)."""
    i, j = warp.first(BOX)
    part = np.s_[:, i : i + BOX[3] - BOX[1], j : j + BOX[2] - BOX[0]]
    rgba = [np.dstack([v.image, v.matte]) for v in portrait.views]
    return sum(w[..., None] * bilinear(a, f) for a, w, f in zip(rgba, warp.weights[part], flows[part]) if w.any())


def covered(corners: np.ndarray, size: tuple[int, int]) -> tuple:
    """The part of the pixels (H, W) around a triangle (3, 2), which of them have their centres in it, and which lie
    too near to a side to tell."""
    begin, end = np.maximum(np.floor(corners.min(0)), 0).astype(int), np.ceil(corners.max(0)).astype(int) + 1
    end = np.maximum(np.minimum(end, size[::-1]), begin)
    here = np.stack(np.meshgrid(*[np.arange(a, b) for a, b in zip(begin, end)]), -1)
    ways, at = np.roll(corners, -1, 0) - corners, here[:, :, None] - corners
    side = ways[:, 0] * at[..., 1] - ways[:, 1] * at[..., 0]
    side *= np.sign(np.cross(ways[0], ways[1])) / np.maximum(np.linalg.norm(ways, axis=1), 1e-12)
    return np.s_[begin[1] : end[1], begin[0] : end[0]], side.min(-1) > 0, np.abs(side.min(-1)) < 1e-6


def test_triangles_cover_the_pixels_whose_centres_lie_in_them():
    rng, seen = np.random.default_rng(0), 0
    for number in range(3000):
        size = (0.6, 6, 40)[number % 3]  # px
        corners = rng.uniform(-8, 40, 2) + rng.uniform(0, size, (3, 2))
        ids = np.full((41, 43), -1, np.int32)
        kernels.rasterise(corners[None], np.zeros(1, np.int64), ids)
        part, inside, unsure = covered(corners, ids.shape)
        assert ((ids[part] == 0) == inside)[~unsure].all(), corners
        ids[part] = -1
        assert (ids == -1).all()
        seen += inside.sum()
    assert seen > 40_000


@pytest.mark.parametrize("step", [1.0, 0.37])
def test_no_pixel_is_missed_between_triangles(step):
    """Corners on pixels' centres, too, and sides through them."""
    rng, side = np.random.default_rng(0), 30
    grid = np.stack(np.meshgrid(*[np.arange(side) * step] * 2), -1)
    for turn in np.linspace(0, 1.5, 16):
        turned = grid @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        turned += rng.choice([0, 0.2 * step], (side, side, 1)) * rng.normal(0, 1, (side, side, 2))
        a, b, c, d = turned[:-1, :-1], turned[:-1, 1:], turned[1:, :-1], turned[1:, 1:]
        corners = np.concatenate([np.stack(t, 2).reshape(-1, 3, 2) for t in ((a, b, c), (d, c, b))])
        corners -= turned.reshape(-1, 2).min(0) - 1
        ids = np.full((45, 45), -1, np.int32)
        kernels.rasterise(corners, np.arange(len(corners)), ids)
        outline = np.uint8(ids >= 0)
        contours, _ = cv2.findContours(outline, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        assert len(contours) == 1 and outline.sum() > 50


def test_every_pixel_has_the_nearest_triangle(frame):
    portrait, target, warp, *_ = frame
    vertices, (x0, y0, *_) = portrait.views[0].mesh.posed(target), warp.frame
    expected, doubtful = np.full(warp.ids.shape, -1), np.zeros(warp.ids.shape, bool)
    layer = np.where(mesh.LABELS >= mesh.RING, 1e4 * (1 + mesh.LABELS), 0)
    for index in np.argsort(-(vertices[mesh.TRIANGLES, 2].mean(1) + layer)).tolist():
        corners = (vertices[:, :2] - (x0 + 0.5, y0 + 0.5))[mesh.TRIANGLES[index]]
        part, inside, unsure = covered(corners, warp.ids.shape)
        expected[part][inside] = index
        doubtful[part] |= unsure
    assert (warp.ids == expected)[~doubtful].all() and doubtful.mean() < 1e-3


def test_no_pixel_of_a_face_is_read_from_far_beside_its_neighbours(frame):
    """Slivers, seen at the nostrils, showed whatever was 100 px away."""
    portrait = frame[0]
    targets = Retargeter(track(CLIP), portrait.views[0].landmarks)
    face = np.append(mesh.LABELS < mesh.RING, False)
    apart = 0
    for t in range(0, len(targets), 10):
        warp = portrait.warper().warp(targets[t])
        flow = warp.flows[0]
        around = np.dstack([cv2.medianBlur(np.ascontiguousarray(flow[..., k]), 5) for k in range(2)])
        distance = np.abs(flow - around).max(-1)[face[warp.ids]]
        assert distance.max() < 30  # px
        apart += (distance > 3).sum()
    assert apart < len(range(0, len(targets), 10))  # less than one in a frame, at the far side of the nose


def test_affine_maps_bring_each_triangle_to_its_source(frame):
    portrait, target, *_ = frame
    vertices, source = portrait.views[0].mesh.posed(target), portrait.views[1].mesh.vertices
    maps, area = mesh.triangle_maps(vertices, source)
    double = lambda v: np.cross(v[:, 1, :2] - v[:, 0, :2], v[:, 2, :2] - v[:, 0, :2])
    of = vertices[mesh.TRIANGLES], source[mesh.TRIANGLES]
    slim = np.abs(double(of[0])) < 0.02
    m = np.where(slim[:, None], 0, maps[:-1])[:, None].astype(float)
    moved = np.stack(
        [(m[..., :2] * of[0][..., :2]).sum(-1) + m[..., 4], (m[..., 2:4] * of[0][..., :2]).sum(-1) + m[..., 5]], -1
    )
    wide = np.abs(double(of[0])) > 1
    assert wide.sum() > 800 and np.abs(moved - of[1][..., :2])[wide].max() < 1e-3  # px
    assert np.allclose(area[~slim], (double(of[1]) / np.where(slim, 1, double(of[0])))[~slim])
    flat = vertices * (1, 0, 1)
    maps, area = mesh.triangle_maps(flat, source)
    middle = source[mesh.TRIANGLES, :2].mean(1)
    assert (maps[:-1, :4] == 0).all() and np.allclose(maps[:-1, 4:], middle, atol=1e-3) and (area == 1).all()


def test_offsets_are_shortened_to_where_areas_say():
    """The share that leaves a triangle its least area is the first root of its area along the offsets."""
    rng = np.random.default_rng(1)
    shape, offsets = mesh.MEAN_FACE, rng.normal(0, 0.03, mesh.MEAN_FACE.shape)
    triangles = mesh.TRIANGLES[mesh.LABELS == mesh.FACE]
    turn = mesh.ORIENTATION[mesh.LABELS == mesh.FACE]

    def area(v):
        a, b, c = v[triangles, :2].transpose(1, 0, 2)
        return np.cross(b - a, c - a) * turn

    before, least = area(shape), 0.15
    assert np.allclose(anatomy._areas(shape), before)
    shares = np.linspace(0, 1, 2001)
    along = np.stack([area(shape + share * offsets) for share in shares])
    folds = along < least * before
    expected = np.where(folds.any(0), shares[folds.argmax(0)], 1)
    share = anatomy._fitting_share(shape, offsets, least)
    seen = before > 0.1 * before.mean()
    assert 50 < (expected < 1)[seen].sum() < seen.sum() and (share[~seen] == 1).all()
    assert np.abs(share - expected)[seen].max() < 1e-3


def test_flow_is_that_of_the_triangles_blurred_in_the_shell(frame):
    portrait, target, warp, _, _, flows, *_ = frame
    vertices = portrait.views[0].mesh.posed(target)
    ids = mesh.rasterise(vertices, warp.frame)
    x0, y0, x1, y1 = warp.frame
    here = np.stack(np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5), -1)
    shell = 1 - np.append(mesh.LABELS < mesh.RING, False)[ids].astype(float)
    blur = lambda a: cv2.GaussianBlur(a, (0, 0), 3)
    for n, view in enumerate(portrait.views):
        m = mesh.triangle_maps(vertices, view.mesh.vertices)[0][ids].astype(float)
        flow = np.stack([(m[..., :2] * here).sum(-1) + m[..., 4], (m[..., 2:4] * here).sum(-1) + m[..., 5]], -1)
        smooth = blur((flow - here) * shell[..., None]) / np.maximum(blur(shell), 1e-3)[..., None]
        expected = np.where(shell[..., None] > 0, here + smooth, flow)
        used = warp.weights[n] > 0
        assert used.any() and np.abs(flows[n] - expected)[used].max() < 2e-3  # px


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


def test_kernels_work_where_no_cache_can_be_written():
    code = """
import numpy as np, numba.core.caching as caching
caching.FunctionCache._impl_class._locator_classes = []
from portrait_anim.geometry import kernels
flow = np.zeros((3, 3, 2), np.float32)
kernels.add_flow(np.ones((2, 2, 2), np.float32), np.full((2, 2), 0.5, np.float32), (1, 1), flow)
assert flow.sum() == 4, flow
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr


CPU = torch.device("cpu")
PACKED = pytest.mark.skipif(not inference._packs(torch.empty(0)), reason="torch has no oneDNN here")


@pytest.mark.parametrize("packed", [False, pytest.param(True, marks=PACKED)])
@pytest.mark.parametrize("size", [(64, 96), (192, 160)])
def test_a_persons_generator_is_the_same_function(size, packed, monkeypatch):
    monkeypatch.setattr(inference, "_packs", lambda like: packed)
    generator = load().generator
    psi = torch.randn(1, sum(generator.coeffs)) * 0.2
    x = torch.rand(2, 13, *size) * 2 - 1
    before = x.clone()
    with torch.inference_mode():
        expected = generator(x, psi)
    again = PersonGenerator(generator, psi, CPU, torch.float32)
    for _ in range(2):  # what works in place leaves its input as it was
        for one, two in zip(expected, again(x)):
            assert (one - two).abs().max() < 1e-4
            assert one.std() > 1e-3
    assert (x == before).all()


@pytest.mark.parametrize("size", [(240, 240), (208, 160)])
def test_weights_are_laid_out_once_for_all_frames(size, capfd):
    """Laid out for another size they were laid out anew in every frame, which took 180 ms of 240."""
    generator = load().generator
    like = torch.empty(0)
    if not inference._packs(like):
        pytest.skip("this torch lays out no weights")
    person = PersonGenerator(generator, torch.randn(1, sum(generator.coeffs)) * 0.2, CPU, torch.float32)
    x = torch.rand(1, 13, *size).to(memory_format=torch.channels_last)
    person(torch.rand(1, 13, 64, 64)), person(x)
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        person(x)
    done = [line for line in capfd.readouterr().out.splitlines() if "exec,cpu" in line]
    assert sum(",convolution," in line for line in done) > 20
    assert not [line for line in done if ",reorder," in line and ",1x" not in line]  # 1 x ... is a frame's


def test_a_persons_generator_rounds_no_more_than_the_generator_itself(frame):
    portrait, _, _, x, *_ = frame
    painter = Painter(precision="bf16")
    generator, psi = painter.weights.generator, painter.person(portrait.views[:1])
    x = torch.from_numpy(x)[None].permute(0, 3, 1, 2)
    with torch.inference_mode():
        exact, folded = generator(x, psi), painter.brush(psi).generator(x)
        rounded = generator.to(torch.bfloat16)(x.bfloat16(), psi.bfloat16())
    for one, two, three in zip(exact, folded, rounded):
        assert (one - two).square().mean() <= 1.1 * (one - three).square().mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_generator_touches_no_values_on_the_way(dtype):
    """On the meta device nothing has a value: whatever leaves the device, or depends on a value, fails here."""
    meta = torch.device("meta")
    with meta:
        generator = Generator(ModelConfig())
        x, psi = torch.empty(2, 13, 192, 160, dtype=dtype), torch.empty(1, sum(generator.coeffs))
        generator = PersonGenerator(generator, psi, meta, dtype)
    mask, flow, delta = generator(x)
    assert [p.shape[1:] for p in (mask, flow, delta)] == [(c, 192, 160) for c in (1, 2, 3)]
    assert all(p.device.type == "meta" and p.dtype == torch.float32 for p in (mask, flow, delta))


@pytest.mark.parametrize("size", [(96, 128), (97, 131)])
def test_encoder_gets_the_colours_of_hd_video(size):
    frame = cv2.resize(cv2.imread(str(MONA_LISA))[200:500, 200:600, ::-1], size[::-1])
    y, cb, cr = yuv420(frame)
    r, g, b = np.moveaxis(frame.astype(float), -1, 0)
    luma = 0.2126 * r + 0.7152 * g + 0.0722 * b
    assert y.shape == size and np.abs(y - (16 + luma * 219 / 255)).max() < 1
    half = lambda a: cv2.resize(
        np.pad(a, [(0, s % 2) for s in size], "edge"), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA
    )
    for plane, colour, largest in ((cb, b, 1.8556), (cr, r, 1.5748)):
        assert np.abs(plane - (128 + half(colour - luma) / largest * 224 / 255)).max() < 1.5


@pytest.mark.slow
def test_benchmark_finds_every_stage(tmp_path, short_clip):
    bench = Path(__file__).parent.parent / "benchmarks" / "bench.py"
    command = [sys.executable, str(bench), "--driver", str(short_clip), "--runs", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    columns = json.loads(done.stdout)["columns"]
    assert list(columns) == ["mona_lisa, now", "1080 px, now"]
    for report in columns.values():
        assert report["frames"] == 12 and report["first frame s"] > 0
        assert all(ms > 0 for ms in report["ms per frame"].values()), report
