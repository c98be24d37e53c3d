"""Compares each precision and runtime with float32, for several exporters' graphs; writes docs/precisions.md.

    python -m benchmarks.accuracy                      measures what is missing, then writes the tables
    python -m benchmarks.accuracy --styles shipped --dsp 24 --cpu 24 --out /tmp/table.md

Run it at the repository's root. Each measured cell is a line of --results: an interrupted run continues there, and the
page contains the cells of --styles. The styles except "shipped" need torch, "newest" onnxscript too; the program
reports and omits styles that cannot be made here.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir

from benchmarks import cells
from benchmarks.cells import Exam, dlc_logits, draw_questions, grade, make_dlc
from benchmarks.precision_page import Cell, page
from bundler import resources
from bundler.model.make import Recipe
from bundler.types import RUNTIMES, Runtime

MAIN = "shipped"
STYLES = (MAIN, "ours", "optimum", "optimum_inf", "newest_sdpa")  # precision_page.py tells what they are
SDPA = ("optimum_inf", "newest_sdpa")  # exports of a model with this attention
RECIPES = {
    "fp32": Recipe("fp32"),
    "fp16": Recipe("fp16"),
    "w16a16": Recipe("w16a16"),
    "w8a16": Recipe("w8a16"),
    "w8a16 --per-channel": Recipe("w8a16", per_channel=True),
    "w8a8": Recipe("w8a8"),
    "w8a8 --mixed": Recipe("w8a8", mixed=True),
    "w8a8 --per-channel": Recipe("w8a8", per_channel=True),
    "w8a8 --method entropy": Recipe("w8a8", method="entropy"),
    "w8a8 --method percentile": Recipe("w8a8", method="percentile"),
}
WITH_ALL_STYLES = ("fp32", "fp16", "w16a16", "w8a16", "w8a8", "w8a8 --mixed")
FIRST = ("w8a8", "w8a8 --mixed", "fp16", "w8a16", "w16a16")  # on the DSP, in the order of their worth
FEWER = {  # questions on the DSP's simulator, which computes float32 in float16: this many times fewer
    "fp32": 10,
    "w8a16 --per-channel": 3,
    "w8a8 --method entropy": 3,
    "w8a8 --method percentile": 3,
}
SLOW = ("fp16", "w16a16")  # of the other styles half as many questions


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def make_style(style: str, folder: Path) -> Path | None:
    """Exports the demo model in this style; returns None if the exporter is not installed."""
    if style == MAIN:
        return resources.DEMO_MODEL
    if importlib.util.find_spec("torch") is None:
        return None
    if style.startswith("newest") and importlib.util.find_spec("onnxscript") is None:
        return None
    path = folder / f"{style}.onnx"
    if not path.exists():
        from tests import families

        families.silence()
        families.export(families.demo_model("sdpa" if style in SDPA else "eager"), style, path)
    return path


def planned(style: str, dsp: int, cpu: int) -> Iterator[tuple[str, Runtime, int]]:
    """Returns (precision, runtime, questions) of a style."""
    names = list(RECIPES if style == MAIN else WITH_ALL_STYLES)
    for name in [*FIRST, *(name for name in names if name not in FIRST)]:
        fewer = FEWER.get(name, 1) * (2 if style != MAIN and name in SLOW else 1)
        yield name, "dsp", max(1, dsp // fewer)
    for name in names:
        for runtime in RUNTIMES[:2]:
            yield name, runtime, cpu


def measure(options: argparse.Namespace) -> list[Cell]:
    """Measures the cells that the results lack; returns all cells, in the order of the plan."""
    options.work.mkdir(parents=True, exist_ok=True)
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    known = {(c.style, c.precision, c.runtime): c for c in map(Cell.from_json, lines)}
    found = []
    for style in options.styles:
        model = make_style(style, options.work)
        if model is None:
            say(f"{style}: its exporter is not here")
            continue
        dsp, cpu = (options.dsp, options.cpu) if style == MAIN else (options.dsp_others, options.cpu_others)
        questions = draw_questions(max(dsp, cpu), seed=cells.SEED, held_out=True)
        exam: Exam | None = None
        for name, runtime, count in planned(style, dsp, cpu):
            if (style, name, runtime) not in known:
                exam = exam or Exam.of(model, questions)
                cell = _measured(style, model, name, runtime, exam.first(count), options.work)
                known[style, name, runtime] = cell
                with options.results.open("a") as file:
                    file.write(cell.to_json() + "\n")
                say(f"{style} {name} {runtime}: {cell.grade} in {cell.seconds:.0f} s")
            found.append(known[style, name, runtime])
    return found


def _measured(style: str, model: Path, name: str, runtime: Runtime, exam: Exam, work: Path) -> Cell:
    bundle = work / f"{style}-{name.replace(' --', '-').replace(' ', '-')}"
    dlc = bundle / "device" / "model.dlc"
    if not dlc.exists():
        dlc = make_dlc(model, RECIPES[name], bundle)
    begun = time.monotonic()
    graded = grade(exam, dlc_logits(dlc, runtime, exam.features))
    rounded = replace(graded, correlation=round(graded.correlation, 8), sqnr_db=round(graded.sqnr_db, 2))
    return Cell(style, name, runtime, dlc.stat().st_size, rounded, round(time.monotonic() - begun, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--styles", nargs="+", choices=STYLES, default=STYLES)
    parser.add_argument("--dsp", type=int, default=100, help=f"questions of style {MAIN} on the DSP's simulator")
    parser.add_argument("--cpu", type=int, default=200, help=f"questions of style {MAIN} on the CPU and GPU")
    parser.add_argument("--dsp-others", type=int, default=12, help="the same for each other style")
    parser.add_argument("--cpu-others", type=int, default=40, help="the same for each other style")
    parser.add_argument("--work", type=Path, default=Path(gettempdir()) / "mbqa-accuracy", help="DLCs are kept here")
    parser.add_argument("--results", type=Path, help="measured cells, JSON lines (default: in --work)")
    parser.add_argument("--out", type=Path, default=Path("docs/precisions.md"))
    options = parser.parse_args()
    options.results = options.results or options.work / "cells.jsonl"
    options.out.write_text(page(measure(options), list(RECIPES)), encoding="utf-8")
    say(f"wrote {options.out}")


if __name__ == "__main__":
    main()
