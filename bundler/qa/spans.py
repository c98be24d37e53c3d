"""Start and end logits -> answers that are exact slices of their contexts. Vectorized numpy, no loop over spans."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bundler.qa.graphemes import widened
from bundler.types import Answer, Candidate, Question

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
MAX_ANSWER_TOKENS = 30  # as the SQuAD models are evaluated
N_BEST = 20
NULL_TOKEN = 0  # [CLS]: the place to which models trained on SQuAD v2 point for "no answer"
NULL_THRESHOLD = 0.0
LOWEST = np.finfo(np.float64).min


@dataclass(frozen=True)
class Decoding:
    """How answers are chosen, as `decode` takes it; `max_tokens` None: as the bundle was built."""

    n_best: int = N_BEST
    null_threshold: float = NULL_THRESHOLD
    max_tokens: int | None = None


USUAL = Decoding()


@dataclass(frozen=True)
class WindowLogits:
    """A window's logits, float32 (length,) each, and its offsets, int32 (length, 2), -1 outside the context."""

    key: str
    offsets: npt.NDArray[np.int32]
    start: npt.NDArray[np.float32]
    end: npt.NDArray[np.float32]


def decode(
    question: Question, windows: Sequence[WindowLogits], *, max_tokens: int, may_be_unanswerable: bool,
    n_best: int = N_BEST, null_threshold: float = NULL_THRESHOLD,
) -> Answer:  # fmt: skip
    """The best answer over all windows of a question. The windows are of the same length; `n_best` is at least 1.

    A span starts and ends at tokens of the context, is at most `max_tokens` tokens long, and is widened where it would
    cut a grapheme. The `n_best` best of each window compete; the same characters count once, with their best score.
    "No answer" scores what the least inclined window says, as in SQuAD v2's reference code, and wins where it is more
    than `null_threshold` above the best span.

    Raises:
        ValueError: no window holds a token of the context.
    """
    logits = np.array([(window.start, window.end) for window in windows], np.float64)
    offsets = widened(question.context, np.array([window.offsets for window in windows]))
    scores, window, first, last = best_spans(logits[:, 0], logits[:, 1], offsets, max_tokens, n_best)
    if not scores.size:
        raise ValueError(f"question {question.id!r}: no window holds a token of its context")
    begins, ends = offsets[window, first, 0], offsets[window, last, 1]
    kept = _distinct(begins, ends)[:n_best]
    nulls = logits[:, :, NULL_TOKEN].sum(axis=1)
    null_score, odds = float(nulls.min()), float(nulls.min() - scores[0])
    found = list(zip(begins[kept].tolist(), ends[kept].tolist(), scores[kept].tolist(), window[kept], strict=True))
    if may_be_unanswerable:
        found.append((0, 0, null_score, np.argmin(nulls)))
        found.sort(key=lambda entry: -entry[2])  # stable: a span stands before "no answer" of the same score
    shares = _softmax(np.array([score for _, _, score, _ in found])).tolist()
    candidates = tuple(
        Candidate(question.context[begin:stop], begin, stop, score, share, windows[at].key)
        for (begin, stop, score, at), share in zip(found, shares, strict=True)
    )
    no_answer = may_be_unanswerable and odds > null_threshold
    best = next(candidate for candidate in candidates if candidate.is_null == no_answer)
    return Answer(
        question_id=question.id,
        text=best.text,
        start=best.start,
        end=best.end,
        confidence=best.confidence,
        score=best.score,
        best_span=(int(begins[0]), int(ends[0])),
        null_score=null_score,
        window=best.window,
        null_odds=odds,
        n_best=candidates,
    )


def best_spans(
    start: Floats, end: Floats, offsets: npt.NDArray[np.int32], max_tokens: int, count: int
) -> tuple[Floats, Integers, Integers, Integers]:
    """The best spans of each window, best first; of equals the earlier window, start and end.

    start, end: (windows, length); offsets: (windows, length, 2), -1 outside the context. Returns score, window, first
    and last token of each span; of each window at least the `count` best that differ in their characters.
    """
    count, width = min(count, start.shape[1]), min(max_tokens, start.shape[1])
    inside = offsets[:, :, 0] >= 0
    start = np.where(inside, start, -np.inf)
    ends = np.full((len(start), end.shape[1] + width - 1), -np.inf)
    holds = inside & (offsets[:, :, 1] > offsets[:, :, 0])  # a lone space, which ALBERT counts as a token, ends nothing
    ends[:, : end.shape[1]] = np.where(holds, end, -np.inf)
    tops = start + _running_maximum(ends, width)  # the best span that starts at each token
    differ = np.ones(tops.shape, bool)
    differ[:, 1:] = offsets[:, 1:, 0] != offsets[:, :-1, 0]
    # the count-th best of those that start at different characters: no span below it is among the best
    least = np.maximum(np.partition(np.where(differ, tops, -np.inf), -count, axis=1)[:, -count], LOWEST)
    window, first = np.nonzero(tops >= least[:, None])
    scores = start[window, first][:, None] + ends[window[:, None], first[:, None] + np.arange(width)]
    row, further = np.nonzero(scores >= least[window][:, None])
    scores = scores[row, further]
    best = np.argsort(-scores, kind="stable")
    row = row[best]
    return scores[best], window[row], first[row], first[row] + further[best]


def _running_maximum(values: Floats, width: int) -> Floats:
    """The largest of each `width` neighbours; values: (rows, n), returns (rows, n - width + 1)."""
    reach, most = 1, values  # most[i] is the largest of values[i : i + reach]
    while 2 * reach <= width:
        most = np.maximum(most[:, :-reach], most[:, reach:])
        reach *= 2
    rest = width - reach
    return np.maximum(most[:, :-rest], most[:, rest:]) if rest else most


def _distinct(begins: npt.NDArray[np.int32], ends: npt.NDArray[np.int32]) -> Integers:
    """Where each span occurs first."""
    return np.sort(np.unique(begins.astype(np.int64) << 32 | ends, return_index=True)[1])


def _softmax(scores: Floats) -> Floats:
    shares: Floats = np.exp(scores - scores.max())
    shares /= shares.sum()
    return shares
