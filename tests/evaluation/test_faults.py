"""Every measure of edges, sharpness and flicker rises with its own fault and hardly with the others'.

True frames of a real clip are damaged in one way each, and measured against themselves.
"""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from portrait_anim.evaluation.flicker import flicker
from portrait_anim.evaluation.meter import Meter
from portrait_anim.evaluation.pairs import choose_pairs
from portrait_anim.evaluation.reference import regions, signed_distance
from portrait_anim.training.shards import load_shards

MOVED = 30  # px: where the head was in the photo


@pytest.fixture(scope="module")
def held_out(shards):
    return load_shards(shards, held_out=True)


@pytest.fixture(scope="module")
def reference(held_out):
    """A true frame, and a photo in which the head with all that is around it stood elsewhere."""
    true = choose_pairs(held_out)[0].reference(np.zeros((512, 512), bool))
    aside = np.float32([[1, 0, MOVED], [0, 1, 0]])
    moved = lambda picture: cv2.warpAffine(picture, aside, (256, 256), borderMode=cv2.BORDER_REPLICATE)
    return replace(
        true, photo=moved(true.image), photo_matte=moved(true.matte), photo_points=true.points + (MOVED, 0, 0)
    )


def blended(image, other, share):
    return np.rint(image * (1 - share[..., None]) + other * share[..., None]).astype(np.uint8)


@pytest.fixture(scope="module")
def measured(held_out, reference):
    """{fault: values} of the damaged frames."""
    true, meter = reference.image, Meter()
    blurred = cv2.GaussianBlur(true, (0, 0), 1.5)
    left = np.clip(reference.photo_matte - reference.matte, 0, 1)
    line = np.exp(-(((signed_distance(reference.matte > 0.5) - 1.5) / 1.2) ** 2))
    face = cv2.GaussianBlur(reference.regions["face"].astype(np.float32), (0, 0), 2)
    pictures = {
        "none": true,
        "blur": blurred,
        "blurred face": blended(true, blurred, face),
        "shift": cv2.warpAffine(true, np.float32([[1, 0, 2], [0, 1, 1]]), (256, 256), borderMode=cv2.BORDER_REPLICATE),
        "ghost": blended(true, reference.photo, 0.6 * left),
        "light rim": blended(true, np.full_like(true, 255), 0.5 * line),
        "dark rim": blended(true, np.zeros_like(true), 0.5 * line),
    }
    return {name: meter(picture, reference) for name, picture in pictures.items()}


def test_a_true_frame_has_no_fault(measured):
    found = measured["none"]
    for key in ("outline_l1", "outline_perceptual", "residue", "rim"):
        assert found[key] == pytest.approx(0, abs=1e-5)
    assert all(found[f"sharp_{name}"] == pytest.approx(1) for name in ("face", "mouth", "eyes", "edge"))


def test_residue_is_the_share_of_the_photo_that_stayed(measured, reference, held_out):
    assert measured["ghost"]["residue"] == pytest.approx(60, abs=12)
    assert all(found["residue"] < 10 for fault, found in measured.items() if fault != "ghost")
    assert Meter()(reference.photo, reference)["residue"] == pytest.approx(100, abs=1)


def test_a_wrong_background_is_no_residue(held_out, reference):
    grey = blended(reference.image, np.full_like(reference.image, 128), 1 - reference.matte)
    assert Meter()(grey, reference)["residue"] < 10


def test_a_rim_is_light_or_dark_and_no_soft_edge(measured):
    rims = [measured[name]["rim"] for name in ("light rim", "dark rim")]
    others = [found["rim"] for fault, found in measured.items() if not fault.endswith("rim")]
    assert min(rims) > 3 * max(others), (rims, others)


def test_the_outline_is_not_the_face(measured):
    for key in ("outline_l1", "outline_perceptual"):
        inside = measured["blurred face"][key]
        assert all(measured[fault][key] > 4 * inside for fault in ("blur", "shift", "ghost", "light rim", "dark rim"))


def test_sharpness_falls_where_it_is_blurred(measured):
    assert all(measured["blur"][f"sharp_{name}"] < 0.4 for name in ("face", "mouth", "eyes", "edge"))
    assert all(measured["blurred face"][f"sharp_{name}"] < 0.4 for name in ("face", "mouth", "eyes"))
    assert measured["blurred face"]["sharp_edge"] > 0.85
    faults = ("shift", "ghost", "light rim", "dark rim")
    others = {(fault, name): measured[fault][f"sharp_{name}"] for fault in faults for name in ("mouth", "eyes")}
    assert all(0.8 < value < 1.25 for value in others.values()), others


def test_flicker_is_of_its_region(held_out):
    shard, rng = held_out[0], np.random.default_rng(0)
    true = [shard.image(t, 256) for t in range(8)]
    parts = [regions(shard.points(t, 256), shard.matte(t, 256)) for t in range(8)]
    assert flicker(true, true, parts) == dict.fromkeys(("face", "edge", "mouth"), 1)
    steady = [cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in true]
    assert all(value < 1 for value in flicker(steady, true, parts).values())  # a fault that stays is none
    for name in ("edge", "mouth"):
        jumping = [frame.copy() for frame in true]
        for frame, part in zip(jumping[::2], parts[::2]):
            frame[part[name]] = np.clip(frame[part[name]] + rng.normal(0, 20, (part[name].sum(), 3)), 0, 255)
        found = flicker(jumping, true, parts)
        other = "mouth" if name == "edge" else "edge"
        assert found[name] > 2 and found[other] < 1.1, (name, found)
