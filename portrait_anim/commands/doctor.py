"""Check whether all that `animate` needs is installed and works, and how fast it is: `portrait-anim doctor`."""

import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from ..animation.animator import Animator
from ..errors import PortraitAnimError
from ..system.threads import cores

PACKAGES = ("torch", "mediapipe", "numpy", "opencv-python", "imageio-ffmpeg", "typer", "safetensors", "pillow")
_REINSTALL = "install portrait-anim anew: `pip install -c constraints.txt .`"
_SPEED_SECONDS = 2.0
_SPEED_SIZE = (768, 1024)  # px


@dataclass(frozen=True)
class Check:
    """The result of one check.

    name: what was checked. ok: False when `animate` cannot work, None for what it can do without or what could not be
    checked. text: what was found, and what to do if that is not as it should be.
    """

    name: str
    ok: bool | None
    text: str


def examine(weights: str | None = None, device: str = "auto", precision: str = "auto") -> Iterator[Check]:
    """Yield the result of every check as soon as it is made. The parameters are those of `Animator`.

    Nothing is downloaded.
    """
    animator = Animator(weights, device, precision)
    parts: list[tuple[str, Callable[[], tuple[bool | None, str]]]] = [
        ("packages", _packages),
        ("computer", lambda: _computer(device, precision, animator.threads)),
        ("networks", lambda: _networks(animator)),
        ("face tracker", _face_tracker),
        ("other tracker", _other_tracker),
        ("ffmpeg", _ffmpeg),
        ("cluster", _cluster),
        ("speed", lambda: _speed(animator)),
    ]
    told: set[str] = set()
    for name, look in parts:
        try:
            yield Check(name, *look())
        except PortraitAnimError as error:
            if str(error) in told:
                yield Check(name, None, "not checked, because of the problem above")
            else:
                told.add(str(error))
                yield Check(name, False, str(error))
        except Exception as error:  # a broken installation may raise anything
            yield Check(name, False, f"does not work ({type(error).__name__}: {error}); {_REINSTALL}")


def describe(animator: Animator) -> str:
    """Return a text with the device, precision and threads of a run, and a hint when they are slow."""
    painter = animator.painter
    if painter is None:
        return f"cpu, {_counted(animator.threads)}, without networks"
    return _described(painter.device, painter.dtype, animator.threads)


def summary(problems: int) -> str:
    """Return the sentence that follows the checks, of which so many found a problem."""
    if problems:
        count = "There is a problem" if problems == 1 else f"There are {problems} problems"
        return f"{count}: do what is said there, then run portrait-anim doctor again."
    return "All that animate needs is here and works. To try it: animate PORTRAIT.jpg --driver smile"


def _counted(threads: int) -> str:
    return f"{threads} thread" + "s" * (threads > 1)


def _described(device, dtype, threads: int) -> str:
    precision = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[str(dtype).removeprefix("torch.")]
    slow = device.type == "cpu" and precision == "fp32"
    return f"{device.type}, {precision}, {_counted(threads)}" + " (slow: a GPU, or a CPU with bf16, is faster)" * slow


def _packages() -> tuple[bool, str]:
    found = [f"Python {platform.python_version()}"]
    for package in ("portrait-anim", *PACKAGES):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            if package != "portrait-anim":  # a checkout need not be installed
                return False, f"{package} is not installed; {_REINSTALL}"
    return True, f"all are installed: {', '.join(found)}"


def _computer(device: str, precision: str, threads: int) -> tuple[bool, str]:
    from ..painting.painter import choose_device, choose_precision

    place = choose_device(device)
    described = _described(place, choose_precision(precision, place), threads)
    system = f"{platform.system()} {platform.machine()}, {cores()} of {os.cpu_count()} cores may be used"
    return True, f"frames are made on {described}; {system}"


