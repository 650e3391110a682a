"""Makes the pictures of README and docs from the bundled examples: python docs/make_pictures.py"""

import contextlib
import io
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from portrait_anim.animation.animator import Animator
from portrait_anim.geometry.mesh import TRIANGLES, HeadMesh, openness
from portrait_anim.geometry.view import CROP
from portrait_anim.landmarks.following import MotionTrack, track_video
from portrait_anim.media.reading import FrameReader
from portrait_anim.motion.retarget import Retargeter
from portrait_anim.painting.painter import Painter
from portrait_anim.painting.person import Person
from portrait_anim.painting.renderer import Renderer, painted_box
from portrait_anim.portrait.portrait import Portrait

ROOT = Path(__file__).parent.parent
EXAMPLES, IMAGES = ROOT / "examples", ROOT / "docs" / "images"
MONA_LISA, ASTRONAUT, CLIP = (EXAMPLES / name for name in ("mona_lisa.jpg", "astronaut.jpg", "clip.mp4"))
PAPER, INK, MESH = (246, 244, 239), (60, 56, 48), (40, 190, 175)


def own_points(portrait: Portrait) -> np.ndarray:
    """The portrait's landmarks (478, 2), px of the photo."""
    return portrait.views[0].landmarks[:, :2] / portrait.scale + portrait.corner


def head(picture: np.ndarray, points: np.ndarray, side: float = 1.9) -> np.ndarray:
    """The square around a head with landmarks at points, cut out of a picture."""
    low, high = points.min(0), points.max(0)
    half = side * (high[1] - low[1]) / 2
    centre = np.clip((low + high) / 2 - (0, 0.1 * half), half, np.array(picture.shape[1::-1]) - half)
    x0, y0, x1, y1 = np.round([*(centre - half), *(centre + half)]).astype(int).clip(0)
    return picture[y0:y1, x0:x1]


def tile(rows: list[list[np.ndarray]], side: int, gap: int = 6) -> Image.Image:
    """Rows of pictures, each cut to a square of `side` px."""
    sheet = Image.new("RGB", (len(rows[0]) * (side + gap) - gap, len(rows) * (side + gap) - gap), PAPER)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            least = min(picture.shape[:2])
            y, x = (picture.shape[0] - least) // 2, (picture.shape[1] - least) // 2
            square = Image.fromarray(picture[y : y + least, x : x + least]).resize((side, side), Image.LANCZOS)
            sheet.paste(square, (j * (side + gap), i * (side + gap)))
    return sheet


def animate(portrait: Path, folder: Path) -> list[np.ndarray]:
    """The frames that the tool makes of a portrait, by the bundled clip."""
    output = folder / f"{portrait.stem}.mp4"
    Animator().animate([portrait], CLIP, output, crf=8)
    with FrameReader(output) as reader:
        return list(reader)


def telling_frames(track: MotionTrack) -> list[int]:
    """Frames that differ: mouth open (twice), eyes closed, head to either side; in the order of the clip."""
    opening = openness(track.landmarks)
    points = track.landmarks
    turn = (points[:, 1, 0] - points[:, 234, 0]) / (points[:, 454, 0] - points[:, 234, 0])
    measures = [-opening[:, 0], opening[:, 2:].sum(1), -turn, turn, -opening[:, 0]]
    chosen: list[int] = []
    for measure in measures:
        far = [t for t in np.argsort(measure).tolist() if all(abs(t - u) > 16 for u in chosen)]
        chosen.append(far[0])
    return sorted(chosen)


def draw_mesh(picture: np.ndarray, vertices: np.ndarray, points: np.ndarray, size: int = 512) -> np.ndarray:
    """The head mesh and the landmarks over the crop, drawn at `size` px."""
    big = cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC)
    lines = big.copy()
    scale = size / CROP
    corners = np.round(vertices[:, :2] * scale * 16).astype(np.int32)[TRIANGLES]
    cv2.polylines(lines, list(corners), True, MESH, 1, cv2.LINE_AA, 4)
    big = cv2.addWeighted(lines, 0.45, big, 0.55, 0)
    for point in np.round(points[:, :2] * scale * 16).astype(int):
        cv2.circle(big, point.tolist(), 20, (255, 255, 255), -1, cv2.LINE_AA, 4)
    return big


