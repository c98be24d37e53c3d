"""Limits that a user sets for an evaluation, for CI: each applies to every run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bundler.errors import GateFailed


@dataclass(frozen=True)
class Gates:
    """`min_f1` in percent, `min_agreement` a fraction, `max_p90_ms` of one inference; None: not set."""

    min_f1: float | None = None
    min_agreement: float | None = None
    max_p90_ms: float | None = None


@dataclass(frozen=True)
class Gate:
    """One limit and one run; an unknown `value` (None) does not pass."""

    name: str
    limit: float
    run: str
    value: float | None
    passed: bool


def checked(gates: Gates, runs: Sequence[Mapping[str, Any]]) -> list[Gate]:
    """Checks each gate that is set for each run of an evaluation document."""
    return [
        Gate(name.replace("_", "-"), limit, run["name"], value, _passes(name, limit, value))
        for name, limit in asdict(gates).items()
        if limit is not None
        for run in runs
        for value in (_value(name, run),)
    ]


def raise_failed(gates: Sequence[Mapping[str, Any]]) -> None:
    """Raises GateFailed if a gate of an evaluation document failed."""
    failed = [
        f"{gate['run']}: {_shown(gate['value'])} does not pass --{gate['name']} {gate['limit']:g}"
        for gate in gates
        if not gate["passed"]
    ]
    if failed:
        raise GateFailed("; ".join(failed))


def _value(name: str, run: Mapping[str, Any]) -> float | None:
    value: float | None
    if name == "min_f1":
        value = run["scores"] and run["scores"]["f1"]
    elif name == "min_agreement":
        value = run["agreement"]["fraction"]
    else:
        value = run["latency"] and run["latency"]["inference_ms"] and run["latency"]["inference_ms"]["p90"]
    return value


def _passes(name: str, limit: float, value: float | None) -> bool:
    return value is not None and (value <= limit if name.startswith("max") else value >= limit)


def _shown(value: float | None) -> str:
    return "what is not known" if value is None else f"{value:g}"
