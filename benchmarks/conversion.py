"""How long a MobileBERT of full size takes to become a bundle, and how much memory; writes docs/conversion.md.

    python -m benchmarks.conversion     a random model of 24 layers and 30,522 words, three runs of all but --mixed
    python -m benchmarks.conversion --model model.onnx --tokenizer vocab.txt --runs 1 --out /tmp/table.md

Each run is the whole command `mbqa-bundle build`, its start, the reading of questions and the bundle's verification
included. Memory is the sum of what its processes have resident, looked at every 20 ms; pages that they share count
more than once.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from benchmarks.machine import filled, made_by
from benchmarks.mobilebert import random_mobilebert, write_questions, write_vocabulary
from bundler import layout

WINDOWS = 32
START = "from bundler.cli import main; main()"
LOOK_S = 0.02
PAGE = os.sysconf("SC_PAGE_SIZE")
GIGABYTE = 1e9
ABOUT = f"""\
Each run is the whole command `mbqa-bundle build`; fixed point is calibrated on {WINDOWS} windows. Memory is the sum
over the command's processes. The load is how many processes wanted a core in the minute before: where it is above
zero, other work ran too, and the clock shows more than this command takes.
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
class Run:
    """One build: wall-clock and processor seconds, the most memory at a time, the DLC's size; `load` is how many
    processes wanted a core in the minute before it began."""

    precision: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    dlc_bytes: int
    load: float


@dataclass(frozen=True)
class Limit:
    """A limit of issue 3: what it is about, what is allowed, what each run took."""

    about: str
    allowed: float
    unit: str
    taken: Sequence[float]

    @property
    def row(self) -> str:
        held = sum(each <= self.allowed for each in self.taken)
        median, worst = (f"{value:.3g} {self.unit}" for value in (statistics.median(self.taken), max(self.taken)))
        return f"| {self.about} | {self.allowed:g} {self.unit} | {median} | {worst} | {held} of {len(self.taken)} |"


def build(precision: str, model: Path, tokenizer: Path, questions: Path, folder: Path) -> Run:
    """Runs `mbqa-bundle build` once and watches it.

    Raises:
        RuntimeError: the command fails
    """
    out = folder / "bundle"
    command = [
        sys.executable, "-c", START, "build", "--model", str(model), "--tokenizer", str(tokenizer), "--questions",
        str(questions), "--calibration-windows", str(WINDOWS), "--converter", "built-in", "--out", str(out),
        *BUILDS[precision],
    ]  # fmt: skip
    load, cpu, begun, peak = os.getloadavg()[0], _cpu_of_children(), time.monotonic(), 0
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        while child.poll() is None:
            peak = max(peak, _resident_bytes(child.pid))
            time.sleep(LOOK_S)
    seconds = time.monotonic() - begun
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{(folder / 'log').read_text()}")
    size = (out / layout.DEVICE / layout.MODEL).stat().st_size
    return Run(precision, seconds, _cpu_of_children() - cpu, peak, size, load)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _resident_bytes(session: int) -> int:
    """What the processes of a session have in memory, together."""
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        if int(fields[3]) == session:
            total += int(fields[21]) * PAGE
    return total


def limits(runs: Sequence[Run]) -> list[Limit]:
    """The limits that these runs say something about."""

    def of(precision: str) -> list[Run]:
        return [run for run in runs if run.precision == precision]

    found = []
    if half := of("fp16"):
        found.append(Limit("ONNX to fp16 DLC, time", 10, "s", [run.seconds for run in half]))
        found.append(Limit("ONNX to fp16 DLC, memory", 2.5, "GB", [run.peak_bytes / GIGABYTE for run in half]))
    if fixed := of("w8a16"):
        about = f"w8a16 with {WINDOWS} calibration windows, time"
        found.append(Limit(about, 600, "s", [run.seconds for run in fixed]))
    if (small := of("w8a8")) and (large := of("fp32")):
        shares = [100 * one.dlc_bytes / other.dlc_bytes for one, other in zip(small, large, strict=False)]
        found.append(Limit("size of the w8a8 DLC, of the fp32 DLC's", 30, "%", shares))
    return found


def page(runs: Sequence[Run], model: str) -> str:
    """docs/conversion.md."""
    rows = []
    for precision in dict.fromkeys(run.precision for run in runs):
        of = [run for run in runs if run.precision == precision]
        seconds = ", ".join(f"{run.seconds:.1f}" for run in of)
        cpu = ", ".join(f"{run.cpu_seconds:.1f}" for run in of)
        loads = ", ".join(f"{run.load:.1f}" for run in of)
        peak = max(run.peak_bytes for run in of) / GIGABYTE
        rows.append(f"| {precision} | {seconds} | {cpu} | {peak:.2f} GB | {of[0].dlc_bytes / 1e6:.1f} MB | {loads} |")
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
        "",
        "| limit | allowed | median | worst | runs that hold it |",
        "|---|---:|---:|---:|---:|",
        *(limit.row for limit in limits(runs)),
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
    with tempfile.TemporaryDirectory(prefix="mbqa-conversion-") as name:
        folder = Path(name)
        words = write_vocabulary(folder / "vocab.txt")
        write_questions(folder / "questions.json", words, 2 * WINDOWS)
        model, about = options.model, f"The model is {options.model}."
        if model is None:
            model = folder / "model.onnx"
            onnx.save(random_mobilebert(), model)
            about = "The model has 24 layers, 30,522 words and random weights (`benchmarks/mobilebert.py`)."
        runs = []
        for number in range(options.runs):
            for precision in options.precisions:
                with tempfile.TemporaryDirectory(dir=folder) as work:
                    run = build(
                        precision,
                        model,
                        options.tokenizer or folder / "vocab.txt",
                        folder / "questions.json",
                        Path(work),
                    )
                sys.stdout.write(f"run {number + 1}: {run}\n")
                sys.stdout.flush()
                runs.append(run)
    made = page(runs, about)
    options.out.write_text(made, encoding="utf-8")
    sys.stdout.write(made)


if __name__ == "__main__":
    main()
