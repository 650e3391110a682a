"""Weights files: one safetensors file with the networks in fp16; the config and the origin are in its metadata.

Ours holds "source" (the source encoder) and "generator", the paper's "embedder" and "generator". "critic", the
discriminator, is there to fine-tune with; files without one can be used, too.

A file is never trusted: nothing in it is code; names, shapes and types are checked against its config before
any memory is taken; `portrait_anim-<hash8>.safetensors` carries 8 digits of its own SHA-256. Any fault is an
InputError. torch is imported only where it is needed: `find_default` is cheap.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InputError, OutputError
from ..system.files import write_whole
from .config import PAPER, ModelConfig

if TYPE_CHECKING:
    import torch

    from .critic import Discriminator
    from .embedder import Embedder
    from .generator import Generator
    from .paper import PaperGenerator
    from .source import SourceEncoder

FORMAT = 2  # of the metadata and of the tensor names; another number is refused
EARLIER_FORMAT = 1  # of networks that painted 256 px, which are no more
NAME = re.compile(r"portrait_anim-([0-9a-f]{8})\.safetensors")
KEY = "portrait_anim"  # of the metadata: one JSON text, since safetensors does not keep the order of several
INFO = ("name", "training", "licence")  # what `info` must say


class Weights(NamedTuple):
    """The networks of a weights file, in eval mode and channels_last, and what the file says of them."""

    config: ModelConfig
    info: dict[str, Any]  # "name", "training", "licence" and whatever else was saved
    sha256: str  # of the file
    generator: Generator | PaperGenerator
    source: SourceEncoder | None = None  # of our model
    embedder: Embedder | None = None  # of the paper's
    critic: Discriminator | None = None  # without its table of training videos; None: not asked for, or not there


def find_default() -> Path | None:
    """Find the weights that came with the package: beside it in a checkout, inside it when installed."""
    package = Path(__file__).parent.parent
    for folder in (package.parent / "weights", package / "weights"):
        found = [path for path in folder.glob("*.safetensors") if NAME.fullmatch(path.name)]
        if found:
            return max(found, key=lambda path: (path.stat().st_mtime, path.name))  # the newest
    return None


def check_file(path: str | Path) -> Path:
    """Give the path back; raises InputError when there is no such file. Cheap: torch is not imported."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such weights file; check the path.")
    return path


def save(
    path: str | Path,
    config: ModelConfig,
    info: dict[str, Any],
    *,
    generator: Generator | PaperGenerator,
    source: SourceEncoder | None = None,
    embedder: Embedder | None = None,
    critic: Discriminator | None = None,
) -> Path:
    """Write the file `path`, or one named by its hash if `path` is a folder, and return where it is.

    Our model needs `source`, the paper's `embedder`. Of the critic all but the table of its training videos is kept:
    fine-tuning has its own person. Raises OutputError when values do not fit fp16 or nothing can be written there.
    """
    import torch
    from safetensors.torch import save as pack

    if missing := [key for key in INFO if not info.get(key)]:
        raise ValueError(f"info says no {missing[0]!r}")
    networks = {"source": source, "embedder": embedder, "generator": generator, "critic": critic}
    networks = {part: network for part, network in networks.items() if network is not None}
    if networks.keys() - {"critic"} != set(parts_of(config)):
        raise ValueError(f"a {config.kind} model is made of {' and '.join(parts_of(config))}")
    path = Path(path)
    tensors = {}
    for part, network in networks.items():
        for key, value in network.state_dict().items():
            if part == "critic" and key.startswith("videos."):
                continue
            tensors[f"{part}.{key}"] = value = value.detach().to("cpu", torch.float16).contiguous()
            if not all(bound.isfinite() for bound in value.aminmax()):
                raise OutputError(f"{path}: not written, {part}.{key} has values that fp16 cannot hold.")
    header = {"format": FORMAT, "config": asdict(config), "info": info}
    data = pack(tensors, {KEY: json.dumps(header, sort_keys=True)})
    if path.is_dir():
        path /= f"portrait_anim-{hashlib.sha256(data).hexdigest()[:8]}.safetensors"
    write_whole(path, data)
    return path


def load(path: str | Path | None = None, dtype: torch.dtype | None = None, critic: bool = False) -> Weights:
    """Read the networks of a weights file (None: that of the package), as fp32 or `dtype`, on the CPU.

    critic: the discriminator as well, if the file has it. Raises InputError for anything wrong with the file.
    """
    from safetensors import SafetensorError, safe_open

    if path is None and (path := find_default()) is None:
        raise InputError("No weights came with this installation; name a weights file.")
    path = check_file(path)
    try:
        with safe_open(path, framework="pt") as file:  # which checks the header and the file's length
            sha256 = _checked_sha256(path)
            config, info = _read_header(path, file.metadata())
            parts = (*parts_of(config), *("critic",) * (critic and _has_critic(file)))
            networks = build(path, config, parts)
            check_tensors(path, file, networks, lambda key: "critic" not in networks and key.startswith("critic."))
            for part, network in networks.items():
                fill(path, file, part, network, dtype)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file, or only part of one; get it again.") from error
    return Weights(config, info, sha256, **networks)


