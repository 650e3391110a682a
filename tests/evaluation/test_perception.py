"""What stands behind FID and the perceptual distance, by the user's own networks and without them."""

import numpy as np
import pytest
import torch
from torch import nn

from portrait_anim.errors import InputError
from portrait_anim.evaluation.perception import Distribution, PerceptualDistance, frechet_distance
from portrait_anim.networks import judges


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (256, 256, 3)).astype(np.uint8) for _ in range(3)]


@pytest.fixture
def alexnet(tmp_path, monkeypatch):
    """AlexNet in torchvision's layout, and the heads of LPIPS, with random weights."""
    torch.manual_seed(0)
    state, before, heads = {}, 3, {}
    for n, (layer, (channels, size, _, _)) in enumerate(zip((0, 3, 6, 8, 10), judges.Lpips.LAYERS)):
        conv = nn.Conv2d(before, channels, size)
        state |= {f"features.{layer}.weight": conv.weight.data, f"features.{layer}.bias": conv.bias.data}
        heads[f"lin{n}.model.1.weight"] = torch.rand(1, channels, 1, 1)
        before = channels
    state["classifier.1.weight"] = torch.zeros(2, 2)
    torch.save(state, tmp_path / "alexnet.pth")
    torch.save(heads, tmp_path / "heads.pth")
    monkeypatch.setattr(judges, "_package_weights", lambda: tmp_path / "heads.pth")
    return tmp_path / "alexnet.pth"


def test_frechet_distance_of_normal_distributions():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (20_000, 4)), rng.normal([1, 0, 0, 2], 2, (20_000, 4))
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + 4, rel=0.05)  # |mean|^2 + d (1 + 4 - 2 * 2)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    few = rng.normal(size=(3, 40))  # singular covariances
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6) and np.isnan(frechet_distance(few[:1], few))


@pytest.mark.parametrize("own", [False, True])
def test_the_perceptual_distance_sees_a_part(own, pictures, request):
    distance = PerceptualDistance(request.getfixturevalue("alexnet") if own else None)
    assert ("LPIPS" in distance.name) == own
    target, half = pictures[0], np.arange(256)[None] < np.full((256, 1), 96)
    image = target.copy()
    image[:, 160:] = 255 - image[:, 160:]
    assert distance(target, target) == 0
    assert distance(image, target) > 0 and distance(image, target, half) < 0.01 * distance(image, target, ~half)


def test_lpips_is_the_sum_of_its_levels_means(pictures, alexnet):
    a, b = (torch.from_numpy(p).permute(2, 0, 1)[None].float() / 127.5 - 1 for p in pictures[:2])
    levels = judges.Lpips(alexnet).distances(a, b)
    assert [tuple(level.shape[2:]) for level in levels] == [(63, 63), (31, 31), (15, 15), (15, 15), (15, 15)]
    expected = sum(level.mean().item() for level in levels)
    assert PerceptualDistance(alexnet)(*pictures[:2]) == pytest.approx(expected, rel=1e-4)


class Network(nn.Module):
    """Stands for Inception: the mean colours as features."""

    def forward(self, x, return_features: bool = False):
        return x.float().mean((2, 3)).repeat(1, 3) if return_features else x


def test_fid_by_the_users_inception(pictures, tmp_path):
    torch.jit.script(Network()).save(str(tmp_path / "inception.pt"))
    distribution = Distribution(tmp_path / "inception.pt")
    assert distribution.name == "Inception v3"
    assert distribution.features(pictures[0]) == pytest.approx(np.tile(pictures[0].mean((0, 1)), 3)[None], rel=1e-5)
    assert Distribution().features(pictures[0]).shape == (16, 40)


def test_other_files_are_refused(tmp_path, alexnet):
    other = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(8, 3, 3, 3)}, other)
    with pytest.raises(InputError, match="other.pth: does not hold AlexNet"):
        judges.Lpips(other)
    other.write_bytes(b"no weights")
    with pytest.raises(InputError, match="other.pth: cannot be read as weights"):
        judges.Lpips(other)
    for path in (other, tmp_path / "missing.pt"):
        with pytest.raises(InputError, match="is not Inception as TorchScript"):
            judges.Inception(path)
