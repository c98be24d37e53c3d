"""Tests decoding: the best valid span, an exact slice of the context, equal to a slow and simple reference."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.qa import spans
from bundler.qa.candidates import best_spans
from bundler.qa.graphemes import GRAPHEME, MAY_JOIN, pattern
from bundler.qa.spans import WindowLogits, decode_all
from bundler.types import Answer, Question

CONTEXT = "The bridge was built in 1808 and repaired in 1936 by Ada Lovelace."


def tokens(context: str, before: int, after: int) -> np.ndarray:
    """Returns offsets of a window: `before` tokens of the question, the context's words, `after` of padding."""
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


def decode(question: Question, windows: Sequence[WindowLogits], **rules: Any) -> Answer:
    (found,) = decode_all([(question, windows)], **rules)
    return found


def answer(*windows: WindowLogits, max_tokens: int = 30, null: bool = False, threshold: float = 0.0) -> Answer:
    return decode(QUESTION, windows, max_tokens=max_tokens, may_be_unanswerable=null, null_threshold=threshold)


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


def test_no_answer_must_be_above_its_threshold() -> None:
    close = window(OFFSETS, {0: 5, BUILT: 4}, {0: 5, BUILT: 4})
    assert answer(close, null=True).text == ""
    assert answer(close, null=True).null_odds == 2
    assert answer(close, null=True, threshold=2.0).text == "1808"
    assert answer(close, null=True, threshold=1.9).text == ""
    sure = window(OFFSETS, {BUILT: 5}, {BUILT: 5})
    assert answer(sure, null=True, threshold=-11.0).text == ""
    assert answer(sure, null=True, threshold=-10.0).text == "1808"


def test_the_list_of_the_best() -> None:
    logits = window(OFFSETS, {0: 3, BUILT: 9, REPAIRED: 7}, {0: 3, BUILT: 8, REPAIRED: 8})
    found = answer(logits).n_best
    assert [each.text for each in found[:3]] == ["1808", "1808 and repaired in 1936", "1936"]
    assert len(found) == 20
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert sum(each.confidence for each in found) == pytest.approx(1)
    with_null = answer(logits, null=True)
    assert len(with_null.n_best) == 21
    (null,) = (each for each in with_null.n_best if each.is_null)
    assert (null.text, null.start, null.end, null.score) == ("", 0, 0, 6)
    assert with_null.n_best[0].confidence == with_null.confidence


def test_the_same_characters_in_two_windows_count_once() -> None:
    one = window(OFFSETS, {BUILT: 5}, {BUILT: 5}, "q#0")
    other = window(OFFSETS, {BUILT: 6}, {BUILT: 6}, "q#1")
    found = answer(one, other).n_best
    places = [(each.start, each.end) for each in found]
    assert len(set(places)) == len(places) == 20
    assert (found[0].text, found[0].score, found[0].window) == ("1808", 12, "q#1")


@pytest.mark.parametrize(
    ("context", "token", "text"),
    [
        ("a cafe\u0301 there", (2, 6), "cafe\u0301"),  # BERT's normalizer drops the mark from the word
        ("the \U0001f469\u200d\U0001f680 flew", (4, 5), "\U0001f469\u200d\U0001f680"),
        ("in \U0001f1e9\U0001f1ea and", (4, 5), "\U0001f1e9\U0001f1ea"),
        ("\u6a4b\u306f1808\u5e74", (2, 6), "1808"),
        ("\u05d1\u05e0\u05d9\u05ea \u05d1\u05e9\u05e0\u05ea 1808", (5, 9), "\u05d1\u05e9\u05e0\u05ea"),
        ("\u0915\u093f\u0924\u093e\u092c", (0, 1), "\u0915\u093f"),
        ("\u1112\u1161\u11ab", (1, 2), "\u1112\u1161\u11ab"),  # Hangul in pieces
    ],
)
def test_an_answer_does_not_cut_what_reads_as_one_character(context: str, token: tuple[int, int], text: str) -> None:
    offsets = np.array([(-1, -1), token, (-1, -1)], np.int32)
    logits = np.zeros(3, np.float32)
    found = decode(
        Question("q", "?", context), [WindowLogits("q#0", offsets, logits, logits)], max_tokens=9,
        may_be_unanswerable=False,
    )  # fmt: skip
    assert found.text == text == context[found.start : found.end]


