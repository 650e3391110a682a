"""What the user sees is ours alone: libraries say nothing on the terminal, and ours comes through."""

import os
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from PIL import Image
from support import ASTRONAUT, PATIENCE, assert_refused, run_animate_alone, run_tool_alone, write_csv

from portrait_anim.errors import InputError
from portrait_anim.media.photo import load_photo
from portrait_anim.system.quiet import quiet_stderr


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """TIFF files that make libtiff, Pillow's warnings and Pillow's log speak, each: name -> what is said there."""
    folder = tmp_path_factory.mktemp("damaged")
    photo = Image.open(ASTRONAUT).convert("RGB").crop((100, 0, 228, 128))
    photo.save(folder / "codes.tif", compression="tiff_lzw")
    data = bytearray((folder / "codes.tif").read_bytes())
    with Image.open(folder / "codes.tif") as image:
        start = image.tag_v2[273][0]  # StripOffsets: where the compressed rows begin
    data[start : start + 400] = np.random.default_rng(0).bytes(400)
    (folder / "codes.tif").write_bytes(data)
    photo.save(folder / "tags.tif")
    data = bytearray((folder / "tags.tif").read_bytes())
    place = int.from_bytes(data[4:8], "little")
    (folder / "cut.tif").write_bytes(data[: place + 30])
    for count in range(int.from_bytes(data[place : place + 2], "little")):
        entry = place + 2 + 12 * count
        if data[entry : entry + 2] == (277).to_bytes(2, "little"):  # SamplesPerPixel
            data[entry + 8 : entry + 10] = (2048).to_bytes(2, "little")
    (folder / "tags.tif").write_bytes(data)
    return {
        folder / "codes.tif": "Using code not yet in table",
        folder / "cut.tif": "Corrupt EXIF data",
        folder / "tags.tif": "More samples per pixel",
    }


def test_the_files_do_make_libraries_speak(damaged):
    """Otherwise the tests below could not fail."""
    for path, words in damaged.items():
        code = f"from PIL import Image; Image.open({str(path)!r}).load()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
        assert words in done.stderr


def test_a_damaged_photo_is_refused_in_one_sentence_of_ours(tmp_path, damaged):
    for path in damaged:
        done = run_animate_alone(path, "-d", "nod", "-o", "x.mp4", cwd=tmp_path)
        assert_refused(done, 3, path.name, folder=tmp_path)
        assert len(done.stderr.splitlines()) == len([line for line in done.stderr.splitlines() if "error: " in line])


@pytest.mark.parametrize("command", ["animate", "batch"])
def test_several_outputs_of_which_most_are_read_where_torch_is(tmp_path, damaged, command):
    """There, unlike in the helper process, what Python's libraries say would reach the terminal."""
    if command == "batch":
        jobs = write_csv(tmp_path / "jobs.csv", *({"images": str(path), "driver": "nod"} for path in damaged))
        done = run_tool_alone("batch", jobs, "-o", f"{tmp_path}/", "--workers", 1, cwd=tmp_path)
    else:
        done = run_animate_alone(ASTRONAUT, *damaged, "--each", "-d", "nod", "--end", 0.1, "-o", "./", cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    for words in (*damaged.values(), "Warning", "tempfile", "PIL"):
        assert words not in done.stdout + done.stderr
    assert all(path.name in done.stderr for path in damaged)


def test_a_library_call_prints_nothing_either(damaged):
    paths = [str(path) for path in damaged]
    code = f"""
from portrait_anim.errors import InputError
from portrait_anim.errors import InputError
from portrait_anim.media.photo import load_photo
for path in {paths}:
    try:
        load_photo(path)
    except InputError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0 and not done.stderr and len(done.stdout.splitlines()) == len(paths), done.stderr


def test_our_own_log_comes_through_where_libraries_are_silent():
    code = """
import logging, warnings
from portrait_anim.system.quiet import quiet_python
quiet_python()
warnings.warn("a warning")
logging.getLogger("PIL.Image").error("of a library")
logging.getLogger("portrait_anim.web.queue").error("of ours")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stderr == "of ours\n"


def test_stderr_is_back_after_a_photo_that_cannot_be_read(damaged):
    before = os.fstat(2)
    for path in damaged:
        with warnings.catch_warnings(), pytest.raises(InputError, match=path.name):
            warnings.simplefilter("ignore")
            load_photo(path)
    assert os.path.samestat(before, os.fstat(2))


def test_two_threads_that_keep_stderr_quiet_leave_it_as_it_was():
    before = os.fstat(2)

    def quiet(seconds: float) -> None:
        with quiet_stderr():
            time.sleep(seconds)

    threads = [threading.Thread(target=quiet, args=(seconds,)) for seconds in (0.1, 0.3, 0.2)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert os.path.samestat(before, os.fstat(2))
