"""Read what a file says about its making: its signed C2PA manifest, or else the marks in its metadata.

No network is used.
"""

import json
import mmap
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..media.content import content_type
from ..system.files import PathLike
from .ingredients import HASH, OFFLINE
from .marks import SOURCE_TYPE
from .signing import SELF_MADE, own_issuer

_TOOL = re.compile(rb"Made with (portrait-anim [0-9][0-9A-Za-z.+-]{0,40}):")
_VERDICTS = {
    "intact": "Intact: it is as it was when it was signed.",
    "altered": "NOT intact: it was changed after it was signed, or its manifest is damaged ({}).",
    "unsigned": "No signed manifest: it never had one, or lost it when the file was converted or edited. "
    "Metadata can be written by anyone; whether the content was changed cannot be told.",
    "unmarked": "No signed manifest and no mark of portrait-anim. That does not say that it is genuine: marks can be "
    "removed, and most programs make none.",
}
_SIGNERS = {
    "this installation": "Signed by this installation of portrait-anim, with its self-made key.",
    "another installation": "Signed with a self-made key of portrait-anim that is not this installation's; "
    "nobody vouches for whose it is.",
    "trusted": "Signed by {}, whom an issuer that you trust vouches for.",
    "not vouched for": "Signed in the name of {}; whether it really is theirs is not checked without --trust.",
}
_ORDINARY = "signingCredential.untrusted"  # this code only says that no issuer is trusted


@dataclass
class Report:
    """What a file says about its making.

    file: its path. verdict: "intact", "altered", "unsigned" (marks in the metadata only) or "unmarked". synthetic:
    whether the file says that it is synthetic, None if it says nothing. source_type: the digital source type of C2PA
    and IPTC. tool: name and version of the program that made it. signer: "this installation", "another installation",
    "trusted" or "not vouched for", None without a manifest. signer_name: as in the certificate. inputs: role, name and
    sha256 of portrait and driver. problems: C2PA's codes for what is wrong.
    """

    file: str
    verdict: str
    synthetic: bool | None = None
    source_type: str | None = None
    tool: str | None = None
    signer: str | None = None
    signer_name: str | None = None
    inputs: list[dict] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """Return the report as sentences for the user."""
        lines = []
        if self.synthetic:
            kind = f" ({self.source_type.rpartition('/')[2]})" if self.source_type else ""
            lines.append(
                f"{self.file}: synthetic, by its own account; made with {self.tool or 'an unnamed tool'}{kind}."
            )
        else:
            made = f"made with {self.tool}; " if self.tool else ""
            lines.append(f"{self.file}: {made}does not say that it is synthetic.")
        lines.append(_VERDICTS[self.verdict].format(", ".join(self.problems) or "it cannot be read"))
        if self.signer:
            lines.append(_SIGNERS[self.signer].format(self.signer_name or "nobody named"))
        for about in self.inputs:
            digest = f" (SHA-256 {about['sha256']})" if about["sha256"] else ""
            lines.append(f"{about['role'].capitalize()}: {about['name']}{digest}.")
        return lines


def verify_file(path: PathLike, trust: PathLike | None = None) -> Report:
    """Read what a video or picture says about its making, and check its signature.

    trust: a PEM file of issuers that the user trusts; without it only the issuer of this installation is known.

    Raises InputError if the file or `trust` cannot be read, or if the file is neither a video nor a picture.
    """
    import c2pa

    path = Path(path)
    kind, tool, has_manifest = _scan(path)
    marks: dict[str, Any] = {"synthetic": bool(kind or tool) or None, "source_type": kind, "tool": tool}
    stores: dict[str, dict] = {}
    issuers = {"this installation": own_issuer(), "trusted": None if trust is None else _issuers(trust)}
    try:
        for name, issuer in issuers.items():
            if issuer or not stores:
                stores[name] = _read(path, issuer)
    except c2pa.C2paError as error:
        none = isinstance(error, (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.NotSupported))
        if has_manifest and not none:
            return Report(str(path), "altered", **marks, problems=[re.split(r"[:\s]", str(error))[0]])
        if not marks["synthetic"] and content_type(path) is None:
            raise InputError(f"{path}: is neither a video nor a picture; name one.") from error
        return Report(str(path), "unsigned" if marks["synthetic"] else "unmarked", **marks)
    trusted = [name for name, store in stores.items() if "signingCredential.trusted" in _codes(store, "success")]
    return _judge(path, next(iter(stores.values())), trusted)


