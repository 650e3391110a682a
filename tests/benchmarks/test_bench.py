"""The benchmark runs and measures every stage."""

import json
import subprocess
import sys

import pytest
from support import PATIENCE, ROOT


@pytest.mark.slow
def test_benchmark_finds_every_stage(tmp_path, short_clip):
    bench = ROOT / "benchmarks" / "bench.py"
    command = [sys.executable, str(bench), "--driver", str(short_clip), "--runs", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    columns = json.loads(done.stdout)["columns"]
    assert list(columns) == ["mona_lisa, now", "1080 px, now"]
    for report in columns.values():
        assert report["frames"] == 12 and report["first frame s"] > 0
        assert all(ms > 0 for ms in report["ms per frame"].values()), report
