"""Files that are written aside, and what killed runs leave behind."""

import os
import subprocess
import sys

import pytest
from clips import noise, save

from portrait_anim.errors import OutputError
from portrait_anim.system.files import _machine, atomic_write, check_preview, preview_of


@pytest.mark.skipif(sys.platform != "linux", reason="process numbers are not asked for elsewhere")
def test_leftovers_of_killed_runs_are_removed(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    here, elsewhere = _machine(), "00000000"
    dead, alive = f"partial-{here}-{gone.pid}-0123abcd", f"partial-{here}-{os.getppid()}-0123abcd"
    theirs, old = f"partial-{elsewhere}-{gone.pid}-0123abcd", f"partial-{elsewhere}-{gone.pid}-89abcdef"
    kept = [f".a.{alive}.mp4", f"a.{dead}.mp4", f".a.{dead}.mp4.bak", ".a.partial-x.mp4", f".a.{theirs}.mp4"]
    for name in (*kept, f".a.{dead}.mp4", f".b.{dead}.mp4", f".weights.{dead}", f".a.{old}.mp4"):
        (tmp_path / name).write_bytes(b"")
    os.utime(tmp_path / f".a.{old}.mp4", (0, 0))
    (tmp_path / f".new.{dead}.png").mkdir()
    (tmp_path / f".new.{dead}.png" / "00001.png").write_bytes(b"")
    save(tmp_path / "a.mp4", noise(1))
    save(f"{tmp_path}/new/", noise(1))
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "a.mp4", "new"])


def test_write_aside(tmp_path):
    path = tmp_path / "a.bin"
    for data in (b"first", b"second"):
        with atomic_write(path) as partial:
            partial.write_bytes(data)
            assert path.exists() == (data == b"second")
        assert path.read_bytes() == data
    with pytest.raises(RuntimeError), atomic_write(path) as partial:
        partial.write_bytes(b"third")
        raise RuntimeError
    with pytest.raises(OutputError, match="cannot be written"), atomic_write(tmp_path / "none" / "a.bin") as partial:
        partial.write_bytes(b"")
    assert path.read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("name, sheet", [
    ("x.mp4", "x.preview.png"), ("x.png", "x.preview.png"), ("x/", "x.preview.png"), ("x_%05d.png", "x_.preview.png")
])  # fmt: skip
def test_names_of_previews(tmp_path, name, sheet):
    assert check_preview(f"{tmp_path}/{name}") == tmp_path / sheet == preview_of(f"{tmp_path}/{name}")
    (tmp_path / sheet).touch()
    with pytest.raises(OutputError, match=f"{sheet}: exists already"):
        check_preview(f"{tmp_path}/{name}")
