"""Tests answers that end at whole words, as transformers widens them for BERT's tokenizers."""

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import BertPreTokenizer

from bundler.qa.spans import WindowLogits, decode_all
from bundler.qa.words import tells_words, to_whole_words
from bundler.types import Question
from tests.models import write_vocabulary

CHARACTERS = "ab9é \n\t.,'-$+=^`|~_«»€°²½\u0301\u200d橋塔かカ한ภา👩🚀\u00ad\x00\ufffd"
TEXTS = st.text(st.sampled_from(CHARACTERS), min_size=1, max_size=40)


def widened(text: str, begin: int, end: int) -> str:
    start, stop = to_whole_words(text, np.array([[begin, end]], np.int32))[0].tolist()
    return text[start:stop]


@pytest.mark.parametrize(
    ("text", "begin", "end", "said"),
    [
        ("built in 1808.", 10, 12, "1808"),
        ("built in 1808.", 9, 13, "1808"),
        ("the Elmwood-Krell bridge", 6, 10, "Elmwood"),
        ("the Elmwood-Krell bridge", 6, 14, "Elmwood-Krell"),
        ("cost $25 then", 6, 7, "25"),
        ("cost $25 then", 5, 7, "$25"),
        ("in 橋塔 of", 3, 4, "橋"),
        ("a", 0, 1, "a"),
        ("abc", 0, 3, "abc"),
    ],
)
def test_a_span_reaches_to_the_ends_of_its_words(text: str, begin: int, end: int, said: str) -> None:
    assert widened(text, begin, end) == said


def test_what_is_not_of_the_context_stays_so() -> None:
    assert to_whole_words("some words", np.array([[[-1, -1], [1, 2]]], np.int32)).tolist() == [[[-1, -1], [0, 4]]]


@given(TEXTS)
def test_words_are_those_of_berts_pre_tokenizer(text: str) -> None:
    """Each of its words, from any token inside, is the whole word; except control characters, which it drops."""
    for word, (begin, end) in BertPreTokenizer().pre_tokenize_str(text):
        if all(character.isprintable() for character in word) and not any("\u2e80" <= c <= "\u9fff" for c in word):
            for place in range(begin, end):
                assert widened(text, place, place + 1) == text[begin:end]


def test_which_tokenizers_tell_words(tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    bert = tokenizers.BertWordPieceTokenizer(str(tmp_path / "vocab.txt"))
    bert.save(str(tmp_path / "bert.json"))
    assert tells_words(tmp_path / "bert.json")
    told = json.loads((tmp_path / "bert.json").read_text())
    for other, expected in (
        ({"type": "Metaspace"}, False),
        (None, False),
        (7, False),
        ({"type": "Sequence", "pretokenizers": [{"type": "BertPreTokenizer"}]}, True),
        ({"type": "Sequence", "pretokenizers": 7}, False),
    ):
        (tmp_path / "other.json").write_text(json.dumps({**told, "pre_tokenizer": other}))
        assert tells_words(tmp_path / "other.json") is expected
    (tmp_path / "none.json").write_text("{")
    assert not tells_words(tmp_path / "none.json")
    assert not tells_words(tmp_path / "nowhere.json")


def test_answers_of_part_words_are_one_answer() -> None:
    """Two spans of the same word count once, with the better score."""
    question = Question("q", "When?", "In 1808.")
    offsets = np.array([[-1, -1], [0, 2], [3, 5], [5, 7], [7, 8]], np.int32)
    start, end = np.zeros((2, 5), np.float32)
    start[3], end[3] = 5, 6
    start[2] = 4
    window = WindowLogits("q#0", offsets, start, end)
    asked = [(question, [window])]
    (part,) = decode_all(asked, max_tokens=3, may_be_unanswerable=False)
    (whole,) = decode_all(asked, max_tokens=3, may_be_unanswerable=False, whole_words=True)
    assert (part.text, whole.text) == ("08", "1808")
    assert whole.score == part.score == 11
    texts = [candidate.text for candidate in whole.n_best]
    assert len(set(texts)) == len(texts)
    assert "08" not in texts
