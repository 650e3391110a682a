"""What happens around a run: full disks, two runs at once, the same twice, and names of every kind."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from support import (
    ASTRONAUT,
    CLIP,
    PATIENCE,
    assert_refused,
    linux,
    read_frames,
    run_animate,
    run_at_once,
)

from portrait_anim.provenance.verify import verify_file

FRAMES = """
import sys
import numpy as np
from portrait_anim.animation import animator, rendering
kept = []
class Keeper:
    def __init__(self, *_): self.warnings, self.size = [], (0, 0)
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def write(self, frame): kept.append(frame.copy())
rendering.VideoWriter = Keeper
animator.Animator(threads=int(sys.argv[1])).animate([sys.argv[2]], sys.argv[3], sys.argv[4] + "/x.mp4", max_size=400)
np.save(sys.argv[4] + "/frames.npy", np.stack(kept))
"""
NAMES = [
    "with space",
    'it\'s "quoted"',
    "--force",
    "-dash",
    "ünïcödé 图",
    "new\nline",
    "$(touch pwned)",
    "a;b&c|d",
    "%d %s",
]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 120 kB, if this may be mounted here."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = sys.platform == "linux" and os.geteuid() == 0
    mounted = mounted and not subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", folder]).returncode
    if not mounted:
        pytest.skip("a small disk can only be mounted by root, outside of closed containers")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("name", ["x.mp4", "x.webm", "x.gif", "x/"])
def test_a_full_disk_is_said_and_nothing_half_written_stays(small_disk, tmp_path, name):
    done = run_animate(ASTRONAUT, "-d", CLIP, "-o", f"{small_disk}/{name}", "--end", "0.8", "--crf", "3", cwd=tmp_path)
    assert_refused(done, 4, "x", "No space left", folder=small_disk)


def test_a_disk_that_is_full_from_the_first_byte_is_said_as_well(small_disk, tmp_path):
    """ffmpeg then ends with a line that says only that nothing was written."""
    with pytest.raises(OSError, match="No space"), open(small_disk / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    done = run_animate(ASTRONAUT, "-d", "blink", "-o", small_disk / "x.mp4", "--end", "0.2", cwd=tmp_path)
    assert_refused(done, 4, "x.mp4", "No space left")
    assert os.listdir(small_disk) == ["filler"]


def test_a_disk_too_full_for_the_signature_keeps_the_video(small_disk, tmp_path):
    """Signing needs the space of the file once more. If it is not there, the result is marked by XMP alone."""
    whole = tmp_path / "whole.mp4"
    options = ["-d", CLIP, "--end", "0.5", "--max-size", "128", "--no-audio"]
    assert run_animate(ASTRONAUT, *options, "-o", whole, cwd=tmp_path).returncode == 0
    (small_disk / "filler").write_bytes(bytes((120 * 1024 - int(1.6 * whole.stat().st_size)) // 4096 * 4096))
    done = run_animate(ASTRONAUT, *options, "-o", small_disk / "x.mp4", cwd=tmp_path)
    assert done.returncode == 0 and "no signed manifest was added" in done.stderr, done.stderr
    assert len(read_frames(small_disk / "x.mp4")) == 12
    assert verify_file(small_disk / "x.mp4").verdict == "unsigned"
    assert sorted(os.listdir(small_disk)) == ["filler", "x.mp4"]


@linux
def test_folders_that_cannot_be_written_to_and_folders_in_the_way(tmp_path):
    (tmp_path / "x.mp4").mkdir()
    assert_refused(run_animate(ASTRONAUT, "-d", CLIP, "-o", "x.mp4", "-f", cwd=tmp_path), 4, "x.mp4", "folder")
    assert_refused(run_animate(ASTRONAUT, "-d", CLIP, "-o", "/proc/x.mp4", cwd=tmp_path), 4, "/proc")
    if os.geteuid() != 0:
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        assert_refused(run_animate(ASTRONAUT, "-d", CLIP, "-o", "locked/x.mp4", cwd=tmp_path), 4, "locked")


@linux
@pytest.mark.parametrize("name, force", [("x.mp4", True), ("x.mp4", False), ("x/", True), ("x/", False)])
def test_two_runs_at_once_on_one_output(tmp_path, short_clip, name, force):
    """One of them wins, whole; without --force the other is told."""
    clips = [["-d", short_clip], ["-d", CLIP, "--end", "0.3"]]  # 12 and 8 frames
    common = ["-o", name, "--max-size", "128", *(["--force"] if force else [])]
    both = run_at_once(*([ASTRONAUT, *clip, *common] for clip in clips), cwd=tmp_path)
    said = [done.stderr for done in both]
    assert sorted(done.returncode for done in both) == ([0, 0] if force else [0, 4]), said
    assert "Traceback" not in str(said)
    if name == "x.mp4":
        assert len(read_frames(tmp_path / name)) in (8, 12) and verify_file(tmp_path / name).verdict == "intact"
    else:
        pictures = sorted((tmp_path / "x").iterdir())
        assert len(pictures) in (8, 12) and all(verify_file(file).verdict == "intact" for file in pictures)
        assert len({verify_file(file).inputs[1]["name"] for file in pictures}) == 1  # not a mixture of both
    assert os.listdir(tmp_path) == [name.rstrip("/")]


def test_the_same_inputs_give_the_same_frames_whatever_the_threads(tmp_path, short_clip):
    made = []
    for number, threads in enumerate((2, 2, 1, 4)):
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [sys.executable, "-c", FRAMES, str(threads), str(ASTRONAUT), str(short_clip), str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE, env=environment)
        made.append(np.load(folder / "frames.npy").astype(np.int16))
    assert len(made[0]) == 12 and np.ptp(made[0]) > 100
    assert (made[0] == made[1]).all()
    assert max(np.abs(made[0] - other).max() for other in made[2:]) <= 1


def test_two_files_of_one_run_decode_to_the_same_frames(tmp_path, short_clip):
    for name in ("a.mp4", "b.mp4"):
        done = run_animate(ASTRONAUT, "-d", short_clip, "-o", name, "--max-size", "256", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (read_frames(tmp_path / "a.mp4") == read_frames(tmp_path / "b.mp4")).all()


@linux
@pytest.mark.parametrize("name", NAMES)
def test_names_of_every_kind(tmp_path, short_clip, name):
    """As photo, driver and output at once; a name that looks like an option follows `--` or is given as ./name."""
    shutil.copy(ASTRONAUT, tmp_path / f"{name}.jpg")
    shutil.copy(short_clip, tmp_path / f"{name}.mp4")
    options = ["--max-size", "128", f"--driver={name}.mp4", f"--output={name}-made.mp4", "--", f"{name}.jpg"]
    done = run_animate(*options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path)) == sorted([f"{name}.jpg", f"{name}.mp4", f"{name}-made.mp4"])
    assert len(done.stdout.splitlines()) == 1  # a line break in a name breaks no sentence
    assert len(read_frames(tmp_path / f"{name}-made.mp4")) == 12
    assert verify_file(tmp_path / f"{name}-made.mp4").inputs[0]["name"] == f"{name}.jpg"
