"""Hostile photos and videos."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from support import ASTRONAUT, CLIP

from . import kind
from .media import mutate

_ANIMATOR = []
IMAGES = (".png", ".jpg", ".webp", ".gif", ".bmp", ".tif", ".ppm", ".tga", ".jp2", ".avif")
VIDEOS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".ts", ".flv", ".gif")


def animate(folder: Path, photo=ASTRONAUT, driver=CLIP, **options):
    """The whole way, with one Animator for all cases, into folder/out."""
    from portrait_anim import Animator
    from portrait_anim.media.reading import probe

    if not _ANIMATOR:
        _ANIMATOR.append(Animator())
    (folder / "out").mkdir()

    def call():
        if driver is CLIP:
            options.setdefault("end", 0.12)
        made = _ANIMATOR[0].animate([photo], driver, folder / "out" / "x.mp4", **{"max_size": 128, **options})
        assert probe(made.output).width <= 8192
        return made

    return call


@kind
def image(rng, media, folder):
    """A damaged photo, sometimes under a wrong name."""
    files = sorted(p for p in media.iterdir() if p.suffix in IMAGES and not p.name.startswith("signed"))
    source = files[rng.integers(len(files))]
    suffix = source.suffix if rng.random() < 0.8 else rng.choice(IMAGES)
    path = folder / f"photo{suffix}"
    path.write_bytes(mutate(rng, source.read_bytes()))
    return animate(folder, path)


@kind
def odd_image(rng, media, folder):
    """Whole files of unusual kinds: bombs, HDR, alpha, 8K, one pixel, formats that start programs."""
    from PIL import Image

    photo = Image.open(media / "a.png")
    gray = np.asarray(photo.convert("L"))
    name, data = ODD_IMAGES[rng.integers(len(ODD_IMAGES))](rng, photo, gray)
    (folder / name).write_bytes(data)
    return animate(folder, folder / name)


def saved(image, kind="png", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(width, height, depth, colour, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG by hand: rows is the compressed data."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)), *chunks, (b"IDAT", rows)]
    pack = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(pack(*part) for part in (*parts, (b"IEND", b"")))


def zeros(count: int) -> bytes:
    """Compressed zeros, without ever holding them."""
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    return b"".join(packer.compress(block[: min(len(block), count - n)]) for n in range(0, count, len(block))) + (
        packer.flush()
    )


def floats(gray, value) -> np.ndarray:
    gray = gray.astype(np.float32)
    gray[::7] = value
    return gray


def _image(array):
    from PIL import Image

    return Image.fromarray(array)


ODD_IMAGES = [
    lambda rng, p, g: ("bomb.png", png(60_000, 60_000, 8, 2, zeros(1 << 20))),
    lambda rng, p, g: ("bomb.png", png(0x7FFFFFFF, 0x7FFFFFFF, 16, 6, zeros(1 << 20))),
    lambda rng, p, g: ("large.png", png(11_000, 10_000, 8, 0, zeros(11_001 * 10_000))),
    lambda rng, p, g: ("large16.png", png(9_000, 9_000, 16, 0, zeros(18_001 * 9_000))),
    lambda rng, p, g: ("text.png", png(64, 64, 8, 2, zeros(64 * 193), (b"zTXt", b"a\0\0" + zeros(1 << 26)))),
    lambda rng, p, g: ("profile.png", png(64, 64, 8, 2, zeros(64 * 193), (b"iCCP", b"a\0\0" + zeros(1 << 26)))),
    lambda rng, p, g: ("nothing.png", png(0, 0, 8, 2, zeros(1))),
    lambda rng, p, g: ("one.png", png(1, 1, 1, 0, zeros(2))),
    lambda rng, p, g: ("thin.png", png(1, 60_000, 8, 0, zeros(2 * 60_000))),
    lambda rng, p, g: ("wide.png", png(60_000, 2, 8, 0, zeros(2 * 60_001))),
    lambda rng, p, g: ("8k.jpg", saved(p.resize((7680, 4320)), "jpeg", quality=50)),
    lambda rng, p, g: ("bit.png", saved(p.convert("1"))),
    lambda rng, p, g: ("la.png", saved(p.convert("LA"))),
    lambda rng, p, g: ("rgba.png", saved(p.convert("RGBA").rotate(45, expand=True))),
    lambda rng, p, g: ("clear.png", saved(_image(np.zeros((200, 200, 4), np.uint8)))),
    lambda rng, p, g: ("hdr.png", saved(_image(g.astype(np.uint16) * 257))),
    lambda rng, p, g: ("float.tif", saved(_image(floats(g, 255)), "tiff")),
    lambda rng, p, g: ("nan.tif", saved(_image(floats(g, np.nan)), "tiff")),
    lambda rng, p, g: ("inf.tif", saved(_image(floats(g, np.inf)), "tiff")),
    lambda rng, p, g: ("minus.tif", saved(_image(-floats(g, 1e30)), "tiff")),
    lambda rng, p, g: ("int.tif", saved(_image(g.astype(np.int32) * -100_000), "tiff")),
    lambda rng, p, g: ("lab.tif", saved(p.convert("RGB").convert("LAB"), "tiff")),
    lambda rng, p, g: ("ycc.tif", saved(p.convert("YCbCr"), "tiff")),
    lambda rng, p, g: ("cmyk.jpg", saved(p.convert("CMYK"), "jpeg")),
    lambda rng, p, g: ("moves.gif", saved(p, "gif", save_all=True, append_images=[p.rotate(9)] * 3)),
    lambda rng, p, g: ("moves.webp", saved(p, "webp", save_all=True, append_images=[p.rotate(9)] * 3)),
    lambda rng, p, g: ("moves.png", saved(p, "png", save_all=True, append_images=[p.rotate(9)] * 3)),
    lambda rng, p, g: (
        "turned.jpg",
        saved(p, "jpeg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\xff\xff\xff\xff"),
    ),
    lambda rng, p, g: ("turned.jpg", saved(p, "jpeg", exif=b"Exif\0\0" + rng.bytes(300))),
    lambda rng, p, g: ("profile.jpg", saved(p, "jpeg", icc_profile=rng.bytes(3000))),
    lambda rng, p, g: ("page.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(x) run\nshowpage\n"),
    lambda rng, p, g: ("page.png", b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"),
    lambda rng, p, g: (
        "picture.svg",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    ),
    lambda rng, p, g: ("noise.png", saved(_image(rng.integers(0, 255, (300, 300, 3), np.uint8)))),
    lambda rng, p, g: ("picture.jpg", rng.bytes(5000)),
    lambda rng, p, g: ("empty.webp", b""),
    lambda rng, p, g: ("wrong.jpg", CLIP.read_bytes()),
    lambda rng, p, g: ("noise.jpg\n[red]error: a\x1b[2J", b"junk"),
]


@kind
def video(rng, media, folder):
    """A damaged driver, sometimes under a wrong name."""
    files = [media / f"a{suffix}" for suffix in (".mp4", ".mkv", ".webm", ".avi", ".mov", ".ts", ".flv")]
    files += [media / name for name in ("anim.gif", "ten.mkv", "square.mov")]
    source = files[rng.integers(len(files))]
    suffix = source.suffix if rng.random() < 0.8 else rng.choice(VIDEOS)
    path = folder / f"clip{suffix}"
    path.write_bytes(mutate(rng, source.read_bytes()))
    return animate(folder, driver=path)


@kind
def odd_video(rng, media, folder):
    """Whole files of unusual kinds, playlists, and things that are no video."""
    names = sorted(p.name for p in media.iterdir() if p.suffix in (*VIDEOS, ".m4a", ".wav") and "signed" not in p.name)
    texts = {
        "list.m3u8": b"#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n",
        "list.mp4": b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "list.ffconcat": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "session.sdp": b"v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "text.mp4": b"I am no video\n" * 999,
        "photo.mp4": (media / "a.jpg").read_bytes(),
        "zip.mp4": b"PK\x03\x04" + rng.bytes(3000),
        "empty.mkv": b"",
        "zeros.mp4": bytes(100_000),
        "timeless.mp4": _patched(media, b"mdhd", 12, 4, 0),
        "endless.mp4": _patched(media, b"mvhd", 16, 4, 0xFFFFFFFF),
        "fast.mp4": _patched(media, b"stts", 12, 4, 0),
        "giant.mp4": _patched(media, b"avc1", 24, 4, 0xFFFFFFFF),
        "giant.avi": _patched(media, b"strf", 8, 8, 0x0000FFFF0000FFFF, "a.avi"),
        "crowd.mp4": _patched(media, b"stsz", 8, 4, 0x7FFFFFFF),
    }
    names += list(texts)
    name = names[rng.integers(len(names))]
    path = folder / name
    path.write_bytes(texts[name] if name in texts else (media / name).read_bytes())
    return animate(folder, driver=path)


def _patched(media: Path, box: bytes, offset: int, size: int, value: int, name: str = "a.mp4") -> bytes:
    """A good file with one number of its headers replaced, `offset` bytes after the name of its box."""
    data = bytearray((media / name).read_bytes())
    place = data.index(box) + 4 + offset
    data[place : place + size] = value.to_bytes(size, "big")
    return bytes(data)


@kind
def options(rng, media, folder):
    """Numbers and words that the options do not mean."""
    numbers = [0, -1, 1, 2, 1e-300, 1e300, float("nan"), float("inf"), -float("inf"), 10**30]
    words = ["", "x" * 200, "\x00", "../..", "é\n", "-1", "relative", "mediapipe", "head"]
    chosen = {}
    for _ in range(rng.integers(1, 3)):
        name = str(rng.choice(["strength", "start", "end", "fps", "crf", "max_size", "face", "driver_face",
                               "reference_frame", "motion", "tracker", "background", "only", "sign_cert"]))  # fmt: skip
        if name in ("motion", "tracker", "background"):
            chosen[name] = words[rng.integers(len(words))]
        elif name == "only":
            chosen[name] = (words[rng.integers(len(words))],)
        elif name == "sign_cert":
            chosen[name] = chosen["sign_key"] = words[rng.integers(len(words))]
        elif name in ("crf", "max_size", "face", "driver_face", "reference_frame"):
            chosen[name] = int(numbers[rng.integers(4)]) if rng.random() < 0.7 else 10**30
        else:
            chosen[name] = numbers[rng.integers(len(numbers))]
    if chosen.get("fps", 1) and 0 < chosen.get("fps", 1) <= 240:
        chosen["end"] = 0.12
    return animate(folder, driver=media / "a.mp4", **chosen)
