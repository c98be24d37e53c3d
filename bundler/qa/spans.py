"""Start and end logits -> answers that are exact slices of their contexts. Vectorized numpy, no loop over spans."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bundler.types import Answer, Question

Floats = npt.NDArray[np.float32]
MAX_ANSWER_TOKENS = 30  # as the SQuAD models are evaluated
CANDIDATES = 20  # the best of each window compete; confidence is shared among them
NULL_TOKEN = 0  # [CLS]: the place to which models trained on SQuAD v2 point for "no answer"


@dataclass(frozen=True)
class WindowLogits:
    """A window's logits, float32 (length,) each, and its offsets, int32 (length, 2), -1 outside the context."""

    key: str
    offsets: npt.NDArray[np.int32]
    start: Floats
    end: Floats


@dataclass(frozen=True)
class _Candidate:
    score: float
    span: tuple[int, int]
    window: str


def window_candidates(window: WindowLogits, max_tokens: int, count: int = CANDIDATES) -> list[_Candidate]:
    """The window's best valid spans: start <= end, both in the context, at most `max_tokens` long; best first."""
    inside = window.offsets[:, 0] >= 0
    start = np.where(inside, window.start.astype(np.float64), -np.inf)
    end = np.where(inside, window.end.astype(np.float64), -np.inf)
    ends = np.lib.stride_tricks.sliding_window_view(
        np.pad(end, (0, max_tokens - 1), constant_values=-np.inf), max_tokens
    )
    scores = (start[:, None] + ends).ravel()  # [first token * max_tokens + further tokens]
    count = min(count, scores.size)
    best = np.argpartition(-scores, count - 1)[:count]
    best = best[np.lexsort((best, -scores[best]))]  # equal scores: the earlier, shorter span
    firsts, further = np.divmod(best, max_tokens)
    return [
        _Candidate(float(scores[i]), (int(window.offsets[first, 0]), int(window.offsets[first + more, 1])), window.key)
        for i, first, more in zip(best, firsts, further, strict=True)
        if np.isfinite(scores[i])
    ]


def decode(
    question: Question, windows: Sequence[WindowLogits], *, max_tokens: int, may_be_unanswerable: bool
) -> Answer:
    """The best answer over all windows of a question.

    Raises:
        ValueError: no window holds a token of the context.
    """
    spans: dict[tuple[int, int], _Candidate] = {}
    for window in windows:
        for candidate in window_candidates(window, max_tokens):
            if candidate.span not in spans or candidate.score > spans[candidate.span].score:
                spans[candidate.span] = candidate
    if not spans:
        raise ValueError(f"question {question.id!r}: no window holds a token of its context")
    best = max(spans.values(), key=lambda candidate: candidate.score)
    nulls = [(float(window.start[NULL_TOKEN]) + float(window.end[NULL_TOKEN]), window.key) for window in windows]
    null_score, null_window = min(nulls)  # as SQuAD v2's reference code: every window must find nothing
    scores = np.array([candidate.score for candidate in spans.values()] + ([null_score] if may_be_unanswerable else []))
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    no_answer = may_be_unanswerable and null_score > best.score
    start, end = (0, 0) if no_answer else best.span
    return Answer(
        question_id=question.id,
        text=question.context[start:end],
        start=start,
        end=end,
        confidence=float(shares[-1] if no_answer else shares[list(spans).index(best.span)]),
        score=null_score if no_answer else best.score,
        best_span=best.span,
        null_score=null_score,
        window=null_window if no_answer else best.window,
    )
