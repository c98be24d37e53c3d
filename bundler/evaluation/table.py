"""The table of an evaluation's questions: the answers of the reference and of each run, and the known truth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundler import layout
from bundler.qa.metrics import Best, Metrics, Rules, Total, score
from bundler.qa.spans import NULL_THRESHOLD
from bundler.runs.json_writer import object_file
from bundler.types import Answer, Question

N_BEST = 5  # of a question's best spans, in the document

Json = dict[str, Any]


class Predictions:
    """One run's predictions for all questions."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.spans: dict[str, str] = {}  # the best actual span, even if "no answer" won
        self.null_odds: dict[str, float] = {}

    def add(self, question: Question, answer: Answer) -> None:
        self.texts[question.id] = answer.text
        self.spans[question.id] = question.context[slice(*answer.best_span)]
        self.null_odds[question.id] = answer.null_odds

    def write(self, folder: Path, *, with_odds: bool) -> None:
        """Writes predictions.json, which maps question ids to texts, empty for "no answer"; and null_odds.json, which
        maps them to the score of "no answer" minus that of the best span.

        Raises:
            HostStorageFailed
        """
        files: dict[str, Mapping[str, object]] = {
            layout.PREDICTIONS: self.texts,
            **({layout.NULL_ODDS: self.null_odds} if with_odds else {}),
        }
        for name, values in files.items():
            with object_file(folder / name) as add:
                for key, value in values.items():
                    add(key, value)


class Table:
    """The document's questions, in their order, with answers of the reference and of `runs` runs."""

    def __init__(self, runs: int, may_be_unanswerable: bool) -> None:
        self._may_be_unanswerable = may_be_unanswerable
        self.rows: list[Json] = []
        self.contexts: dict[str, int] = {}
        self.predictions = [Predictions() for _ in range(1 + runs)]
        self._known: list[Question] = []

    def add(self, question: Question, exact: Answer, others: Sequence[Answer]) -> None:
        for predictions, answer in zip(self.predictions, (exact, *others), strict=True):
            predictions.add(question, answer)
        if question.has_truth:
            self._known.append(question)
        self.rows.append(
            {
                "id": question.id,
                "question": question.text,
                "title": question.title,
                "context": self.contexts.setdefault(question.context, len(self.contexts)),
                "golds": list(question.answers),
                "impossible": question.impossible,
                "reference": _answer(exact),
                "runs": [
                    {**_answer(other), "exact": None, "f1": None, "agrees": _same(exact, other), "n_best": _best(other)}
                    for other in others
                ],
            }
        )

    def agreement(self, place: int) -> Json:
        equal = sum(row["runs"][place]["agrees"] for row in self.rows)
        return {"questions": len(self.rows), "equal": equal, "fraction": equal / len(self.rows)}

    def scores(self) -> list[Json | None]:
        """Returns the scores of the reference and of each run; writes each question's share into the rows."""
        metrics = [self._score(predictions) if self._known else None for predictions in self.predictions]
        places = {row["id"]: row["runs"] for row in self.rows}
        for place, scored in enumerate(metrics[1:]):
            for entry in scored.questions if scored else ():
                places[entry.id][place] |= {"exact": entry.exact == 1, "f1": round(entry.f1, 6)}
        return [_scores(one) if one else None for one in metrics]

    def _score(self, predictions: Predictions) -> Metrics:
        rules: Rules = "2.0" if any(question.impossible is not None for question in self._known) else "1.1"
        if self._may_be_unanswerable:
            return score(self._known, predictions.spans, "2.0", predictions.null_odds, NULL_THRESHOLD)
        return score(self._known, predictions.texts, rules, predictions.null_odds)


def _scores(metrics: Metrics) -> Json:
    best = metrics.best
    return {
        **_total(metrics.total),
        "has_answer": _total(metrics.has_answer) if metrics.has_answer else None,
        "no_answer": _total(metrics.no_answer) if metrics.no_answer else None,
        "best_exact_match": _value(best, "exact"),
        "best_exact_threshold": _value(best, "exact_threshold"),
        "best_f1": _value(best, "f1"),
        "best_f1_threshold": _value(best, "f1_threshold"),
    }


def _value(best: Best | None, key: str) -> float | None:
    return None if best is None else round(getattr(best, key), 6)


def _total(total: Total) -> Json:
    return {"exact_match": round(total.exact, 4), "f1": round(total.f1, 4), "total": total.questions}


def _answer(answer: Answer) -> Json:
    return {
        "answer": answer.text,
        "start": answer.start,
        "end": answer.end,
        "confidence": round(answer.confidence, 6),
        "null_score": round(answer.null_score, 6),
    }


def _best(answer: Answer) -> list[Json]:
    return [
        {"text": one.text, "start": one.start, "end": one.end, "confidence": round(one.confidence, 6)}
        for one in answer.n_best[:N_BEST]
    ]


def _same(one: Answer, other: Answer) -> bool:
    return (one.text, one.start, one.end) == (other.text, other.start, other.end)
