"""Made-up clips, which tell by their brightness and their beeps what became of them."""

import subprocess
from fractions import Fraction

import imageio_ffmpeg
import numpy as np

from portrait_anim.media.writing import VideoWriter
from portrait_anim.system.files import check_output

STEP = 3  # luma per frame of numbered clips
NTSC = Fraction(30000, 1001)
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "4", "-pix_fmt", "yuv420p"]


def ffmpeg(*arguments):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-nostdin", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def numbered(path, rate="25", frames=40, select=None, options=(), size="64x48"):
    """A clip whose frames tell their number by brightness."""
    source = f"color=s={size}:r={rate},format=yuv420p,geq=lum='16+{STEP}*N':cb=128:cr=128,trim=end_frame={frames}"
    if select:
        source += f",select='{select}'"
    ffmpeg("-f", "lavfi", "-i", source, "-fps_mode", "passthrough", *(options or X264), f"file:{path}")
    return path


def numbers(frames):
    return [round(float(frame.mean()) * 219 / 255 / STEP) for frame in frames]


def noise(count=8, width=64, height=48):
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def writer_of(path, size, fps, force=True, **options) -> VideoWriter:
    """The writer of an output whose name was checked at the door, as that of every request is."""
    return VideoWriter(check_output(path, force), size, fps, force=force, **options)


def save(path, frames, fps=25, **options):
    height, width = frames[0].shape[:2]
    with writer_of(path, (width, height), fps, **options) as writer:
        for frame in frames:
            writer.write(frame)
    return writer
