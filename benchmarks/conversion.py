"""Measures the time and memory to build a bundle of a full-size MobileBERT; writes docs/conversion.md.

    python -m benchmarks.conversion     a random model of 24 layers and 30,522 words, three runs of all but --mixed
    python -m benchmarks.conversion --model model.onnx --tokenizer vocab.txt --runs 1 --out /tmp/table.md

This is the detailed measurement: every precision, or another model. The issues' targets are raced by `python -m
benchmarks conversion`. Each run is the whole command `mbqa-bundle build`, including its start, the reading of questions
and the verification of the bundle. Memory is the sum of the resident memory of its processes; shared pages count
several times.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from benchmarks import watched
from benchmarks.ground import Ground
from benchmarks.machine import filled, made_by
from benchmarks.mobilebert import Size, random_mobilebert, write_questions, write_vocabulary
from benchmarks.race import Shared, Sides, timed
from bundler import layout
from bundler.model.convert import onnx_to_dlc
from bundler.soc import DEFAULT, known_socs

WINDOWS = 32
GIGABYTE, MEGABYTE = 1e9, 1e6
LIMIT_S = 600
SMALL = Size(words=1000, layers=1)
ABOUT = f"""\
Each run is the whole command `mbqa-bundle build`; fixed point is calibrated on {WINDOWS} windows. Memory is the sum
over the command's processes. The load is how many processes wanted a core in the minute before: where it is above
zero, other work ran too, and the clock shows more than this command takes. `docs/benchmarks.md` has the limits.
"""
BUILDS = {
    "fp32": ("--precision", "fp32"),
    "fp16": ("--precision", "fp16"),
    "w16a16": ("--precision", "w16a16"),
    "w8a16": ("--precision", "w8a16"),
    "w8a8": ("--precision", "w8a8"),
    "w8a8 --mixed": ("--precision", "w8a8", "--mixed"),
}


@dataclass(frozen=True)
class Load:
    """What is built: a model, its tokenizer, questions, and the number of their windows to calibrate on."""

    model: Path
    tokenizer: Path
    questions: Path
    windows: int = WINDOWS


@dataclass(frozen=True)
class Run:
    """One build: wall-clock and processor seconds, the peak memory, the DLC's size; `load` is the number of processes
    that wanted a core in the minute before it began."""

    precision: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    dlc_bytes: int
    load: float


def random_load(folder: Path, size: Size, windows: int = WINDOWS) -> Load:
    """Makes a model of this size with random weights, and synthetic words and questions."""
    load = Load(folder / "model.onnx", folder / "vocab.txt", folder / "questions.json", windows)
    words = write_vocabulary(load.tokenizer, size.words)
    write_questions(load.questions, words, 2 * windows)
    onnx.save(random_mobilebert(size), load.model)
    return load


def build(precision: str, load: Load, folder: Path) -> Run:
    """Runs `mbqa-bundle build` once and watches it; `folder` is for temporary bundles.

    Raises:
        RuntimeError: the command fails
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        out, busy = Path(name) / "bundle", os.getloadavg()[0]
        ran = watched.run(
            [
                *watched.OURS, "build", "--model", str(load.model), "--tokenizer", str(load.tokenizer), "--questions",
                str(load.questions), "--calibration-windows", str(load.windows), "--converter", "built-in",
                "--out", str(out), *BUILDS[precision],
            ]
        )  # fmt: skip
        size = (out / layout.DEVICE / layout.MODEL).stat().st_size
    return Run(precision, ran.seconds, ran.cpu_seconds, ran.peak_bytes, size, busy)


def _full_size(ground: Ground) -> Load:
    return random_load(ground.place("full-size"), ground.size(Size(), SMALL), ground.size(WINDOWS, 2))


def _builds(ground: Ground, precision: str) -> Shared[Run]:
    load = ground.made(_full_size)
    return Shared(lambda: build(precision, load, ground.folder))


def beside_bare_session(ground: Ground) -> Sides:
    """Races our converter against a session that writes a DLC of the same ONNX, each in a separate process."""
    load, chip, folder = ground.made(_full_size), known_socs()[DEFAULT], ground.place("dlc")
    made = folder / "made.dlc"
    bare = [sys.executable, "-m", "benchmarks.bare_session", str(load.model), str(folder)]
    command = [*bare, str(chip.qnn_id), str(chip.hexagon)]

    def clear() -> None:
        for path in folder.iterdir():
            path.unlink()

    return Sides(
        timed(lambda: onnx_to_dlc(load.model, made, chip)),
        timed(lambda: subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S)),
        clear,
    )


def build_time(precision: str) -> Callable[[Ground], Sides]:
    return lambda ground: Sides(ground.made(_builds, precision).part(lambda run: run.seconds))


def build_memory(precision: str) -> Callable[[Ground], Sides]:
    return lambda ground: Sides(ground.made(_builds, precision).part(lambda run: run.peak_bytes / GIGABYTE))


def dlc_sizes(small: str, large: str) -> Callable[[Ground], Sides]:
    def sides(ground: Ground) -> Sides:
        ours, peer = (
            ground.made(_builds, precision).part(lambda run: run.dlc_bytes / MEGABYTE) for precision in (small, large)
        )
        return Sides(ours, peer)

    return sides


def page(runs: Sequence[Run], model: str) -> str:
    """Returns docs/conversion.md."""
    rows = []
    for precision in dict.fromkeys(run.precision for run in runs):
        of = [run for run in runs if run.precision == precision]
        seconds = ", ".join(f"{run.seconds:.1f}" for run in of)
        cpu = ", ".join(f"{run.cpu_seconds:.1f}" for run in of)
        loads = ", ".join(f"{run.load:.1f}" for run in of)
        peak = max(run.peak_bytes for run in of) / GIGABYTE
        size = of[0].dlc_bytes / MEGABYTE
        rows.append(f"| {precision} | {seconds} | {cpu} | {peak:.2f} GB | {size:.1f} MB | {loads} |")
    lines = [
        "# Full-size MobileBERT into a DLC",
        "",
        made_by("benchmarks.conversion"),
        "",
        filled(f"{model} {ABOUT}"),
        "",
        "| precision | seconds, each run | processor seconds | most memory | DLC | load before |",
        "|---|---|---|---:|---:|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="an ONNX file (default: one of full size with random weights)")
    parser.add_argument("--tokenizer", type=Path, help="its tokenizer.json or vocab.txt")
    parser.add_argument("--precisions", nargs="+", choices=BUILDS, default=[*BUILDS][:-1])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/conversion.md"))
    options = parser.parse_args()
    if (options.model is None) != (options.tokenizer is None):
        parser.error("--model and --tokenizer go together")
    with tempfile.TemporaryDirectory(prefix="mbqa-conversion-") as name:
        load = random_load(Path(name), Size() if options.model is None else SMALL)
        about = "The model has 24 layers, 30,522 words and random weights (`benchmarks/mobilebert.py`)."
        if options.model is not None:
            load = Load(options.model, options.tokenizer, load.questions)
            about = f"The model is {options.model}."
        runs = []
        for number in range(options.runs):
            for precision in options.precisions:
                runs.append(build(precision, load, Path(name)))
                sys.stdout.write(f"run {number + 1}: {runs[-1]}\n")
                sys.stdout.flush()
    made = page(runs, about)
    options.out.write_text(made, encoding="utf-8")
    sys.stdout.write(made)


if __name__ == "__main__":
    main()
