"""Hostile and broken inputs by the thousand: `python tests/fuzz.py --runs 2000` (tests/test_fuzz.py runs some always).

A kind of case is one function `(rng, media, folder) -> call`: it makes a file in folder (from the good ones in media)
and returns what to do with it, a function of no arguments; mark it with @kind. Every case runs in a worker process with
a time box and a bound on its memory, and must end well or with one clear sentence of ours, with nothing half-written.
"""

import argparse
import functools
import io
import json
import multiprocessing
import os
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
ASTRONAUT, CLIP = ROOT / "examples" / "astronaut.jpg", ROOT / "examples" / "clip.mp4"
SECONDS = 150.0  # of a case, on a busy machine; most take less than one
ADDRESS_SPACE = 10 << 30  # bytes a worker may map, the libraries' own share included
RESIDENT = 2_500  # MB that a worker, or an ffmpeg of its, may really use
KINDS = {}


def kind(function):
    KINDS[function.__name__] = function
    return function


# ---------------------------------------------------------------- good media to start from


def make_media(folder: Path) -> None:
    """Small good files of every kind; all show a face."""
    import imageio_ffmpeg
    from PIL import Image

    photo = Image.open(ASTRONAUT).convert("RGB").crop((100, 0, 356, 256))
    for name, options in {
        "a.png": {}, "a.jpg": {}, "progressive.jpg": {"progressive": True}, "a.webp": {}, "a.gif": {}, "a.bmp": {},
        "a.tif": {}, "lzw.tif": {"compression": "tiff_lzw"}, "a.ppm": {}, "a.tga": {}, "a.jp2": {}, "a.avif": {},
    }.items():  # fmt: skip
        photo.save(folder / name, **options)
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"]
    start = [*ffmpeg, "-ss", "0.8", "-t", "0.32", "-i", str(CLIP)]
    for name, options in {
        "a.mp4": "-c:v libx264 -g 4", "a.mkv": "-c:v libx264 -c:a copy", "a.webm": "-c:v libvpx-vp9 -cpu-used 8 -an",
        "a.avi": "-c:v mjpeg -c:a mp3", "a.mov": "-c:v libx264 -pix_fmt yuv444p", "a.ts": "-c:v mpeg2video",
        "a.flv": "-c:v flv -an", "anim.gif": "-an", "ten.mkv": "-c:v libx265 -pix_fmt yuv420p10le -an",
        "hdr.mp4": "-c:v libx265 -pix_fmt yuv420p10le -color_trc smpte2084 -color_primaries bt2020 "
        "-colorspace bt2020nc -an",
        "alpha.webm": "-c:v libvpx-vp9 -cpu-used 8 -pix_fmt yuva420p -an", "rgb.mkv": "-c:v ffv1 -pix_fmt gbrp -an",
        "gray.mkv": "-c:v ffv1 -pix_fmt gray16le -an", "p410.avi": "-c:v rawvideo -pix_fmt yuv410p -an",
        "mono.avi": "-c:v rawvideo -pix_fmt monow -an", "vflip.mp4": "-c:v libx264 -metadata:s:v rotate=90",
        "sound.m4a": "-vn -c:a copy", "sound.wav": "-vn", "one.mp4": "-frames:v 1 -an",
        "none.mp4": "-frames:v 0 -an", "fps1000.mp4": "-an -r 1000 -frames:v 20",
        "fps1000.mkv": "-an -vf setpts=N/(1000*TB) -fps_mode passthrough", "slow.mkv": "-an -vf setpts=PTS*50",
        "px1.mkv": "-an -vf scale=1:1 -c:v ffv1", "px2.mp4": "-an -vf scale=2:2 -c:v libx264",
        "thin.mkv": "-an -vf scale=16:2000 -c:v ffv1", "8k.mp4": "-an -vf scale=7680:4320 -frames:v 2 -c:v mpeg4",
        "wide.mkv": "-an -vf scale=16000:64 -c:v ffv1 -frames:v 2", "interlaced.ts": "-c:v mpeg2video -flags +ildct",
        "huge.avi": "-an -vf scale=16000:16000 -c:v mjpeg -q:v 31 -frames:v 1",
        "square.mov": "-an -c:v qtrle", "narrow.mp4": "-an -vf setsar=1/3 -c:v libx264",
    }.items():  # fmt: skip
        subprocess.run([*start, *options.split(), str(folder / name)], check=False, timeout=400, stderr=-3)
    frame = np.zeros((4, 4, 3), np.uint8)
    Image.fromarray(frame).save(folder / "tiny.png")
    from portrait_anim.networks import weights
    from portrait_anim.painting.person import Person
    from portrait_anim.portrait.portrait import Portrait
    from portrait_anim.provenance.marks import Marking

    Person.of([Portrait.load(folder / "a.png")], _painter()).save(folder / "person.safetensors")
    (folder / "weights.safetensors").write_bytes(weights.find_default().read_bytes())
    for name in ("a.mp4", "a.gif", "a.png"):
        (folder / f"signed-{name}").write_bytes((folder / name).read_bytes())
        Marking([ASTRONAUT], CLIP)(folder / f"signed-{name}")


