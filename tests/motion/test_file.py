"""Saved motions: small, exact, and hostile ones end in one sentence."""

import io
import zipfile

import numpy as np
import pytest
from support import ASTRONAUT, CLIP, assert_refused, read_frames, run_animate

from portrait_anim import Animator
from portrait_anim.errors import InputError, UsageError
from portrait_anim.geometry.mesh import face_height
from portrait_anim.motion import builtin as motions
from portrait_anim.motion.drivers import load_driver
from portrait_anim.motion.file import load_motion, save_motion


def _changed(good: dict, **changes) -> bytes:
    arrays = {**good, **changes}
    file = io.BytesIO()
    np.savez_compressed(file, **{k: v for k, v in arrays.items() if v is not None})
    return file.getvalue()


def _hostile(good: dict) -> dict[str, tuple[bytes, str]]:
    """Bad files by name, and a word of the sentence they must end in."""
    many = len(good["changes"])
    giant = io.BytesIO()  # its header promises a petabyte
    np.lib.format.write_array_header_1_0(giant, {"descr": "<i2", "fortran_order": False, "shape": (10**9, 478, 3)})
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in good.items():
            member = io.BytesIO()
            np.save(member, value)
            archive.writestr(f"{name}.npy", b"\0" * 300_000_000 if name == "changes" else member.getvalue())
    header = io.BytesIO()
    with zipfile.ZipFile(header, "w") as archive:
        for name, value in good.items():
            member = io.BytesIO()
            np.save(member, value)
            archive.writestr(f"{name}.npy", giant.getvalue() if name == "changes" else member.getvalue())
    whole = _changed(good)
    files = {
        "empty": (b"", "not a readable"),
        "text": (b"I am not a motion.\n" * 50, "not a readable"),
        "half": (whole[: len(whole) // 2], "not a readable"),
        "other": (_changed({"x": np.zeros(3)}), "format is missing"),
        "missing": (_changed(good, first=None), "first is missing"),
        "newer": (_changed(good, format=np.int64(99)), "format 99"),
        "pickle": (_changed(good, found=np.array([None] * (many + 1), object)), "found"),
        "nan": (_changed(good, step=np.float64("nan")), "impossible"),
        "infinite": (_changed(good, step=np.float64("inf")), "impossible"),
        "rate": (_changed(good, fps=np.array([1, 0])), "impossible"),
        "shape": (_changed(good, first=good["first"][:400]), "first"),
        "flat": (_changed(good, first=good["first"] * 0, changes=good["changes"] * 0), "no face"),
        "lost": (_changed(good, found=good["found"] & False), "no face"),
        "rest": (_changed(good, rest=np.full((478, 3), np.nan)), "no face"),
        "cuts": (_changed(good, cuts=np.array([5, 3])), "cuts"),
        "giant": (header.getvalue(), "changes"),
        "bomb": (bomb.getvalue(), "too large"),
    }
    return files


def test_a_motion_saved_and_used_again(tmp_path, short_clip):
    animator = Animator()
    options = {"max_size": 256, "audio": False}
    first = animator.animate([ASTRONAUT], short_clip, tmp_path / "a.mp4", save_motion=tmp_path / "m.npz", **options)
    again = animator.animate([ASTRONAUT], tmp_path / "m.npz", tmp_path / "b.mp4", **options)
    a, b = (read_frames(result.output).astype(int) for result in (first, again))
    assert a.shape == b.shape and np.abs(a - b).mean() < 1
    done = run_animate(ASTRONAUT, "-d", short_clip, "--save-motion", "m.npz", "-o", "c.mp4", cwd=tmp_path)
    assert_refused(done, 4, "m.npz", "--force")
    with pytest.raises(UsageError, match="m.txt.*npz"):
        animator.animate([ASTRONAUT], "nod", tmp_path / "c.mp4", save_motion=tmp_path / "m.txt")


def test_a_saved_motion_is_small_and_exact(tmp_path):
    track = load_driver(CLIP, end=4).track
    save_motion(tmp_path / "m.npz", track)
    loaded = load_motion(tmp_path / "m.npz")
    error = np.abs(loaded.landmarks[:] - track.landmarks[:]).max() / face_height(track.landmarks[0])
    assert error < 0.0005
    assert (loaded.fps, loaded.size, len(loaded)) == (track.fps, tuple(track.size), 100)
    assert (tmp_path / "m.npz").stat().st_size < 1100 * len(track)
    built_in = motions.make_motion("wink")
    save_motion(tmp_path / "w.npz", built_in)
    assert np.allclose(load_motion(tmp_path / "w.npz").rest, built_in.rest)


def test_hostile_motion_files_end_in_one_sentence(tmp_path):
    path = tmp_path / "good.npz"
    save_motion(path, motions.make_motion("blink"))
    with np.load(path) as z:
        good = {key: z[key] for key in z.files}
    for name, (data, word) in _hostile(good).items():
        (tmp_path / f"{name}.npz").write_bytes(data)
        with pytest.raises(InputError, match=word):
            load_motion(tmp_path / f"{name}.npz")
    rng = np.random.default_rng(0)
    whole = path.read_bytes()
    for _ in range(20):  # bits flipped anywhere
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 4):
            data[place] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(data))
        try:
            load_motion(path)
        except InputError:
            pass
    done = run_animate(ASTRONAUT, "-d", tmp_path / "giant.npz", "-o", tmp_path / "x.mp4", cwd=tmp_path)
    assert_refused(done, 3, "giant.npz", "saved motion")
