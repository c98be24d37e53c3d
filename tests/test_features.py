"""Tests windows: no token of a context is lost, and every token maps to its characters, for any text."""

import json
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bundler.errors import FileUnreadable, ModelInvalid, QuestionsInvalid, QuestionTooLong
from bundler.model.tokenizers import tokenizer_of
from bundler.qa import features
from bundler.qa.features import LEAST_CONTEXT, Windower, load_tokenizer
from bundler.qa.special_tokens import Frame
from bundler.qa.warnings import Notes
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
    assert (feature.offsets.dtype, feature.offsets.shape) == (np.int32, (LENGTH, 2))


def test_a_long_context_overlaps(vocabulary: Path) -> None:
    found = windows(vocabulary, "who?", "bridge " * 100, overlap=10)
    assert len(found) > 2
    assert [feature.key for feature in found] == [f"q#{number}" for number in range(len(found))]
    for before, after in pairwise(found):
        last = {tuple(span) for span in before.offsets.tolist()} - {(-1, -1)}
        first = {tuple(span) for span in after.offsets.tolist()} - {(-1, -1)}
        assert len(last & first) == 10


TEXT = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=200)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(context=TEXT, overlap=st.integers(0, 60))
def test_every_token_of_a_context_is_in_some_window(vocabulary: Path, context: str, overlap: int) -> None:
    tokenizer = load_tokenizer(vocabulary)
    expected = {tuple(span) for span in tokenizer.encode(context, add_special_tokens=False).offsets}
    assume(expected)
    found = windows(vocabulary, "what?", context, overlap)
    seen = {tuple(span) for feature in found for span in feature.offsets.tolist()} - {(-1, -1)}
    assert seen == expected
    assert all(0 <= start <= end <= len(context) for start, end in seen)


@pytest.mark.parametrize(
    "context", ["👩‍🚀 was 18", "橋 1808年", "cafe\u0301 was 20", "a\0b was 19", "\u202eright to left 18"]
)
def test_offsets_cut_the_original_text(vocabulary: Path, context: str) -> None:
    """The context has emoji, CJK, combining marks and NUL; offsets still count its characters."""
    (feature,) = windows(vocabulary, "when?", context)
    spans = [tuple(span) for span in feature.offsets.tolist() if span != [-1, -1]]
    number = next(digits for digits in ("1808", "18", "19", "20") if digits in context)
    start = context.index(number)
    assert any(s == start for s, _ in spans)
    assert any(e == start + len(number) for _, e in spans)


def test_a_question_too_long_for_any_context_is_cut_and_noted(vocabulary: Path) -> None:
    notes = Notes()
    windower = Windower(load_tokenizer(vocabulary), LENGTH, 8, notes)
    asked = [Question("long", "bridge " * 200 + "tower", "the tower"), Question("other", "bridge " * 47, "the river")]
    found = list(windower.windows(asked))
    assert [feature.key for feature in found] == ["long#0", "other#0"]
    room = LENGTH - 3 - LEAST_CONTEXT
    for feature in found:
        words = [VOCABULARY[i] for i in feature.inputs["input_ids"]]
        assert words[: room + 3] == ["[CLS]", *["bridge"] * room, "[SEP]", "the"]
    assert notes.lines == (
        "2 questions: cut to its first 29 tokens, as the model's input has no room for more "
        "(the first: question 'long')",
    )


def test_a_question_that_just_fits_is_not_cut(vocabulary: Path) -> None:
    notes = Notes()
    windower = Windower(load_tokenizer(vocabulary), LENGTH, 8, notes)
    (feature,) = windower.windows([Question("q", "bridge " * (LENGTH - 3 - LEAST_CONTEXT), "the tower")])
    assert feature.inputs["attention_mask"].sum() == LENGTH - LEAST_CONTEXT + 2
    assert notes.lines == ()


