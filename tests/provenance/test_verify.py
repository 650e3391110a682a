"""Who signed, and what tampering does."""

import json
import subprocess
import sys

import imageio_ffmpeg
import numpy as np
import pytest
from support import ASTRONAUT, CLIP, PATIENCE, assert_refused

from portrait_anim.provenance.marks import SOURCE_TYPE
from portrait_anim.provenance.verify import verify_file


def run_verify(*arguments, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "portrait_anim.commands.tools", "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **options)


def test_webm_has_the_metadata_alone(marked):
    report = verify_file(marked[".webm"])
    assert (report.verdict, report.synthetic, report.source_type) == ("unsigned", True, SOURCE_TYPE)
    assert report.tool.startswith("portrait-anim ")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".gif", ".png"])
def test_a_flipped_bit_is_found(tmp_path, marked, suffix):
    data = marked[suffix].read_bytes()
    rng = np.random.default_rng(5)
    start = data.index({".gif": b"NETSCAPE", ".png": b"IDAT"}.get(suffix, b"mdat")) + 30
    for place in rng.integers(start, min(start + 4000, len(data) - 2000), 10):
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.integers(8)
        path = tmp_path / f"flipped{suffix}"
        path.write_bytes(flipped)
        assert verify_file(path).verdict == "altered", place


def test_tampering_is_told_in_words_and_by_exit_code(tmp_path, marked):
    data = bytearray(marked[".mp4"].read_bytes())
    assert run_verify(marked[".mp4"]).returncode == 0
    data[data.index(b"mdat") + 500] ^= 1
    (tmp_path / "flipped.mp4").write_bytes(data)
    done = run_verify("flipped.mp4", cwd=tmp_path)
    assert done.returncode == 1 and "NOT intact" in done.stdout and "this installation" in done.stdout
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([ffmpeg, "-v", "error", "-i", marked[".mp4"], "-c", "copy", tmp_path / "again.mp4"], check=True)
    done = run_verify("again.mp4", cwd=tmp_path)
    assert done.returncode == 1 and "No signed manifest" in done.stdout
    assert "synthetic, by its own account; made with portrait-anim" in done.stdout  # its comment stayed
    done = run_verify(CLIP)
    assert done.returncode == 1 and "does not say that it is genuine" in done.stdout


def test_verify_as_json_and_refusals(tmp_path, marked):
    report = json.loads(run_verify(marked[".gif"], "--json").stdout)
    assert report["verdict"] == "intact" and report["source_type"] == SOURCE_TYPE
    (tmp_path / "empty.mp4").touch()
    for name in ("missing.mp4", "empty.mp4", "."):
        assert_refused(run_verify(name, cwd=tmp_path), 3, name)
    assert_refused(run_verify(marked[".mp4"], "--trust", ASTRONAUT), 3, "--trust")
    (tmp_path / "text.mp4").write_text("no picture")
    assert_refused(run_verify("text.mp4", cwd=tmp_path), 3, "neither a video nor a picture")
    for name in ("broken.mp4", "odd\nname"):
        (tmp_path / name).write_text("GIF89a, and no picture")
        assert verify_file(tmp_path / name).verdict == "unmarked"
