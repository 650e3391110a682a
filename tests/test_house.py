"""The house is as it is drawn (docs/how-it-works.md): rooms that use only those below them, small modules, types."""

import hashlib
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from platformdirs import user_cache_path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "portrait_anim"
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
MAX_LINES = 400  # of a module; most have less than 250


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    """Check the imports of the package in a folder by the folder's pyproject.toml."""
    code = "from importlinter.cli import lint_imports_command as check; check()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=300
    )


def test_each_room_uses_only_those_below():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "module, line, message",
    [
        ("geometry/pose.py", "def f():\n    from ..portrait import layers\n", "geometry is not allowed to import"),
        ("web/queue.py", "from ..batch.jobs import Job\n", "web is not allowed to import portrait_anim.batch"),
        ("attic/__init__.py", "", "attic"),
    ],
)
def test_an_import_upwards_is_found(tmp_path, module, line, message):
    shutil.copytree(PACKAGE, tmp_path / "portrait_anim", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "portrait_anim" / module
    path.parent.mkdir(exist_ok=True)
    with open(path, "a") as file:
        file.write(line)
    done = lint_imports(tmp_path)
    assert done.returncode == 1 and message in done.stdout, done.stdout + done.stderr


def test_the_picture_of_the_house_shows_the_same_order():
    drawn = re.search(r"```text\n(.*?)```", (ROOT / "docs" / "how-it-works.md").read_text("utf-8"), re.DOTALL)[1]
    rooms = [name for line in drawn.splitlines() for name in re.split(r" {4,}", line.strip())[0].split()]
    config = (ROOT / "pyproject.toml").read_text("utf-8")
    layers = re.search(r"^layers = \[(.*?)^\]", config, re.DOTALL | re.MULTILINE)[1]
    assert rooms == [name for name in re.findall(r"\w+", layers) if name != "errors"]
    assert sorted(rooms) == ROOMS


def test_modules_are_small():
    lines = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in PACKAGE.rglob("*.py")}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_room_exports_is_there(room):
    package = import_module(f"portrait_anim.{room}")
    assert package.__doc__ and package.__doc__[0].isupper()
    modules = {path.stem for path in (PACKAGE / room).glob("*.py")}
    exported = getattr(package, "__all__", [])
    assert not modules & set(exported), "a name that is a module's, too, is sometimes the one and sometimes the other"
    for name in exported:
        assert getattr(package, name) is not None and name in dir(package)
    with pytest.raises((AttributeError, ImportError)):
        getattr(package, "no_such_name")  # noqa: B009


def test_importing_a_room_imports_nothing_slow():
    code = (
        "import sys, portrait_anim, portrait_anim.geometry.smoothing, "
        + ", ".join(f"portrait_anim.{room}" for room in ROOMS)
        + "\nprint([name for name in ('torch', 'numba', 'cv2', 'mediapipe', 'fastapi', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_types():
    checkout = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]  # the cache makes it fast: 0.3 s of CPU, not 12
    cache = user_cache_path("portrait-anim", appauthor=False) / "mypy" / checkout
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(cache)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