def _judge(path: Path, store: dict, trusted: list[str]) -> Report:
    """Make the report from a file's manifest store.

    store: as c2pa reads it. trusted: the names of the issuers that vouch for the signature.
    """
    manifest = store["manifests"][store["active_manifest"]]
    generator = (manifest.get("claim_generator_info") or [{}])[0]
    tool = " ".join(str(generator[key]) for key in ("name", "version") if generator.get(key)) or None
    types = [kind for each in (manifest, *store["manifests"].values()) for kind in _source_types(each)]
    synthetic = [kind for kind in types if kind.lower().endswith("algorithmicmedia")]
    signature = manifest.get("signature_info") or {}
    name = ", ".join(signature[key] for key in ("common_name", "issuer") if signature.get(key)) or None
    if trusted:
        signer = trusted[0]
    else:
        signer = "another installation" if signature.get("common_name") == SELF_MADE else "not vouched for"
    problems = sorted(_codes(store, "failure") - {_ORDINARY})
    inputs = [
        {
            "role": each.get("description") or "ingredient",
            "name": each.get("title"),
            "sha256": (each.get("metadata") or {}).get(HASH),
        }
        for each in manifest.get("ingredients", [])
    ]
    inputs.sort(key=lambda about: about["role"] == "driver")  # portraits come first, as when the file was made
    verdict = "altered" if problems or store["validation_state"] == "Invalid" else "intact"
    kind = next(iter(synthetic or types), None)
    return Report(str(path), verdict, bool(synthetic) or None, kind, tool, signer, name, inputs, problems)


def _codes(store: dict, outcome: str) -> set[str]:
    """Return C2PA's codes for the checks with one outcome, "success" or "failure"."""
    return {each["code"] for each in (store.get("validation_results") or {}).get("activeManifest", {}).get(outcome, [])}


def _source_types(manifest: dict) -> list[str]:
    """Return the digital source types of all actions in a manifest."""
    actions = [
        action
        for assertion in manifest.get("assertions", [])
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"].get("actions", [])
    ]
    return [action["digitalSourceType"] for action in actions if action.get("digitalSourceType")]


def _read(path: Path, issuers: str | None) -> dict:
    """Read a file's manifest store with c2pa. issuers: PEM, those to be trusted. Raises c2pa.C2paError."""
    import c2pa

    settings = {**OFFLINE, "trust": {"user_anchors": issuers}} if issuers else OFFLINE
    with (
        open(path, "rb") as file,
        c2pa.Context.from_dict(settings) as context,
        c2pa.Reader("", file, context=context) as reader,
    ):
        return json.loads(reader.json())


def _scan(path: Path) -> tuple[str | None, str | None, bool]:
    """Search all bytes of a file for our source type, the name of our tool, and something like a manifest.

    Returns the source type or None, name and version of the tool or None, and whether there may be a manifest. Raises
    InputError if the file cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path}: is not an ordinary file; name a video or picture.")
        with open(path, "rb") as file:
            if not file.read(1):
                raise InputError(f"{path}: the file is empty; get it again.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                tool = _TOOL.search(data)
                kind = SOURCE_TYPE if data.find(SOURCE_TYPE.encode()) >= 0 else None
                return kind, tool and tool[1].decode(), data.find(b"c2pa.assertions") >= 0
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise InputError(f"{path}: {reason}; check its name.") from error


def _issuers(path: PathLike) -> str:
    """Read a PEM file of certificates. Raises InputError if it holds none."""
    from cryptography import x509

    try:
        text = Path(path).read_text()
        x509.load_pem_x509_certificates(text.encode())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: holds no certificates in PEM form ({error}); check --trust.") from error
    return text
