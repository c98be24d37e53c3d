"""Formats facts about models and runs as lines and rows for people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.bundle import Check, ModelRecord
from bundler.runs.record import Run
from bundler.soc import known_socs

if TYPE_CHECKING:
    from bundler.dlc.encoding import Encoding
    from bundler.dlc.inspect import DlcReport

CORRELATION, SHARE = 0.98, 0.9  # with float32's logits, and of its answers: a DLC below these disagrees


def model_lines(record: ModelRecord) -> Iterator[str]:
    """Describes how the model became a DLC: sizes before and after, and the result of a check."""
    after = f"{record.precision} DLC of {record.dlc_bytes / 1e6:.1f} MB"
    if record.float_bytes is None:
        yield f"{record.name}: {after}, taken as it is"
    else:
        yield f"{record.name}: {record.float_bytes / 1e6:.1f} MB of float32 weights -> {after}, by {record.converter}"
    if not known_socs()[record.soc].takes(record.precision):
        yield f"for the CPU and GPU of {record.soc} only: its DSP computes no {record.precision}"
    if record.calibration is not None:
        wide = record.calibration.wide_operators
        kept = f", {wide} operator{'s' * (wide > 1)} at 16 bits" if wide else ""
        kept += ", weights with a scale per channel" if record.calibration.per_channel else ""
        yield (
            f"calibrated on {_windows(record.calibration.windows)} of {record.calibration.questions}"
            f" ({record.calibration.method}, seed {record.calibration.seed}){kept}"
        )
    if record.equalized is not None:
        count, most = record.equalized.channels, record.equalized.largest_exponent
        yield f"equalized: {count} channels scaled, by up to 2^{most} up or down; no answer changes by it"
    if record.check is not None:
        check = record.check
        near = "no correlation" if check.correlation is None else f"correlation {check.correlation:.6f}"
        ratio = "no ratio" if check.sqnr_db is None else f"{check.sqnr_db:.1f} dB"
        yield (
            f"check against float32 on {_windows(check.windows)}{_held_out(record)} (DSP simulator, {record.soc}): "
            f"{check.equal_answers} of "
            f"{check.windows} answers equal, {near}, {ratio}"
        )


def _held_out(record: ModelRecord) -> str:
    """Describes whether the windows of the check were calibrated on."""
    if record.calibration is None or record.check is None:
        return ""
    return " that it was calibrated on" if record.check.calibrated else " that it was not calibrated on"


def _windows(count: int) -> str:
    return f"{count} window" if count == 1 else f"{count} windows"


TRIAL_COLUMNS = ("precision", "equal here", "dB here", "equal on the simulator", "dB", "DLC MB", "taken")


def trial_rows(record: ModelRecord) -> list[tuple[str, ...]]:
    """Returns the basis for the decision of `--precision auto`, one row for each precision."""
    rows: list[tuple[str, ...]] = []
    for number, trial in enumerate(record.trials, 1):
        name = f"{trial.precision} --mixed" if trial.mixed else trial.precision
        size = "-" if trial.dlc_bytes is None else f"{trial.dlc_bytes / 1e6:.1f}"
        taken = "yes" if number == len(record.trials) else "no"
        rows.append((name, *_equal(trial.here), *_equal(trial.simulator), size, taken))
    return rows


def _equal(check: Check | None) -> tuple[str, str]:
    if check is None:
        return "-", "-"
    return f"{check.equal_answers}/{check.windows}", "-" if check.sqnr_db is None else f"{check.sqnr_db:.1f}"


def disagreement(check: Check) -> str:
    """Returns a warning if the DLC does not agree with float32; else an empty text."""
    if check.correlation is not None and check.correlation >= CORRELATION and check.share >= SHARE:
        return ""
    near = "no correlation" if check.correlation is None else f"a correlation of {check.correlation:.3f}"
    return (
        f"the DLC does not agree with float32: {check.equal_answers} of {check.windows} answers are equal, and the "
        f"logits have {near}"
    )


def run_lines(run: Run) -> Iterator[str]:
    """Describes the result of a run: one line for each phone, and how to continue."""
    if not run.finished:
        running = f"{run.settings.by.program} is running on {', '.join(run.phones)}"
        yield f"{running}: `mbqa-bundle fetch-answers` waits for the answers"
        return
    for part in run.parts:
        windows = ", ".join(f"{count} windows on the {runtime}" for runtime, count in part.windows.items())
        windows += f" by {run.settings.by.program}" if windows else ""
        did = f"{windows} in {part.seconds:.1f} s" if windows else "nothing"
        if run.simulated:
            yield f"{part.phone} ({part.model}): {did}"
            continue
        pushed = f"{part.pushed_bytes / 1e6:.1f} MB pushed"
        trouble = f"; {part.trouble}" if part.trouble else ""
        yield f"phone {part.phone} ({part.soc}): {did}, {pushed}{trouble}"
        if set(part.windows) - {run.settings.runtime}:
            yield f"phone {part.phone}: the {run.settings.runtime} could not do all of it: fallback"
    if run.verified is not None:
        verdict, found = "verified" if run.verified.passed else "not verified", run.verified
        yield (
            f"{verdict}: the smallest cosine with float32 over {found.windows} windows is {found.smallest_cosine:.6f}, "
            f"the threshold {found.threshold:g}"
        )
        if found.equal_answers is not None:
            low, high = (100 * share for share in found.share)
            yield (
                f"{found.equal_answers} of {found.windows} windows have float32's answer; of all windows, with 95 % "
                f"confidence, {low:.0f} to {high:.0f} % have"
            )
    yield f"ran in {run.seconds:.1f} s: `mbqa-bundle fetch-answers` shows the answers"


def report_rows(dlc: Path, report: DlcReport) -> list[tuple[str, str]]:
    """Returns the facts about a DLC as a whole."""
    dtypes = ", ".join(f"{count:,} {dtype}" for dtype, count in report.parameter_dtypes.items())
    return [
        ("file", f"{dlc}, {report.size_bytes:,} bytes"),
        ("graph", report.graph),
        ("precision", report.precision),
        ("parameters", f"{report.parameters:,} ({dtypes}), {report.parameter_bytes:,} bytes"),
        ("operators", str(len(report.operators))),
        ("made by", report.converter),
        *(("history", " ".join((step.tool, step.version)).strip()) for step in report.history[:-1]),
        ("prepared caches", ", ".join(report.caches) or "none"),
    ]


def tensor_rows(report: DlcReport) -> list[tuple[str, ...]]:
    return [
        (tensor.name, role, tensor.dtype, " x ".join(map(str, tensor.shape)), _encoding(tensor.encoding))
        for role, tensors in (("input", report.inputs), ("output", report.outputs))
        for tensor in tensors
    ]


def operator_rows(report: DlcReport) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for op in report.operators:
        outputs = [f"{name}: {dtype}" for name, dtype in zip(op.outputs, op.dtypes, strict=True)]
        rows.append((op.type, op.name, ", ".join(op.inputs), ", ".join(outputs)))
    return rows


def _encoding(encoding: Encoding | None) -> str:
    if encoding is None:
        return ""
    scale, offset = encoding.scales[0], encoding.offsets[0]
    axis = "" if encoding.axis is None else f", and {len(encoding.scales) - 1} more on axis {encoding.axis}"
    return f"{scale:.6g} * (stored + {offset}){axis}"
