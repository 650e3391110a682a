"""Tell what kind of photo or video a file is by its first bytes: its name may say anything."""

from ..system.files import PathLike

_HEAD = 512  # bytes that are looked at
# Where in the file which bytes stand, and the media type that they tell. The first row that fits counts.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"BM", "image/bmp"),
    (0, b"\0\0\0\x0cjP  ", "image/jp2"),
    (0, b"\xff\x4f\xff\x51", "image/jp2"),  # the bare stream of JPEG 2000
    (0, b"\0\0\x01\0", "image/x-icon"),
    *((0, b"P%d" % number, "image/x-portable-anymap") for number in range(1, 7)),
    (4, b"ftypavi", "image/avif"),  # avif, or avis with several pictures
    (4, b"ftypqt  ", "video/quicktime"),
    (4, b"ftyp", "video/mp4"),
    *((4, box, "video/quicktime") for box in (b"moov", b"mdat", b"wide", b"free", b"skip")),  # without a ftyp box
    (8, b"AVI ", "video/x-msvideo"),
    (0, b"\x1aE\xdf\xa3", "video/x-matroska"),  # WebM, too
    (0, b"FLV", "video/x-flv"),
    (0, b"\0\0\x01\xba", "video/mpeg"),
    (188, b"G", "video/mp2t"),  # packets of 188 bytes that begin with a G each; below is asked for the first
    (0, b"\x30\x26\xb2\x75", "video/x-ms-asf"),
    (0, b"OggS", "video/ogg"),
    (0, b"PK\x03\x04", "application/zip"),  # as NumPy's .npz files are
)


def content_type(path: PathLike) -> str | None:
    """Return the media type of a photo, a video or an .npz file, such as "image/png", by what the file holds.

    Returns None if it is of no kind that is known here, or if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except (OSError, ValueError):
        return None
    for place, signature, kind in _SIGNATURES:
        if head.startswith(signature, place) and (kind != "video/mp2t" or head.startswith(b"G")):
            return kind
    return "image/x-tga" if _is_tga(path) else None


def _is_tga(path: PathLike) -> bool:
    """Tell whether a file is a TGA picture. They have no signature; Pillow asks whether the numbers make sense."""
    from PIL import Image

    try:
        with Image.open(path, formats=["TGA"]):
            return True
    except Exception:  # of any kind, as in `load_photo`
        return False