def test_a_lone_space_begins_an_answer_and_ends_none() -> None:
    """ALBERT's tokenizer counts the space before some words as a token; its offsets are the word's beginning."""
    offsets = np.array([(-1, -1), (0, 2), (3, 3), (3, 7), (8, 8), (8, 9)], np.int32)
    start, end = np.zeros((2, 6), np.float32)
    start[2], end[3], end[4] = 9, 8, 20
    found = decode(
        Question("q", "?", "in 1808 ."), [WindowLogits("q#0", offsets, start, end)], max_tokens=9,
        may_be_unanswerable=False,
    )  # fmt: skip
    assert found.text == "1808"
    assert {each.text for each in found.n_best} == {"in", "in 1808", "in 1808 .", "1808", "1808 .", "."}


def test_the_best_that_are_listed_differ_though_tokens_begin_alike() -> None:
    """A lone space and the word behind it begin at the same character: together they are one beginning."""
    offsets = np.array([(-1, -1), (0, 2), (3, 3), (3, 7)], np.int32)
    start, end = np.array([0, 1, 9, 8], np.float32), np.array([0, 1, 0, 5], np.float32)
    found = decode(
        Question("q", "?", "in 1808"), [WindowLogits("q#0", offsets, start, end)], max_tokens=9,
        may_be_unanswerable=False, n_best=2,
    )  # fmt: skip
    assert [(each.text, each.score) for each in found.n_best] == [("1808", 14), ("in 1808", 6)]