def test_no_room_for_any_question(vocabulary: Path) -> None:
    for length in (LEAST_CONTEXT + 3, LEAST_CONTEXT):
        with pytest.raises(QuestionTooLong, match=r"question 'q': 1 tokens long, and a window has room for 0 "):
            windows(vocabulary, "bridge", "the tower", length=length)
    (feature,) = windows(vocabulary, "bridge", "the tower", length=LEAST_CONTEXT + 4)
    assert feature.offsets[3:5].tolist() == [[0, 3], [4, 9]]
    (cut,) = windows(vocabulary, "bridge tower", "the tower", length=LEAST_CONTEXT + 4)
    assert cut.inputs["input_ids"].tolist() == feature.inputs["input_ids"].tolist()


@pytest.mark.parametrize("context", [" ", "\0", "\u200d", "\n\t"])
def test_a_context_without_a_word_is_refused(vocabulary: Path, context: str) -> None:
    with pytest.raises(QuestionsInvalid) as caught:
        windows(vocabulary, "what?", context)
    assert str(caught.value) == "question 'q': its context holds nothing that the tokenizer takes for a word"
    assert caught.value.hint == "Correct it."


JOINED = "\U0001f469\u200d\U0001f680"
PIECES_OF_TEXT = st.sampled_from(["bridge ", "tower", "The ", "18", "\u6a4b", "cafe\u0301 ", "\t", JOINED, "?", " "])


