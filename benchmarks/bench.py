"""Where the time goes: CPU ms per frame by stage, frames/s from command to file, first frame, peak memory.

    python benchmarks/bench.py                          # the bundled pair, and its portrait 1080 px wide
    python benchmarks/bench.py --precision fp32 --json
    python benchmarks/bench.py --compare v0.1.0         # against another git revision, run by turns
    python benchmarks/bench.py --minutes 3              # does memory grow with the driver's length?

Every figure is the median of --runs runs of the command, each a process of its own. Stages are CPU time, which other
work on the machine hardly changes; frames/s and seconds are not: look at the load that is printed with them.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
GROUPS = {"mesh + maps": ("warp", "condition")}  # sums that the tables show, too


def run(root: Path, portrait: Path, driver: Path, precision: str) -> dict:
    """One run of the command of the checkout at root, see probe.py."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        probe = [sys.executable, str(ROOT / "benchmarks" / "probe.py"), repr(time.time()), str(report)]
        arguments = [str(portrait), "-d", str(driver), "-o", f"{folder}/out.mp4", "--precision", precision, "-q"]
        arguments += ["--max-size", "1920"]
        done = subprocess.run(
            [*probe, *arguments], env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{root}: the command failed: {done.stderr.strip()}")
        return json.loads(report.read_text())


def median(results: list[dict]) -> dict:
    """Value by value, of the reports of several runs."""
    return {
        key: median([r[key] for r in results])
        if isinstance(results[0][key], dict)
        else statistics.median(r[key] for r in results)
        for key in results[0]
    }


@contextlib.contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """The revision's files in a temporary worktree."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "revision"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(path), revision], check=True)
        try:
            yield path
        finally:
            subprocess.run([*git, "remove", "--force", str(path)], check=True)


def enlarged(portrait: Path, folder: str) -> Path:
    """The portrait with its shorter side at 1080 px."""
    from PIL import Image

    image = Image.open(portrait).convert("RGB")
    scale = 1080 / min(image.size)
    path = Path(folder) / f"{portrait.stem}_1080.png"
    image.resize([round(side * scale) for side in image.size], Image.Resampling.LANCZOS).save(path)
    return path


def repeated(driver: Path, minutes: float, folder: str) -> Path:
    """The driver over and over, `minutes` long."""
    import imageio_ffmpeg

    path = Path(folder) / f"{driver.stem}_long.mp4"
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-stream_loop", "-1", "-i", str(driver)]
    subprocess.run([*ffmpeg, "-t", str(minutes * 60), "-an", "-c:v", "libx264", "-crf", "20", str(path)], check=True)
    return path


def fomm(precision: str, runs: int) -> tuple[float, float]:
    """GMAC and CPU ms per frame of a neutral network of FOMM's size: the convolutions of its generator (arXiv
    2003.00003) and as many more as its motion network has, one after the other, random weights, one thread."""
    import torch
    from torch import nn

    from portrait_anim.painting.painter import choose_precision

    dtype = choose_precision(precision, torch.device("cpu"))
    # input channels, output channels, kernel, side of its output
    layers = [(3, 64, 7, 256), (64, 128, 3, 256), (128, 256, 3, 128), *[(256, 256, 3, 64)] * 14]
    layers += [(256, 128, 3, 128), (128, 64, 3, 256), (64, 3, 7, 256)]
    gmac = sum(a * b * k * k * side * side for a, b, k, side in layers) / 1e9
    torch.set_num_threads(1)
    stack, x = [], torch.randn(1, 3, 256, 256)
    for a, b, k, side in layers:
        stack += [nn.Upsample((side, side)), nn.Conv2d(a, b, k, padding=k // 2), nn.ReLU()]
    network = nn.Sequential(*stack).to(dtype).to(memory_format=torch.channels_last).eval()
    x = x.to(dtype).contiguous(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode():
        for _ in range(runs + 1):  # the first warms up
            begin = time.thread_time()
            network(x)
            times.append(1000 * (time.thread_time() - begin))
    return gmac, statistics.median(times[1:])


def rows(result: dict) -> dict[str, float]:
    """A report as lines of a table."""
    stages = result["ms per frame"]
    sums = {name: sum(stages[part] for part in parts) for name, parts in GROUPS.items()}
    flat = {f"{name}, CPU ms": value for name, value in (stages | sums).items()}
    return flat | {key: value for key, value in result.items() if key != "ms per frame"}


def table(columns: dict[str, dict]) -> str:
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    shown = [rows(result) for result in columns.values()]
    lines += [f"| {key} | " + " | ".join(f"{r[key]:.1f}" for r in shown) + " |" for key in shown[0]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--portrait", type=Path, default=ROOT / "examples" / "mona_lisa.jpg")
    parser.add_argument("--driver", type=Path, default=ROOT / "examples" / "clip.mp4")
    parser.add_argument("--precision", default="auto", help="auto, fp32, bf16")
    parser.add_argument("--runs", type=int, default=3, help="of each column, by turns")
    parser.add_argument("--compare", metavar="REV", help="another git revision to run as well")
    parser.add_argument("--minutes", type=float, help="also run a driver of that length: the slope of memory")
    parser.add_argument("--json", action="store_true", help="instead of tables")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        roots = {"now": ROOT}
        if options.compare:
            roots[options.compare] = stack.enter_context(checkout(options.compare))
        pairs = {
            options.portrait.stem: (options.portrait, options.driver),
            "1080 px": (enlarged(options.portrait, folder), options.driver),
        }
        if options.minutes:
            pairs[f"{options.minutes:g} min"] = (options.portrait, repeated(options.driver, options.minutes, folder))
        results: dict[str, list[dict]] = {}
        for _ in range(options.runs):
            for pair, files in pairs.items():
                for name, root in roots.items():
                    results.setdefault(f"{pair}, {name}", []).append(run(root, *files, options.precision))
        columns = {name: median(reports) for name, reports in results.items()}
        gmac, ms = fomm(options.precision, options.runs)
    summary = {"columns": columns, "network of FOMM's size": {"GMAC": gmac, "CPU ms": ms}, "load": os.getloadavg()[1]}
    if options.minutes:
        short, long = (columns[f"{pair}, now"] for pair in (options.portrait.stem, f"{options.minutes:g} min"))
        growth = long["peak RSS MB"] - short["peak RSS MB"]
        summary["MB per 1000 frames"] = 1000 * growth / (long["frames"] - short["frames"])
    if options.json:
        print(json.dumps(summary, indent=1))
        return
    print(table(columns))
    print(f"\nrandom weights, {gmac:.0f} GMAC of convolutions (FOMM's size), one frame: {ms:.0f} CPU ms")
    if options.minutes:
        print(f"memory grows by {summary['MB per 1000 frames']:.1f} MB per 1000 frames of the driver")
    print(f"load of the machine over 5 minutes: {summary['load']:.1f}")


if __name__ == "__main__":
    main()
