"""The person who is animated: the portraits, the networks that paint them, their code, and the file that keeps these.

A person file is a safetensors file. It holds the photos at the resolution they are used at, their landmarks, the
person's code, the generator in fp16 if it was tuned, and as JSON the options and the SHA-256 of the weights it was made
with. Like weights it is never trusted: nothing in it is a program, and everything is checked before it is used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, UsageError
from ..geometry.mesh import MEAN_FACE, N_LANDMARKS, RIGID, similarity
from ..networks import weights as weights_file
from ..system.files import check_file, write_whole

if TYPE_CHECKING:
    import torch

    from ..portrait.portrait import Portrait
    from .painter import ConditionedGenerator, Encoding, Painter

FORMAT = 2
EARLIER_FORMAT = 1  # its generator and code no longer fit the networks
KEY = "portrait_anim_person"  # the key of the header in the file's metadata
SUFFIX = ".safetensors"
MAX_SIDE = 8192  # px of a photo, the largest --max-size
_MAX_MISFIT = 0.1  # face heights, rms distance of the rigid points from the mean face; real faces have under 0.05


@dataclass
class Person:
    """A person made ready to be animated.

    portraits: of which the first is the canvas. painter: the networks, None when there are no weights. encoding: what
    the networks know of the person, None likewise. tuned: whether the generator was fine-tuned to this person.
    """

    portraits: list[Portrait]
    painter: Painter | None
    encoding: Encoding | None
    tuned: bool = False
    notes: list[str] = field(default_factory=list)  # sentences for the user when fine-tuning did not help

    @classmethod
    def of(cls, portraits: list[Portrait], painter: Painter | None) -> Person:
        """Return the person of these portraits as the source encoder sees them, untuned."""
        return cls(portraits, painter, painter and painter.encode(portraits[0].views))

    def generator(self) -> ConditionedGenerator | None:
        """Return the generator conditioned on this person, None when there are no weights."""
        return self.painter and self.painter.generator_for(self.encoding)

    def save(self, path: Path) -> None:
        """Write the person to a file, whole or not at all. Raises OutputError."""
        import torch
        from safetensors.torch import save as pack

        background = self.portraits[0].background
        header = {"format": FORMAT, "weights": self.painter.weights.sha256, "background": background}
        tensors = {"code": self.encoding.code}
        for n, portrait in enumerate(self.portraits):
            tensors[f"photo.{n}"] = torch.from_numpy(np.ascontiguousarray(portrait.photo))
            tensors[f"landmarks.{n}"] = torch.from_numpy(np.asarray(portrait.landmarks, np.float64))
        if self.tuned:
            state = self.painter.weights.generator.state_dict()
            tensors |= {f"generator.{k}": v.to("cpu", torch.float16).contiguous() for k, v in state.items()}
        write_whole(path, pack(tensors, {KEY: json.dumps(header, sort_keys=True)}))

    @classmethod
    def load(cls, path: str | Path, painter: Painter) -> Person:
        """Read the person of a file. Raises InputError.

        painter: the networks; they must have the weights that the file was made with.
        """
        from safetensors import SafetensorError, safe_open

        from ..portrait.portrait import Portrait

        path = check_person(path)
        try:
            with safe_open(path, framework="pt") as file:  # checks the header and the file's length
                background = _read_header(path, file.metadata(), painter.weights.sha256)
                photos, landmarks = _read_photos(path, file)
                code = _read_code(path, file, painter)
                tuned = any(key.startswith("generator.") for key in file.keys())
                generator = _read_generator(path, file, painter) if tuned else None
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: not a person file, or only part of one; save it again.") from error
        if generator is not None:
            painter = painter.with_generator(generator)
        portraits = [Portrait(photo, points, background) for photo, points in zip(photos, landmarks)]
        for other in portraits[1:]:
            portraits[0].add(other)
        return cls(portraits, painter, replace(painter.encode(portraits[0].views), code=code), tuned)


def check_person(path: str | Path) -> Path:
    """Return the path of a person file, or raise InputError when there is no such file.

    The check is cheap: it is made before torch is imported.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such person file; --save-person makes one.")
    return path


def check_save(path: str | Path, force: bool = False) -> Path:
    """Return the absolute path of a person file to be written.

    Raises UsageError or OutputError, before any work is done, when it cannot be written.
    """
    if Path(path).suffix.lower() != SUFFIX:
        raise UsageError(f"{path}: person files end in {SUFFIX}; give --save-person such a name.")
    return check_file(path, force)


