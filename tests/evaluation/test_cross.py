"""Cross-reenactment: one person's clip drives another's portrait."""

import json

import cv2
import numpy as np
import pytest
from support import assert_refused, run_tool

from portrait_anim.evaluation import cross
from portrait_anim.evaluation.motion import compare, f1, summary
from portrait_anim.training.shards import is_held_out, load_shards, make_shard, save_shard


@pytest.fixture(scope="module")
def two_people(shards, tmp_path_factory):
    """A folder of shards of two held-out people, who are one person in two parts of a clip."""
    folder = tmp_path_factory.mktemp("people")
    shard = load_shards(shards, held_out=True)[0]
    names = [f"q{k}" for k in range(99) if is_held_out(f"q{k}")][:2]
    frames, mattes = shard.decode()
    for name, part in zip(names, (slice(0, None), slice(0, None, 2))):
        made = make_shard({"group": name}, frames[part], mattes[part], shard.landmarks[part])
        save_shard(folder / f"{name}.npz", made)
    return folder


def test_the_tables_and_the_pictures(two_people, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(cross, "FRAMES", 10)
    report = cross.evaluate_cross(two_people, tiny, tmp_path / "result", pairs=1)
    assert json.loads((tmp_path / "result" / "cross.json").read_text()) == report
    assert report["pairs"] == 1 and report["frames"] == 10
    assert report["means"]["jitter"] > 0 and report["means"]["lost"] < 30 and report["means"]["csim"] > 0.3
    assert cross.to_markdown(report).count("|") > 30
    assert cv2.imread(str(tmp_path / "result" / "cross.png")).shape == (256, 7 * 256, 3)


def test_one_person_alone_is_refused(shards, tmp_path):
    done = run_tool("evaluate", shards, "--cross", "--out", "result", cwd=tmp_path)
    assert_refused(done, 3, "two held-out people", folder=tmp_path)


def test_frames_are_rendered_at_the_size_of_the_measures(two_people):
    shard = load_shards(two_people, held_out=True)[0]
    track = cross.as_track(cross.at_measures(shard)[:4])
    frames = list(cross.render(shard, track, None, every=2))
    assert [frame.shape for frame in frames] == [(256, 256, 3)] * 2


def test_a_motion_compared_with_itself_agrees(two_people):
    landmarks = cross.at_measures(load_shards(two_people, held_out=True)[0]).astype(np.float64)
    found = summary([compare(landmarks, landmarks)])
    assert found["jitter"] == pytest.approx(1) and found["lost"] == 0 and found["gaze"] == 0
    assert all(found[key] == pytest.approx(1) for key in ("mouth", "yaw", "pitch", "roll"))
    lost = landmarks.copy()
    lost[:3] = np.nan
    assert compare(landmarks, lost)["lost"] == pytest.approx(300 / len(landmarks))
    assert f1(np.array([1, 1, 0], bool), np.array([1, 0, 0], bool)) == pytest.approx(2 / 3)
