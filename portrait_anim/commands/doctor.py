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
_REINSTALL = "reinstall with `pip install -c constraints.txt .`"
_SPEED_SECONDS = 2.0
_SPEED_SIZE = (768, 1024)  # px


@dataclass(frozen=True)
class Check:
    """The result of one check. ok: False when `animate` cannot work, None when something optional is missing."""

    name: str
    ok: bool | None
    text: str


def examine(weights: str | None = None, device: str = "auto", precision: str = "auto") -> Iterator[Check]:
    """Yield the result of every check as soon as it is made. The parameters are those of `Animator`.

    Nothing is downloaded.
    """
    animator = Animator(weights, device, precision)
    parts: list[tuple[str, Callable[[], tuple[bool | None, str]]]] = [
        ("versions", _versions),
        ("device", lambda: _device(animator)),
        ("weights", lambda: _weights(animator)),
        ("mediapipe", _mediapipe),
        ("face-alignment", _face_alignment),
        ("ffmpeg", _ffmpeg),
        ("ray", _ray),
        ("speed", lambda: _speed(animator)),
    ]
    for name, look in parts:
        try:
            yield Check(name, *look())
        except PortraitAnimError as error:
            yield Check(name, False, str(error))
        except Exception as error:  # a broken installation may raise anything
            yield Check(
                name, False, f"{type(error).__name__}: {error}; reinstall with `pip install -c constraints.txt .`"
            )


def describe(animator: Animator) -> str:
    """Return a text with the device, precision and threads of a run, and a hint when they are slow."""
    painter = animator.painter
    threads = f"{animator.threads} thread" + "s" * (animator.threads > 1)
    if painter is None:
        return f"cpu, {threads}, without networks"
    precision = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[str(painter.dtype).removeprefix("torch.")]
    slow = painter.device.type == "cpu" and precision == "fp32"
    return f"{painter.device.type}, {precision}, {threads}" + " (slow: a GPU, or a CPU with bf16, is faster)" * slow


def _versions() -> tuple[bool, str]:
    found = [f"python {platform.python_version()}"]
    for package in ("portrait-anim", *PACKAGES):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            if package != "portrait-anim":  # a checkout need not be installed
                return False, f"{package} is not installed; {_REINSTALL}"
    return True, ", ".join(found)


def _device(animator: Animator) -> tuple[bool, str]:
    return True, f"{describe(animator)}; {cores()} of {os.cpu_count()} cores; {platform.system()} {platform.machine()}"


def _weights(animator: Animator) -> tuple[bool | None, str]:
    painter = animator.painter
    if painter is None:
        return False, "none found: the photo would only be warped; get the repository with its weights/ folder"
    loaded = painter.weights
    return True, f"{loaded.info['name']}, verified, sha256 {loaded.sha256[:16]}"


def _mediapipe() -> tuple[bool, str]:
    from ..landmarks.tracking import MediaPipeTracker

    tracker = MediaPipeTracker()
    tracker.faces(np.zeros((128, 128, 3), np.uint8))
    tracker.close()
    return True, f"runs, version {version('mediapipe')}"


def _face_alignment() -> tuple[bool | None, str]:
    import torch

    installed = version("face-alignment")
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    names = " ".join(os.listdir(folder)) if os.path.isdir(folder) else ""
    here = "s3fd" in names and "3DFAN4" in names
    if not here:
        return None, f"version {installed}; --tracker face-alignment will download its networks at first use"
    return True, f"version {installed}, with its networks"


def _ffmpeg() -> tuple[bool, str]:
    import imageio_ffmpeg

    program = imageio_ffmpeg.get_ffmpeg_exe()
    said = subprocess.run([program, "-hide_banner", "-encoders"], capture_output=True, text=True, timeout=30).stdout
    missing = [name for name in ("libx264", "aac", "libvpx-vp9", "libopus", "gif", "png") if f" {name} " not in said]
    if missing:
        return False, f"{program}: has no encoder {missing[0]}; use the ffmpeg of imageio-ffmpeg"
    first = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30).stdout
    return True, re.search(r"version \S+", first)[0] + ", with H.264, VP9, AAC, Opus"


def _ray() -> tuple[bool | None, str]:
    try:
        return True, f"version {version('ray')}"
    except PackageNotFoundError:
        return None, "not installed; only `portrait-anim batch --ray` needs it"


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
    return True, f"about {rate:.1f} frames/s at {width}x{height}: {250 / rate:.0f} s for 10 s of video at 25 frames/s"
