"""The benchmark of `live` runs, through the server and without it, and measures all that it tells."""

import json
import subprocess
import sys

import pytest
from support import ASTRONAUT, PATIENCE, ROOT


@pytest.mark.slow
@pytest.mark.parametrize("way", [[], ["--engine", "--avx2"]])
def test_benchmark_measures_latency_rate_and_memory(short_clip, way):
    bench = ROOT / "benchmarks" / "live.py"
    command = [sys.executable, str(bench), "--portrait", str(ASTRONAUT), "--driver", str(short_clip)]
    command += ["--max-size", "400", "--settle", "1", "--seconds", "3", "--json", *way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["size"] in ("400x400", "384x384") and 0 < report["pictures/s"] < 31
    assert 0 < report["latency ms, median"] <= report["latency ms, p95"] <= report["latency ms, p99"]
    assert report["memory MB, end"] > 100 and report["CPU ms per picture"] > 1
