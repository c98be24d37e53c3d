"""The spans that windows offer, merged into one list a question, all questions at once. Knows no texts."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Spans:
    """Columns of one length: whose span it is, its characters [begin, end), its score, and the window it is from.

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
    """The `count` best of each question that differ in their characters, best first; of equals the earlier."""
    spans = ranked(spans)
    spans = spans[_where_first(spans)]
    places = np.arange(len(spans.question)) - np.searchsorted(spans.question, spans.question)
    return spans[places < count]


def lowest_of_each(spans: Spans) -> Spans:
    """The one of each question that scores least; of equals the earlier."""
    return firsts(spans[np.lexsort((spans.score, spans.question))])


def ranked(spans: Spans) -> Spans:
    """By question, best first; of equals the earlier."""
    return spans[np.lexsort((-spans.score, spans.question))]


def joined(one: Spans, other: Spans) -> Spans:
    return Spans(*(np.concatenate(columns) for columns in zip(vars(one).values(), vars(other).values(), strict=True)))


def firsts(spans: Spans) -> Spans:
    """The first of each question; those of a question lie together."""
    return spans[np.diff(spans.question, prepend=-1) != 0]


def shares(spans: Spans) -> Floats:
    """The softmax of each question's scores, of ranked spans; every question has one."""
    powers = np.exp(spans.score - firsts(spans).score[spans.question])
    softmax: Floats = powers / np.bincount(spans.question, powers)[spans.question]
    return softmax


def _where_first(spans: Spans) -> Integers:
    """Where each span's characters occur first in its question."""
    size = int(spans.end.max(initial=0)) + 1
    keys = (spans.question * size + spans.begin) * size + spans.end
    return np.sort(np.unique(keys, return_index=True)[1])
