"""How late the portrait follows a camera, and how often: the command's server, spoken to as its page does.

    python benchmarks/live.py                          # the bundled pair, 30 s, a camera of 30 frames/s
    python benchmarks/live.py --precision fp32 --avx2  # as on a processor with AVX2 only
    python benchmarks/live.py --minutes 10             # does memory grow?
    python benchmarks/live.py --engine                 # the engine alone: no server, no socket

The server is a process of its own; this one only sends the clip's frames as JPEG files (made before) at the camera's
pace and takes what comes back. Latency is from sending a frame to having the picture that follows it; a browser adds
what its camera, its JPEG encoder and its screen take. --seconds are counted after --settle, in which the size is found.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


def jpegs(driver: Path) -> list[bytes]:
    """The clip's frames as a page sends them, there and back so that nothing jumps."""
    from portrait_anim.live.session import jpeg
    from portrait_anim.media.reading import FrameReader

    with FrameReader(driver, max_side=640) as reader:
        there = [jpeg(frame) for frame in reader]
    return there + there[::-1]


def resident(process: int) -> float:
    """Memory of a process, MB."""
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_seconds(process: int) -> float:
    """CPU time of a process and its threads."""
    with open(f"/proc/{process}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Log:
    """What is measured. Until `begin` nothing is kept."""

    def __init__(self, process: int):
        self._process, self._begun = process, float("inf")
        self.delays: list[float] = []  # ms
        self.memory: list[tuple[float, float]] = []  # s, MB
        self.status: dict = {}
        self._cpu = 0.0

    def begin(self) -> None:
        self._begun, self._cpu = time.monotonic(), cpu_seconds(self._process)

    def picture(self, sent: float) -> None:
        now = time.monotonic()
        if now >= self._begun:
            self.delays.append(1000 * (now - sent))
            if not self.memory or now - self.memory[-1][0] > 1:
                self.memory.append((now, resident(self._process)))

    def report(self, given: int) -> dict:
        seconds = time.monotonic() - self._begun
        cpu = cpu_seconds(self._process) - self._cpu
        ordered, minutes = sorted(self.delays), [(t - self._begun) / 60 for t, _ in self.memory]
        growth = statistics.linear_regression(minutes, [mb for _, mb in self.memory]).slope if len(minutes) > 2 else 0.0
        return {
            "pictures/s": len(ordered) / seconds,
            "latency ms, median": statistics.median(ordered),
            "latency ms, p95": ordered[int(0.95 * len(ordered))],
            "latency ms, p99": ordered[int(0.99 * len(ordered))],
            "CPU ms per picture": 1000 * cpu / len(ordered),
            "CPUs used": cpu / seconds,
            "size": "x".join(map(str, self.status["size"])),
            "frames of the camera dropped, %": 100 * (1 - len(ordered) / max(given, 1)),
            "memory MB, begin": self.memory[0][1],
            "memory MB, end": self.memory[-1][1],
            "memory MB per minute": growth,
            "seconds": seconds,
        }


def paced(frames: list[bytes], rate: float, settle: float, seconds: float, log: Log) -> Iterator[tuple[bytes, float]]:
    """The frame that is due, and how many seconds to wait for it; in between the log begins."""
    begin, number, has_begun = time.monotonic(), 0, False
    while (now := time.monotonic()) < begin + settle + seconds:
        if not has_begun and now >= begin + settle:
            has_begun = True
            log.begin()
        number += 1
        yield frames[number % len(frames)], max(0.0, begin + number / rate - now)


async def talk(address: str, frames: list[bytes], options: argparse.Namespace, log: Log) -> int:
    """Be the page. Returns how many frames were sent since the log began."""
    import websockets

    origin = "/".join(address.split("/")[:3])
    given = 0
    async with websockets.connect(
        f"{address.replace('http', 'ws', 1)}socket", origin=origin, compression=None, max_size=None
    ) as socket:
        json.loads(await socket.recv())  # "ready"

        async def listen() -> None:
            async for message in socket:
                if isinstance(message, str):
                    news = json.loads(message)
                    if news["say"] == "error":
                        raise SystemExit(news["text"])
                    log.status = news
                else:
                    log.picture(struct.unpack_from("<d", message)[0] / 1000)

        listening = asyncio.ensure_future(listen())
        for frame, wait in paced(frames, options.camera_rate, options.settle, options.seconds, log):
            await asyncio.sleep(wait)
            sent = time.monotonic()
            await socket.send(b"\x01" + struct.pack("<d", 1000 * sent) + frame)
            given += sent >= log._begun
        listening.cancel()
    return given


def through_the_server(options: argparse.Namespace, frames: list[bytes]) -> dict:
    command = [sys.executable, "-m", "portrait_anim.commands.tools", "live", str(options.portrait), "--no-browser"]
    command += ["--port", "0", "--precision", options.precision, "--max-size", str(options.max_size)]
    command += ["--rate", str(options.rate)] if options.rate else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} | (AVX2 if options.avx2 else {})
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            raise SystemExit("the server did not start; run `portrait-anim live` with the same options to see why")
        address = line.split()[0]
        log = Log(server.pid)
        given = asyncio.run(talk(address, frames, options, log))
        return log.report(given)
    finally:
        server.terminate()
        server.wait()


