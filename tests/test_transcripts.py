"""Tests that the terminal sessions in docs/ match the commands' current output, except figures and ids."""

import re
from pathlib import Path

import pytest

from tools import transcripts

FIGURES = (
    (r"\b[0-9a-f]{16}\b", "ID"),
    (r"\d+(?:\.\d+)+\S*", "N"),
    (r"━[━╇]*", "━"),
    (r" +", " "),
    (r"(?m)(temperature │).*", r"\1"),
    (r"(?m)│ [\d,]+$", "│ N"),
    (r"(?m)│ \d+ │ (yes|-)$", r"│ N │ \1"),
)
"""What differs between runs and machines: ids, what has a decimal point, columns' widths, temperature, sizes of files,
memory (MB)."""


def without_figures(page: str) -> list[str]:
    for pattern, instead in FIGURES:
        page = re.sub(pattern, instead, page)
    return page.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("page", transcripts.PAGES, ids=[page.stem for page in transcripts.PAGES])
def test_a_page_shows_what_is_printed(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = page.read_text(encoding="utf-8")
    assert without_figures(transcripts.played(text)) == without_figures(text), "python -m tools.transcripts"


def test_figures_are_all_that_may_differ() -> None:
    assert without_figures("ran in 3.4 s") == without_figures("ran in 12.0 s")
    assert without_figures("12 right") != without_figures("11 right")
    assert without_figures("1863 │ 1.000") != without_figures("1864 │ 1.000")


def test_every_session_was_played() -> None:
    """Every command has its output, except those that print nothing."""
    for page in transcripts.PAGES:
        blocks = list(transcripts.BLOCK.finditer(page.read_text(encoding="utf-8")))
        assert len(blocks) > 5
        for block in blocks:
            commands = [line for line in block["text"].splitlines() if line.startswith("$ ")]
            silent = [line for line in commands if re.match(r"\$ (export|adb kill-server)|.* ls -A ", line)]
            assert len(block["text"].splitlines()) >= 2 * len(commands) - len(silent)