def _networks(animator: Animator) -> tuple[bool, str]:
    painter = animator.painter
    if painter is None:
        return False, "there is no weights file, so photos would only be warped; get the repository with its weights/"
    loaded = painter.weights
    return True, f"the weights file is whole ({loaded.info['name']}; SHA-256 {loaded.sha256[:16]}...)"


def _face_tracker() -> tuple[bool, str]:
    from ..landmarks.tracking import MediaPipeTracker

    tracker = MediaPipeTracker()
    tracker.faces(np.zeros((128, 128, 3), np.uint8))
    tracker.close()
    return True, f"mediapipe {version('mediapipe')} runs; it finds the faces in photos and clips"


def _other_tracker() -> tuple[bool | None, str]:
    import torch

    installed = version("face-alignment")
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    names = " ".join(os.listdir(folder)) if os.path.isdir(folder) else ""
    here = "s3fd" in names and "3DFAN4" in names
    if not here:
        return None, (
            f"face-alignment {installed} is here without its networks; --tracker face-alignment, for faces that "
            "mediapipe misses, downloads them at first use"
        )
    return True, f"face-alignment {installed} and its networks are here, for faces that mediapipe misses"


def _ffmpeg() -> tuple[bool, str]:
    import imageio_ffmpeg

    program = imageio_ffmpeg.get_ffmpeg_exe()
    said = subprocess.run([program, "-hide_banner", "-encoders"], capture_output=True, text=True, timeout=30).stdout
    missing = [name for name in ("libx264", "aac", "libvpx-vp9", "libopus", "gif", "png") if f" {name} " not in said]
    if missing:
        return False, f"{program} cannot write {missing[0]}; unset IMAGEIO_FFMPEG_EXE to use the one of imageio-ffmpeg"
    first = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30).stdout
    release = re.search(r"version ([^ -]+)", first)[1]
    return True, f"ffmpeg {release} runs; it reads and writes videos (H.264, VP9, AAC, Opus)"


def _cluster() -> tuple[bool | None, str]:
    try:
        return True, f"ray {version('ray')} is installed, for `portrait-anim batch --ray`"
    except PackageNotFoundError:
        return None, "ray is not installed; only `portrait-anim batch --ray` needs it"


def _speed(animator: Animator) -> tuple[bool, str]:
    """Measure the speed: render frames of a synthetic portrait for two seconds with the code that renders real ones."""
    from ..animation.rendering import rendered
    from ..geometry.mesh import MEAN_FACE
    from ..landmarks.following import MotionTrack
    from ..motion.retarget import Retargeter
    from ..painting.person import Person
    from ..painting.renderer import Renderer, painted_box
    from ..portrait.portrait import Portrait

    width, height = _SPEED_SIZE
    photo = np.random.default_rng(0).integers(60, 200, (height, width, 3), np.uint8)
    centre = np.array([width / 2, height * 0.4, 0])
    turns = 0.2 * np.sin(np.arange(600) / 10)
    face = [
        (MEAN_FACE - MEAN_FACE.mean(0)) @ np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
        for a in turns
    ]
    landmarks = (np.stack(face) * height * 0.3 + centre).astype(np.float32)
    track = MotionTrack(landmarks, _SPEED_SIZE, Fraction(25), np.ones(len(landmarks), bool))
    portrait = Portrait(photo, landmarks[0].astype(np.float64))
    targets = Retargeter(track, portrait.views[0].landmarks)
    generator = Person.of([portrait], animator.painter).generator()
    frames = rendered(
        Renderer.of(portrait, generator, painted_box(targets, portrait.views[0])), targets, animator.threads
    )
    for _ in range(2):  # the first frames are slow and not measured
        next(frames)
    begin, count = time.perf_counter(), 0
    for _ in frames:
        count += 1
        if time.perf_counter() - begin > _SPEED_SECONDS:
            break
    frames.close()
    rate = count / (time.perf_counter() - begin)
    return True, f"about {rate:.1f} frames/s at {width}x{height}: 10 s of video (25 frames/s) take {250 / rate:.0f} s"
