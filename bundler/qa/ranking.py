"""Merges the windows' spans into one list per question, for all questions at once. Independent of texts."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Spans:
    """Columns of equal length: each span's question, its characters [begin, end), its score, and its window.

    "No answer" has begin = end = 0; questions and windows are counted from 0.
    """

    question: Integers
    begin: Places
    end: Places
    score: Floats
    window: Integers

    def __getitem__(self, which: npt.NDArray[np.bool_] | Integers) -> "Spans":
        return Spans(self.question[which], self.begin[which], self.end[which], self.score[which], self.window[which])


def best_of_each(spans: Spans, count: int) -> Spans:
    """Returns each question's `count` best spans with different characters, best first; the earlier among equals."""
    spans = ranked(spans)
    spans = spans[_where_first(spans)]
    places = np.arange(len(spans.question)) - np.searchsorted(spans.question, spans.question)
    return spans[places < count]


def lowest_of_each(spans: Spans) -> Spans:
    """Returns the lowest-scored span of each question; the earlier among equals."""
    return firsts(spans[np.lexsort((spans.score, spans.question))])


def ranked(spans: Spans) -> Spans:
    """Sorts by question, best first; the earlier first among equals."""
    return spans[np.lexsort((-spans.score, spans.question))]


def joined(one: Spans, other: Spans) -> Spans:
    return Spans(*(np.concatenate(columns) for columns in zip(vars(one).values(), vars(other).values(), strict=True)))


def firsts(spans: Spans) -> Spans:
    """Returns the first span of each question; those of a question must be adjacent."""
    return spans[np.diff(spans.question, prepend=-1) != 0]


def shares(spans: Spans) -> Floats:
    """Returns the softmax of each question's scores, for ranked spans; every question needs one."""
    powers = np.exp(spans.score - firsts(spans).score[spans.question])
    softmax: Floats = powers / np.bincount(spans.question, powers)[spans.question]
    return softmax


def _where_first(spans: Spans) -> Integers:
    """Returns the index of the first span for each question and its characters, in ascending order."""
    size = int(spans.end.max(initial=0)) + 1
    keys = (spans.question * size + spans.begin) * size + spans.end
    return np.sort(np.unique(keys, return_index=True)[1])
