"""Measures a run's latency: from SNPE's own log if the SDK's snpe-diagview reads it, else from the phone's clock."""

import csv
import re
import shlex
import subprocess
import tempfile
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundler.device.timings import ChunkTimes, kept_diagnostics, kept_times
from bundler.engines import Engine
from bundler.errors import VendorToolFailed
from bundler.model.sdk import Sdk
from bundler.runs.record import Part

MOST_VALUES = 2000
LONGEST_LINE = 4096
MICROSECONDS = re.compile(r"\d{1,15}(\.\d*)?", re.ASCII)
DIAGVIEW_S = 120.0
INIT, INFERENCE = "init", "avg_total_inference_time"  # names in its CSV; values are microseconds

Json = dict[str, Any]


def latency_of(
    run_folders: Sequence[Path], runtime: str, diagview: Path | None = None, phones: Container[str] | None = None
) -> Json | None:
    """Returns the document's `latency` for these runs together, on these phones or on all: `init_ms`, and the
    distribution of `inference_ms`; None without any times.

    The distribution excludes each chunk's first inference: the time up to its end, less an inference, is `init_ms`.
    Without the files' times, each chunk counts as equal inferences that include its start. With snpe-diagview,
    `init_ms` and the mean are SNPE's, but not the percentiles, which SNPE does not report.

    Raises:
        VendorToolFailed: snpe-diagview does not read a log; OutputsInvalid
    """
    times = [each for folder in run_folders for each in kept_times(folder) if each.runtime == runtime]
    times = [each for each in times if phones is None or each.phone in phones]
    gaps = [gap for each in times for gap in _gaps(each)]
    logs = [log for folder in run_folders for log in kept_diagnostics(folder)]
    told = [_told_by(diagview, log) for log in logs] if diagview is not None else []
    inferences = [one[INFERENCE] for one in told if INFERENCE in one]
    if inferences and diagview is not None:
        inits = [one[INIT] for one in told if INIT in one]
        distribution = _distribution(gaps or inferences) | {"mean": round(float(np.mean(inferences)), 3)}
        return {"init_ms": _median(inits), "inference_ms": distribution, "source": diagview.name}
    if gaps:
        inits = [1000 * each.results_s[0] for each in times if each.from_begin and each.results_s]
        init = _median([max(0.0, value - float(np.median(gaps))) for value in inits])
        return {"init_ms": init, "inference_ms": _distribution(gaps), "source": "times of the output files"}
    whole = [1000 * each.seconds / each.windows for each in times for _ in range(each.windows) if each.seconds]
    return {"init_ms": None, "inference_ms": _distribution(whole), "source": "job"} if whole else None


def latency_groups(run_folder: Path, runtime: str, parts: Sequence[Part]) -> list[Json]:
    """Returns the latency by phone model and host, for those with times; empty if all phones are of one kind."""
    kinds: dict[tuple[str, str], set[str]] = {}
    for part in parts:
        kinds.setdefault((part.model, part.host), set()).add(part.phone)
    groups = []
    for (model, host), phones in sorted(kinds.items()) if len(kinds) > 1 else ():
        found = (latency_of([run_folder], runtime, phones=phones) or {}).get("inference_ms")
        if found:
            shown = {name: found[name] for name in ("count", "p50", "p90")}
            groups.append({"model": model, "host": host, "phones": len(phones), **shown})
    return groups


def time_reader(sdk: Sdk | None, engine: Engine) -> Path | None:
    """Returns the SDK's program that reads the engine's own log of times, if there is one."""
    return sdk.tool(engine.time_reader) if sdk is not None and engine.time_reader else None


def memory_of(run_folder: Path, runtime: str) -> float | None:
    """Returns the run's peak memory in MB; None if the phone does not report it."""
    peaks = [each.peak_kb for each in kept_times(run_folder) if each.runtime == runtime and each.peak_kb]
    return round(max(peaks) * 1024 / 1e6, 1) if peaks else None


def read_diagview(text: str) -> dict[str, float]:
    """Parses snpe-diagview's CSV to milliseconds by lower-case name: names in column 2, microseconds in column 4."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        row = next(csv.reader([line[:LONGEST_LINE]]), [])
        if len(row) >= 4 and MICROSECONDS.fullmatch(value := row[3].strip()):
            found.setdefault(row[1].strip().lower(), float(value) / 1000)
    return found


def _told_by(diagview: Path, log: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="mbqa-diag-") as folder:
        out = Path(folder) / "diag.csv"
        command = [str(diagview), "--input_log", str(log), "--output", str(out)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=DIAGVIEW_S, check=False)
            said, good = (done.stdout + done.stderr).strip().splitlines(), done.returncode == 0 and out.is_file()
        except (OSError, subprocess.TimeoutExpired) as error:
            said, good = [str(error)], False
        if not good:
            raise VendorToolFailed(diagview.name, said[-3:], shlex.join(command), log)
        return read_diagview(out.read_text(encoding="utf-8", errors="replace"))


def _gaps(times: ChunkTimes) -> list[float]:
    """Returns the milliseconds from each inference's end to the next one's."""
    return [max(0.0, 1000 * float(gap)) for gap in np.diff(times.results_s)]


def _median(values: Sequence[float]) -> float | None:
    return round(float(np.median(values)), 3) if values else None


def _distribution(values: Sequence[float]) -> Json:
    """Returns percentiles of milliseconds, and values: a sample evenly spread over their order if there are many."""
    ordered = np.sort(np.asarray(values, np.float64))
    p50, p90, p99 = np.percentile(ordered, [50, 90, 99]).round(3).tolist()
    kept = ordered[np.linspace(0, len(ordered) - 1, min(len(ordered), MOST_VALUES)).round().astype(int)]
    return {
        "count": len(ordered),
        "mean": round(float(ordered.mean()), 3),
        "p50": p50,
        "p90": p90,
        "p99": p99,
        "values": kept.round(3).tolist(),
    }
