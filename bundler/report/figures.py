"""Computes the headline figures, and formats figures: with their significant digits, or as a dash if unknown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

Document = Mapping[str, Any]
NONE = "–"
MINUS = "\u2212"
WORST = 5
GATES = {
    "min-f1": ("F1 at least", 1, 1, "%"),
    "min-agreement": ("same answers at least", 100, 1, "%"),
    "max-p90-ms": ("p90 at most", 1, 2, "ms"),
}
"""A gate's requirement, the scale and digits of its figures, and their unit."""


@dataclass(frozen=True)
class Tile:
    """One headline figure."""

    label: str
    value: str
    unit: str = ""
    note: str = ""
    mood: str = ""
    """`good`, `bad` or neither."""


def is_known(value: float | None) -> TypeGuard[float]:
    """Returns whether a number can be drawn and compared."""
    return value is not None and math.isfinite(value)


def figure(value: float | None, digits: int = 1) -> str:
    """Formats a number with `digits` digits after the point."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    return f"{value:,.{digits}f}".replace("-", MINUS).replace(",", "\u202f")


def count(value: int) -> str:
    return figure(value, 0)


def change(value: float | None, base: float | None) -> str:
    """Formats the difference between a figure and the reference's, with its sign."""
    if value is None or base is None:
        return ""
    text = figure(value - base)
    return "±0.0" if text in ("0.0", f"{MINUS}0.0") else text if text.startswith(MINUS) else f"+{text}"


def gate_limit(gate: Document) -> str:
    """Returns a gate's requirement in words."""
    words, scale, digits, unit = GATES.get(gate["name"], (f"{gate['name']}:", 1, 2, ""))
    return f"{words} {figure(scale * gate['limit'], digits)} {unit}".rstrip()


def gate_value(gate: Document) -> str:
    """Returns the run's value for a gate."""
    _, scale, digits, unit = GATES.get(gate["name"], ("", 1, 2, ""))
    return "not known" if gate["value"] is None else f"{figure(scale * gate['value'], digits)} {unit}".rstrip()


def headline(document: Document) -> list[Tile]:
    """Returns the figures that a reader wants first; omits unknown ones."""
    runs = document["runs"]
    tiles = (_agreement(runs), _f1(document), _speed(runs), _verified(runs), _gates(document["gates"]))
    size = Tile(
        "Questions", count(document["questions_count"]), note=f"in {count(document['windows'])} windows of tokens"
    )
    return [size, *(tile for tile in tiles if tile)]


def is_simulated(document: Document) -> bool:
    """Returns whether a virtual phone is among the phones whose times are shown."""
    timed = [run for run in document["runs"] if run["latency"]]
    return any((phone["model"] or "").startswith("Virtual") for run in timed for phone in run["phones"])


def worst_layers(document: Document) -> list[tuple[int, Document, Document]]:
    """Returns the layers of each run with the largest errors, with the run's number."""
    rows = []
    for number, run in enumerate(document["runs"]):
        known = [layer for layer in run["layers"] or () if is_known(layer["sqnr_db"])]
        rows += [(number, run, layer) for layer in sorted(known, key=lambda layer: float(layer["sqnr_db"]))[:WORST]]
    return rows


def trials(document: Document) -> list[tuple[int, Document, Document, bool]]:
    """Returns what `build --precision auto` tried for each run, with the run's number, and whether it was chosen. Each
    bundle appears once; older documents have none."""
    rows, seen = [], set()
    for number, run in enumerate(document["runs"]):
        tried = run.get("trials", ()) if run["bundle"] not in seen else ()
        seen.add(run["bundle"])
        rows += [(number, run, trial, place == len(tried)) for place, trial in enumerate(tried, 1)]
    return rows


def percent(fraction: float) -> str:
    """Formats a share, and never rounds one below 1 up to 100 %."""
    return figure(100.0, 0) if fraction >= 1.0 else figure(min(99.9, 100.0 * fraction))


def median(run: Document) -> float | None:
    latency = run["latency"]
    if not latency or not latency["inference_ms"]:
        return None
    return float(latency["inference_ms"]["p50"])


def _span(low: str, high: str) -> str:
    return low if low == high else f"{low}\u2009–\u2009{high}"


def _agreement(runs: Sequence[Document]) -> Tile | None:
    known = [run for run in runs if run["agreement"]["questions"]]
    if not known:
        return None
    worst = min(known, key=lambda run: float(run["agreement"]["fraction"]))
    best = max(run["agreement"]["fraction"] for run in known)
    low = worst["agreement"]["fraction"]
    note = "in every run" if low == best else f"least: {worst['name']}"
    return Tile("Same answer as the reference", _span(percent(low), percent(best)), "%", note)


def _f1(document: Document) -> Tile | None:
    known = [run for run in document["runs"] if run["scores"]]
    if not known:
        return None
    scores = [run["scores"]["f1"] for run in known]
    reference = document["reference"]["scores"]
    note = f"the reference’s: {figure(reference['f1'])}" if reference else ""
    if reference and reference["total"] != document["questions_count"]:
        note += f"; of {count(reference['total'])} of {count(document['questions_count'])} questions"
    return Tile("F1", _span(figure(min(scores)), figure(max(scores))), "", note)


def _speed(runs: Sequence[Document]) -> Tile | None:
    known = [(time, run["name"]) for run in runs if is_known(time := median(run))]
    if not known:
        return None
    time, name = min(known)
    return Tile("Fastest median inference", figure(time), "ms", name)


def _verified(runs: Sequence[Document]) -> Tile | None:
    known = [run["verified"] for run in runs if run["verified"]]
    if not known:
        return None
    passed = sum(bool(one["passed"]) for one in known)
    cosines = [one["smallest_cosine"] for one in known if is_known(one["smallest_cosine"])]
    note = f"smallest cosine {figure(min(cosines, default=None), 4)}"
    return Tile("Verified on the phone", f"{passed} of {len(known)}", "runs", note, _mood(passed == len(known)))


def _gates(gates: Sequence[Document]) -> Tile | None:
    if not gates:
        return None
    passed = sum(bool(gate["passed"]) for gate in gates)
    failed = [gate["name"] for gate in gates if not gate["passed"]]
    note = f"failed: {', '.join(dict.fromkeys(failed))}" if failed else ""
    return Tile("Gates passed", f"{passed} of {len(gates)}", "", note, _mood(not failed))


def _mood(good: bool) -> str:
    return "good" if good else "bad"
