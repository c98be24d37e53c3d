"""Tests the output: no control sequences, no interpreted markup, one document for programs."""

import json

import pytest

from bundler.console import Console, Pace, PlainProgress, show_error
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
    clock = iter(range(1000))
    progress = PlainProgress(lambda: next(clock) / 2)
    progress("looking", 0, None)
    for done in range(0, 1010, 10):
        progress("running", done, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "looking",
        "running",
        "running (250 of 1000, 20/s, 38 s left)",
        "running (500 of 1000, 20/s, 25 s left)",
        "running (750 of 1000, 20/s, 12 s left)",
        "running (1000 of 1000, 20/s, 0 s left)",
    ]


def test_pace_counts_from_where_a_stage_began() -> None:
    times = iter([0.0, 10.0, 11.0, 13.0])
    pace = Pace(lambda: next(times))
    assert pace.words("checking", 0, None) == ""
    assert pace.words("pushing", 5_000_000, 25_000_000) == "5.0M of 25.0M"
    assert pace.words("pushing", 6_000_000, 25_000_000) == "6.0M of 25.0M, 1.0M/s, 19 s left"
    assert pace.words("running", 12_000, 15_000) == "12.0k of 15.0k"


def test_a_terminal_gets_a_bar_and_odd_stages_are_harmless(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Console().progress() as progress:
        progress("phone \x1b[31m lost", 1, 2)
    assert "\x1b[31m lost" not in capsys.readouterr().err
