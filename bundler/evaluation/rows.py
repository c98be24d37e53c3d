"""Formats an evaluation document as a table for people."""

from collections.abc import Mapping
from typing import Any

COLUMNS = ("run", "engine", "EM", "F1", "equal", "cosine", "dB", "p50 ms", "p90 ms", "MB", "verified")

Json = Mapping[str, Any]


def rows(document: Json) -> list[tuple[str, ...]]:
    """Returns a row for the reference and for each run; unknown values are dashes."""
    first = ("float32", "-", *_scores(document["reference"]["scores"]), *["-"] * (len(COLUMNS) - 4))
    return [first, *(_row(run) for run in document["runs"])]


def unscored(document: Json) -> list[str]:
    """Returns a sentence if the scores cover fewer questions than were asked."""
    scores, asked = document["reference"]["scores"], document["questions_count"]
    if scores is None or scores["total"] == asked:
        return []
    return [
        f"EM and F1 are of {scores['total']} of {asked} questions: the others have no known answer,"
        " and are not marked is_impossible"
    ]


def _row(run: Json) -> tuple[str, ...]:
    agreement, logits = run["agreement"], run["logits"]
    latency = (run["latency"] or {}).get("inference_ms") or {}
    verified = run["verified"]
    return (
        run["name"],
        run["engine"],
        *_scores(run["scores"]),
        f"{agreement['equal']}/{agreement['questions']}",
        _number(logits["smallest_cosine"], ".6f"),
        _number(logits["sqnr_db"], ".1f"),
        *(_number(latency.get(key), ".1f") for key in ("p50", "p90")),
        _number(run["memory_mb"], ".0f"),
        "-" if verified is None else "yes" if verified["passed"] else "no",
    )


def _scores(scores: Json | None) -> tuple[str, str]:
    return ("-", "-") if scores is None else (f"{scores['exact_match']:.1f}", f"{scores['f1']:.1f}")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
