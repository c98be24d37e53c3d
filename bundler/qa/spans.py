"""Decodes start and end logits to answers that are exact slices of their contexts, many questions at once.

Vectorized in numpy: the only loop over spans is that over the reported ones.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from bundler.qa.candidates import best_spans
from bundler.qa.graphemes import widened
from bundler.qa.ranking import Spans, best_of_each, firsts, joined, lowest_of_each, ranked, shares
from bundler.qa.words import to_whole_words
from bundler.types import Answer, Candidate, Question

MAX_ANSWER_TOKENS = 30  # as the SQuAD models are evaluated
N_BEST = 20
NULL_TOKEN = 0  # [CLS]: the place to which models trained on SQuAD v2 point for "no answer"
NULL_THRESHOLD = 0.0
BATCH = 128  # windows: their arrays fit into a processor's cache


@dataclass(frozen=True)
class Decoding:
    """Options of `decode_all`. `max_tokens` None: the bundle's setting; `whole_words` None: only if the bundle's
    tokenizer divides texts into words."""

    n_best: int = N_BEST
    null_threshold: float = NULL_THRESHOLD
    max_tokens: int | None = None
    whole_words: bool | None = None


USUAL = Decoding()


@dataclass(frozen=True)
class WindowLogits:
    """A window's logits, float32 (length,) each, and its offsets, int32 (length, 2), -1 outside the context."""

    key: str
    offsets: npt.NDArray[np.int32]
    start: npt.NDArray[np.float32]
    end: npt.NDArray[np.float32]


Asked = tuple[Question, Sequence[WindowLogits]]  # a question and all its windows


def decode_all(
    asked: Iterable[Asked], *, max_tokens: int, may_be_unanswerable: bool,
    n_best: int = N_BEST, null_threshold: float = NULL_THRESHOLD, whole_words: bool = False,
) -> Iterator[Answer]:  # fmt: skip
    """Yields the best answer to each question over all its windows. Decodes questions in batches, so that only one
    batch is in memory. All windows have the same length; `n_best` is at least 1.

    A span starts and ends at tokens of the context and is at most `max_tokens` tokens long. It is widened to whole
    graphemes, and with `whole_words` to whole words. The `n_best` best of each window compete; equal characters count
    once, with their best score. "No answer" scores what the least inclined window gives it, as in SQuAD v2's reference
    code. It wins if it is more than `null_threshold` above the best span.

    Raises:
        ValueError: no window of a question holds a token of the context.
    """
    for batch in _batches(asked):
        spans, nulls = _found(batch, max_tokens, n_best, whole_words=whole_words)
        listed = ranked(joined(spans, nulls)) if may_be_unanswerable else spans
        threshold = null_threshold if may_be_unanswerable else np.inf
        yield from _answers(batch, _candidates(batch, listed), firsts(spans), nulls, threshold)


def _batches(asked: Iterable[Asked]) -> Iterator[list[Asked]]:
    """Yields the questions in lists of at least BATCH windows, except for the last."""
    batch: list[Asked] = []
    windows = 0
    for each in asked:
        batch.append(each)
        windows += len(each[1])
        if windows >= BATCH:
            yield batch
            batch, windows = [], 0
    if batch:
        yield batch


def _found(batch: Sequence[Asked], max_tokens: int, n_best: int, *, whole_words: bool) -> tuple[Spans, Spans]:
    """Returns the best spans of each question, best first, and the score of "no answer" for each.

    Raises:
        ValueError
    """
    windows = [window for _, own in batch for window in own]
    question = np.repeat(np.arange(len(batch)), [len(own) for _, own in batch])
    start, end = (np.array([getattr(each, side) for each in windows], np.float64) for side in ("start", "end"))
    offsets = np.concatenate([_offsets(asked.context, own, whole_words=whole_words) for asked, own in batch])
    score, window, first, last = best_spans(start, end, offsets, max_tokens, n_best)
    spans = Spans(question[window], offsets[window, first, 0], offsets[window, last, 1], score, window)
    without = np.flatnonzero(np.bincount(spans.question, minlength=len(batch)) == 0)
    if without.size:
        raise ValueError(f"question {batch[without[0]][0].id!r}: no window holds a token of its context")
    nothing = np.zeros(len(windows), np.int32)
    nulls = Spans(question, nothing, nothing, start[:, NULL_TOKEN] + end[:, NULL_TOKEN], np.arange(len(windows)))
    return best_of_each(spans, n_best), lowest_of_each(nulls)


def _offsets(context: str, windows: Sequence[WindowLogits], *, whole_words: bool) -> npt.NDArray[np.int32]:
    """Returns (windows, length, 2): the characters of a span that begins or ends at a token."""
    offsets = np.array([each.offsets for each in windows])
    return widened(context, to_whole_words(context, offsets) if whole_words else offsets)


def _candidates(batch: Sequence[Asked], listed: Spans) -> Iterator[tuple[Candidate, ...]]:
    """Yields each question's candidates with their texts."""
    keys = [window.key for _, own in batch for window in own]
    columns = (listed.begin, listed.end, listed.score, shares(listed), listed.window)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for (question, _), count in zip(batch, np.bincount(listed.question).tolist(), strict=True):
        context = question.context
        yield tuple(
            Candidate(context[begin:end], begin, end, score, share, keys[window])
            for begin, end, score, share, window in islice(rows, count)
        )


def _answers(
    batch: Sequence[Asked], candidates: Iterable[tuple[Candidate, ...]], best: Spans, nulls: Spans, threshold: float
) -> Iterator[Answer]:
    """Yields each question's answer: its best span, or "no answer" if its odds are above the threshold."""
    spans = zip(best.begin.tolist(), best.end.tolist(), strict=True)
    scores, odds = nulls.score.tolist(), (nulls.score - best.score).tolist()
    for (question, _), n_best, span, null_score, null_odds in zip(batch, candidates, spans, scores, odds, strict=True):
        no_answer = null_odds > threshold
        chosen = next(candidate for candidate in n_best if candidate.is_null == no_answer)
        yield Answer(
            question_id=question.id,
            text=chosen.text,
            start=chosen.start,
            end=chosen.end,
            confidence=chosen.confidence,
            score=chosen.score,
            best_span=span,
            null_score=null_score,
            window=chosen.window,
            null_odds=null_odds,
            n_best=n_best,
        )