@settings(max_examples=150, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(
            st.lists(PIECES_OF_TEXT, min_size=1, max_size=20).map("".join),
            st.lists(PIECES_OF_TEXT, max_size=120).map(lambda pieces: "the" + "".join(pieces)),
        ),
        min_size=1,
        max_size=4,
    ),
    overlap=st.integers(0, 20),
)
def test_each_window_is_what_the_tokenizer_makes_of_the_pair(
    vocabulary: Path, pairs: list[tuple[str, str]], overlap: int
) -> None:
    """Compares with the tokenizer's own truncation and padding, in the same order; also with a shared text."""
    asked = [Question(str(number), *pair) for number, pair in enumerate(pairs * 2)]
    own = load_tokenizer(vocabulary)
    own.enable_padding(length=LENGTH, pad_id=own.token_to_id("[PAD]"), pad_token="[PAD]")
    expected = []
    for question in asked:
        room = LENGTH - 3 - len(load_tokenizer(vocabulary).encode(question.text, add_special_tokens=False).ids)
        if room < LEAST_CONTEXT:
            return  # it is cut
        own.enable_truncation(LENGTH, stride=min(overlap, room // 2), strategy="only_second")
        first = own.encode(question.text, question.context)
        for index, each in enumerate((first, *first.overflowing)):
            sequences = zip(each.sequence_ids, each.offsets, strict=True)
            offsets = [span if sequence == 1 else (-1, -1) for sequence, span in sequences]
            expected.append((f"{question.id}#{index}", each.ids, each.attention_mask, each.type_ids, offsets))
    found = Windower(load_tokenizer(vocabulary), LENGTH, overlap).windows(asked)
    names = ("input_ids", "attention_mask", "token_type_ids")
    made = [
        (f.key, *(f.inputs[name].tolist() for name in names), [tuple(span) for span in f.offsets.tolist()])
        for f in found
    ]
    assert made == expected


def test_questions_are_made_in_batches(vocabulary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches change nothing, and at most one batch is read ahead."""
    asked = [Question(f"q{number}", "who? " * number, "bridge tower " * (9 * number + 1)) for number in range(5)]
    expected = [(f.key, f.offsets.tolist()) for f in Windower(load_tokenizer(vocabulary), LENGTH, 8).windows(asked)]
    monkeypatch.setattr(features, "BATCH", 2)
    read = []
    found = Windower(load_tokenizer(vocabulary), LENGTH, 8).windows(read.append(q.id) or q for q in asked)
    first = next(found)
    assert read == ["q0", "q1", "q2", "q3"]
    assert [(f.key, f.offsets.tolist()) for f in (first, *found)] == expected


def test_what_a_tokenizer_cuts_and_pads_by_itself_is_left_out(vocabulary: Path) -> None:
    own = load_tokenizer(vocabulary)
    own.enable_truncation(3)
    own.enable_padding(length=20)
    question = Question("q", "which river is it?", "the bridge is in the tower")
    (found,) = Windower(own, LENGTH, 8).windows([question])
    (expected,) = windows(vocabulary, question.text, question.context)
    assert found.offsets.tolist() == expected.offsets.tolist()
    assert found.inputs["input_ids"].tolist() == expected.inputs["input_ids"].tolist()


def roberta() -> tokenizers.Tokenizer:
    """Returns a tokenizer with two separators between the texts, one kind of segment, and a padding id other than 0."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "a", "the", "tower", "who"]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s>:0 $A:0 </s>:0 </s>:0 $B:0 </s>:0", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made


def test_a_frame_is_learned_from_the_tokenizer(vocabulary: Path) -> None:
    frame = Frame.of(roberta())
    assert (frame.before.tolist(), frame.between.tolist(), frame.after.tolist()) == (
        [[0], [0]],
        [[2, 2], [0, 0]],
        [[2], [0]],
    )
    assert (frame.segments, frame.pad, len(frame)) == ((0, 0), 1, 4)
    assert frame.head([7, 6]).tolist() == [[0, 7, 6, 2, 2], [0, 0, 0, 0, 0]]
    assert frame.head([]).dtype == np.int32
    bert = Frame.of(load_tokenizer(vocabulary))
    assert (bert.segments, bert.pad, len(bert)) == ((0, 1), VOCABULARY.index("[PAD]"), 3)
    assert bert.after.tolist() == [[VOCABULARY.index("[SEP]")], [1]]


def test_windows_in_another_frame() -> None:
    (feature,) = Windower(roberta(), 24, 4).windows([Question("q", "who", "the tower")])
    assert feature.inputs["input_ids"].tolist() == [0, 7, 2, 2, 5, 6, 2, *[1] * 17]
    assert feature.inputs["token_type_ids"].tolist() == [0] * 24
    assert feature.inputs["attention_mask"].tolist() == [1] * 7 + [0] * 17
    assert feature.offsets[4:6].tolist() == [[0, 3], [4, 9]]


def test_a_long_question_leaves_others_alone(vocabulary: Path) -> None:
    """It gets less overlap; the windows of the other questions do not change."""
    long = Question("long", "bridge " * (LENGTH - 3 - LEAST_CONTEXT), "tower " * 60)
    short = Question("short", "who?", "tower " * 60)
    windower = Windower(load_tokenizer(vocabulary), LENGTH, 12)
    together = [f.offsets.tolist() for f in windower.windows([short, long, short]) if f.question_id == "short"]
    alone = [f.offsets.tolist() for f in windower.windows([short])]
    assert together == alone * 2
    first, second, *_ = windower.windows([long])
    seen = [{tuple(span) for span in feature.offsets.tolist()} - {(-1, -1)} for feature in (first, second)]
    assert [len(spans) for spans in seen] == [LEAST_CONTEXT, LEAST_CONTEXT]
    assert len(seen[0] & seen[1]) == LEAST_CONTEXT // 2


@contextmanager
def refused(path: Path | str, said: str) -> Iterator[None]:
    """Checks that the block refuses the tokenizer with this message."""
    with pytest.raises(ModelInvalid) as caught:
        yield
    assert re.fullmatch(f"{re.escape(str(path))}: {said}", str(caught.value))
    assert caught.value.hint == "Give the model's tokenizer.json or its vocab.txt with --tokenizer."


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", "{}", "is not a tokenizer: .+"),
        ("tokenizer.json", "no json", "is not a tokenizer: .+"),
        ("vocab.txt", "hello\nworld\n", "is not a tokenizer: .+"),
    ],
)
def test_what_is_no_tokenizer_is_refused(name: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with refused(tmp_path / name, said):
        load_tokenizer(tmp_path / name)


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match=r"vocab\.txt: cannot be read: No such file or directory$"):
        load_tokenizer(tmp_path / "vocab.txt")


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json"])
def test_a_tokenizer_that_is_no_text_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe")
    with refused(tmp_path / name, "is not a tokenizer: not UTF-8 at byte 0"):
        load_tokenizer(tmp_path / name)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (b"\xff\xfe", "is not JSON: .* can't decode byte 0xff in position 0: .*"),
        (b"", "is not JSON: Expecting value: .*"),
        (b"{", "is not JSON: Expecting property name .*"),
        (b"[]", "is not a JSON object"),
        (b"null", "is not a JSON object"),
    ],
)
def test_damaged_settings_of_a_tokenizer_are_refused(settings: bytes, said: str, tmp_path: Path) -> None:
    vocabulary = write_vocabulary(tmp_path)
    (tmp_path / "tokenizer_config.json").write_bytes(settings)
    with refused(tmp_path / "tokenizer_config.json", said):
        load_tokenizer(vocabulary)