def mutate(rng, data: bytes) -> bytes:
    """Damage as disks, networks and attackers do it."""
    data, size = bytearray(data), len(data)
    way = rng.integers(8)
    if way == 0:
        return bytes(data[: rng.integers(size)])
    if way == 1:
        return bytes(data[: rng.integers(min(size, 200))])
    if way in (2, 3):  # flipped bits; near the start they hit headers
        reach = size if way == 2 else min(size, 600)
        for place in rng.integers(0, reach, 2 ** int(rng.integers(7))):
            data[place] ^= 1 << rng.integers(8)
    elif way == 4:
        start, length = rng.integers(size), 2 ** int(rng.integers(12))
        data[start : start + length] = bytes([rng.choice([0, 255, 127])]) * len(data[start : start + length])
    elif way == 5:
        start, length = rng.integers(size), 2 ** int(rng.integers(12))
        del data[start : start + length]
    elif way == 6:
        start = rng.integers(size)
        data[start:start] = rng.bytes(2 ** int(rng.integers(12)))
    else:  # numbers that count or measure something, at their limits
        for place in rng.integers(0, min(size, 400), 3):
            data[place : place + 4] = struct.pack(">I", rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000]))
    return bytes(data)


# ---------------------------------------------------------------- what is done with an input


_ANIMATOR = []


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


IMAGES = (".png", ".jpg", ".webp", ".gif", ".bmp", ".tif", ".ppm", ".tga", ".jp2", ".avif")
VIDEOS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".ts", ".flv", ".gif")


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


def _image(array):
    from PIL import Image

    return Image.fromarray(array)


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


