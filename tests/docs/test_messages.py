"""docs/messages.md lists every error and warning of the package, in the words of the code, and nothing else."""

import ast
from functools import cache

import pytest
from support import ROOT

TABLE = ROOT / "docs" / "messages.md"
ERRORS = {"UsageError", "InputError", "OutputError", "PortraitAnimError"}
GAP = "…"  # stands for what is filled in


def template(node: ast.expr) -> str | None:
    """The text of a string or an f-string, a gap for every value in it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else GAP for part in node.values)
    return None


def texts(function: ast.AST, node: ast.expr) -> list[str]:
    """The texts an argument can be: itself, or what its variable was assigned in the same function; lists, too."""
    if isinstance(node, ast.Name):
        assigned = [
            a.value for a in ast.walk(function) if isinstance(a, ast.Assign) and node.id in map(name, a.targets)
        ]
        return [text for value in assigned for text in [template(value)] if text]
    if isinstance(node, ast.List):
        return [text for item in node.elts for text in texts(function, item)]
    text = template(node)
    return [text] if text else []


def name(node: ast.expr) -> str:
    return getattr(node, "id", getattr(node, "attr", ""))


def messages(source: str, warnings_only_of: bool = False) -> dict[str, str]:
    """Text -> kind of every message in a module. warnings_only_of: all sentences it returns or appends are warnings."""
    found = {}
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)] or [tree]
    for function in [tree, *functions]:  # the innermost function of a node comes last
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and node.args:
                called = name(node.func)
                adds = called in ("append", "extend") and isinstance(node.func, ast.Attribute)
                if called in ERRORS:
                    found |= dict.fromkeys(texts(function, node.args[0]), called)
                elif adds and (warnings_only_of or name(node.func.value) == "warnings"):
                    found |= dict.fromkeys(texts(function, node.args[0]), "warning")
            elif warnings_only_of and isinstance(node, ast.Return) and isinstance(node.value, ast.List):
                found |= dict.fromkeys(texts(function, node.value), "warning")
    return found


@cache
def all_messages() -> dict[str, str]:
    found = {}
    for path in sorted((ROOT / "portrait_anim").rglob("*.py")):
        found |= messages(path.read_text(encoding="utf-8"), path.name == "checks.py")
    return {text.replace("\n", " "): kind for text, kind in found.items() if " " in text.strip(GAP)}


@cache
def rows() -> dict[str, str]:
    """Message -> what to do, of the table."""
    found = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            message, _, fix = line.removeprefix("| `").rpartition("` | ")
            found[message.replace("\\|", "|")] = fix.removesuffix(" |").strip()
    return found


def test_the_extraction_finds_messages_of_every_form():
    source = """
def f(path, e):
    text = f"{path}: lost {e:.1f} times"
    other = f"is not {path}"
    if path:
        raise InputError(f"{path}: is a folder, "
            f"not a photo; name {e!r}.") from e
    self.warnings.append("plain warning here")
    error = PortraitAnimError(text)
    found.append("no message")
"""
    assert messages(source) == {
        "…: is a folder, not a photo; name ….": "InputError",
        "plain warning here": "warning",
        "…: lost … times": "PortraitAnimError",
    }
    assert "no message" in messages(source, warnings_only_of=True)


def test_every_message_has_a_row():
    missing = [text for text in all_messages() if text not in rows()]
    assert not missing, "add to docs/messages.md:\n" + "\n".join(f"| `{text}` | what to do |" for text in missing)


def test_no_row_is_stale():
    stale = [text for text in rows() if text not in all_messages()]
    assert not stale, "remove from docs/messages.md:\n" + "\n".join(stale)


@pytest.mark.parametrize("text, fix", rows().items() if TABLE.exists() else [])
def test_every_row_says_what_to_do(text, fix):
    assert len(fix.split()) >= 3 and fix.endswith("."), fix