def engine_alone(options: argparse.Namespace, frames: list[bytes]) -> dict:
    from dataclasses import asdict

    from portrait_anim.animation.options import Options
    from portrait_anim.live.connection import read_frame
    from portrait_anim.live.person import load_person
    from portrait_anim.live.session import LiveSession, jpeg
    from portrait_anim.live.sizes import RenderersBySize

    loaded = load_person(
        [options.portrait], Options(max_size=options.max_size), precision=options.precision, rate=options.rate
    )
    log, given = Log(os.getpid()), 0
    with LiveSession(RenderersBySize(loaded.person), rate=loaded.rate, encode=jpeg) as session:

        def listen() -> None:
            while not ended.is_set():
                if (picture := session.take(0.2)) is not None:
                    log.picture(picture.taken)

        ended = threading.Event()
        listening = threading.Thread(target=listen)
        listening.start()
        for frame, wait in paced(frames, options.camera_rate, options.settle, options.seconds, log):
            time.sleep(wait)
            read: Callable = lambda frame=frame: read_frame(frame)
            session.put(read, time.monotonic())
            given += time.monotonic() >= log._begun
        log.status = asdict(session.status())
        report = log.report(given)
        ended.set()
        listening.join()
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--portrait", type=Path, default=ROOT / "examples" / "mona_lisa.jpg")
    parser.add_argument("--driver", type=Path, default=ROOT / "examples" / "clip.mp4")
    parser.add_argument("--precision", default="auto", help="auto, fp32, bf16")
    parser.add_argument("--avx2", action="store_true", help="use no instructions beyond AVX2 in the networks")
    parser.add_argument("--max-size", type=int, default=1280)
    parser.add_argument("--rate", type=float, help="pictures/s to hold; the command's default otherwise")
    parser.add_argument("--camera-rate", type=float, default=30.0, help="frames/s that are sent")
    parser.add_argument("--settle", type=float, default=8.0, help="seconds before it is measured")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--minutes", type=float, help="instead of --seconds")
    parser.add_argument("--engine", action="store_true", help="without server and socket")
    parser.add_argument("--json", action="store_true", help="instead of a table")
    options = parser.parse_args()
    if options.minutes:
        options.seconds = 60 * options.minutes
    if options.avx2 and options.engine and not AVX2.items() <= os.environ.items():
        os.execve(
            sys.executable, [sys.executable, *sys.argv], {**os.environ, **AVX2}
        )  # libraries read it at their start
    frames = jpegs(options.driver)
    report = (engine_alone if options.engine else through_the_server)(options, frames)
    report["load of the machine"] = os.getloadavg()[0]
    if options.json:
        print(json.dumps(report, indent=1))
        return
    for name, value in report.items():
        print(f"{name:34} {value:.1f}" if isinstance(value, float) else f"{name:34} {value}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