def unpacked(data: bytes) -> tuple[dict, bytes]:
    """Header and tensors of a safetensors file."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def packed(header: dict, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


@kind
def weights(rng, media, folder):
    """Weights files: damaged, hostile headers, wrong shapes, missing and unknown keys, NaN, wrong hash in the name."""
    from portrait_anim.networks.weights import KEY, load

    data = (media / "weights.safetensors").read_bytes()
    header, body = unpacked(data)
    keys = sorted(k for k in header if k != "__metadata__")
    key, way = keys[rng.integers(len(keys))], rng.integers(14)
    meta = json.loads(header["__metadata__"][KEY])
    name = "w.safetensors"
    if way == 0:
        data = mutate(rng, data)
    elif way == 1:
        name = "portrait_anim-00000000.safetensors"
    elif way == 2:
        del header[key]
    elif way == 3:
        header["generator.extra"] = header[key]
    elif way == 4:
        header[key]["shape"] = [int(v) for v in rng.integers(0, 2**40, 4)]
    elif way == 5:
        header[key]["dtype"] = str(rng.choice(["F64", "I8", "BOOL", "F8_E4M3", "evil"]))
    elif way == 6:
        header[key]["data_offsets"] = [0, int(rng.choice([0, 2**62, -1]))]
    elif way == 7:
        meta["config"][str(rng.choice(sorted(meta["config"])))] = rng.choice([0, -1, 1e9, 10**7]).item()
    elif way == 8:
        meta["config"] = {k: "x" * 1000 for k in meta["config"]}
    elif way == 9:
        meta = [[], {}, None, {"format": 99, "config": {}, "info": {}}][rng.integers(4)]
    elif way == 10:
        header["__metadata__"] = {KEY: "[" * 100_000}
        meta = None
    elif way == 11:
        body = b"\xff\x7f" * (len(body) // 2)  # NaN in fp16
    elif way == 12:
        data = int(rng.choice([2**40, 2**63, 3])).to_bytes(8, "little") + data[8:]
    else:
        data = b"\x80\x05cos\nsystem\n(S'touch pwned'\ntR."  # a pickle
    if way not in (0, 1, 12, 13):
        if meta is not None:
            header["__metadata__"] = {KEY: json.dumps(meta)}
        data = packed(header, body)
    (folder / name).write_bytes(data)
    return lambda: load(folder / name)


@functools.cache
def _painter():
    from portrait_anim.painting.painter import Painter

    return Painter(device="cpu", precision="fp32")


@kind
def person(rng, media, folder):
    """Person files: damaged, hostile headers, wrong shapes, missing and unknown keys, other numbers."""
    from portrait_anim.painting.person import KEY, Person

    data = (media / "person.safetensors").read_bytes()
    header, body = unpacked(data)
    key, way = str(rng.choice(sorted(k for k in header if k != "__metadata__"))), rng.integers(8)
    if way == 0:
        data = mutate(rng, data)
    elif way == 1:
        del header[key]
    elif way == 2:
        header["photo.9"] = header[key]
    elif way == 3:
        header[key]["shape"] = [int(v) for v in rng.integers(0, 2**40, 3)]
    elif way == 4:
        header[key]["dtype"] = str(rng.choice(["F64", "I8", "U8", "F8_E4M3", "evil"]))
    elif way == 5:
        header[key]["data_offsets"] = [0, int(rng.choice([0, 2**62, -1]))]
    elif way == 6:
        header["__metadata__"] = {KEY: str(rng.choice(["[" * 100_000, "{}", "[]", "", '{"format": 9}', "null"]))}
    else:
        body = rng.integers(0, 256, len(body), np.uint8).tobytes()
    if way:
        data = packed(header, body)
    (folder / "p.safetensors").write_bytes(data)
    return lambda: Person.load(folder / "p.safetensors", _painter())


@kind
def jobs(rng, media, folder):
    """Lists of jobs: damaged, and cells that are of no type or all of them."""
    from portrait_anim.batch.run import _COLUMNS, read_jobs

    names = ["images", "driver", *rng.choice(sorted(_COLUMNS), 3).tolist()]
    odd = ["", " ", "x", "-1", "1e999", "nan", "9" * 5000, "yes", "{portrait}", "{", "a\0b", "/", "..", None, True, 0.5,
           [], ["a", 1], {"a": 1}, "camera:x", "nod", "a" * 300]  # fmt: skip
    rows = [{name: odd[rng.integers(len(odd))] for name in names} for _ in range(int(rng.integers(1, 30)))]
    path = folder / ("a.csv" if rng.random() < 0.5 else "a.jsonl")
    lines = [",".join(names), *(",".join(map(str, row.values())) for row in rows)]
    data = "\n".join(lines if path.suffix == ".csv" else map(json.dumps, rows)).encode()
    if rng.random() < 0.3:
        data = mutate(rng, data)
    elif rng.random() < 0.1:
        data += b"\n" + rng.choice([b"[" * 100_000, b"9" * 5000, b'{"images": ' + b"9" * 5000 + b"}"])
    path.write_bytes(data)
    return lambda: read_jobs(path, "out/")


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


@kind
def signed(rng, media, folder):
    """Damaged outputs before `verify`, which must never call them intact."""
    from portrait_anim.provenance.verify import verify_file

    source = media / f"signed-{rng.choice(['a.mp4', 'a.gif', 'a.png'])}"
    path = folder / source.name
    good = source.read_bytes()
    bad = mutate(rng, good)
    path.write_bytes(bad)

    def call():
        report = verify_file(path)
        assert report.sentences()
        if report.verdict == "intact" and bad != good:  # C2PA's hash leaves out what says nothing, such as `free`
            assert len(bad) == len(good) and (frames(path) == frames(source)).all(), report

    return call


def frames(path: Path) -> np.ndarray:
    from portrait_anim.media.reading import FrameReader

    return np.stack(list(FrameReader(path)))


@kind
def shard(rng, media, folder):
    """Training shards with wrong arrays, or an array of pickled objects."""
    from portrait_anim.training.shards import load_shard

    header = {"format": 1, "group": "a", "video": "v"}
    arrays = {
        "header": np.array(json.dumps(header)), "landmarks": np.zeros((2, 478, 3), np.float16),
        "frames": np.zeros(9, np.uint8), "frame_offsets": np.array([0, 4, 9]), "mattes": np.zeros(9, np.uint8),
        "matte_offsets": np.array([0, 4, 9]),
    }  # fmt: skip
    name = sorted(arrays)[rng.integers(len(arrays))]
    way = rng.integers(5)
    if way == 0:
        del arrays[name]
    elif way == 1:
        arrays[name] = np.array([print, {}], dtype=object)
    elif way == 2:
        arrays["header"] = np.array(str(rng.choice(["", "{", "[]", "3", '{"format": "x"}', "[" * 9999])))
    path = folder / "s.npz"
    np.savez(path, **arrays)
    if way == 3:
        path.write_bytes(mutate(rng, path.read_bytes()))
    elif way == 4:  # an array that says it is enormous
        with zipfile.ZipFile(path, "a") as archive:
            shape = 2 ** int(rng.integers(33, 62))
            text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape},), }}".ljust(117) + "\n"
            archive.writestr("mattes.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode())
    return lambda: load_shard(path)


@kind
def motion(rng, media, folder):
    """Saved motions: damaged, arrays missing, of objects, NaN, or of other shapes."""
    from portrait_anim.landmarks.following import MotionTrack
    from portrait_anim.motion.file import load_motion, save_motion

    points = rng.normal(100, 30, (3, 478, 3)).astype(np.float32)
    path = folder / "m.npz"
    save_motion(path, MotionTrack(points, (640, 480), Fraction(25), np.ones(3, bool)))
    with np.load(path) as saved_motion:
        arrays = dict(saved_motion)
    name, way = sorted(arrays)[rng.integers(len(arrays))], rng.integers(5)
    if way == 0:
        path.write_bytes(mutate(rng, path.read_bytes()))
        return lambda: load_motion(path)
    if way == 1:
        del arrays[name]
    elif way == 2:
        arrays[name] = np.array([print, {}], dtype=object)
    elif way == 3:
        arrays[name] = np.full_like(arrays[name], rng.choice([0, -1, 1, 127]))
    else:
        arrays[name] = np.full(rng.integers(0, 3000, rng.integers(0, 3)), np.nan)
    np.savez(path, **arrays)
    return lambda: load_motion(path)


@kind
def certificate(rng, media, folder):
    """Certificates and keys that are damaged or no such thing."""
    from portrait_anim.provenance import signing
    from portrait_anim.provenance.marks import Marking

    text = signing._make().encode()
    cut = text.index(signing._BEGIN.encode())
    parts = [text[cut:], text[:cut]]
    which = rng.integers(2)
    parts[which] = mutate(rng, parts[which])
    for name, part in zip(("c.pem", "k.pem"), parts):
        (folder / name).write_bytes(part)
    return lambda: Marking([ASTRONAUT], CLIP, sign_cert=folder / "c.pem", sign_key=folder / "k.pem")


# ---------------------------------------------------------------- running them


def run_case(name: str, seed: int, media: Path) -> dict:
    """One case in this process: outcome ("fine", the exit code of a refusal, or "FAILED"), and what was said."""
    from portrait_anim.errors import PortraitAnimError

    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        call = KINDS[name](rng, media, folder)
        try:
            call()
            outcome, said = "fine", ""
        except PortraitAnimError as error:
            outcome, said = error.exit_code, str(error)
            for sentence in getattr(error, "errors", [said]):
                shown = sentence.replace(str(folder), "")
                if error.exit_code not in (2, 3, 4) or shown[-1:] != "." or len(shown) > 500 or "Traceback" in shown:
                    outcome = "FAILED"
        except BaseException:
            outcome, said = "FAILED", traceback.format_exc()
        left = list((folder / "out").iterdir()) if (folder / "out").is_dir() else []
        if len(left) != (outcome == "fine") and (folder / "out").is_dir():
            outcome, said = "FAILED", f"left behind: {left} ({said})"
        return {"kind": name, "seed": seed, "outcome": outcome, "said": said}


def work(connection, media: Path) -> None:
    """The worker process."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # native libraries chatter
    while True:
        name, seed = connection.recv()
        result = run_case(name, seed, media)
        usage = [resource.getrusage(who).ru_maxrss >> 10 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        connection.send({**result, "resident": usage})


class Worker:
    """A process that runs cases one by one; one that hangs or dies is replaced."""

    def __init__(self, media: Path):
        self._media, self._process = media, None

    def __call__(self, name: str, seed: int) -> dict:
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=work, args=(theirs, self._media), daemon=True)
            self._process.start()
            theirs.close()
        begin = time.monotonic()
        self._connection.send((name, seed))
        try:
            result = self._connection.recv() if self._connection.poll(SECONDS) else None
            said = f"hangs for more than {SECONDS} s"
        except EOFError:
            result, said = None, "the process died"
        if result is None:
            self.close()
            result = {"kind": name, "seed": seed, "outcome": "FAILED", "said": said, "resident": [0, 0]}
        if max(result["resident"]) > RESIDENT and result["outcome"] != "FAILED":
            result |= {"outcome": "FAILED", "said": f"takes {result['resident']} MB ({result['said']})"}
            self.close()
        return {**result, "seconds": time.monotonic() - begin}

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def main() -> None:
    parser = argparse.ArgumentParser(description="Feed portrait-anim broken and hostile inputs.")
    parser.add_argument("--runs", type=int, default=300, help="cases")
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--kind", choices=sorted(KINDS), action="append", help="only these")
    parser.add_argument("--verbose", action="store_true", help="show every sentence")
    given = parser.parse_args()
    names, counts, failed, slowest, most = given.kind or list(KINDS), Counter(), [], (0, ""), 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_DATA_HOME"] = folder
        media = Path(folder) / "media"
        media.mkdir()
        make_media(media)
        worker = Worker(media)
        for n in range(given.runs):
            result = worker(names[n % len(names)], given.seed + n // len(names))
            counts[result["kind"], str(result["outcome"])] += 1
            slowest = max(slowest, (result["seconds"], f"{result['kind']} {result['seed']}"))
            most = max(most, *result["resident"])
            if given.verbose or result["outcome"] == "FAILED":
                print("{kind} {seed}: {outcome}, {seconds:.1f} s, {said}".format(**result), flush=True)
            failed += [result] * (result["outcome"] == "FAILED")
        worker.close()
    for name in names:
        print(f"{name}: " + ", ".join(f"{o} {c}" for (k, o), c in sorted(counts.items()) if k == name))
    print(f"{given.runs} cases, {len(failed)} failed; slowest {slowest[0]:.1f} s ({slowest[1]}), at most {most} MB")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
