"""What tests of the pages say to their servers, and the browser that opens them."""

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from support import MONA_LISA, start_python, until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def in_chromium(test):
    """Mark a test that drives a Chromium."""
    for skip in (
        pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
        pytest.mark.skipif(find_spec("playwright") is None, reason="the package playwright is not installed"),
        pytest.mark.slow,
    ):
        test = skip(test)
    return test


def start_server(*arguments, cwd, tool: str = "serve") -> tuple[subprocess.Popen, str]:
    """The command, and the address it says."""
    command = ["-m", "portrait_anim.commands.tools", tool, "--port", "0", *arguments]
    process = start_python(*command, cwd=cwd, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": cwd})
    return process, process.stdout.readline().split()[0]


def send(client, portrait: Path = MONA_LISA, clip: Path | None = None, headers=None, **options):
    files = {"portrait": (portrait.name, portrait.read_bytes())}
    if clip:
        files["clip"] = (clip.name, clip.read_bytes())
    return client.post("/jobs", files=files, data=options, headers=headers)


def wait_for(client, id: str, *states: str) -> dict:
    """What the server says of a job when it is in one of these states."""
    said = {}

    def arrived() -> bool:
        said.update(client.get(f"/jobs/{id}").json())
        return said["state"] in states

    until(arrived)
    return said
