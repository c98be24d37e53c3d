"""Encodes the questions compactly for the page's script, since there may be many.

An answer is a span: [start, end, confidence], in JavaScript's string units; its text follows only if it differs from
the context's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bundler.report.figures import is_known

Document = Mapping[str, Any]
Units = Callable[[int], int]


def embedded(document: Document) -> dict[str, Any]:
    """Returns the parts of an evaluation that the script needs."""
    contexts = document["contexts"]
    units = [utf16(context) for context in contexts]
    return {
        "reference": document["reference"]["name"],
        "runs": [run["name"] for run in document["runs"]],
        "contexts": contexts,
        "questions": [_question(row, contexts[row["context"]], units[row["context"]]) for row in document["questions"]],
    }


def utf16(text: str) -> Units:
    """Returns a map from Python's string indices to JavaScript's, where a character beyond U+FFFF counts twice."""
    if not text or max(text) <= "\uffff":
        return lambda place: place
    places = [0]
    for char in text:
        places.append(places[-1] + 1 + (char > "\uffff"))
    return lambda place: places[min(max(place, 0), len(text))]


def _question(row: Document, context: str, units: Units) -> dict[str, Any]:
    return {
        "id": row["id"],
        "question": row["question"],
        "title": row["title"],
        "context": row["context"],
        "golds": row["golds"],
        "impossible": row["impossible"],
        "reference": _span(row["reference"], context, units),
        "runs": [_answer(answer, context, units) for answer in row["runs"]],
    }


def _answer(answer: Document, context: str, units: Units) -> dict[str, Any]:
    return {
        "at": _span(answer, context, units),
        "exact": answer["exact"],
        "f1": _rounded(answer["f1"]),
        "agrees": answer["agrees"],
        "best": [_span(other, context, units) for other in answer.get("n_best") or ()],
    }


def _span(answer: Document, context: str, units: Units) -> Sequence[Any]:
    text = answer["text"] if "text" in answer else answer["answer"]
    start, end, confidence = answer["start"], answer["end"], _rounded(answer["confidence"])
    if not text:
        return (0, 0, confidence)
    if start is None or end is None or not 0 <= start < end or context[start:end] != text:
        return (0, 0, confidence, text)
    return (units(start), units(end), confidence)


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if is_known(value) else None
