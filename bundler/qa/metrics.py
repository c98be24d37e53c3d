"""Computes exact match and F1 of answers, as defined by the evaluation scripts of SQuAD v1.1 and v2.0.

Based on the definitions in Rajpurkar et al. 2016 and 2018, and on the scripts' behaviour in edge cases.
"""

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bundler.types import Question

Rules = Literal["1.1", "2.0"]

ARTICLES = re.compile(r"\b(a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)  # ASCII only: the scripts keep all other punctuation


@dataclass(frozen=True)
class QuestionScore:
    """A question's row in the table: `exact` is 0 or 1, `f1` from 0 to 1; `null_odds` come from the answer."""

    id: str
    prediction: str
    golds: tuple[str, ...]
    answerable: bool
    exact: float
    f1: float
    null_odds: float = 0.0


@dataclass(frozen=True)
class Total:
    """Percentages over `questions` questions."""

    exact: float
    f1: float
    questions: int


@dataclass(frozen=True)
class Best:
    """The best scores with another null threshold, in percent, and the smallest threshold that reaches them.

    A question counts as "no answer" if its null odds are above the threshold.
    """

    exact: float
    exact_threshold: float
    f1: float
    f1_threshold: float


@dataclass(frozen=True)
class Metrics:
    """Totals by the `rules` of a SQuAD version. By v2.0 also separate totals for questions with and without an answer,
    if there are any; `best` if null odds were given. `questions` is the table, in the order of the questions."""

    rules: Rules
    total: Total
    has_answer: Total | None
    no_answer: Total | None
    best: Best | None
    questions: tuple[QuestionScore, ...]


def normalized(text: str) -> str:
    """Returns the text in lower case, without ASCII punctuation and English articles, with single spaces."""
    bare = text.lower().translate(WITHOUT_PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", bare).split())


def exact_match(prediction: str, gold: str) -> float:
    return float(normalized(prediction) == normalized(gold))


def f1(prediction: str, gold: str, rules: Rules = "2.0") -> float:
    """Returns the harmonic mean of precision and recall of words, each counted as often as it occurs.

    If either text has no words left: by v2.0, 1 if both have none, else 0; by v1.1 always 0.
    """
    words, truth = normalized(prediction).split(), normalized(gold).split()
    if rules == "2.0" and not (words and truth):
        return float(words == truth)
    same = (Counter(words) & Counter(truth)).total()
    if not same:
        return 0.0
    precision, recall = same / len(words), same / len(truth)
    return 2 * precision * recall / (precision + recall)


def score(
    questions: Iterable[Question],
    predictions: Mapping[str, str],
    rules: Rules,
    null_odds: Mapping[str, float] | None = None,
    null_threshold: float | None = None,
) -> Metrics:
    """Scores the questions whose truth is known.

    `predictions` maps question ids to texts, empty for "no answer". As in the scripts, a question without prediction
    scores 0 by v1.1 and is skipped by v2.0. With `null_odds`, v2.0 finds the best threshold; the predictions should
    then be the best spans. With `null_threshold` too, all questions above it count as "no answer".

    Raises:
        ValueError: there is nothing to score.
    """
    rows = [_scored(question, predictions, rules, null_odds or {}) for question in questions if question.has_truth]
    table = [row for row in rows if row is not None]
    if not table:
        raise ValueError("no question whose truth is known has a prediction")
    best = _best(table) if rules == "2.0" and null_odds is not None else None
    if null_threshold is not None and rules == "2.0":
        table = [_with_threshold(row, null_threshold) for row in table]
    parts: dict[bool, Total | None] = dict.fromkeys((True, False))
    if rules == "2.0":
        for answerable in parts:
            of = [row for row in table if row.answerable is answerable]
            parts[answerable] = _total(of) if of else None
    return Metrics(rules, _total(table), parts[True], parts[False], best, tuple(table))


def _scored(
    question: Question, predictions: Mapping[str, str], rules: Rules, null_odds: Mapping[str, float]
) -> QuestionScore | None:
    prediction, golds = predictions.get(question.id), question.answers
    if rules == "2.0":  # a gold answer of punctuation and articles only is none
        golds = tuple(gold for gold in golds if normalized(gold)) or ("",)
    golds = golds or ("",)
    if prediction is None:
        if rules == "2.0":
            return None
        return QuestionScore(question.id, "", golds, bool(question.answers), 0.0, 0.0)
    return QuestionScore(
        id=question.id,
        prediction=prediction,
        golds=golds,
        answerable=bool(question.answers),
        exact=max(exact_match(prediction, gold) for gold in golds),
        f1=max(f1(prediction, gold, rules) for gold in golds),
        null_odds=null_odds.get(question.id, 0.0),
    )


def _with_threshold(row: QuestionScore, threshold: float) -> QuestionScore:
    """Returns the row, with "no answer" as its prediction if its null odds are above the threshold."""
    if row.null_odds <= threshold:
        return row
    right = float(not row.answerable)
    return replace(row, prediction="", exact=right, f1=right)


def _total(table: Sequence[QuestionScore]) -> Total:
    count = len(table)
    return Total(100 * sum(row.exact for row in table) / count, 100 * sum(row.f1 for row in table) / count, count)


def _best(table: Sequence[QuestionScore]) -> Best:
    """Finds the best thresholds, by raising the threshold over one question after the other from "no answer" for all.

    As in the script, questions of equal odds are passed one by one, so the best may lie between two of them. If the
    start is best, the threshold is 0.
    """
    rows = sorted(table, key=lambda row: row.null_odds)
    found = []
    for scores in ([row.exact for row in rows], [row.f1 for row in rows]):
        none = sum(not row.answerable for row in rows)
        gains = [s if row.answerable else -1.0 if row.prediction else 0.0 for row, s in zip(rows, scores, strict=True)]
        sums = np.cumsum([none, *gains])
        at = int(np.argmax(sums))
        found += [100 * float(sums[at]) / len(rows), rows[at - 1].null_odds if at else 0.0]
    return Best(*found)
