"""The two commands themselves: versions, completion, mistyped names of tools."""

import os
import subprocess
import sys

import pytest
from support import PATIENCE, assert_refused, run_animate, run_tool

from portrait_anim import __version__


@pytest.mark.parametrize("run", [run_animate, run_tool])
def test_version(tmp_path, run):
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"portrait-anim {__version__}\n")


@pytest.mark.parametrize("module, words", [("portrait_anim", "--dri"), ("portrait_anim.commands.tools", "d")])
def test_shell_completion(tmp_path, module, words):
    """What bash asks the command while one types."""
    module += ".commands.animate" * (module == "portrait_anim")
    code = f"import sys; sys.argv = ['x']; from {module} import main; main()"
    environment = {**os.environ, "_X_COMPLETE": "complete_bash", "COMP_WORDS": f"x {words}", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert ("--driver" if words == "--dri" else "doctor") in done.stdout.split(), done


def test_mistyped_tool(tmp_path):
    assert_refused(run_tool("doctr", cwd=tmp_path), 2, "Did you mean 'doctor'?")
    assert_refused(run_tool("batch", "-workers", "2", "x.csv", cwd=tmp_path), 2, "did you mean --workers?")
