"""Checks the allowed dependencies of the package's parts against the code and the picture in docs/architecture.md."""

import ast
import re
from collections.abc import Container
from functools import cache
from pathlib import Path

import pytest

import bundler

ROOT = Path(bundler.__file__).parent
PAGE = ROOT.parent / "docs" / "architecture.md"
GROUND = "ground"
ALLOWED = {
    "qa": {"errors", "types"},
    "dlc": {"errors", "files", "platforms", "types"},
    "model": {"dlc", "engines", "errors", "layout", "platforms", "qa", "soc", "types"},
    "sdk": {"errors", "files", "model", "platforms", "resources", "soc", "types"},
    "device": {"bundle", "engines", "errors", "files", "layout", "platforms", "resources", "soc", "types"},
    "virtual": {"dlc", "errors", "files", "platforms", "resources", "soc", "types"},
    "report": {"errors", "files", "resources"},
    "bundle": {"engines", "errors", "files", "layout", "platforms", "types"},
    "engines": {"soc"},
    "errors": set(),
    "types": set(),
    "layout": set(),
    "files": {"errors"},
    "platforms": set(),
    "soc": {"resources"},
}
"""What each part may import of the package, itself aside; parts not named are the stages and the command line."""


def imports(path: Path) -> set[str]:
    """Returns the full names of a file's imports."""
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
    if own not in ("commands", "virtual"):
        assert "virtual" not in used


@cache
def parts() -> dict[str, str]:
    """Maps the package's entries to their parts in the page's table."""
    rows = re.findall(r"^\| (\w+) \| ((?:`[^`]+` ?)+)\|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    pairs = [
        (name.rstrip("/").removesuffix(".py"), row) for row, files in rows for name in re.findall(r"`(.+?)`", files)
    ]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def drawn() -> list[tuple[str, str]]:
    """Returns the picture's arrows, from part to part."""
    (picture,) = re.findall(r"^```mermaid$(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    head, *lines = picture.strip().splitlines()
    assert head.startswith("flowchart")
    found = []
    for line in lines:
        sources, targets = line.split(" --> ")
        found += [(source.strip(), target.strip()) for source in sources.split("&") for target in targets.split("&")]
    return found


def real() -> set[tuple[str, str]]:
    """Returns the imports from part to part."""
    found = set()
    for path in FILES:
        for name in imports(path):
            top, _, rest = f"{name}.".partition(".")
            if top == "bundler":
                used = rest.partition(".")[0]
                found.add((parts()[part(path)], parts()[used if used in parts() else "__init__"]))
    return {(user, used) for user, used in found if user != used}


def test_the_table_names_every_file_once() -> None:
    here = {part(path) for path in FILES}
    assert set(parts()) == here


def test_the_pictures_arrows_are_the_imports() -> None:
    arrows = drawn()
    assert len(set(arrows)) == len(arrows)
    assert set(arrows) == {(user, used) for user, used in real() if used != GROUND}


def test_the_ground_imports_nothing_but_itself() -> None:
    assert GROUND in {used for _, used in real()}
    assert GROUND not in {user for user, _ in real()}


def test_nothing_goes_round() -> None:
    left = real()
    while left:
        ends = {used for _, used in left} - {user for user, _ in left}
        assert ends, f"a circle among {sorted(left)}"
        left = {(user, used) for user, used in left if used not in ends}


STAGES = [path for path in FILES if part(path) == "pipeline" and path.name != "__init__.py"]


@pytest.mark.parametrize("path", STAGES, ids=[path.name for path in STAGES])
def test_no_stage_imports_another(path: Path) -> None:
    assert not {name for name in imports(path) if name.startswith("bundler.pipeline.")}


def test_no_file_imports_itself_by_way_of_others() -> None:
    """Includes imports inside functions, but not imports for type checkers only."""
    modules = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path for path in FILES}
    left = {(module, used) for module, path in modules.items() for used in files_used(path, modules) if used != module}
    while left:
        ends = {used for _, used in left} - {user for user, _ in left}
        assert ends, f"a circle among {sorted(left)}"
        left = {(user, used) for user, used in left if used not in ends}


def files_used(path: Path, modules: Container[str]) -> set[str]:
    """Returns the modules of the package that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    found = {name if name in modules else name.rpartition(".")[0] for name in names}
    return {name for name in found if name in modules}


def test_one_file_talks_to_adbutils() -> None:
    users = {
        path.relative_to(ROOT).as_posix() for path in FILES if any(n.startswith("adbutils") for n in imports(path))
    }
    assert users == {"device/phone.py"}


def test_only_the_console_and_programs_of_their_own_print() -> None:
    """Exempts separate programs: the phone's tools, and the stand-ins for Qualcomm's."""
    printers = set()
    for path in FILES:
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        if any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls):
            printers.add(path.relative_to(ROOT).as_posix())
    assert printers == {"console.py", *(f"virtual/{name}.py" for name in ("net_program", "net_run", "qnn_net_run"))}
