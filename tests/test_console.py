"""What is printed: nothing that a terminal would obey, nothing read as markup, one document for programs."""

import json

import pytest

from bundler.console import Console, show_error
from bundler.errors import BundlerError


def test_cells_are_shown_as_they_are(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    Console().table(("question", "answer"), [("[bold]not markup[/bold]", "bell \x07 esc \x1b[31m new\nline \u202e")])
    shown = capsys.readouterr().out
    assert "[bold]not markup[/bold]" in shown
    assert r"bell \x07 esc \x1b[31m new\x0aline \u202e" in shown
    assert "\x1b" not in shown


def test_json_is_the_only_thing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=True)
    console.say("for people")
    console.table(("a",), [("b",)])
    console.document({"é": [1, 2]})
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"é": [1, 2]}
    assert captured.err == "for people\n"


def test_an_error_is_two_lines_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(BundlerError("a file\nwith a line break", "do\x1bthis"))
    assert capsys.readouterr().err == "error: a file\\x0awith a line break\nhint: do\\x1bthis\n"


def test_progress_without_a_terminal_is_one_line_a_quarter(capsys: pytest.CaptureFixture[str]) -> None:
    with Console().progress() as progress:
        progress("looking", 0, None)
        for done in range(101):
            progress("pushing", done, 100)
    expected = ["looking", "pushing", "pushing (25 %)", "pushing (50 %)", "pushing (75 %)", "pushing (100 %)"]
    assert capsys.readouterr().err.splitlines() == expected
