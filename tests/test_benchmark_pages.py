"""Tests the benchmarks' pages: a missed target is reported as missed."""

from dataclasses import replace

from benchmarks.accuracy import RECIPES
from benchmarks.cells import Grade
from benchmarks.conversion import Run
from benchmarks.conversion import page as conversion_page
from benchmarks.precision_page import Cell, page

GRADE = Grade(questions=100, correlation=0.9991, sqnr_db=30.0, equal=96, right=95, right_in_float32=99)
CELL = Cell("shipped", "w8a8", "dsp", 1_290_000, GRADE, 33.0)
RUN = Run("fp16", seconds=7.0, cpu_seconds=8.0, peak_bytes=1_100_000_000, dlc_bytes=50_000_000, load=0.1)


def test_a_cell_survives_its_line_of_json() -> None:
    assert Cell.from_json(CELL.to_json()) == CELL


def test_targets_are_met_or_missed() -> None:
    """Judges by the answers and, for eight bits, by the logits."""
    cells = {
        "| w8a8 | 95%, more than 24.3 dB | 96 of 100 = 96.0% | 30.0 dB | met |": CELL,
        "| 96 of 100 = 96.0% | 20.0 dB | **missed** |": replace(CELL, grade=replace(GRADE, sqnr_db=20.0)),
        "| fp16 | 99% | 96 of 100 = 96.0% | 30.0 dB | **missed** |": replace(CELL, precision="fp16"),
    }
    for line, cell in cells.items():
        assert line in page([cell], list(RECIPES))


def test_styles_are_compared_at_what_all_were_measured_at() -> None:
    others = [CELL, replace(CELL, style="ours"), replace(CELL, precision="w8a8 --per-channel")]
    rows = page(others, list(RECIPES)).splitlines()
    assert "| ours | w8a8 | - | - | 0.999100, 96 of 100 |" in rows
    assert not any(row.startswith("| shipped | w8a8 --per-channel") for row in rows)


def test_each_run_of_a_precision_is_told() -> None:
    rows = conversion_page([RUN, replace(RUN, precision="w8a8"), replace(RUN, seconds=16.8, load=2.04)], "A model.")
    assert "| fp16 | 7.0, 16.8 | 8.0, 8.0 | 1.10 GB | 50.0 MB | 0.1, 2.0 |" in rows.splitlines()
    assert "| w8a8 | 7.0 | 8.0 | 1.10 GB | 50.0 MB | 0.1 |" in rows.splitlines()
