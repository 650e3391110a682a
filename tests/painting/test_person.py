"""Person files: what is saved is animated again the same, what is broken or foreign is refused in one sentence."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import ASTRONAUT, CLIP, MONA_LISA, assert_refused, read_frames, run_animate

from portrait_anim import Animator
from portrait_anim.errors import InputError
from portrait_anim.networks import weights
from portrait_anim.painting import person as person_file
from portrait_anim.painting.painter import Painter
from portrait_anim.painting.person import Person
from portrait_anim.portrait.portrait import Portrait


@pytest.fixture(scope="module")
def painter(tiny):
    return Painter(tiny, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def saved(painter, tiny, tmp_path_factory):
    """A person file with a tuned generator."""
    person = Person.of([Portrait.load(MONA_LISA, max_size=256), Portrait.load(ASTRONAUT, max_size=128)], painter)
    generator = weights.load(tiny).generator
    torch.nn.init.constant_(generator.out.bias, 0.25)
    path = tmp_path_factory.mktemp("person") / "mona.safetensors"
    Person(person.portraits, painter.with_generator(generator), person.encoding, tuned=True).save(path)
    return path


def refusal(path, painter):
    with pytest.raises(InputError) as caught:
        Person.load(path, painter)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and message.endswith(".") and "\n" not in message
    assert re.search(r"; (save |use |give |get )", message), "says nothing of what to do"
    return message


def test_what_is_saved_is_loaded(saved, painter):
    one = Person.load(saved, painter)
    assert one.tuned and len(one.portraits) == 2
    assert np.array_equal(one.portraits[0].photo, Portrait.load(MONA_LISA, max_size=256).photo)
    assert np.array_equal(one.portraits[1].landmarks, Portrait.load(ASTRONAUT, max_size=128).landmarks)
    assert one.painter.weights.generator.out.bias[0] == 0.25 and painter.weights.generator.out.bias[0] != 0.25


def test_a_tuned_person_gives_the_same_video_from_its_file(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("portrait_anim.training.finetune.AUTO_STEPS", 8)
    monkeypatch.setattr("portrait_anim.training.finetune.AUTO_SECONDS", 300.0)
    monkeypatch.setattr("portrait_anim.animation.people.AUTO_PHOTOS", 1)
    path, options = tmp_path / "mona.safetensors", {"end": 0.2, "max_size": 256}
    result = Animator().animate([MONA_LISA], CLIP, tmp_path / "a.mp4", save_person=path, **options)
    assert not any("Fine-tuning" in warning for warning in result.warnings)
    with safe_open(path, "pt") as file:
        assert any(key.startswith("generator.") for key in file.keys())
        made_with = json.loads(file.metadata()[person_file.KEY])["weights"]
    again = Animator().animate([], CLIP, tmp_path / "b.mp4", person=path, **options)
    assert np.array_equal(read_frames(result.output), read_frames(again.output))

    other = run_animate("-d", CLIP, "--person", path, "--weights", tiny, "-o", "c.mp4", cwd=tmp_path)
    assert_refused(other, 3, "made with other weights", made_with[:8], weights.load(tiny).sha256[:8])
    assert not (tmp_path / "c.mp4").exists()


def test_wrong_use_is_refused(saved, tmp_path):
    given = ("--person", saved, "-d", CLIP)
    for extra, code, word in (
        ((MONA_LISA,), 2, "either it or photos"),
        (("--source-video", CLIP), 2, "either it or photos"),
        (("--save-person", "x.safetensors"), 2, "give the photos"),
        (("--finetune", "20"), 2, "give the photos"),
        (("--person", "nothing.safetensors"), 3, "nothing.safetensors"),
    ):
        assert_refused(run_animate(*given, *extra, cwd=tmp_path), code, word, folder=tmp_path)


def test_places_that_cannot_be_written_are_refused_first(tmp_path):
    (tmp_path / "old.safetensors").write_text("mine")
    for name, code, word in (
        ("person.pt", 2, ".safetensors"),
        ("old.safetensors", 4, "--force"),
        ("no/where.safetensors", 4, "no folder"),
    ):
        assert_refused(run_animate(MONA_LISA, "-d", CLIP, "--save-person", name, cwd=tmp_path), code, word)
    assert (tmp_path / "old.safetensors").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("cut", [0, 5, 1000, -1])
def test_not_a_whole_file(saved, painter, tmp_path, cut):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved.read_bytes()[:cut])
    assert "not a person file, or only part of one" in refusal(path, painter)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"format": 1}, "of an earlier version (format 1); save it again from the photos"),
        ({"format": 3}, "of format '3'"),
        ({"weights": "0" * 64}, "made with other weights, '00000000'"),
        ({"weights": None}, "holds no person"),
        ({"background": "sea"}, "holds no person"),
        ("[" * 100_000, "holds no person"),
        ("[]", "holds no person"),
        ("", "holds no person"),
    ],
)
def test_wrong_headers(saved, painter, tmp_path, change, words):
    with safe_open(saved, "pt") as file:
        header = json.loads(file.metadata()[person_file.KEY])
    text = change if isinstance(change, str) else json.dumps(header | change)
    save_file(load_file(saved), path := tmp_path / "x.safetensors", {person_file.KEY: text})
    assert words in refusal(path, painter)


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("code", None, "lacks code"),
        ("code", torch.zeros(1, 3), "its code is not"),
        ("code", "nan", "its code is not"),
        ("more", torch.zeros(1), "unknown tensor 'more'"),
        ("photo.1", None, "unknown tensor 'landmarks.1'"),
        ("photo.0", None, "lacks photo.0"),
        ("photo.0", torch.zeros(10, 10, 4, dtype=torch.uint8), "photo.0 is no picture"),
        ("photo.0", torch.zeros(1, 10, 3, dtype=torch.uint8), "photo.0 is no picture"),
        ("photo.0", torch.zeros(2, 9000, 3, dtype=torch.uint8), "photo.0 is no picture"),
        ("photo.0", torch.zeros(10, 10, 3), "photo.0 is no picture"),
        ("photo.0", torch.zeros(0, 10, 3, dtype=torch.uint8), "photo.0 is no picture"),
        ("landmarks.0", torch.zeros(468, 3, dtype=torch.float64), "landmarks.0 are not 478 points"),
        ("landmarks.0", torch.zeros(478, 3, dtype=torch.float64), "landmarks.0 are no face"),
        ("landmarks.0", torch.rand(478, 3, dtype=torch.float64) * 200, "landmarks.0 are no face"),
        ("landmarks.0", torch.full((478, 3), torch.nan, dtype=torch.float64), "landmarks.0 are no face"),
        ("landmarks.0", "far", "landmarks.0 are no face"),
        ("generator.out.bias", None, "lacks generator.out.bias"),
        ("generator.out.bias", torch.zeros(4), "not F16 (112,)"),
        ("generator.out.bias", torch.full((112,), torch.inf), "NaN or infinity"),
        ("generator.more", torch.zeros(4), "unknown tensor 'generator.more'"),
    ],
)
def test_wrong_tensors(saved, painter, tmp_path, key, value, words):
    tensors = load_file(saved)
    if isinstance(value, str):
        value = {"nan": tensors[key] * torch.nan, "far": tensors[key] + 1000}[value]
    tensors = {k: v for k, v in (tensors | {key: value}).items() if v is not None}
    with safe_open(saved, "pt") as file:
        save_file(tensors, path := tmp_path / "x.safetensors", file.metadata())
    assert words in refusal(path, painter)


def test_weights_are_no_person_and_persons_no_weights(tiny, saved, painter):
    assert "is a weights file" in refusal(tiny, painter)
    with pytest.raises(InputError, match="holds no portrait-anim model"):
        weights.load(saved)
