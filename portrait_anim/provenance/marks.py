"""Mark outputs as synthetic, in a way that machines can read, and label frames in a way that people can see.

There are two marks, because each survives what the other does not. One is XMP metadata with the IPTC digital source
type, in MP4, MOV, PNG and GIF files; WebM files get plain tags. The other is a signed C2PA manifest, which also names
portrait and driver and shows any later change; C2PA has no place for it in WebM files. No network is used, so the
signature has no time stamp of a third party.
"""

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .. import __version__
from ..errors import InputError, PortraitAnimError, UsageError
from ..system.files import PathLike, partial_path, remove
from .ingredients import OFFLINE, Ingredient
from .signing import Identity, load_identity, own_identity

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
TOOL = f"portrait-anim {__version__}"
DESCRIPTION = f"Made with {TOOL}: a still portrait animated by a driver clip (synthetic motion)."
LARGE = 64 << 20  # bytes of an output from which its signature is made piece by piece
_PIECE = 4096  # kB
_SIGNABLE = (".mp4", ".mov", ".m4v", ".png", ".gif")
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # the uuid of XMP in MP4 and MOV
_XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmp:CreatorTool="{TOOL}"
 Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}">
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{DESCRIPTION}</rdf:li></rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>""".encode()


def check_signing(sign_cert: PathLike | None, sign_key: PathLike | None) -> None:
    """Raise UsageError if only one of certificate and key is given."""
    if (sign_cert is None) != (sign_key is None):
        raise UsageError("--sign-cert and --sign-key belong together; give both or neither.")


class Marking:
    """Marks the files of one output: call it with each file that is finished, before the file gets its name.

    images, driver: the inputs, which the manifest names with their SHA-256. private: leave out their names, and
    whatever provenance they have themselves. sign_cert, sign_key: PEM files, None for the key of this installation.

    It has these attributes. tags: metadata for the encoder. warnings: sentences; a file that cannot be signed is still
    finished, with the metadata alone.

    Raises UsageError if only one of certificate and key is given, and InputError if they cannot sign.
    """

    def __init__(
        self,
        images: Sequence[PathLike],
        driver: PathLike,
        private: bool = False,
        sign_cert: PathLike | None = None,
        sign_key: PathLike | None = None,
    ):
        check_signing(sign_cert, sign_key)
        self.tags = {"comment": DESCRIPTION, "digital_source_type": SOURCE_TYPE}
        self.warnings: list[str] = []
        self._inputs = [*(("portrait", Path(image)) for image in images), ("driver", Path(driver))]
        self._private = private
        self._identity: Identity | None = None
        self._ingredients: list[Ingredient] | None = None
        if sign_cert is not None and sign_key is not None:
            self._identity = load_identity(sign_cert, sign_key)
            self._try_to_sign(self._identity, sign_cert)

    def __call__(self, path: Path) -> None:
        """Mark a file. If it cannot be signed, that is said in `warnings`, once for all files.

        Raises OSError if the metadata cannot be written.
        """
        _add_xmp(path)
        if path.suffix.lower() not in _SIGNABLE or self.warnings:
            return
        try:
            # This runs in a thread, because c2pa calls back into Python, and an interrupt there would be lost.
            with ThreadPoolExecutor(1) as pool:
                pool.submit(self._sign, path).result()
        except Exception as error:  # whatever is wrong, the video is made and must not be lost
            reason = str(error) if isinstance(error, PortraitAnimError) else f"{type(error).__name__}: {error}"
            self.warnings.append(
                f"no signed manifest was added ({reason.rstrip('.')}); the synthetic marking is in the metadata only"
            )

    def leave_out(self, numbers: list[int]) -> None:
        """Do not name the images with these numbers (from 0), because nothing of them is in the output."""
        self._inputs = [given for number, given in enumerate(self._inputs) if number not in numbers]

    def _sign(self, path: Path) -> None:
        """Replace a file by itself with a signed manifest."""
        signed = partial_path(path, path.suffix)
        try:
            with open(path, "rb") as source, open(signed, "w+b") as target:
                self._identity = self._identity or own_identity()
                if self._ingredients is None:
                    inputs = enumerate(self._inputs)
                    self._ingredients = [Ingredient.of(number, *given, self._private) for number, given in inputs]
                kind, is_large = path.suffix[1:].lower(), path.stat().st_size > LARGE
                _sign_stream(self._identity, self._ingredients, kind, source, target, is_large)
            os.replace(signed, path)
        finally:
            remove(signed)

    def _try_to_sign(self, identity: Identity, certificate: PathLike) -> None:
        """Raise InputError if C2PA does not accept the user's certificate.

        C2PA has rules of its own for certificates. Trying them out here shows a fault before the work, not after it.
        """
        import io

        from PIL import Image

        picture = io.BytesIO()
        Image.new("RGB", (1, 1)).save(picture, "PNG")
        try:
            _sign_stream(identity, [], "png", picture, io.BytesIO())
        except Exception as error:
            raise InputError(
                f"{certificate}: cannot sign C2PA manifests ({error}); use another certificate."
            ) from error


def _sign_stream(
    identity: Identity,
    ingredients: list[Ingredient],
    kind: str,
    source: BinaryIO,
    target: BinaryIO,
    is_large: bool = False,
) -> None:
    """Copy a file of some kind, such as "mp4", from one binary stream to another, with a signed manifest added.

    is_large: whether a video is hashed piece by piece. Otherwise c2pa reads up to 256 MB of it into memory; but a
    reader may not know pieces, so small videos are hashed as a whole.
    """
    import c2pa

    core = {**OFFLINE["core"], **({"merkle_tree_chunk_size_in_kb": _PIECE} if is_large else {})}
    agent = {"name": "portrait-anim", "version": __version__}
    created: dict[str, Any] = {
        "action": "c2pa.created",
        "digitalSourceType": SOURCE_TYPE,
        "softwareAgent": agent,
        "description": DESCRIPTION,
    }
    if ingredients:
        created["parameters"] = {"ingredientIds": [about["label"] for about, _ in ingredients]}
    manifest = {
        "claim_generator_info": [agent],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
    }
    plain = [about for about, path in ingredients if path is None]
    algorithm = c2pa.C2paSigningAlg[identity.algorithm]
    info = c2pa.C2paSignerInfo(algorithm, identity.chain.encode(), identity.key.encode(), None)
    with (
        c2pa.Context.from_dict({**OFFLINE, "core": core}) as context,
        c2pa.Builder({**manifest, "ingredients": plain}, context) as builder,
        c2pa.Signer.from_info(info) as signer,
    ):
        for about, path in ingredients:
            if path is not None:
                with open(path, "rb") as file:
                    builder.add_ingredient(about, about["format"], file)
        builder.sign(signer, kind, source, target)


def _add_xmp(path: Path) -> None:
    """Write the XMP packet to its place in the file's format. Nothing happens to a WebM file, which has none."""
    suffix = path.suffix.lower()
    if suffix in (".mp4", ".mov", ".m4v"):
        with open(path, "ab") as file:  # the end of the file, so that no offset in it changes
            file.write((24 + len(_XMP)).to_bytes(4, "big") + b"uuid" + _XMP_BOX + _XMP)
    elif suffix == ".png":
        chunk = b"iTXtXML:com.adobe.xmp" + bytes(5) + _XMP
        chunk = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        _insert(path, 33, chunk)  # after the signature and the chunk IHDR, which come first
    elif suffix == ".gif":
        magic = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"  # helps programs that read it as blocks to find its end
        flags = path.open("rb").read(11)[10]
        colours = 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
        _insert(path, 13 + colours, b"\x21\xff\x0bXMP DataXMP" + _XMP + magic)


