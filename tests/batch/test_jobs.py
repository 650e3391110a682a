"""Jobs: names of outputs, work that is shared, and errors that keep their kind."""

import pytest
from support import ASTRONAUT, MONA_LISA, read_frames

from portrait_anim import Animator, InputError, UsageError
from portrait_anim.batch.jobs import Job, by_driver, expand, run_jobs
from portrait_anim.motion import drivers as module
from portrait_anim.portrait.portrait import Portrait


@pytest.mark.parametrize(
    "images, drivers, output, each, names",
    [
        (["a/me.jpg"], ["x.mp4"], None, False, ["me--x.mp4"]),
        (["me.jpg", "too.jpg"], ["x.mp4"], None, False, ["me--x.mp4"]),
        (["me.jpg", "you.jpg"], ["x.mp4"], None, True, ["me--x.mp4", "you--x.mp4"]),
        (["me.jpg"], ["x.mp4", "y.mov"], "out/", False, ["out/me--x.mp4", "out/me--y.mp4"]),
        (["me.jpg"], ["x.mp4"], "out/", True, ["out/me--x.mp4"]),
        (["me.jpg"], ["x.mp4"], "frames/", False, ["frames/"]),
        (["me.jpg"], ["x.mp4"], "{portrait}/{driver}-{number}.gif", False, ["me/x-1.gif"]),
        (["me.jpg"], ["x.mp4"], "{{me}}{number}.gif", False, ["{me}1.gif"]),
    ],
)
def test_names_of_outputs(images, drivers, output, each, names):
    assert [job.output for job in expand(images, drivers, output, each)] == names


@pytest.mark.parametrize(
    "output, each, words",
    [
        ("{potrait}.mp4", True, ["{potrait}", "{portrait}"]),
        ("{}.mp4", True, ["{}"]),
        ("{portrait.mp4", True, ["braces"]),
        ("one.mp4", True, ["one.mp4", "template", "folder"]),
        ("{driver}.mp4", True, ["x.mp4", "twice", "{number}"]),
    ],
)
def test_impossible_names(output, each, words):
    with pytest.raises(UsageError) as refused:
        expand(["me.jpg", "you.jpg"], ["x.mp4"], output, each)
    assert all(word in str(refused.value) for word in words), refused.value


def test_equal_names_of_different_folders_are_noticed():
    with pytest.raises(UsageError, match="twice"):
        expand(["a/me.jpg", "b/me.jpg"], ["x.mp4"], None, each=True)


def test_every_portrait_is_read_once_and_every_driver_tracked_once(tmp_path, clips, monkeypatch):
    read, tracked = [], []
    load, track = Portrait.load.__func__, module.track_video
    monkeypatch.setattr(
        Portrait, "load", classmethod(lambda cls, path, *rest: read.append(path) or load(cls, path, *rest))
    )
    monkeypatch.setattr(
        module, "track_video", lambda frames, fps, name, *rest: tracked.append(name) or track(frames, fps, name, *rest)
    )
    jobs = expand([MONA_LISA, ASTRONAUT], clips, f"{tmp_path}/new/{{number}}.mp4", True, {"max_size": 128})
    outcomes = list(run_jobs(jobs, Animator()))
    assert [outcome.error for outcome in outcomes] == [None] * 4
    assert len(read) == 2 and len(tracked) == 2
    assert all(len(read_frames(tmp_path / f"new/{n}.mp4")) == 6 for n in range(1, 5))


def test_many_drivers_go_in_blocks_and_none_is_left_out():
    jobs = [Job((image,), driver, f"{image}{driver}") for image in "ab" for driver in "123456"]
    groups = by_driver(jobs, 4)
    assert [[job.output for job in group] for group in groups] == [
        "a1 a2 a3 a4 b1 b2 b3 b4".split(),
        "a5 a6 b5 b6".split(),
    ]


def test_library_errors_keep_their_kind(tmp_path, clips):
    (outcome,) = run_jobs(expand(["no.jpg"], clips[:1], f"{tmp_path}/x.mp4"), Animator())
    assert isinstance(outcome.error, InputError) and not list(tmp_path.iterdir())


def test_a_preview_without_a_name_is_refused():
    for name in ("", "/", "."):
        with pytest.raises(UsageError, match="no name for an output"):
            expand(["a.jpg"], ["b.mp4"], name, options={"preview": True})
