"""An evaluation document as a table for people."""

from collections.abc import Mapping
from typing import Any

COLUMNS = ("run", "EM", "F1", "equal", "cosine", "dB", "p50 ms", "p90 ms", "MB", "verified")

Json = Mapping[str, Any]


def rows(document: Json) -> list[tuple[str, ...]]:
    """A row for the reference and for each run; what is not known is a dash."""
    first = ("float32", *_scores(document["reference"]["scores"]), *["-"] * (len(COLUMNS) - 3))
    return [first, *(_row(run) for run in document["runs"])]


def _row(run: Json) -> tuple[str, ...]:
    agreement, logits = run["agreement"], run["logits"]
    latency = (run["latency"] or {}).get("inference_ms") or {}
    verified = run["verified"]
    return (
        run["name"],
        *_scores(run["scores"]),
        f"{agreement['equal']}/{agreement['questions']}",
        f"{logits['smallest_cosine']:.6f}",
        f"{logits['sqnr_db']:.1f}",
        *(_number(latency.get(key), ".1f") for key in ("p50", "p90")),
        _number(run["memory_mb"], ".0f"),
        "-" if verified is None else "yes" if verified["passed"] else "no",
    )


def _scores(scores: Json | None) -> tuple[str, str]:
    return ("-", "-") if scores is None else (f"{scores['exact_match']:.1f}", f"{scores['f1']:.1f}")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
