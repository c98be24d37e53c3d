"""Decoding: the best valid span, an exact slice of the context; equal to a slow and obvious reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.qa.spans import WindowLogits, decode, window_candidates
from bundler.types import Question

CONTEXT = "The bridge was built in 1808 and repaired in 1936 by Ada Lovelace."


def tokens(context: str, before: int, after: int) -> np.ndarray:
    """Offsets of a window: `before` tokens of the question, the context's words, `after` of padding."""
    spans, at = [], 0
    for word in context.split(" "):
        spans.append((at, at + len(word)))
        at += len(word) + 1
    return np.array([(-1, -1)] * before + spans + [(-1, -1)] * after, np.int32)


def window(offsets: np.ndarray, start: dict[int, float], end: dict[int, float], key: str = "q#0") -> WindowLogits:
    logits = np.zeros((2, len(offsets)), np.float32)
    for row, values in enumerate((start, end)):
        for index, value in values.items():
            logits[row, index] = value
    return WindowLogits(key, offsets, logits[0], logits[1])


QUESTION = Question("q", "When was it built?", CONTEXT)
OFFSETS = tokens(CONTEXT, before=4, after=6)
BUILT = 4 + CONTEXT.split(" ").index("1808")
REPAIRED = 4 + CONTEXT.split(" ").index("1936")


def answer(*windows: WindowLogits, max_tokens: int = 30, null: bool = False):  # type: ignore[no-untyped-def]
    return decode(QUESTION, windows, max_tokens=max_tokens, may_be_unanswerable=null)


def test_the_best_span_is_cut_from_the_context() -> None:
    found = answer(window(OFFSETS, {BUILT: 9}, {BUILT: 8}))
    assert (found.text, found.start, found.end) == ("1808", 24, 28)
    assert CONTEXT[found.start : found.end] == found.text
    assert found.score == 17
    assert 0.9 < found.confidence <= 1


def test_an_end_before_its_start_is_no_span() -> None:
    found = answer(window(OFFSETS, {REPAIRED: 9}, {BUILT: 9, REPAIRED: 4}))
    assert found.text == "1936"


def test_question_and_padding_are_no_answers() -> None:
    found = answer(window(OFFSETS, {1: 99, BUILT: 5, len(OFFSETS) - 2: 99}, {2: 99, BUILT: 5, len(OFFSETS) - 1: 99}))
    assert found.text == "1808"


def test_a_span_is_at_most_so_many_tokens_long() -> None:
    logits = window(OFFSETS, {BUILT: 9}, {REPAIRED: 9, BUILT: 1})
    assert answer(logits, max_tokens=5).text == "1808 and repaired in 1936"
    assert answer(logits, max_tokens=4).text == "1808"


def test_the_best_window_wins_and_is_named() -> None:
    weak = window(OFFSETS, {BUILT: 3}, {BUILT: 3}, "q#0")
    strong = window(OFFSETS, {REPAIRED: 4}, {REPAIRED: 4}, "q#1")
    found = answer(weak, strong)
    assert (found.text, found.window) == ("1936", "q#1")


def test_no_answer_wins_only_where_it_may_and_in_every_window() -> None:
    nothing = window(OFFSETS, {0: 9}, {0: 9}, "q#0")
    found = answer(nothing, null=True)
    assert (found.text, found.start, found.end, found.null_score) == ("", 0, 0, 18)
    assert CONTEXT[slice(*found.best_span)] != ""
    assert answer(nothing, null=False).text != ""
    something = window(OFFSETS, {BUILT: 5}, {BUILT: 5}, "q#1")
    assert answer(nothing, something, null=True).text == "1808"


def test_confidence_is_shared_between_equals() -> None:
    found = answer(window(OFFSETS, {BUILT: 50, REPAIRED: 50}, {BUILT: 50, REPAIRED: 50}), max_tokens=1)
    assert found.confidence == pytest.approx(0.5, abs=1e-6)
    assert found.text == "1808"  # the earlier one, always


def test_no_context_at_all_is_a_defect() -> None:
    with pytest.raises(ValueError, match="no window holds a token"):
        answer(window(np.full((8, 2), -1, np.int32), {}, {}))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), max_tokens=st.integers(1, 40), context_tokens=st.integers(1, 40))
def test_equals_the_obvious_reference(seed: int, max_tokens: int, context_tokens: int) -> None:
    random = np.random.default_rng(seed)
    offsets = np.full((60, 2), -1, np.int32)
    first = int(random.integers(0, 60 - context_tokens + 1))
    for token in range(context_tokens):
        offsets[first + token] = (3 * token, 3 * token + 2)
    start, end = random.normal(size=(2, 60)).astype(np.float32)
    slow = [
        (float(start[i]) + float(end[j]), (int(offsets[i, 0]), int(offsets[j, 1])))
        for i in range(60)
        for j in range(i, min(60, i + max_tokens))
        if offsets[i, 0] >= 0 and offsets[j, 0] >= 0
    ]
    slow.sort(key=lambda pair: -pair[0])
    fast = window_candidates(WindowLogits("w", offsets, start, end), max_tokens)
    assert [(c.score, c.span) for c in fast] == slow[:20]
