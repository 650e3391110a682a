"""The differentiable twin: what training computes is what the command computes."""

import cv2
import numpy as np
import pytest
import torch
from reference import channels

from portrait_anim.geometry.mesh import draw_landmarks
from portrait_anim.geometry.warp import WHOLE, Warper
from portrait_anim.networks.generator import split_painting
from portrait_anim.painting import conditioning as at_run_time
from portrait_anim.painting.compose import paint_box, window
from portrait_anim.training.conditioning import AROUND, Warps, carried, compose, condition, cut, warp_numbers

PART = (96, 64, 384, 352)


def turned(landmarks, angle):
    """The head turned to the side, so that the mirror image helps."""
    middle = landmarks[:468].mean(0)
    return (landmarks - middle) @ cv2.Rodrigues(np.array([0, -angle, 0.0]))[0].T + middle


def planes(image):
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


@pytest.fixture(scope="module", params=[WHOLE, PART], ids=["whole", "box"])
def both(request, portrait):
    """The input of one frame, made by the command and by its twin."""
    box, target = request.param, turned(portrait.views[0].landmarks, 0.35)
    warper = Warper(portrait.views, AROUND)
    numbers = warp_numbers(warper, target, box)
    assert numbers["used"].all() and numbers["weights"][1].max() > 0.5
    seen = at_run_time.condition(warper.warp(target), portrait.views, portrait.plate, target, box)
    names = ("ids", "maps", "table", "shifts", "weights", "face", "shown", "cavity", "lips")
    parts = [torch.from_numpy(np.asarray(numbers[name]))[None, None] for name in names]
    warps = Warps(*parts, np.array([[box[:2]]]), [None, None])
    mattes = [np.clip(view.matte, 0, 1)[..., None] for view in portrait.views]
    views = [planes(np.dstack([v.image / 127.5 - 1, m])).float() for v, m in zip(portrait.views, mattes)]
    views = torch.stack(views, 1)
    in_box = lambda image: planes(image[box[1] : box[3], box[0] : box[2]]).float() / 127.5 - 1
    plate, drawing = in_box(portrait.plate), in_box(draw_landmarks(target))
    return seen, condition(warps, views, plate, drawing), views, plate


def test_the_generator_sees_the_same(both):
    seen, twin, _, _ = both
    error = np.abs(twin.x[0].permute(1, 2, 0).numpy() - channels(seen))
    assert error[..., 3:12].max() < 0.51 / 127.5  # drawing and maps, which the command keeps in bytes
    # OpenCV reads pictures of 8 bits at places rounded to 1/32 px.
    assert error[..., :3].mean() < 3e-3 and np.quantile(error[..., :3], 0.999) < 0.02
    assert error[..., 12].mean() < 0.5 / 127.5 and error[..., 12].max() < 0.05


def test_features_are_carried_alike(both):
    seen, twin, _, _ = both
    torch.manual_seed(0)
    features = [torch.randn(1, 2, c, side, side) for c, side in ((4, 128), (6, 64), (8, 32))]
    of_views = [[level[0, n].permute(1, 2, 0).contiguous().numpy() for level in features] for n in range(2)]
    for ours, theirs in zip(carried(features, twin), at_run_time.carried(of_views, seen)):
        assert np.abs(ours[0].permute(1, 2, 0).numpy() - theirs).max() < 1e-3


def test_a_painting_gives_the_same_picture_and_passes_gradients(both, portrait):
    seen, twin, views, plate = both
    rng = np.random.default_rng(0)
    smooth = lambda n: cv2.GaussianBlur(rng.normal(0, 6, (*seen.face.shape, n)).astype(np.float32), (0, 0), 4)
    parts = [np.clip(0.5 + smooth(3)[..., :1], 0, 1), 4 * smooth(2), smooth(3), smooth(3)[..., :1]]
    painting = np.ascontiguousarray(np.dstack(parts), np.float32)
    painted = planes(painting).requires_grad_()
    image = compose(twin, views, plate, split_painting(painted)).image
    image.mean().backward()
    assert all(painted.grad[0, n].abs().max() > 0 for n in range(7))
    out = paint_box(seen, portrait.views, portrait.plate, painting)
    expected = (out[1:-1, 1:-1, :3] + out[1:-1, 1:-1, 3:6]) / 127.5 - 1
    inside = window(seen.box) > 0.999  # at run time the painting fades at the border of its box
    error = np.abs(image.detach()[0].permute(1, 2, 0).clamp(-1, 1).numpy() - expected)[inside]
    assert error.mean() < 3e-3 and np.quantile(error, 0.999) < 0.02


def test_views_that_some_episodes_do_not_use_change_nothing(portrait):
    """On a processor they are left out, on a GPU they are computed with no weight."""
    warper, own = Warper(portrait.views, AROUND), portrait.views[0].landmarks
    numbers = [warp_numbers(warper, turned(own, angle), PART) for angle in (0.0, 0.35)]
    numbers[0]["weights"] = np.stack([np.ones((1, 144, 144)), np.zeros((1, 144, 144))]).astype(np.float32)
    names = ("ids", "maps", "table", "shifts", "weights", "face", "shown", "cavity", "lips")
    parts = [torch.from_numpy(np.stack([n[name] for n in numbers]))[:, None] for name in names]
    corners = np.array([[PART[:2]]] * 2)
    torch.manual_seed(0)
    views, plate, drawing = torch.rand(2, 2, 4, 512, 512), torch.rand(2, 3, 288, 288), torch.rand(2, 3, 288, 288)
    features = [torch.randn(2, 2, 4, 128, 128)]
    made = []
    for episodes in ([None, None], [None, torch.tensor([1])]):
        seen = condition(Warps(*parts, corners, episodes), views, plate, drawing)
        made.append([seen.x, *carried(features, seen)])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*made))


def test_boxes_are_cut_where_they_are():
    warps = Warps(*[torch.zeros(2, 1, 64, 64)] * 9, np.array([[[32, 64]], [[0, 448]]]), [None])
    y, x = torch.meshgrid(torch.arange(512.0), torch.arange(512.0), indexing="ij")
    cells = torch.stack([x, y])[None].expand(2, -1, -1, -1)
    assert cut(cells, warps)[:, :, 0, 0].tolist() == [[32, 64], [0, 448]]
    assert cut(cells[..., ::4, ::4], warps).shape == (2, 2, 16, 16)
    assert cut(cells[..., ::4, ::4], warps)[:, :, 0, 0].tolist() == [[32, 64], [0, 448]]