def test_a_tokenizer_without_special_tokens_is_refused(tmp_path: Path) -> None:
    bare = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]"))
    bare.save(str(tmp_path / "tokenizer.json"))
    with refused("tokenizer", r"puts no \[CLS\] and \[SEP\] around a question and its context"):
        Windower(load_tokenizer(tmp_path / "tokenizer.json"), LENGTH, 8)
    unpadded = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 1}, unk_token="[UNK]"))
    with refused("tokenizer", r"has no padding token \[PAD\] or <pad>"):
        Windower(unpadded, LENGTH, 8)


CASED = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "Tower",
    "tower",
    "Caf\u00e9",
    "cafe",
    "caf\u00e9",
    "\u6a4b",
    "\u2028",
    "##s",
]
TEXT_OF_CASES = "Tower tower Caf\u00e9"


@pytest.mark.parametrize(
    ("settings", "pieces"),
    [
        ({"do_lower_case": False}, ["Tower", "tower", "Caf\u00e9"]),
        ({"do_lower_case": True}, ["tower", "tower", "cafe"]),
        ({"do_lower_case": True, "strip_accents": False}, ["tower", "tower", "caf\u00e9"]),
        ({"do_lower_case": False, "strip_accents": True}, ["Tower", "tower", "[UNK]"]),
        ({"strip_accents": None}, ["Tower", "tower", "Caf\u00e9"]),  # the vocabulary has capitals
        (None, ["Tower", "tower", "Caf\u00e9"]),
    ],
)
def test_the_settings_beside_a_vocabulary_hold(
    settings: dict[str, object] | None, pieces: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(CASED) + "\n", encoding="utf-8")
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(path)
    assert tokenizer.get_vocab_size() == len(CASED)
    assert tokenizer.encode(TEXT_OF_CASES, add_special_tokens=False).tokens == pieces


@pytest.mark.parametrize(("capitals", "kept"), [(1, False), (2, True)])
def test_a_vocabulary_with_few_capitals_is_of_lower_cased_words(capitals: int, kept: bool, tmp_path: Path) -> None:
    """The limit is one piece in a hundred; special tokens are in upper case in any vocabulary."""
    names = ["Tower", "Bridge"][:capitals]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "tower", *names]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*pieces, *(f"x{number}" for number in range(200 - len(pieces)))]))
    assert load_tokenizer(path).encode("Tower", add_special_tokens=False).tokens == ["Tower" if kept else "tower"]


@pytest.mark.parametrize(("told", "pieces"), [(None, 2), (True, 2), (False, 1)])
def test_chinese_characters_are_words_unless_the_settings_say_otherwise(
    told: bool | None, pieces: int, tmp_path: Path
) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(CASED), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenize_chinese_chars": told}))
    assert len(load_tokenizer(path).encode("\u6a4b\u6a4b", add_special_tokens=False).tokens) == pieces


def test_a_vocabulary_with_line_separators_and_windows_line_ends(tmp_path: Path) -> None:
    """Python's splitlines would count one piece as two, and every later id would be wrong."""
    path = tmp_path / "vocab.txt"
    path.write_bytes("\r\n".join(CASED).encode())
    tokenizer = load_tokenizer(path)
    assert tokenizer.token_to_id("##s") == CASED.index("##s")
    assert tokenizer.get_vocab_size() == len(CASED)