# ---------------------------------------------------------------- reading


def _read_header(path: Path, metadata: dict[str, str] | None, sha256: str) -> str:
    """Return the background option of a person file, if its header fits. Raises InputError."""
    if weights_file.KEY in (metadata or {}):
        raise InputError(f"{path}: is a weights file, not a person; give it to --weights.")
    try:
        header = json.loads((metadata or {})[KEY])
        version, made_with, background = header["format"], header["weights"], header["background"]
        strange = not isinstance(made_with, str) or background not in ("still", "warp")
    except (KeyError, TypeError, ValueError, RecursionError):
        strange, version = True, FORMAT
    if version == EARLIER_FORMAT:
        raise InputError(
            f"{path}: holds a person for the networks of an earlier version (format 1); "
            "save it again from the photos, with --save-person."
        )
    if version != FORMAT:
        version = str(version)[:20]
        raise InputError(f"{path}: of format {version!r}, this version reads {FORMAT}; save the person again.")
    if strange:
        raise InputError(f"{path}: holds no person; use a file that --save-person has written.")
    if made_with != sha256:
        raise InputError(
            f"{path}: made with other weights, {made_with[:8]!r} and not {sha256[:8]!r}; "
            "give those to --weights, or save the person again."
        )
    return background


def _read_photos(path: Path, file: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    count = sum(key.startswith("photo.") for key in file.keys())
    if not count:
        raise InputError(f"{path}: holds no photo; save the person again.")
    known = {f"{part}.{n}" for part in ("photo", "landmarks") for n in range(count)} | {"code"}
    there = {key for key in file.keys() if not key.startswith("generator.")}
    if odd := [*sorted(known - there), *sorted(there - known)]:
        what = f"lacks {odd[0]}" if odd[0] in known else f"has an unknown tensor {odd[0][:60]!r}"
        raise InputError(f"{path}: {what}; save the person again.")
    photos, landmarks = [], []
    for n in range(count):
        height, width, channels = (*_shape(file, f"photo.{n}", "U8"), 0, 0, 0)[:3]
        if channels != 3 or not (2 <= min(height, width) and max(height, width) <= MAX_SIDE):
            raise InputError(f"{path}: photo.{n} is no picture of 2 to {MAX_SIDE} px; save the person again.")
        if _shape(file, f"landmarks.{n}", "F64") != (N_LANDMARKS, 3):
            raise InputError(f"{path}: landmarks.{n} are not {N_LANDMARKS} points; save the person again.")
        points = file.get_tensor(f"landmarks.{n}").numpy()
        if not _is_face(points, width, height):
            raise InputError(f"{path}: landmarks.{n} are no face in their photo; save the person again.")
        photos.append(file.get_tensor(f"photo.{n}").numpy())
        landmarks.append(points)
    return photos, landmarks


def _shape(file: Any, key: str, kind: str) -> tuple[int, ...]:
    """Return the shape of a tensor, () if it is of another type."""
    entry = file.get_slice(key)
    return tuple(entry.get_shape()) if entry.get_dtype() == kind else ()


def _is_face(points: np.ndarray, width: int, height: int) -> bool:
    from ..portrait.portrait import MIN_FACE

    if not np.isfinite(points).all() or np.abs(points).max() > 4 * max(width, height):
        return False
    if np.ptp(points[:468, 1]) < MIN_FACE - 1 or np.any(points[:468, :2].mean(0) // (width, height)):
        return False
    scale, rotation, shift = similarity(MEAN_FACE[RIGID], points[RIGID])
    misfit = (points[RIGID] - shift) @ rotation / max(scale, 1e-6) - MEAN_FACE[RIGID]
    return bool(np.sqrt((misfit**2).sum(1).mean()) < _MAX_MISFIT)


def _read_code(path: Path, file: Any, painter: Painter) -> torch.Tensor:
    count = sum(painter.weights.generator.coeffs)
    if _shape(file, "code", "F32") != (1, count) or not (code := file.get_tensor("code")).isfinite().all():
        raise InputError(f"{path}: its code is not {count} finite numbers; save the person again.")
    return code


def _read_generator(path: Path, file: Any, painter: Painter):
    networks = weights_file.build(path, painter.weights.config, ("generator",))
    weights_file.check_tensors(path, file, networks, lambda key: not key.startswith("generator."))
    weights_file.fill(path, file, "generator", networks["generator"])
    return networks["generator"]
