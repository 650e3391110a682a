"""Writes docs/options.md from the commands themselves: python docs/make_options.py"""

import inspect
import re
import typing
from collections.abc import Callable
from pathlib import Path

from typer.models import ArgumentInfo, OptionInfo

from portrait_anim.commands import animate as cli
from portrait_anim.commands import tools

TARGET = Path(__file__).parent / "options.md"
INTRO = """# Options

Written by `python docs/make_options.py` from the commands themselves; do not edit it. Every option of `animate` is a
parameter of `portrait_anim.Animator.animate` (or of `Animator`) with the same name and default. `--help` says the
same in the terminal, `--install-completion` teaches your shell the options.
"""


def commands() -> dict[str, Callable]:
    """Every command by the words one types, and its function."""
    named = {"animate": cli.animate}
    for command in tools.app.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-")
        named[f"portrait-anim {name}"] = command.callback
    return named


def options(function: Callable) -> dict[str, tuple[OptionInfo | ArgumentInfo, type, object]]:
    """The parameters of a command: what Typer was told about each, its type, its default."""
    found = {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        kind, info = typing.get_args(parameter.annotation)[:2]
        found[name] = (info, kind, parameter.default)
    return found


def spellings(name: str, info: OptionInfo, kind: type) -> list[str]:
    """How an option is written, the long way first; for a switch also how to turn it off."""
    plain = f"--{name.replace('_', '-')}"
    given = [info.default, *(info.param_decls or ())]  # inside Annotated, the first spelling is taken for a default
    declared = [word for text in given if isinstance(text, str) for word in text.split("/")]
    return sorted(declared, key=len, reverse=True) or ([plain, f"--no-{plain[2:]}"] if kind is bool else [plain])


def markdown() -> str:
    """The text of docs/options.md."""
    return "\n".join([INTRO, *(_section(name, function) for name, function in commands().items())])


def _section(name: str, function: Callable) -> str:
    given = options(function)
    arguments = {n: of for n, of in given.items() if isinstance(of[0], ArgumentInfo)}
    usage = " ".join([name, *(_argument(n, *of) for n, of in arguments.items()), "[OPTIONS]"])
    lines = [f"## {name}", "", f"`{usage}`", ""]
    if function.__doc__:
        lines += [_plain(function.__doc__), ""]
    if arguments:
        lines += ["| argument | what it is |", "|---|---|"]
        lines += [f"| `{_argument(n, *of)}` | {_plain(of[0].help)} |" for n, of in arguments.items()] + [""]
    panels: dict[str, list[str]] = {}
    for n, (info, kind, default) in given.items():
        if isinstance(info, OptionInfo):
            row = f"| {_names(n, info, kind)} | {_default(info, kind, default)} | {_plain(info.help)} |"
            panels.setdefault(info.rich_help_panel or "", []).append(row)
    for panel, rows in panels.items():
        lines += [f"### {panel}", ""] if panel else []
        lines += ["| option | default | what it does |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _argument(name: str, info: ArgumentInfo, kind: type, default: object) -> str:
    shown = (info.metavar or name.upper()) + ("..." if "list" in str(kind) else "")
    return shown if default is inspect.Parameter.empty else f"[{shown}]"


def _names(name: str, info: OptionInfo, kind: type) -> str:
    words = spellings(name, info, kind)
    if kind is not bool:
        words[0] += " " + (info.metavar or _bare(kind).__name__.replace("str", "text")).upper()
    return ", ".join(f"`{word}`" for word in words)


def _bare(kind: type) -> type:
    """int of int | None, str of list[str]."""
    inner = [t for t in typing.get_args(kind) if t is not type(None)]
    return _bare(inner[0]) if inner else kind


def _default(info: OptionInfo, kind: type, default: object) -> str:
    if default is inspect.Parameter.empty:
        return "required"
    if kind is bool:
        return "on" if default else "off"
    return "" if default is None else f"`{default}`"


def _plain(text: str | None) -> str:
    """Help as one line of a table: no rich markup, no line breaks."""
    text = re.sub(r"\[/?(bold|dim|italic|green|red|yellow|cyan)[^]]*\]", "", text or "")
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


if __name__ == "__main__":
    TARGET.write_text(markdown(), "utf-8")
    print(f"{TARGET.name} written")
