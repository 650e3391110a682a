"""README and docs: every command in them runs, every option, link and picture is there.

Blocks of ```sh are run in a folder of small files with the documents' names. ```sh dry blocks would take hours or
never end: their commands are parsed to the last option. ```sh setup blocks install: their targets must exist.
"""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import make_options
import make_pictures
import numpy as np
import pytest
import typer
from support import ASTRONAUT, MONA_LISA, ROOT, clip_frames, save_image, track, write_video

from portrait_anim.commands import animate as cli
from portrait_anim.commands import tools
from portrait_anim.errors import PortraitAnimError

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)
APPS = {"animate": cli.app, "portrait-anim": tools.app}


def blocks(language: str, kind: str | None = None) -> list:
    """Fenced blocks of all documents, one test each, named by where they stand."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text("utf-8")
        for match in FENCE.finditer(text):
            if (match[1], match[2]) == (language, kind):
                line = text[: match.start()].count("\n") + 1
                found.append(pytest.param(match[3], id=f"{document.name}:{line}"))
    return found


def commands(block: str) -> list[list[str]]:
    """The command lines of a block as words, without comments."""
    lines = [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()]
    return [words for words in lines if words]


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A folder with every file that the documents name, small: the longest clip has 13 frames."""
    folder = tmp_path_factory.mktemp("sandbox")
    (folder / "examples").mkdir()
    (folder / "photos").mkdir()

    def small(path: Path, side: int) -> np.ndarray:
        image = cv2.imread(str(path))[..., ::-1]
        scale = side / max(image.shape[:2])
        return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)

    woman, me = small(MONA_LISA, 320), small(ASTRONAUT, 224)
    grey = np.repeat(cv2.cvtColor(woman, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    couple = np.concatenate([cv2.resize(me, (240, 240)), cv2.resize(me[:, ::-1], (200, 240))], 1)
    save_image(folder / "examples" / "mona_lisa.jpg", woman)
    save_image(folder / "examples" / "astronaut.jpg", me)
    save_image(folder / "grandma.jpg", grey)
    for name in ("group.jpg", "grandparents.jpg"):
        save_image(folder / name, couple)
    for name in ("me.jpg", "me-laughing.jpg", "photos/anna.jpg"):
        save_image(folder / name, me)
    clip = [cv2.resize(frame, (240, 180)) for frame in clip_frames()[:65:5]]
    for name in ("clip.mp4", "examples/clip.mp4"):
        write_video(folder / name, np.stack(clip), fps=5)  # 2.6 s
    return folder


@pytest.fixture
def sandbox(template, tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "here"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("portrait_anim.motion.drivers.DEFAULT_FPS", Fraction(5))  # built-in motions: fewer frames, too
    return folder


class Commands:
    """`animate` and `portrait-anim` for a shell, carried out in this process: loading torch for each takes too long.

    Each is a program on the PATH that sends its words over a socket and ends with the exit code it gets.
    """

    CLIENT = """#!{python} -SE
import json, os, socket, sys
talk = socket.socket(socket.AF_UNIX)
talk.connect({address!r})
talk.sendall(json.dumps([{name!r}, os.getcwd(), sys.argv[1:]]).encode() + b"\\n")
code, out, err = json.loads(talk.makefile().read())
sys.stdout.buffer.write(out.encode("latin-1")), sys.stderr.write(err)
sys.exit(code)
"""

    def __init__(self, folder: Path):
        folder.mkdir()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "socket"))
        self.listener.listen()
        self.listener.settimeout(0.05)
        for name in APPS:
            client = folder / name
            client.write_text(self.CLIENT.format(python=sys.executable, address=str(folder / "socket"), name=name))
            client.chmod(0o755)
        self.path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        self.ran = 0

    def run(self, script: str, folder: Path) -> subprocess.CompletedProcess:
        log = folder.parent / "log"
        with open(log, "w") as output:
            shell = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=folder, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                env={**os.environ, "PATH": self.path},
            )  # fmt: skip
            while shell.poll() is None:
                with contextlib.suppress(TimeoutError):
                    self._serve(self.listener.accept()[0])
        return subprocess.CompletedProcess(script, shell.returncode, log.read_text())

    def _serve(self, talk: socket.socket) -> None:
        name, folder, words = json.loads(talk.makefile().readline())
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
        os.chdir(folder)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = APPS[name](words, standalone_mode=False) or 0
            except PortraitAnimError as error:
                code = error.exit_code
                err.write(f"error: {error}\n")
            except Exception as error:
                code = 1
                err.write(f"{type(error).__name__}: {error}\n")
        self.ran += 1
        talk.sendall(json.dumps([code, out.buffer.getvalue().decode("latin-1"), err.getvalue()]).encode())
        talk.close()


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("sh"))
def test_commands_run(block, sandbox, tmp_path):
    shell = Commands(tmp_path / "bin")
    done = shell.run(re.sub(r"--finetune \d+", "--finetune 5", block), sandbox)
    assert done.returncode == 0, done.stdout
    assert shell.ran >= len([words for words in commands(block) if words[0] in APPS])
    assert not (sandbox / "failed.txt").exists(), done.stdout
    for output in re.findall(r"(?:-o|--output|>) (\w[\w./-]*)(?:\s|$)", block):
        made = Path(output)
        assert any(made.iterdir()) if made.is_dir() else made.stat().st_size > 40, output


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("python"))
def test_python_runs(block, sandbox, capsys):
    exec(compile(block, "<document>", "exec"), {"__name__": "__main__"})
    assert "rror" not in capsys.readouterr().out
    assert list(sandbox.glob("*.mp4")) != [sandbox / "clip.mp4"]