Drawn = tuple[str, list[WindowLogits]]


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    """Draws a context of any text, overlapping windows over its tokens, and logits with many equal values."""
    alphabet = st.sampled_from("ab1. \u0301\u200d\u6a4b\u05d0\U0001f469\U0001f680\U0001f1e9\n")
    context = draw(st.text(alphabet, min_size=1, max_size=60))
    cuts = sorted(draw(st.sets(st.integers(0, len(context)), min_size=2, max_size=30)))
    pieces = list(pairwise(cuts))
    length, random = draw(st.integers(len(pieces) // 3 + 1, 34)), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    windows = []
    for number in range(draw(st.integers(1, 3))):
        offsets = np.full((length + 3, 2), -1, np.int32)
        here = pieces[number * length // 2 :][:length] or pieces[:length]
        offsets[2 : 2 + len(here)] = here
        start, end = (random.integers(-4, 5, size=(2, length + 3)) / draw(st.sampled_from([1, 7]))).astype(np.float32)
        windows.append(WindowLogits(f"q#{number}", offsets, start, end))
    return context, windows


def obvious(context: str, windows: Sequence[WindowLogits], max_tokens: int) -> list[tuple[float, int, int, str]]:
    """Returns score, start, end and window of every span, best first, found pair by pair."""
    edges = [0, *(found.end() for found in regex.finditer(r"\X", context))]
    found = []
    for each in windows:
        length = len(each.offsets)
        for i in range(length):
            for j in range(i, min(length, i + max_tokens)):
                if each.offsets[i, 0] < 0 or each.offsets[j, 0] < 0:
                    continue
                start = max(edge for edge in edges if edge <= each.offsets[i, 0])
                end = min(edge for edge in edges if edge >= each.offsets[j, 1])
                found.append((float(each.start[i]) + float(each.end[j]), start, end, each.key))
    best: dict[tuple[int, int], tuple[float, int, int, str]] = {}
    for span in sorted(found, key=lambda span: -span[0]):
        best.setdefault(span[1:3], span)
    return list(best.values())


@settings(max_examples=300, deadline=None)
@given(drawn=drawn(), max_tokens=st.integers(1, 40), count=st.integers(1, 25))
def test_equals_the_obvious_reference(drawn: Drawn, max_tokens: int, count: int) -> None:
    """Among spans with equal scores, the earlier wins, by window, first and last token."""
    context, windows = drawn
    slow = obvious(context, windows, max_tokens)[:count]
    found = decode(Question("q", "?", context), windows, max_tokens=max_tokens, may_be_unanswerable=False, n_best=count)
    assert [(each.score, each.start, each.end, each.window) for each in found.n_best] == slow
    shares = np.exp([score - slow[0][0] for score, *_ in slow])
    assert [each.confidence for each in found.n_best] == pytest.approx((shares / shares.sum()).tolist())


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    drawn=st.lists(drawn(), min_size=1, max_size=9), size=st.integers(1, 12), null=st.booleans(),
    threshold=st.floats(-9, 9), count=st.integers(1, 25),
)  # fmt: skip
def test_questions_decoded_together_are_as_each_alone(
    drawn: list[Drawn], size: int, null: bool, threshold: float, count: int
) -> None:
    rules = {"max_tokens": 30, "may_be_unanswerable": null, "n_best": count, "null_threshold": threshold}
    asked = [
        (Question(f"q{number}", "?", context), [lengthened(each, 40) for each in windows])
        for number, (context, windows) in enumerate(drawn)
    ]
    with patch.object(spans, "BATCH", size):
        together = list(decode_all(asked, **rules))  # type: ignore[arg-type]
    assert together == [decode(question, windows, **rules) for question, windows in asked]  # type: ignore[arg-type]


def lengthened(window: WindowLogits, length: int) -> WindowLogits:
    """Returns the window with padding at its end, which has the highest logits of all."""
    more = length - len(window.offsets)
    start, end = (np.pad(logits, (0, more), constant_values=99) for logits in (window.start, window.end))
    return WindowLogits(window.key, np.pad(window.offsets, ((0, more), (0, 0)), constant_values=-1), start, end)


def test_of_questions_decoded_together_the_one_without_context_is_named() -> None:
    empty = window(np.full(OFFSETS.shape, -1, np.int32), {}, {})
    asked = [(QUESTION, [window(OFFSETS, {}, {})]), (Question("void", "?", CONTEXT), [empty]), (QUESTION, [empty])]
    with pytest.raises(ValueError, match="question 'void': no window holds a token"):
        list(decode_all(asked, max_tokens=9, may_be_unanswerable=True))


def test_no_more_questions_are_read_than_are_decoded_together() -> None:
    read = []

    def asked() -> Iterator[tuple[Question, list[WindowLogits]]]:
        for number in range(3 * spans.BATCH):
            read.append(number)
            yield QUESTION, [window(OFFSETS, {BUILT: 9}, {BUILT: 9})]

    answers = decode_all(asked(), max_tokens=9, may_be_unanswerable=False)
    assert next(answers).text == "1808"
    assert len(read) == spans.BATCH
    assert len(list(answers)) == 3 * spans.BATCH - 1


def test_of_spans_that_all_score_alike_few_are_looked_at() -> None:
    """A broken model gives every token the same logit: the earliest spans are the best."""
    length, count, width = 384, 20, 30
    offsets = np.array([[(5 * token, 5 * token + 4) for token in range(length)]] * 3, np.int32)
    score, where, first, last = best_spans(*np.zeros((2, 3, length)), offsets, width, count)  # type: ignore[call-arg]
    assert len(score) == 3 * count * width
    assert [(where[at], first[at], last[at]) for at in (0, 1, width)] == [(0, 0, 0), (0, 0, 1), (0, 1, 1)]


def test_what_joins_no_other_character_is_one_by_itself() -> None:
    joins = pattern(MAY_JOIN).match
    alone = [chr(point) for point in range(0x10000) if not 0xD800 <= point < 0xE000 and not joins(chr(point))]
    assert len(alone) > 40_000
    for text in ("".join(alone), *(other.join(alone) for other in "a\u0915\u0627\u6a4b\u231a")):
        assert sum(1 for _ in pattern(GRAPHEME).finditer(text)) == len(text)


@settings(max_examples=200, deadline=None)
@given(drawn=drawn(), null=st.booleans(), threshold=st.floats(-20, 20))
def test_an_answer_is_always_a_slice(drawn: Drawn, null: bool, threshold: float) -> None:
    context, windows = drawn
    found = decode(
        Question("q", "?", context), windows, max_tokens=30, may_be_unanswerable=null, null_threshold=threshold
    )
    for each in found.n_best:
        assert each.text == context[each.start : each.end]
        assert 0 < each.confidence <= 1
    assert found.text == context[found.start : found.end]
    assert (found.text == "") == (null and found.null_odds > threshold)
    assert context[slice(*found.best_span)] != ""
    assert any(each.text == found.text and each.score == found.score for each in found.n_best)
