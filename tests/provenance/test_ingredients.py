"""Portrait and driver under any name: what they hold decides how they are read and what the manifest says of them."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest
from PIL import Image
from support import ASTRONAUT, CLIP, c2pa_reads, run_animate

from portrait_anim.media.content import content_type
from portrait_anim.media.photo import load_photo
from portrait_anim.media.reading import probe
from portrait_anim.motion.source import kind_of
from portrait_anim.provenance.marks import Marking
from portrait_anim.provenance.verify import verify_file

PICTURES = {
    ".jpg": "jpeg", ".mpo": "jpeg", ".png": "png", ".webp": "webp", ".gif": "gif", ".bmp": "bmp", ".tif": "tiff",
    ".ppm": "x-portable-anymap", ".tga": "x-tga", ".jp2": "jp2", ".avif": "avif", ".ico": "x-icon",
}  # fmt: skip
VIDEOS = {
    ".mp4": "mp4", ".mov": "quicktime", ".m4v": "mp4", ".mkv": "x-matroska", ".webm": "x-matroska",
    ".avi": "x-msvideo", ".ts": "mp2t", ".mpg": "mpeg", ".flv": "x-flv", ".wmv": "x-ms-asf", ".ogv": "ogg",
}  # fmt: skip
SUFFIXES = [*PICTURES, *VIDEOS, ".npz", ".txt", ""]


@pytest.fixture(scope="session")
def every(made_once) -> dict[str, Path]:
    """A photo or clip of every format, by its usual suffix."""

    def make(folder: Path) -> None:
        photo = Image.open(ASTRONAUT).convert("RGB").crop((100, 0, 356, 256))
        for suffix in PICTURES:
            options = {"save_all": True, "append_images": [photo]} if suffix == ".mpo" else {}
            photo.save(folder / f"a{suffix}", **options)
        ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-t", "0.12", "-i", CLIP, "-an", "-s", "96x96"]
        for suffix in VIDEOS:
            subprocess.run([*ffmpeg, folder / f"a{suffix}"], check=True)

    folder = made_once("every", make)
    return {suffix: folder / f"a{suffix}" for suffix in (*PICTURES, *VIDEOS)}


@pytest.fixture(scope="session")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    return path


@pytest.mark.parametrize("own", [*PICTURES, *VIDEOS])
def test_every_format_under_every_suffix(tmp_path, every, picture, own):
    """It is known for what it is, can be read, and what is made of it is signed and names it."""
    kind = f"image/{PICTURES[own]}" if own in PICTURES else f"video/{VIDEOS[own]}"
    still = own in PICTURES and own != ".gif"
    digest = hashlib.sha256(every[own].read_bytes()).hexdigest()
    for number, suffix in enumerate(SUFFIXES):
        path = tmp_path / f"given{number}{suffix}"
        shutil.copy(every[own], path)
        assert content_type(path) == kind, path.name
        assert kind_of(path) == ("image" if still else "video"), path.name
        if own in PICTURES:
            assert load_photo(path).shape == (256, 256, 3), path.name
        if not still:
            assert probe(path).height in (96, 256), path.name
        output = shutil.copy(picture, tmp_path / f"made{number}.png")
        marking = Marking([path], path)
        marking(Path(output))
        assert not marking.warnings, (path.name, marking.warnings)
        report = verify_file(output)
        assert report.verdict == "intact" and [i["name"] for i in report.inputs] == [path.name] * 2
        assert [i["sha256"] for i in report.inputs] == [digest] * 2


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".png"])
def test_provenance_of_an_input_goes_along_under_any_name(tmp_path, marked, picture, suffix):
    for other in (suffix, ".jpg", ".avi", ".txt"):
        path = tmp_path / f"given{other}"
        shutil.copy(marked[suffix], path)
        output = Path(shutil.copy(picture, tmp_path / "made.png"))
        Marking([path], "nod")(output)
        store = c2pa_reads(output)
        assert len(store["manifests"]) == 2 and b"astronaut" in output.read_bytes(), other


def test_a_damaged_manifest_in_an_input_hinders_no_signature(tmp_path, marked, picture):
    data = marked[".png"].read_bytes()
    place = data.index(b"c2pa.assertions")
    for number, damaged in enumerate((data[: place + 40], data.replace(b"c2pa.assertions", b"c2pa.absertions"))):
        path = tmp_path / f"damaged{number}.png"
        path.write_bytes(damaged)
        output = Path(shutil.copy(picture, tmp_path / f"made{number}.png"))
        marking = Marking([path], "nod")
        marking(output)
        assert not marking.warnings and verify_file(output).verdict == "intact"


def test_a_png_named_jpg_and_a_photo_named_mp4_are_animated_and_signed(tmp_path):
    Image.open(ASTRONAUT).crop((100, 0, 356, 256)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "portrait.jpg")
    shutil.copy(ASTRONAUT, tmp_path / "driver.mp4")
    done = run_animate("portrait.jpg", "-d", "driver.mp4", "--end", 0.2, "--max-size", 128, "-o", "x.mp4", cwd=tmp_path)
    assert done.returncode == 0 and "manifest" not in done.stderr, done.stderr
    report = verify_file(tmp_path / "x.mp4")
    assert report.verdict == "intact" and [i["name"] for i in report.inputs] == ["portrait.jpg", "driver.mp4"]
