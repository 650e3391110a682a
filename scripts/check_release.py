"""Build the wheel and the sdist, and use them as somebody does who has never seen the checkout: `./dev release`.

pipx installs the wheel, with the pinned versions, into an environment that was empty, in a folder of its own. There the
bundled example is animated, the result verified, and the page asked for. Then the sdist takes the wheel's place in that
environment, and does the same. The wheel and the sdist stay in dist/.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BROUGHT = ("portrait_anim/web/page.html", "portrait_anim/weights/MODEL_CARD.md", ".safetensors", "face_mesh.npz")


def run(*command, **options) -> str:
    """A command, which must succeed; returns what it says on stdout."""
    begin = time.monotonic()
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, **options)
    shown = " ".join(Path(command[0]).name if part is command[0] else str(part) for part in command)
    print(f"{time.monotonic() - begin:6.1f} s  {shown[:150]}", flush=True)
    if done.returncode:
        sys.exit(f"exit code {done.returncode}: {done.stdout}")
    return done.stdout


def build(folder: Path) -> tuple[Path, Path]:
    """The wheel, made from the sdist, and the sdist."""
    shutil.rmtree(folder, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, stderr=subprocess.DEVNULL)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    lacking = [end for end in BROUGHT if not any(name.endswith(end) for name in names)]
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "portrait_anim").rglob("*.py")}
    lacking += sorted(modules - set(names))
    if lacking:
        sys.exit(f"{wheel.name} lacks {', '.join(lacking)}")
    return wheel, sdist


def use(programs: Path, folder: Path, environment: dict) -> None:
    """What the README promises, by the installed commands, in a folder that holds the examples alone."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("mona_lisa.jpg", "clip.mp4"):
        shutil.copy(ROOT / "examples" / name, folder)
    at = {"cwd": folder, "env": environment}
    print(run(programs / "animate", "--version", **at).strip())
    run(programs / "animate", "mona_lisa.jpg", "--driver", "clip.mp4", "--end", "2", **at)
    if "Intact" not in run(programs / "portrait-anim", "verify", "mona_lisa--clip.mp4", **at):
        sys.exit("the output is not signed")
    server = subprocess.Popen(
        [programs / "portrait-anim", "serve", "--port", "0"], stdout=subprocess.PIPE, text=True, **at
    )
    try:
        address = server.stdout.readline().split()[0]
        with urllib.request.urlopen(address, timeout=60) as page:
            if b"<title>" not in page.read():
                sys.exit("the page is not there")
    finally:
        server.terminate()
        server.wait()
    print(f"          {address} has the page")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where wheel and sdist go")
    wheel, sdist = build(parser.parse_args().dist)
    for file in (wheel, sdist):
        print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")
    constraints = ROOT / "constraints.txt"
    with tempfile.TemporaryDirectory() as folder:
        home, programs = Path(folder, "pipx"), Path(folder, "bin")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        environment = kept | {"PIPX_HOME": str(home), "PIPX_BIN_DIR": str(programs), "XDG_DATA_HOME": f"{folder}/data"}
        pipx = [sys.executable, "-m", "pipx", "install", "--python", sys.executable]
        run(*pipx, f"{wheel}[web]", f"--pip-args=-c {constraints}", cwd=folder, env=environment)
        use(programs, Path(folder, "here"), environment)
        python = home / "venvs" / "portrait-anim" / "bin" / "python"
        run(python, "-m", "pip", "uninstall", "-qy", "portrait-anim", cwd=folder, env=environment)
        run(python, "-m", "pip", "install", "-q", "--no-deps", sdist, cwd=folder, env=environment)
        run(python, "-m", "pip", "check", cwd=folder, env=environment)
        use(programs, Path(folder, "here"), environment)
    print(f"{wheel.name} and {sdist.name} work where nothing else is")


if __name__ == "__main__":
    main()
