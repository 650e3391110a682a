"""Where the time goes: ms per frame by stage, end-to-end frames/s, first-frame latency and peak memory.

    python benchmarks/bench.py [--portrait examples/mona_lisa.jpg] [--driver examples/clip.mp4] [--frames 100] [--json]

Stages are timed one after the other in one thread of Python (native code uses its own threads); the command overlaps
them, so its frames/s are better than the sum. End-to-end figures are those of a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def stages(portrait_path: Path, driver: Path, frames: int, precision: str) -> dict[str, float]:
    """Mean ms per frame of every stage."""
    from portrait_anim.animator import painted_box
    from portrait_anim.compose import compose_frame, paint_box
    from portrait_anim.drivers import TRACK_SIZE
    from portrait_anim.encode import VideoWriter
    from portrait_anim.following import track_video
    from portrait_anim.motion import Retargeter
    from portrait_anim.painter import Painter
    from portrait_anim.portrait import Portrait
    from portrait_anim.video import FrameReader
    from portrait_anim.warp import condition

    spent: dict[str, float] = {}

    def timed(name: str, call):
        begin = time.perf_counter()
        value = call()
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - begin
        return value

    reader = FrameReader(driver, max_side=TRACK_SIZE)
    images = timed("decode", lambda: list(reader))[:frames]
    spent["decode"] *= len(images) / max(len(images), reader.expected_frames or 1)
    *_, track = timed("track", lambda: list(track_video(images, reader.fps, str(driver))))
    portrait, painter = Portrait.load(portrait_path), Painter(precision=precision)
    targets = timed("retarget", lambda: Retargeter(track, portrait.views[0].landmarks))
    warper, psi = portrait.warper(), painter.person(portrait.views[:1])
    size, box = portrait.photo.shape[1::-1], painted_box(targets)
    with tempfile.TemporaryDirectory() as folder, VideoWriter(Path(folder) / "x.mp4", size, reader.fps) as writer:
        for t in range(-3, len(targets)):  # three rounds to warm up
            if t == 0:
                for name in ("warp", "condition", "network", "paint", "composite", "encode"):
                    spent[name] = 0.0
            target = timed("retarget", lambda: targets[max(t, 0)])
            warp = timed("warp", lambda: warper.warp(target))
            x = timed("condition", lambda: condition(warp, portrait.views, portrait.plate, target))
            painting = timed("network", lambda: painter.paint(x[box[1] : box[3], box[0] : box[2]], psi))
            refined, added = timed("paint", lambda: paint_box(warp, portrait.views, portrait.plate, x, painting, box))
            frame = timed("composite", lambda: compose_frame(portrait, warp, refined, added, box))
            timed("encode", lambda: writer.write(frame))
    return {name: 1000 * seconds / len(images) for name, seconds in spent.items()}


def end_to_end(portrait: Path, driver: Path, precision: str) -> dict[str, float]:
    """A run of the command: frames/s over all of it, seconds to the first frame, peak memory of it and its children."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "portrait_anim", str(portrait), "-d", str(driver), "--precision", precision]
        begin = time.perf_counter()
        process = subprocess.Popen(
            [*command, "-o", f"{folder}/x.mp4"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        first: list[float] = []

        def watch() -> None:  # the encoder's file gets its first bytes some frames late: an upper bound
            while process.poll() is None and not first:
                if any(p.stat().st_size for p in Path(folder).glob(".x.partial-*")):
                    first.append(time.perf_counter() - begin)
                time.sleep(0.02)

        watcher = threading.Thread(target=watch)
        watcher.start()
        process.communicate()
        seconds = time.perf_counter() - begin
        watcher.join()
        from portrait_anim.video import FrameReader

        count = sum(1 for _ in FrameReader(f"{folder}/x.mp4"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {
        "frames": count,
        "seconds": seconds,
        "frames/s": count / seconds,
        "first bytes s": first[0] if first else 0,
        "peak RSS MB": peak,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--portrait", type=Path, default=ROOT / "examples" / "mona_lisa.jpg")
    parser.add_argument("--driver", type=Path, default=ROOT / "examples" / "clip.mp4")
    parser.add_argument("--frames", type=int, default=100, help="frames of the driver for the stages")
    parser.add_argument("--precision", default="auto", help="auto, fp32, bf16")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    whole = end_to_end(options.portrait, options.driver, options.precision)
    parts = stages(options.portrait, options.driver, options.frames, options.precision)
    if options.json:
        print(json.dumps({"ms per frame": parts, "command": whole}, indent=1))
        return
    print("| stage | ms per frame |\n|---|---|")
    for name, ms in parts.items():
        print(f"| {name} | {ms:.1f} |")
    print(f"| sum | {sum(parts.values()):.1f} |\n")
    print(", ".join(f"{name} {value:.1f}" for name, value in whole.items()))


if __name__ == "__main__":
    main()
