"""Stores the cells of accuracy.py as lines of JSON, and shows them as the page docs/precisions.md."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.cells import CALIBRATION_SEED, CALIBRATION_WINDOWS, SEED, SOC, Grade
from benchmarks.machine import made_by
from bundler.types import RUNTIMES, Runtime

WRITERS = {
    "shipped": "the ONNX in the package: our exporter's, simplified",
    "ours": "our exporter: int32 inputs, fixed axes, a mask of -10000",
    "optimum": "as optimum exports eager attention: int64, dynamic axes, opset 14, a mask of -3.4e38",
    "optimum_inf": "as optimum exports SDPA attention: the same, a mask of -inf in each layer",
    "newest_sdpa": "torch's newest exporter, SDPA attention: int64, fixed axes, boolean mask operators",
}
TARGETS = {"fp16": 0.99, "w16a16": 0.99, "w8a16": 0.98, "w8a8": 0.95, "w8a8 --mixed": 0.95}  # of answers, on the DSP
SPIKE_DB = 24.3  # what w8a8 had before; of answers 83 %
ABOUT = """\
Each cell builds a DLC with `mbqa-bundle build`'s own code and compares its logits with those of the float32 ONNX that
the style's exporter wrote, run as it is by ONNX Runtime. The model is the demo's; it is asked questions of its corpus
with names that it was not trained on (seed {seed}), one a passage, and calibrated on {windows} windows with names of
the training pool (seed {calibration}).

- **dsp** is Qualcomm's simulator of the HTP ({chip}, libQnnHtp.so for x86-64); **cpu** is ONNX Runtime in float32 on
  the graph read out of the DLC, quantized weights dequantized, as SNPE's CPU runtime does by default; **gpu** is that
  with the result of each operator rounded to float16. **Nothing here ran on a phone.**
- *correlation* and *SQNR* (signal to quantization noise) are over the start and end logits of all real tokens;
  *equal* is how many questions get the very same span of the text (or "no answer") as from float32, *right* how many
  get the true one.
- {count} of {count} equal still leaves room: with 95 % confidence the share is at least {least:.0%}. The demo model is
  sure of its answers; a real MobileBERT will change more of them. `build --check` tells for yours.
"""


@dataclass(frozen=True)
class Cell:
    """One measurement: the likeness of a style's DLC of this precision (by its build options) to float32."""

    style: str
    precision: str
    runtime: Runtime
    dlc_bytes: int
    grade: Grade
    seconds: float

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> "Cell":
        fields = json.loads(line)
        return cls(**{**fields, "grade": Grade(**fields["grade"])})


def page(found: Sequence[Cell], precisions: Sequence[str]) -> str:
    """Returns docs/precisions.md: targets, first style in full, then all styles; `precisions` is the order."""
    styles = list(dict.fromkeys(cell.style for cell in found))
    cells = sorted(found, key=lambda c: (styles.index(c.style), precisions.index(c.precision)))
    main = [cell for cell in cells if cell.style == styles[0]]
    count = max(cell.grade.questions for cell in main if cell.runtime == "dsp")
    about = ABOUT.format(
        seed=SEED, windows=CALIBRATION_WINDOWS, calibration=CALIBRATION_SEED, chip=SOC.name, count=count,
        least=0.05 ** (1 / count),
    )  # fmt: skip
    parts = [
        "# Precisions, measured",
        made_by("benchmarks.accuracy"),
        about.rstrip(),
        "## Targets, on the DSP's simulator",
        _targets(main),
        f"## `{styles[0]}` in full",
        _full(main),
    ]
    if len(styles) > 1:
        legend = "\n".join(f"- `{style}`: {WRITERS[style]}" for style in styles)
        parts += ["## Graph styles, precisions and runtimes", legend, _styles(cells)]
    return "\n\n".join(parts) + "\n"


def _targets(cells: Sequence[Cell]) -> str:
    rows = ["| precision | wanted | equal to float32's | SQNR | |", "|---|---|---:|---:|---|"]
    for cell in cells:
        if cell.runtime == "dsp" and cell.precision in TARGETS:
            wanted, grade = TARGETS[cell.precision], cell.grade
            least_db = SPIKE_DB if cell.precision.startswith("w8a8") else 0.0
            met = grade.equal >= wanted * grade.questions and grade.sqnr_db > least_db
            verdict = "met" if met else "**missed**"
            wish = f"{wanted:.0%}" + (f", more than {least_db} dB" if least_db else "")
            rows.append(
                f"| {cell.precision} | {wish} | {_equal(grade)} = {grade.equal / grade.questions:.1%} "
                f"| {grade.sqnr_db:.1f} dB | {verdict} |"
            )
    return "\n".join(rows)


def _full(cells: Sequence[Cell]) -> str:
    """Returns one row for each precision and runtime."""
    rows = [
        "| precision | DLC | runtime | correlation | SQNR | equal | right (float32: right) |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for cell in cells:
        g = cell.grade
        rows.append(
            f"| {cell.precision} | {cell.dlc_bytes / 1e6:.2f} MB | {cell.runtime} | {g.correlation:.6f} "
            f"| {g.sqnr_db:.1f} dB | {_equal(g)} | {g.right} ({g.right_in_float32}) |"
        )
    return "\n".join(rows)


def _styles(cells: Sequence[Cell]) -> str:
    """Returns rows of styles and precisions that all styles were measured at, with one column for each runtime."""
    rows = [
        f"| style | precision | {' | '.join(f'{runtime}: correlation, equal' for runtime in RUNTIMES)} |",
        "|---|---|---:|---:|---:|",
    ]
    by_place = {(cell.style, cell.precision, cell.runtime): cell.grade for cell in cells}
    styles = {cell.style for cell in cells}
    for style, precision in dict.fromkeys((cell.style, cell.precision) for cell in cells):
        if any((each, precision, "dsp") not in by_place for each in styles):
            continue
        grades = [by_place.get((style, precision, runtime)) for runtime in RUNTIMES]
        texts = [f"{grade.correlation:.6f}, {_equal(grade)}" if grade else "-" for grade in grades]
        rows.append(f"| {style} | {precision} | {' | '.join(texts)} |")
    return "\n".join(rows)


def _equal(grade: Grade) -> str:
    return f"{grade.equal} of {grade.questions}"
