"""--fail-on-skip, by which CI runs the suite: what is skipped without need fails it."""

import os
import subprocess
import sys

import pytest
from support import PATIENCE, ROOT

TESTS = """
import pytest
def test_a(): pytest.skip("no CUDA GPU here")
@pytest.mark.skipif(True, reason="{}")
def test_b(): pass
def test_c(): pass
"""


@pytest.mark.parametrize(
    "reason, cannot, code, processes",
    [
        ("no chromium on this machine", "", 1, 2),
        ("no chromium on this machine", "strace chromium", 0, 0),  # .ci/run has tried to install it, and says so
        ("I did not feel like it", "chromium", 1, 0),
    ],
)
def test_a_skip_without_need_fails(tmp_path, reason, cannot, code, processes):
    (tmp_path / "test_x.py").write_text(TESTS.format(reason))
    (tmp_path / "pytest.ini").write_text("[pytest]")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "CI_CANNOT_INSTALL": cannot}
    command = [sys.executable, "-m", "pytest", "-p", "skips", "--fail-on-skip", "-n", str(processes)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == code and "1 passed, 2 skipped" in done.stdout, done.stdout
    assert (f"test_x.py::test_b: Skipped: {reason}" in done.stdout) == bool(code) and "test_a: " not in done.stdout
