"""Tests the documentation: generated parts are current, links have targets, and command lines are valid."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from bundler.cli import main
from tools import command_help
from tools.command_help import Command

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "bundler").rglob("*.md")])
PAGE_IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
IN_CODE = re.compile(r"`[^`\n]+`")
PATH_IN_CODE = re.compile(r"(?<![\w/.])(?:docs|bundler|tests|tools|benchmarks|templates|device_scripts)/[\w./-]*\w")
PLACEHOLDER = re.compile(r"COMMAND| dep`|--help")  # a word that stands for others, and one that Tab completes
MODULE = re.compile(r"python -m ((?:tests|tools|benchmarks)[\w.]*)")
COMMANDS = list(command_help.commands())


def without_code(page: Path) -> str:
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", without_code(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(without_code(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert found.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(found), target


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_every_file_and_module_that_is_named_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = [name for code in IN_CODE.findall(without_code(page)) for name in PATH_IN_CODE.findall(code)]
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert [name for name in MODULE.findall(text) if importlib.util.find_spec(name) is None] == []


def test_each_of_the_eight_points_is_shown_by_a_command() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d)\. [^|]+ \| (.*) \|$", text, flags=re.MULTILINE)
    assert [number for number, _ in rows] == list("12345678")
    assert all("`python -m " in shown for _, shown in rows)


def test_the_page_of_commands_is_up_to_date() -> None:
    assert command_help.PAGE.read_text(encoding="utf-8") == command_help.page(), "python -m tools.command_help"


@pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])
def test_help_says_what_the_page_says(
    command: Command, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compares with Typer's own output, on a terminal wide enough for each text to stay in one piece."""
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setenv("TERM", "dumb")
    assert main([*command.name.split(), "--help"]) == 0
    shown = capfd.readouterr().out
    rows = {word: line for line in shown.splitlines() for word in re.sub("[,*]", " ", line).split()[1:2]}
    assert command.help in shown
    for parameter in command.parameters:
        first = parameter.names.split(", ")[0]
        assert parameter.help in (shown if parameter.is_argument else rows[first])
    told = {
        name for parameter in command.parameters if not parameter.is_argument for name in parameter.names.split(", ")
    }
    assert set(re.findall(r"^\W+(--[\w-]+)", shown, flags=re.MULTILINE)) - {"--help"} <= told


def command_lines() -> list[tuple[str, str]]:
    """Yields (page, line) of our program's command lines, in blocks of shell and in code within sentences."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^ *```(?:sh|console)$(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        lines += [code.strip("`") for code in IN_CODE.findall(without_code(page)) if not PLACEHOLDER.search(code)]
        found += [(page.name, part) for line in lines for part in our_parts(line.strip().removeprefix("$ "))]
    return found


def our_parts(line: str) -> list[str]:
    """Returns our commands in a line of shell."""
    return [part.strip() for part in line.split("&&") if part.strip().startswith("mbqa-bundle ")]


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_every_command_line_is_one(page: str, line: str) -> None:
    """Checks that the command exists and supports each option of the line."""
    words = shlex.split(line, comments=True)[1:]
    if words[0].startswith("--"):
        assert words[0] in ("--help", "--version", "--install-completion", "--show-completion")
        return
    known = {command.name: command for command in COMMANDS}
    name = next(name for name in (" ".join(words[:2]), words[0]) if name in known)
    options = {option for parameter in known[name].parameters for option in parameter.names.split(", ")}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= {*options, "--help"}
