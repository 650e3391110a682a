"""What a release needs beside the code: a version with its changes, and a lock of all that was tested."""

import re
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from support import ROOT

tomllib = pytest.importorskip("tomllib")  # of Python 3.11 on

CONSTRAINTS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] != "#"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def tidy(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed() -> set[str]:
    """All that pip installs for the package with its extras, as far as this environment shows it."""
    first = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]
    found, waiting = set(), [(requirement.name, requirement.extras) for requirement in map(Requirement, first)]
    while waiting:
        name, extras = waiting.pop()
        if (key := (tidy(name), frozenset(extras))) in found:
            continue
        found.add(key)
        for requirement in map(Requirement, metadata.requires(name) or []):
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in ("", *extras)):
                waiting.append((requirement.name, requirement.extras))
    return {name for name, _ in found}


def test_the_version_has_its_changes():
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == PROJECT["version"] and len(versions) == len(set(versions))


def test_the_lock_has_all_that_is_needed_and_is_what_runs_here():
    locked = {tidy(each.name): each for each in CONSTRAINTS if each.marker is None or each.marker.evaluate()}
    if not any(each.marker for each in locked.values()):
        pytest.skip("the lock is of Python 3.11")
    versions = {name: metadata.version(name).partition("+")[0] for name in needed()}
    assert not sorted(name for name in versions if name not in locked)
    wrong = {name: version for name, version in versions.items() if not locked[name].specifier.contains(version)}
    assert not wrong
