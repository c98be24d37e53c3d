"""Windows: no token of a context is lost, every token maps back to its characters, whatever the text."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.errors import FileUnreadable, ModelInvalid, QuestionTooLong
from bundler.qa.features import LEAST_CONTEXT, Windower, load_tokenizer
from bundler.types import Feature, Question
from tests.models import VOCABULARY, write_vocabulary

LENGTH = 48


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vocabulary(tmp_path_factory.mktemp("vocabulary"))


def windows(vocabulary: Path, question: str, context: str, overlap: int = 8, length: int = LENGTH) -> list[Feature]:
    windower = Windower(load_tokenizer(vocabulary), length, overlap)
    return list(windower.windows([Question("q", question, context)]))


def test_a_short_context_is_one_padded_window(vocabulary: Path) -> None:
    (feature,) = windows(vocabulary, "Which river?", "The bridge.")
    ids = [VOCABULARY[i] for i in feature.inputs["input_ids"]]
    assert ids[:10] == ["[CLS]", "which", "river", "?", "[SEP]", "the", "bridge", ".", "[SEP]", "[PAD]"]
    assert feature.inputs["attention_mask"].tolist() == [1] * 9 + [0] * 39
    assert feature.inputs["token_type_ids"].tolist() == [0] * 5 + [1] * 4 + [0] * 39
    assert feature.offsets[4:9].tolist() == [[-1, -1], [0, 3], [4, 10], [10, 11], [-1, -1]]
    assert feature.key == "q#0"
    assert all(values.dtype == np.int32 and values.shape == (LENGTH,) for values in feature.inputs.values())


def test_a_long_context_overlaps(vocabulary: Path) -> None:
    found = windows(vocabulary, "who?", "bridge " * 100, overlap=10)
    assert len(found) > 2
    assert [feature.key for feature in found] == [f"q#{number}" for number in range(len(found))]
    for before, after in pairwise(found):
        last = {tuple(span) for span in before.offsets.tolist()} - {(-1, -1)}
        first = {tuple(span) for span in after.offsets.tolist()} - {(-1, -1)}
        assert len(last & first) == 10


TEXT = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=200)


@settings(max_examples=150, deadline=None)
@given(context=TEXT, overlap=st.integers(0, 60))
def test_every_token_of_a_context_is_in_some_window(vocabulary: Path, context: str, overlap: int) -> None:
    tokenizer = load_tokenizer(vocabulary)
    expected = {tuple(span) for span in tokenizer.encode(context, add_special_tokens=False).offsets}
    found = windows(vocabulary, "what?", context, overlap)
    seen = {tuple(span) for feature in found for span in feature.offsets.tolist()} - {(-1, -1)}
    assert seen == expected
    assert all(0 <= start <= end <= len(context) for start, end in seen)


@pytest.mark.parametrize(
    "context", ["👩‍🚀 was 18", "橋 1808年", "cafe\u0301 was 20", "a\0b was 19", "\u202eright to left 18"]
)
def test_offsets_cut_the_original_text(vocabulary: Path, context: str) -> None:
    """Emoji, CJK, combining marks and NUL are in the context; offsets still count its own characters."""
    (feature,) = windows(vocabulary, "when?", context)
    spans = [tuple(span) for span in feature.offsets.tolist() if span != [-1, -1]]
    number = next(digits for digits in ("1808", "18", "19", "20") if digits in context)
    start = context.index(number)
    assert any(s == start for s, _ in spans)
    assert any(e == start + len(number) for _, e in spans)


def test_a_question_too_long_for_any_context_is_refused(vocabulary: Path) -> None:
    with pytest.raises(QuestionTooLong, match=r"question 'q': 47 tokens long"):
        windows(vocabulary, "bridge " * 47, "the tower")


def test_a_long_question_leaves_others_alone(vocabulary: Path) -> None:
    """It gets less overlap; the windows of the questions beside it stay as they are."""
    long = Question("long", "bridge " * (LENGTH - 3 - LEAST_CONTEXT), "tower " * 60)
    short = Question("short", "who?", "tower " * 60)
    windower = Windower(load_tokenizer(vocabulary), LENGTH, 12)
    together = [f.offsets.tolist() for f in windower.windows([short, long, short]) if f.question_id == "short"]
    alone = [f.offsets.tolist() for f in windower.windows([short])]
    assert together == alone * 2


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("tokenizer.json", "{}", ModelInvalid),
        ("tokenizer.json", "no json", ModelInvalid),
        ("vocab.txt", "hello\nworld\n", ModelInvalid),
    ],
)
def test_what_is_no_tokenizer_is_refused(name: str, content: str, error: type[Exception], tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(error):
        Windower(load_tokenizer(tmp_path / name), LENGTH, 8)


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable):
        load_tokenizer(tmp_path / "vocab.txt")
