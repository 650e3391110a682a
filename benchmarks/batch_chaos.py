"""A batch under fire: `python benchmarks/batch_chaos.py` (1,000 jobs, four workers; --jobs 40 --every 5 for a try).

    1. Every --every seconds one worker is killed. When a third is made the disk fills up for --full seconds (a small
       tmpfs, which only root can mount; else this is left out). Then the same command makes the rest.
    2. The report shall go to a folder that cannot be written to.
    3. With --ray: the head of a Ray cluster is killed when a third is made, and started anew; the same command goes on.

Of each it is checked that no output is lost, damaged or made twice, that nothing else is left in the folder, and that
exit codes and report say what happened. Exit code 1 when something is wrong.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from portrait_anim.provenance.verify import verify_file

ROOT = Path(__file__).resolve().parent.parent
MOTIONS = ("blink", "nod", "wink", "shake", "smile")
WRONG: list[str] = []


def check(holds: bool, text: str) -> None:
    print(f"    {'ok   ' if holds else 'WRONG'} {text}", flush=True)
    if not holds:
        WRONG.append(text)


def write_jobs(path: Path, count: int, out: Path) -> list[Path]:
    """A job file of small outputs; returns their paths."""
    outputs = [out / f"{number}.mp4" for number in range(count)]
    options = {"max_size": 128, "end": 0.2}
    portraits = [str(ROOT / "examples" / name) for name in ("astronaut.jpg", "mona_lisa.jpg")]
    rows = [
        {"images": portraits[n % 2], "driver": MOTIONS[n % len(MOTIONS)], "output": str(output), **options}
        for n, output in enumerate(outputs)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return outputs


class Watch:
    """Looks at the outputs all the time: a file that gets another inode was made twice."""

    def __init__(self, folder: Path):
        self._folder, self._stop = folder, threading.Event()
        self.seen: dict[str, set[int]] = {}
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._stop.wait(0.1):
            for entry in os.scandir(self._folder):
                if not entry.name.startswith("."):
                    self.seen.setdefault(entry.name, set()).add(entry.inode())

    def twice(self) -> list[str]:
        self._stop.set()
        self._thread.join()
        return [name for name, inodes in self.seen.items() if len(inodes) > 1]


def children(number: int) -> list[int]:
    """The workers of a running batch."""
    try:
        found = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        return [int(n) for n in found if b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes()]
    except OSError:
        return []


def run(jobs: Path, *options, every: float = 0.0, when_begun=None) -> tuple[int, str, int]:
    """The command, whose workers are killed; returns exit code, what it said, and how many workers were killed."""
    command = [sys.executable, "-m", "portrait_anim.commands.tools", "batch", jobs, "--threads", 1, *options]
    begin, killed = time.monotonic(), 0
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([str(part) for part in command], stdout=said, stderr=said)
        if when_begun:
            threading.Thread(target=when_begun, daemon=True).start()
        following = begin + every
        while process.poll() is None:
            time.sleep(0.1)
            if every and time.monotonic() > following and (workers := children(process.pid)):
                os.kill(random.choice(workers), signal.SIGKILL)
                killed, following = killed + 1, time.monotonic() + every
        said.seek(0)
        text = said.read()
    print(f"  exit {process.returncode} after {time.monotonic() - begin:.0f} s, {killed} workers killed", flush=True)
    print(f"    {text.strip().splitlines()[-1] if text.strip() else ''}")
    return process.returncode, text, killed


def judge(outputs: list[Path], report: Path, watch: Watch) -> None:
    """At the end of it all, everything is there once."""
    folder = outputs[0].parent
    there = sorted(path.name for path in folder.iterdir())
    check(there == sorted(path.name for path in outputs), f"{len(there)} outputs in the folder, and nothing else")
    damaged = [path.name for path in outputs if not path.exists() or verify_file(path).verdict != "intact"]
    check(not damaged, f"all are whole and signed ({len(damaged)} are not)")
    check(not (twice := watch.twice()), f"none was made twice ({len(twice)} were)")
    last = {}
    for line in report.read_text().splitlines():
        entry = json.loads(line)
        last[entry["output"]] = entry
    well = [
        entry for entry in last.values() if not entry["error"] and entry["bytes"] == os.path.getsize(entry["output"])
    ]
    check(len(well) == len(last) == len(outputs), f"the report's last word on each: done, with its size ({len(well)})")


def until_made(folder: Path, count: int) -> None:
    while sum(not name.startswith(".") for name in os.listdir(folder)) < count:
        time.sleep(0.2)


def under_fire(folder: Path, given: argparse.Namespace) -> None:
    print(f"1. {given.jobs} jobs, {given.workers} workers, one killed every {given.every:g} s, a full disk")
    out = folder / "out"
    out.mkdir()
    size = f"size={given.jobs * 40 + 8000}k"
    small = not subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", out], stderr=subprocess.DEVNULL).returncode
    if not small:
        print("    (no small disk can be mounted here: the full disk is left out)")
    try:
        jobs, report, watch = folder / "jobs.jsonl", folder / "jobs.jsonl.report.jsonl", Watch(out)
        outputs = write_jobs(jobs, given.jobs, out)

        def fill() -> None:
            until_made(out, given.jobs // 3)
            filler = out / ".filler"
            with open(filler, "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    print("    (the disk is full)", flush=True)
            time.sleep(given.full)
            while "No space left" not in report.read_text():  # every worker may have been killed meanwhile
                time.sleep(0.5)
            filler.unlink()

        code, text, killed = run(
            jobs, "--workers", given.workers, every=given.every, when_begun=fill if small else None
        )
        entries = [json.loads(line) for line in report.read_text().splitlines()]
        full, lost = (sum(words in str(entry["error"]) for entry in entries) for words in ("No space left", "was lost"))
        check(
            killed > 0 and code == (5 if full + lost else 0), f"exit code {code}: {full} no space, {lost} lost 3 times"
        )
        check((full > 0) == small and "Traceback" not in text, "the full disk is said, and no traceback")
        for every in (
            given.every,
            0,
        ):  # at last without kills: a lone job whose worker takes longer to start never ends
            if code:
                code, text, _ = run(jobs, "--workers", given.workers, every=every)
        check(code == 0, "the same command has made the rest")
        code, text, _ = run(jobs, "--workers", given.workers)
        check(code == 0 and f"0 made, {given.jobs} were there already" in text, "once more there is nothing to do")
        judge(outputs, report, watch)
    finally:
        if small:
            subprocess.run(["umount", out], check=True)


def report_in_the_way(folder: Path) -> None:
    print("2. the report file in a folder that cannot be written to")
    (folder / "two").mkdir()
    outputs = write_jobs(folder / "two.jsonl", 4, folder / "two")
    locked = Path("/proc") if os.geteuid() == 0 else folder / "locked"  # not even root writes there
    locked.mkdir(mode=0o500, exist_ok=True)
    code, text, _ = run(folder / "two.jsonl", "--report", locked / "report.jsonl")
    check(code == 4 and text.count("error:") == 1 and "use --report" in text, "one sentence and exit code 4")
    check(not any(path.exists() for path in outputs), "before any work")


class Head:
    """The head of a Ray cluster of its own."""

    def __init__(self, folder: Path, cpus: int):
        self._folder, self._cpus = folder, cpus
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"

    def start(self) -> None:
        ray = [Path(sys.executable).parent / "ray", "start", "--head", f"--port={self._port}", "--num-cpus", self._cpus]
        ray += [
            "--include-dashboard=false",
            "--disable-usage-stats",
            f"--temp-dir={self._folder}",
            "--dashboard-agent-listen-port=0",
        ]
        subprocess.run([str(part) for part in ray], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """Kill what runs from the folder of this cluster, and nothing else."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if str(self._folder).encode() in (process / "cmdline").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:
                pass