def test_the_tokenizer_of_a_folder_keeps_its_settings(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(CASED), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    tokenizer = load_tokenizer(tokenizer_of(tmp_path, tmp_path))
    assert tokenizer.encode("Tower", add_special_tokens=False).tokens == ["Tower"]


# ALBERT: SentencePiece

PIECES = [
    "<pad>",
    "<unk>",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "\u2581",
    "\u2581the",
    "\u2581tower",
    "\u2581in",
    "18",
    "08",
    ".",
    "?",
]
ALBERT_CONTEXT = "The  t\u00f3wer\tin 1808 ."


def sentencepiece(pieces: Sequence[str]) -> bytes:
    """Returns a SentencePiece model of these pieces in protobuf's format; rarer ones come later."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    made = b""
    for number, piece in enumerate(pieces):
        score = bytes([2 << 3 | 5]) + struct.pack("<f", -float(number))
        kind = bytes([3 << 3, 1])
        made += field(1, field(1, piece.encode()) + score + kind)
    return made + field(2, bytes([3 << 3, 1])) + field(3, field(1, b"identity"))


@pytest.fixture
def albert(tmp_path: Path) -> Path:
    (tmp_path / "spiece.model").write_bytes(sentencepiece(PIECES))
    return tmp_path


def test_the_tokenizer_of_an_albert(albert: Path) -> None:
    """No offset contains white space: neither the space that belongs to a piece nor a tab."""
    tokenizer = load_tokenizer(tokenizer_of(albert, albert))
    (feature,) = Windower(tokenizer, 32, 4).windows([Question("q", "in the tower?", ALBERT_CONTEXT)])
    ids = [PIECES[i] for i in feature.inputs["input_ids"]]
    context = ["\u2581the", "\u2581tower", "\u2581in", "\u2581", "18", "08", "\u2581", "."]
    assert ids[:15] == ["[CLS]", "\u2581in", "\u2581the", "\u2581tower", "?", "[SEP]", *context, "[SEP]"]
    assert set(ids[15:]) == {"<pad>"}
    assert feature.inputs["token_type_ids"].tolist() == [0] * 6 + [1] * 9 + [0] * 17
    words = [ALBERT_CONTEXT[start:end] for start, end in feature.offsets.tolist() if start >= 0]
    assert [word for word in words if len(word) > 1] == ["The", "t\u00f3wer", "in", "18", "08"]


def test_offsets_leave_the_space_before_a_word_out(tmp_path: Path) -> None:
    """Plain Metaspace, as in ALBERT's older tokenizer.json, counts it as part of the word."""
    unigram = tokenizers.models.Unigram([(piece, -float(i)) for i, piece in enumerate(PIECES)], unk_id=1)
    tokenizer = tokenizers.Tokenizer(unigram)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    context = "in the tower  ."
    windower = Windower(load_tokenizer(tmp_path / "tokenizer.json"), 32, 4)
    (feature,) = windower.windows([Question("q", "in?", context)])
    spans = [(start, end) for start, end in feature.offsets.tolist() if start >= 0]
    assert all(context[start:end] == context[start:end].strip() for start, end in spans)
    assert [context[start:end] for start, end in spans if start < end] == ["in", "the", "tower", "."]
    with pytest.raises(QuestionsInvalid, match="its context holds nothing that the tokenizer takes for a word"):
        list(windower.windows([Question("q", "in?", "  ")]))


def test_offsets_leave_the_space_behind_a_word_out() -> None:
    made = roberta()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "merged_with_previous")
    context = "the tower who"
    (feature,) = Windower(made, 24, 4).windows([Question("q", "who", context)])
    spans = [(start, end) for start, end in feature.offsets.tolist() if start >= 0]
    assert [context[start:end] for start, end in spans] == ["the", "tower", "who"]


@pytest.mark.parametrize("size", [0, 1, 3, 40, -1])
def test_a_damaged_sentencepiece_model_is_refused(size: int, albert: Path) -> None:
    content = (albert / "spiece.model").read_bytes()
    (albert / "spiece.model").write_bytes(content[:size])
    with pytest.raises(ModelInvalid, match=r"spiece\.model: is not a SentencePiece model"):
        tokenizer_of(albert, albert)
    assert not (albert / "tokenizer.json").exists()


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_no_sentencepiece_model(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "spiece.model").write_bytes(content)
    with pytest.raises(ModelInvalid):
        tokenizer_of(folder, folder)