def way(frame: int, track: MotionTrack) -> Image.Image:
    """One frame's way: portrait with mesh, driver, target mesh, warp, what the network adds, result."""
    portrait = Portrait.load(MONA_LISA)
    targets = Retargeter(track, portrait.views[0].landmarks)
    generator, box = Person.of([portrait], Painter()).generator(), painted_box(targets, portrait.views[0])
    target = targets[frame]
    square = Renderer.of(portrait, generator).square(target)
    result = Renderer.of(portrait, generator, box).frame(target)
    change = np.clip(square.image.astype(int) - square.warped + 128, 0, 255).astype(np.uint8)
    x0, y0, x1, y1 = np.round([*portrait.corner, *(portrait.corner + CROP / portrait.scale)]).astype(int)
    x0, y0, x1, y1 = x0 + (x1 - x0) // 8, y0 + (y1 - y0) // 8, x1 - (x1 - x0) // 8, y1 - (y1 - y0) // 8
    result = result[max(y0, 0) : y1, max(x0, 0) : x1]
    inner = lambda crop: crop[len(crop) // 8 : -len(crop) // 8, len(crop) // 8 : -len(crop) // 8]
    source = HeadMesh(portrait.views[0].landmarks)
    with FrameReader(CLIP) as reader:
        driver = next(image for t, image in enumerate(reader) if t == frame)
    points = track.landmarks[frame][:, :2] * driver.shape[0] / track.size[1]
    for point in np.round(points * 16).astype(int):
        cv2.circle(driver, point.tolist(), 12, (255, 255, 255), -1, cv2.LINE_AA, 4)
    blank = np.full((CROP, CROP, 3), 250, np.uint8)
    drawn = draw_mesh(portrait.views[0].image, source.vertices, source.landmarks)
    panels = [
        ("1  portrait: landmarks, head mesh", inner(drawn)),
        ("2  driver: landmarks", head(driver, points, 1.5)),
        ("3  target: the driver's motion", inner(draw_mesh(blank // 4, source.posed(target), target))),
        ("4  warp of the photo", inner(square.warped)),
        ("5  what is painted (grey: nothing)", inner(change)),
        ("6  result, at the photo's resolution", result),
    ]
    width, caption, gap = 320, 34, 8
    sheet = Image.new("RGB", (3 * (width + gap) - gap, 2 * (width + caption)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for n, (text, picture) in enumerate(panels):
        x, y = n % 3 * (width + gap), n // 3 * (width + caption)
        sheet.paste(tile([[picture]], width), (x, y))
        draw.text((x + 2, y + width + 6), text, INK, ImageFont.load_default(14))
    return sheet


@contextlib.contextmanager
def browsed(tool: str, *arguments, flags: tuple[str, ...] = (), size: tuple[int, int] = (1120, 720)) -> Iterator:
    """A page of `portrait-anim serve` or `live` in a Chromium that is installed."""
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "portrait_anim.commands.tools", tool, "--port", "0", *map(str, arguments)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().split()[0]
        with sync_playwright() as playwright:
            chromium = shutil.which("chromium")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *flags])
            page = browser.new_page(viewport=dict(zip(("width", "height"), size)))
            page.goto(address)
            yield page
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def photograph_page(target: Path) -> None:
    """The web page with a finished video."""
    with browsed("serve") as page:
        page.locator("#portrait").set_input_files(MONA_LISA)
        page.locator("#start").click()
        page.get_by_role("link", name="Download").wait_for(timeout=300_000)
        page.locator("video#video").evaluate("v => { v.pause(); v.currentTime = 3.4; }")
        page.wait_for_timeout(1000)
        Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(target, quality=84)


def photograph_live(target: Path) -> None:
    """The page of `live`, its camera fed from the bundled clip. It says how fast it is: make it on a quiet machine."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mjpeg"
        ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(CLIP), "-vf", "scale=640:480", "-an"]
        subprocess.run([*ffmpeg, "-q:v", "3", str(clip)], check=True)
        flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        flags.append(f"--use-file-for-fake-video-capture={clip}")
        with browsed("live", MONA_LISA, "--no-browser", "--rate", 1, flags=tuple(flags), size=(1120, 800)) as page:
            page.get_by_role("button", name="Start the camera").click()
            page.locator("body[data-state=live]").wait_for(timeout=300_000)
            page.wait_for_timeout(8_600)
            Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(target, quality=84)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with FrameReader(CLIP, max_side=640) as reader:
        *_, track = track_video(reader, reader.fps, str(CLIP))
        track = replace(track, landmarks=track.landmarks[:])
    with FrameReader(CLIP) as reader:
        driver = list(reader)
    chosen = telling_frames(track)
    middle = track.landmarks.mean(0)[:, :2] * driver[0].shape[0] / track.size[1]
    label = Image.new("RGB", (200, 200), PAPER)
    ImageDraw.Draw(label).text((96, 90), "the driver", INK, ImageFont.load_default(20))
    rows = [[np.array(label), *(head(driver[t], middle, 1.7) for t in chosen)]]
    with tempfile.TemporaryDirectory() as folder:
        for path in (MONA_LISA, ASTRONAUT):
            portrait, frames = Portrait.load(path), animate(path, Path(folder))
            rows.append(
                [head(picture, own_points(portrait)) for picture in (portrait.photo, *(frames[t] for t in chosen))]
            )
            if path == MONA_LISA:
                moving = [head(frame, own_points(portrait), 2.3) for frame in frames[::2]]
    tile(rows, 200).save(IMAGES / "strip.jpg", quality=84, optimize=True)
    film = [Image.fromarray(frame).resize((360, 360), Image.LANCZOS) for frame in moving]
    milliseconds = round(2000 / float(track.fps))
    film[0].save(IMAGES / "mona_lisa.webp", save_all=True, append_images=film[1:], duration=milliseconds, loop=0,
                 quality=62, method=6)  # fmt: skip
    way(max(chosen, key=lambda t: openness(track.landmarks[t])[0]), track).save(IMAGES / "way.jpg", quality=86)
    photograph_page(IMAGES / "page.jpg")
    photograph_live(IMAGES / "live.jpg")
    for path in sorted(IMAGES.iterdir()):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
