"""Writes every command's help to docs/commands.md, from the same declarations as `--help`.

    python -m tools.command_help            writes docs/commands.md

Run it at the repository's root. It reads the declarations of the commands' functions, not Typer's output, whose boxes
and widths differ between releases.
"""

import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

import bundler.cli  # noqa: F401  (adds the commands)
from bundler.commands.options import app

PAGE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
PROGRAM = "mbqa-bundle"
HEAD = """# Commands

Written by `python -m tools.command_help` from the code; a test compares. `mbqa-bundle COMMAND --help` shows the same on
a terminal. Exit codes are in the [README](../README.md#exit-codes), the documents of `--json` in [json.md](json.md).

`mbqa-bundle --version` shows the version.

## Completion by the Tab key

`mbqa-bundle --install-completion`, typed in bash, zsh, fish or PowerShell, makes that shell complete commands, options
and their values: `mbqa-bundle dep`, Tab; `mbqa-bundle deploy --runtime d`, Tab. It takes effect in the next terminal.
What it writes into your home folder, and what to remove to undo it:

| shell | files |
|---|---|
| bash | `~/.bash_completions/mbqa-bundle.sh`, a line in `~/.bashrc` |
| zsh | `~/.zfunc/_mbqa-bundle`, two lines in `~/.zshrc` |
| fish | `~/.config/fish/completions/mbqa-bundle.fish` |

`mbqa-bundle --show-completion` prints the script instead.
"""


class Parameter(NamedTuple):
    """An option or argument of a command; `names` are its spellings, `values` its possible values."""

    names: str
    values: str
    help: str
    default: str
    required: bool
    is_argument: bool


class Command(NamedTuple):
    name: str
    help: str
    parameters: tuple[Parameter, ...]
    epilog: str


def commands(application: typer.Typer = app, prefix: str = "") -> Iterator[Command]:
    """Returns every command, including those of groups (`phone start`), in the order of `--help`."""
    for info in application.registered_commands:
        function = info.callback
        assert function is not None
        name = info.name or function.__name__.replace("_", "-")
        yield Command(
            f"{prefix}{name}", inspect.getdoc(function) or "", tuple(_parameters(function)), info.epilog or ""
        )
    for group in application.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, f"{prefix}{group.name} ")


def _parameters(function: Any) -> Iterator[Parameter]:
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, info = _declared(hints[name])
        is_argument = isinstance(info, ArgumentInfo)
        repeatable = get_origin(kind) is list
        values = (None if is_argument else info.metavar) or _values(get_args(kind)[0] if repeatable else kind, info)
        default = "" if parameter.default in (None, inspect.Parameter.empty) or kind is bool else parameter.default
        yield Parameter(
            (info.metavar or name.upper()) if is_argument else _names(name, info),
            f"{values}, repeatable" if repeatable else values,
            info.help or "",
            f"{default:g}" if isinstance(default, float) else str(default),
            parameter.default is inspect.Parameter.empty,
            is_argument,
        )


def _declared(hint: Any) -> tuple[Any, OptionInfo | ArgumentInfo]:
    """Returns the type of the value, without None, and its Typer declaration."""
    assert get_origin(hint) is Annotated, hint
    kind, info = get_args(hint)[:2]
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (each for each in get_args(kind) if each is not type(None))
    return kind, info


def _names(name: str, info: OptionInfo | ArgumentInfo) -> str:
    """Returns the names. Typer stores the first name as a default until it reads the function."""
    first = (info.default,) if isinstance(info.default, str) else ()
    declared = ", ".join([*first, *(info.param_decls or ())])
    return declared.replace("/", ", ") or f"--{name.replace('_', '-')}"


def _values(kind: Any, info: OptionInfo | ArgumentInfo) -> str:
    if kind is bool:
        return ""
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind))
    word = {str: "text", Path: "path", int: "number", float: "number"}[kind]
    low, high = info.min, info.max
    if low is None and high is None:
        return word
    return f"{word}, {low:g} to {high:g}" if high is not None else f"{word}, at least {low:g}"


def page() -> str:
    return "\n".join([HEAD, *(_section(command) for command in commands())])


def _section(command: Command) -> str:
    arguments = [_argument(parameter) for parameter in command.parameters if parameter.is_argument]
    usage = " ".join([PROGRAM, command.name, "[OPTIONS]", *arguments])
    lines = [f"## {command.name}", "", command.help, "", "```", usage, "```", ""]
    lines += ["| option | values | default | |", "|---|---|---|---|"]
    for parameter in command.parameters:
        names = " ".join(f"`{name}`" for name in parameter.names.split(", "))
        default = f"`{parameter.default}`" if parameter.default else ""
        lines.append("| " + " | ".join(map(_cell, (names, parameter.values, default, parameter.help))) + " |")
    if command.epilog:
        lines += ["", "What `--fault` takes is in [virtual-phone.md](virtual-phone.md#faults)."]
    return "\n".join([*lines, ""])


def _argument(parameter: Parameter) -> str:
    several = "..." if parameter.values.endswith("repeatable") else ""
    return f"{parameter.names}{several}" if parameter.required else f"[{parameter.names}{several}]"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
