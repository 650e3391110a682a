"""Hostile and broken inputs by the thousand: `python tests/fuzz.py --runs 2000` (tests/fuzzing runs some always).

The kinds of cases are in tests/fuzzing. Every case runs in a worker process with a time box and a bound on its memory,
and must end well or with one clear sentence of ours, with nothing half-written.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from fuzzing import KINDS, files, pictures  # noqa: F401  they name their kinds
from fuzzing.media import make_media

SECONDS = 150.0  # of a case, on a busy machine; most take less than one
ADDRESS_SPACE = 10 << 30  # bytes a worker may map, the libraries' own share included
RESIDENT = 2_500  # MB that a worker, or an ffmpeg of its, may really use


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
        usage = [own_peak(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10]
        connection.send({**result, "resident": usage})


def own_peak() -> int:
    """The most memory this program has used, MB; what getrusage tells includes the process that it was forked from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM:"))


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
