"""What every format carries, and that marking changes no frame. c2pa's own reader has the last word."""

import hashlib
import shutil
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from support import ASTRONAUT, CLIP, c2pa_reads, clip_frames, read_frames, run_animate, write_video

from portrait_anim import Animator
from portrait_anim.provenance import marks
from portrait_anim.provenance.marks import SOURCE_TYPE, Marking
from portrait_anim.provenance.verify import verify_file


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".gif", ".png"])
def test_every_output_is_signed_and_says_what_it_is(marked, short_clip, suffix):
    store = c2pa_reads(marked[suffix])
    assert store["validation_state"] == "Valid"
    manifest = store["manifests"][store["active_manifest"]]
    (action,) = [a["data"]["actions"] for a in manifest["assertions"] if a["label"].startswith("c2pa.actions")][0]
    assert (action["action"], action["digitalSourceType"]) == ("c2pa.created", SOURCE_TYPE)
    assert [i["title"] for i in manifest["ingredients"]] == ["astronaut.jpg", "short.mp4"]
    assert len(action["parameters"]["ingredients"]) == 2
    report = verify_file(marked[suffix])
    assert (report.verdict, report.synthetic, report.signer) == ("intact", True, "this installation")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (ASTRONAUT, short_clip)]
    assert [i["sha256"] for i in report.inputs] == digests


def test_metadata_is_where_others_look_for_it(marked):
    """The packet that `_add_xmp` puts there, found by readers that are not ours."""
    with Image.open(marked[".png"]) as image:
        assert SOURCE_TYPE.encode() in image.info["xmp"] and b"CreatorTool" in image.info["xmp"]
    data = marked[".gif"].read_bytes()
    place = start = data.index(b"\x21\xff\x0bXMP DataXMP") + 14
    while data[place]:  # readers that know no XMP take the text for blocks, and must come out at its end
        place += data[place] + 1
    assert SOURCE_TYPE.encode() in data[start:place] and data[place + 1] in b"\x21\x2c"  # the next block
    for suffix in (".mp4", ".mov"):
        data, place, kinds = marked[suffix].read_bytes(), 0, []
        while place < len(data):  # the boxes fill the file exactly
            size = int.from_bytes(data[place : place + 4], "big")
            kinds.append((data[place + 4 : place + 8], data[place + 8 : place + 24].hex()))
            assert size >= 8
            place += size
        assert place == len(data)
        assert (b"uuid", "be7acfcb97a942e89c71999491e3afac") in kinds
    tags = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(marked[".webm"])], capture_output=True, text=True
    ).stderr
    assert SOURCE_TYPE in tags and "Made with portrait-anim" in tags


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".png"])
def test_marking_changes_no_frame(tmp_path, suffix):
    frames = clip_frames()[:5, :256, :256].copy()
    plain, signed = tmp_path / f"plain{suffix}", tmp_path / f"signed{suffix}"
    if suffix == ".png":
        Image.fromarray(frames[0]).save(plain)
    else:
        write_video(plain, frames)
    shutil.copy(plain, signed)
    marking = Marking([ASTRONAUT], CLIP)
    marking(signed)
    assert not marking.warnings and verify_file(signed).verdict == "intact"
    assert (read_frames(plain) == read_frames(signed)).all()
    assert signed.stat().st_size - plain.stat().st_size < 12_000


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_large_file_is_signed_piece_by_piece(tmp_path, monkeypatch, suffix):
    """What is large is made small here: pieces of 4 kB, of which the video has dozens."""
    monkeypatch.setattr(marks, "LARGE", 0)
    monkeypatch.setattr(marks, "_PIECE", 4)
    signed = tmp_path / f"signed{suffix}"
    write_video(signed, clip_frames()[:100, :256, :256])
    size = signed.stat().st_size
    marking = Marking([ASTRONAUT], CLIP)
    marking(signed)
    assert not marking.warnings and size > 30_000
    assert c2pa_reads(signed)["validation_state"] == "Valid" and verify_file(signed).verdict == "intact"
    data = bytearray(signed.read_bytes())
    data[len(data) - size // 2] ^= 1
    signed.write_bytes(data)
    assert verify_file(signed).verdict == "altered"


def test_private_names_nobody(tmp_path, marked):
    photo = tmp_path / "Erika Mustermann.png"
    shutil.copy(marked[".png"], photo)  # it has a manifest of its own, which names astronaut.jpg
    done = run_animate(photo, "-d", CLIP, "--end", "0.2", "--max-size", "128", "--private", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (output,) = tmp_path.glob("*.mp4")
    data = output.read_bytes()
    assert not [word for word in (b"Erika", b"clip.mp4", b"astronaut") if word in data]
    report = verify_file(output)
    assert report.verdict == "intact" and [i["name"] for i in report.inputs] == ["portrait", "driver"]
    assert all(len(i["sha256"]) == 64 for i in report.inputs)
    Animator().animate([photo], CLIP, tmp_path / "b.mp4", end=0.2, max_size=128)
    assert b"astronaut" in (tmp_path / "b.mp4").read_bytes()  # else an input's own provenance goes along


def test_label_is_seen_and_only_in_its_corner(tmp_path, short_clip):
    animator, frames = Animator(), {}
    for label in (False, True):
        result = animator.animate([ASTRONAUT], short_clip, tmp_path / f"{label}.mp4", max_size=256, crf=0, label=label)
        frames[label] = read_frames(result.output).astype(int)
    corner = np.s_[:, -26:, -36:]
    changed = np.abs(frames[True] - frames[False]).max(-1) > 8
    assert changed[corner].mean() > 0.15 and frames[True][corner].min(-1).max() > 180  # white letters
    changed[corner] = False
    assert changed.mean() < 1e-4