def parts_of(config: ModelConfig) -> tuple[str, ...]:
    """The networks that a model of this kind cannot do without, by the names they have in the file."""
    return ("embedder", "generator") if config.kind == PAPER else ("source", "generator")


def _has_critic(file: Any) -> bool:
    return any(key.startswith("critic.") for key in file.keys())


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _checked_sha256(path: Path) -> str:
    sha256 = sha256_of(path)
    named = NAME.fullmatch(path.name)
    if named and named[1] != sha256[:8]:
        raise InputError(f"{path}: damaged, its SHA-256 is {sha256[:8]}... and not as named; get it again.")
    return sha256


def _read_header(path: Path, metadata: dict[str, str] | None) -> tuple[ModelConfig, dict[str, Any]]:
    try:
        header = json.loads((metadata or {})[KEY])
        version, values, info = header["format"], header["config"], header["info"]
        strange = not isinstance(values, dict) or not isinstance(info, dict)
    except (KeyError, TypeError, ValueError, RecursionError):
        strange, version = True, FORMAT
    if version == EARLIER_FORMAT:
        raise InputError(
            f"{path}: holds the networks of an earlier version (format 1), which this one cannot use; "
            "use the weights that come with this version, or train new ones."
        )
    if version != FORMAT:
        version = str(version)[:20]
        raise InputError(f"{path}: of format {version!r}, this version reads {FORMAT}; update portrait-anim.")
    if strange:
        raise InputError(f"{path}: holds no portrait-anim model; use a file that portrait-anim has written.")
    known = {field.name for field in fields(ModelConfig)}
    if known != set(values):
        odd = min(known ^ set(values))
        what = f"lacks {odd!r}" if odd in known else f"has an unknown field {odd[:40]!r}"
        raise InputError(f"{path}: its config {what}; use a file of this version of portrait-anim.")
    try:
        return ModelConfig(**values), info
    except ValueError as error:
        raise InputError(f"{path}: in its config {str(error)[:80]}; use another file.") from error


def build(path: Path, config: ModelConfig, parts: tuple[str, ...]) -> dict[str, torch.nn.Module]:
    """Make networks, by their names in the file, without memory for their tensors yet (device "meta")."""
    import torch

    from .critic import Discriminator
    from .embedder import Embedder
    from .generator import Generator
    from .paper import PaperGenerator
    from .source import SourceEncoder

    kinds = {
        "source": SourceEncoder,
        "embedder": Embedder,
        "generator": PaperGenerator if config.kind == PAPER else Generator,
        "critic": Discriminator,
    }
    try:
        with torch.device("meta"):
            return {part: kinds[part](config) for part in parts}
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: no network can be built from its config; use another file.") from error


def check_tensors(path: Path, file: Any, networks: dict[str, torch.nn.Module], others: Callable[[str], bool]) -> None:
    """Raise InputError unless the file has exactly the networks' tensors, and only such more as `others` allows."""
    wanted = {f"{part}.{key}": value for part, net in networks.items() for key, value in net.state_dict().items()}
    there = set(file.keys())
    if odd := sorted((wanted.keys() - there) | {key for key in there - wanted.keys() if not others(key)}):
        what = f"lacks {odd[0]}" if odd[0] in wanted else f"has an unknown tensor {odd[0][:60]!r}"
        raise InputError(f"{path}: {what}; use another file.")
    for key, value in wanted.items():
        entry = file.get_slice(key)
        shape, kind = tuple(entry.get_shape()), entry.get_dtype()
        if shape != tuple(value.shape) or kind not in ("F16", "BF16", "F32"):
            good = tuple(value.shape)
            raise InputError(f"{path}: {key} is {kind} {shape}, not F16 {good}; use another file.")


def fill(path: Path, file: Any, part: str, network: torch.nn.Module, dtype: torch.dtype | None = None) -> None:
    """Give a network of `build` the tensors of the file, as fp32 or `dtype`."""
    import torch

    state = {}
    for key in network.state_dict():
        value = file.get_tensor(f"{part}.{key}")
        if not all(bound.isfinite() for bound in value.aminmax()):
            raise InputError(f"{path}: {part}.{key} holds NaN or infinity; use another file.")
        layout = torch.channels_last if value.dim() == 4 else torch.preserve_format
        state[key] = value.to(dtype or torch.float32, memory_format=layout)
    network.load_state_dict(state, assign=True)
    network.eval()