def head_restarts(folder: Path, given: argparse.Namespace) -> None:
    print(f"3. {given.ray} jobs on a Ray cluster whose head is killed")
    out = folder / "three"
    out.mkdir()
    short = Path(tempfile.mkdtemp(prefix="ray-"))  # sockets have short names
    head = Head(short, given.workers)
    try:
        head.start()
        jobs, watch = folder / "three.jsonl", Watch(out)
        outputs = write_jobs(jobs, given.ray, out)

        def end() -> None:
            until_made(out, given.ray // 3)
            head.kill()
            print("    (the head is killed)", flush=True)

        code, text, _ = run(jobs, "--ray", head.address, when_begun=end)
        check(code in (1, 3, 5) and "Traceback" not in text, f"exit code {code}, and no traceback")
        check("error:" in text, "and it is said")
        head.start()
        code, text, _ = run(jobs, "--ray", head.address)
        check(code == 0, "the same command has made the rest")
        judge(outputs, folder / "three.jsonl.report.jsonl", watch)
    finally:
        head.kill()
        shutil.rmtree(short, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two kills")
    parser.add_argument("--full", type=float, default=20.0, help="seconds for which the disk is full")
    parser.add_argument("--ray", type=int, default=0, help="jobs of the third part; 0 leaves it out")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random.seed(given.seed)
    with tempfile.TemporaryDirectory() as name:
        if given.jobs:
            under_fire(Path(name), given)
            report_in_the_way(Path(name))
        if given.ray:
            head_restarts(Path(name), given)
    print(f"{len(WRONG)} wrong" if WRONG else "all as it should be")
    sys.exit(bool(WRONG))


if __name__ == "__main__":
    main()
