"""Which part of the package may know which, checked against the code."""

import ast
from pathlib import Path

import pytest

import bundler

ROOT = Path(bundler.__file__).parent
ALLOWED = {
    "qa": {"errors", "types"},
    "dlc": {"errors", "types"},
    "model": {"dlc", "errors", "layout", "qa", "soc", "types"},
    "device": {"bundle", "errors", "layout", "resources", "soc", "types"},
    "virtual": {"dlc", "errors", "soc", "types"},
    "report": {"errors", "resources"},
    "bundle": {"errors", "layout", "types"},
    "errors": set(),
    "types": set(),
    "layout": set(),
    "soc": {"resources"},
}
"""What each part may import of the package, itself aside; parts not named are the stages and the command line."""


def imports(path: Path) -> set[str]:
    """The full names of what a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[path.relative_to(ROOT).as_posix() for path in FILES])
def test_imports_go_downward(path: Path) -> None:
    used = {name.split(".")[1] for name in imports(path) if name.startswith("bundler.")}
    own = part(path)
    if own in ALLOWED:
        assert used <= ALLOWED[own] | {own}
    if own not in ("commands", "tour", "virtual"):
        assert "virtual" not in used


def test_one_file_talks_to_adbutils_and_one_starts_a_server_of_its_program() -> None:
    users = {
        path.relative_to(ROOT).as_posix() for path in FILES if any(n.startswith("adbutils") for n in imports(path))
    }
    assert users == {"device/phone.py", "device/server.py"}


def test_only_the_console_and_programs_of_their_own_print() -> None:
    """Programs of their own: the phone's tools, and the stand-in for snpe-net-run."""
    printers = set()
    for path in FILES:
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        if any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls):
            printers.add(path.relative_to(ROOT).as_posix())
    assert printers == {"console.py", "virtual/net_run.py"}