def _insert(path: Path, place: int, data: bytes) -> None:
    """Insert data into a file at an offset, by way of a second file."""
    longer = partial_path(path, path.suffix)
    try:
        with open(path, "rb") as source, open(longer, "wb") as target:
            target.write(source.read(place) + data)
            while block := source.read(1 << 20):
                target.write(block)
        os.replace(longer, path)
    finally:
        remove(longer)


def labelled(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the frames with the visible label "AI", which is drawn into them."""
    for frame in frames:
        _add_label(frame)
        yield frame


def _add_label(frame: np.ndarray) -> None:
    """Write "AI" into the lower right corner of a frame (H, W, 3) uint8, in place: white on a dark, translucent box."""
    import cv2

    height, width = frame.shape[:2]
    size = max(8, round(0.05 * min(height, width)))  # px, height of the letters' box
    x, y = max(0, width - round(2.4 * size)), max(0, height - round(1.7 * size))
    box = frame[y : y + round(1.2 * size), x : x + round(1.9 * size)]
    box //= 3
    scale = 0.75 * size / cv2.getTextSize("AI", cv2.FONT_HERSHEY_SIMPLEX, 1, 1)[0][1]
    thickness = max(1, round(size / 9))
    (text_width, text_height), _ = cv2.getTextSize("AI", cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    at = ((box.shape[1] - text_width) // 2, (box.shape[0] + text_height) // 2)
    cv2.putText(
        frame, "AI", (x + at[0], y + at[1]), cv2.FONT_HERSHEY_SIMPLEX, scale, (255,) * 3, thickness, cv2.LINE_AA
    )
