"""What tests of the web page say to its server."""

import os
import subprocess
from pathlib import Path

from support import MONA_LISA, start_python, until


def start_server(*arguments, cwd) -> tuple[subprocess.Popen, str]:
    """The command, and the address it says."""
    command = ["-m", "portrait_anim.commands.tools", "serve", "--port", "0", *arguments]
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
