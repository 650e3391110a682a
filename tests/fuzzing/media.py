"""Good media to start from, and damage as disks, networks and attackers do it."""

import functools
import struct
import subprocess
from pathlib import Path

import numpy as np
from support import ASTRONAUT, CLIP


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

    Person.of([Portrait.load(folder / "a.png")], painter()).save(folder / "person.safetensors")
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


@functools.cache
def painter():
    from portrait_anim.painting.painter import Painter

    return Painter(device="cpu", precision="fp32")