@pytest.mark.parametrize("block", blocks("sh", "dry"))
def test_long_commands_are_understood(block):
    for words in commands(block):
        if "-m" in words and words[words.index("-m") + 1] == "portrait_anim.commands.tools":  # torchrun, python
            words = ["portrait-anim", *words[words.index("-m") + 2 :]]
        name, *arguments = words
        command = typer.main.get_command(APPS[name])
        if hasattr(command, "commands"):
            assert arguments[0] in command.commands, f"{name} has no command {arguments[0]}"
            name, command, arguments = arguments[0], command.commands[arguments[0]], arguments[1:]
        command.make_context(name, arguments)  # raises what the command would say


@pytest.mark.parametrize("block", blocks("sh", "setup"))
def test_installation_is_there(block):
    project, dev = (ROOT / "pyproject.toml").read_text(), (ROOT / "dev").read_text()
    for words in commands(block):
        if words[0] == "./dev":
            assert re.search(rf"^ +{words[1]}\)", dev, re.MULTILINE), words
            continue
        assert words[:2] == ["pip", "install"], words
        for word in words[2:]:
            extras = re.fullmatch(r"\.\[([\w,]+)\]", word)
            for extra in extras[1].split(",") if extras else []:
                assert re.search(rf"^{extra} = \[", project, re.MULTILINE), word
            if "==" in word:
                assert word in (ROOT / "constraints.txt").read_text(), word
        assert (ROOT / words[words.index("-c") + 1]).exists()


def test_options_page_is_what_the_commands_say():
    fresh = make_options.markdown()
    assert (ROOT / "docs" / "options.md").read_text("utf-8") == fresh, "stale: run python docs/make_options.py"
    assert "| `--driver TEXT`, `-d` |" in fresh and "## portrait-anim meta-train" in fresh


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_options_links_and_pictures_exist(document):
    text = document.read_text("utf-8")
    known = {"--help", "--install-completion", "--head", "--native", "--no-deps"}  # the last: Ray's, py-spy's, pip's
    for function in make_options.commands().values():
        for name, (info, kind, _) in make_options.options(function).items():
            known.update(make_options.spellings(name, info, kind))
    prose = FENCE.sub("", text)
    unknown = {option for option in re.findall(r"`(?:[^`\n]* )?(--[a-z][\w-]*)", prose)} - known
    assert not unknown, f"{document.name} names options that no command has: {unknown}"
    headings = lambda page: {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-")
                             for h in re.findall(r"^#+ (.*)$", page, re.MULTILINE)}  # fmt: skip
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        place = document.parent / path if path else document
        assert place.exists(), f"{document.name}: {target}"
        if anchor:
            assert anchor in headings(place.read_text("utf-8")), f"{document.name}: {target}"


def test_pictures_are_small():
    for picture in (ROOT / "docs" / "images").iterdir():
        limit = 1_500_000 if picture.suffix == ".webp" else 300_000
        assert picture.stat().st_size < limit, picture


@pytest.mark.slow
def test_picture_of_the_way_can_be_made_again(short_clip):
    picture = np.asarray(make_pictures.way(5, track(short_clip)))
    panel = lambda row, column: picture[row * 354 : row * 354 + 320, column * 328 : column * 328 + 320].astype(int)
    assert picture.shape == (708, 976, 3)
    assert abs(panel(1, 0) - panel(1, 2)).mean() > 1  # the network and the resolution make a difference
    assert abs(np.median(panel(1, 1)) - 128) <= 2  # most of it is left as the warp made it
