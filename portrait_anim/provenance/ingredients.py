"""The inputs of an output, as its signed manifest names them: C2PA calls them ingredients."""

from pathlib import Path
from typing import Any, NamedTuple

from ..media.content import content_type
from ..networks.weights import sha256_of

HASH = "portrait-anim.sha256"  # key in an ingredient's metadata: the SHA-256 of its file
# Settings for c2pa: nothing is fetched, and no pictures of the inputs go into the manifest.
OFFLINE: dict[str, Any] = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
    "core": {"backing_store_memory_threshold_in_mb": 16},  # not 512: no large file is copied to memory
}


class Ingredient(NamedTuple):
    """An input of the output.

    about: what the manifest says about it. manifest: the file whose own manifest goes along, None if it has none.
    """

    about: dict[str, Any]
    manifest: Path | None

    @classmethod
    def of(cls, number: int, role: str, path: Path, private: bool) -> "Ingredient":
        """Describe an input. role: "portrait" or "driver". private: leave out its name and its own manifest."""
        about: dict[str, Any] = {"relationship": "inputTo", "label": f"input{number}", "description": role}
        about["title"] = role if private else path.name
        if not path.is_file():  # a built-in motion or a camera
            return cls(about, None)
        about["metadata"] = {HASH: sha256_of(path)}
        if kind := content_type(path):
            about["format"] = kind
        return cls(about, path if kind and not private and _has_manifest(path) else None)


def _has_manifest(path: Path) -> bool:
    """Tell whether c2pa finds a manifest in a file. A file that it cannot read, such as a damaged one, has none."""
    import c2pa

    try:
        with open(path, "rb") as file, c2pa.Context.from_dict(OFFLINE) as context:
            with c2pa.Reader("", file, context=context):
                return True
    except c2pa.C2paError:
        return False
