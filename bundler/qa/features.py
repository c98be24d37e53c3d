"""Cuts questions and contexts into windows of tokens; a long context is seen through overlapping ones."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from bundler.errors import FileUnreadable, ModelInvalid, QuestionTooLong
from bundler.types import Feature, Question

BATCH = 256
LEAST_CONTEXT = 16  # tokens of context that a window must have room for
MANY_CAPITALS = 0.01  # a vocabulary with more pieces in upper case than this share is one of cased words
HINT = "Give the model's tokenizer.json or its vocab.txt with --tokenizer."


def load_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a `tokenizer.json`, or BERT's of a `vocab.txt`.

    Whether a vocab.txt is of lower-cased words says the tokenizer_config.json beside it, or else the words themselves.

    Raises:
        FileUnreadable, ModelInvalid
    """
    text = _read(path)
    settings = read_settings(path.with_name("tokenizer_config.json")) if path.suffix == ".txt" else {}
    try:
        if path.suffix == ".txt":
            return _bert_tokenizer(text.removesuffix("\n").split("\n"), settings)
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the Rust library raises bare Exception
        raise ModelInvalid(path, f"is no tokenizer: {error}", HINT) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelInvalid(path, f"is no tokenizer: not UTF-8 at byte {error.start}", HINT) from error
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error


def read_settings(path: Path) -> dict[str, Any]:
    """What a tokenizer_config.json says; nothing where there is none."""
    if not path.exists():
        return {}
    try:
        settings = json.loads(_read(path))
    except ValueError as error:
        raise ModelInvalid(path, f"is no JSON: {error}", HINT) from error
    if not isinstance(settings, dict):
        raise ModelInvalid(path, "is no JSON object", HINT)
    return settings


def _bert_tokenizer(pieces: Sequence[str], settings: dict[str, Any]) -> tokenizers.Tokenizer:
    """WordPiece over these pieces, normalized as the settings say: a tokenizer_config.json's, all with defaults."""
    lowercase = settings.get("do_lower_case")
    if lowercase is None:
        capitals = sum(piece != piece.lower() for piece in pieces if not piece.startswith("["))
        lowercase = capitals < len(pieces) * MANY_CAPITALS
    chinese = settings.get("tokenize_chinese_chars")
    made = tokenizers.BertWordPieceTokenizer(
        {piece: number for number, piece in enumerate(pieces)},
        lowercase=bool(lowercase),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=True if chinese is None else bool(chinese),
    )
    return tokenizers.Tokenizer.from_str(made.to_str())


class Windower:
    """Makes windows of `length` tokens that overlap by `overlap` tokens of context."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, length: int, overlap: int) -> None:
        self._tokenizer, self._length, self._overlap = tokenizer, length, overlap
        pad = next((token for token in ("[PAD]", "<pad>") if tokenizer.token_to_id(token) is not None), None)
        if pad is None:
            raise ModelInvalid("tokenizer", "has no padding token [PAD] or <pad>", HINT)
        tokenizer.no_truncation()
        tokenizer.enable_padding(length=length, pad_id=tokenizer.token_to_id(pad), pad_token=pad)
        self._special = tokenizer.num_special_tokens_to_add(is_pair=True)
        if not self._special:
            raise ModelInvalid("tokenizer", "puts no [CLS] and [SEP] around a question and its context", HINT)

    def windows(self, questions: Iterable[Question]) -> Iterator[Feature]:
        """The windows of each question, in order; read and made in batches, so that memory stays flat.

        Raises:
            QuestionTooLong
        """
        stream = iter(questions)
        while batch := tuple(islice(stream, BATCH)):
            yield from self._batch(batch)

    def _batch(self, batch: tuple[Question, ...]) -> Iterator[Feature]:
        for overlap, group in groupby(zip(batch, self._overlaps(batch), strict=True), key=lambda pair: pair[1]):
            questions = [question for question, _ in group]
            self._tokenizer.enable_truncation(self._length, stride=overlap, strategy="only_second")
            encodings = self._tokenizer.encode_batch([(question.text, question.context) for question in questions])
            for question, first in zip(questions, encodings, strict=True):
                for index, encoding in enumerate((first, *first.overflowing)):
                    yield _feature(question, index, encoding)

    def _overlaps(self, batch: tuple[Question, ...]) -> list[int]:
        """How far each question's windows overlap: less than asked for where the question leaves little room."""
        self._tokenizer.no_truncation()
        encodings = self._tokenizer.encode_batch([question.text for question in batch], add_special_tokens=False)
        overlaps = []
        for question, encoding in zip(batch, encodings, strict=True):
            length = sum(encoding.attention_mask)
            room = self._length - self._special - length
            if room < LEAST_CONTEXT:
                raise QuestionTooLong(question.id, length, self._length - self._special - LEAST_CONTEXT)
            overlaps.append(min(self._overlap, room // 2))
        return overlaps


def _feature(question: Question, index: int, encoding: tokenizers.Encoding) -> Feature:
    sequences = zip(encoding.sequence_ids, encoding.offsets, strict=True)
    offsets = [_trimmed(question.context, *span) if sequence == 1 else (-1, -1) for sequence, span in sequences]
    return Feature(
        key=f"{question.id}#{index}",
        question_id=question.id,
        inputs={
            "input_ids": np.array(encoding.ids, np.int32),
            "attention_mask": np.array(encoding.attention_mask, np.int32),
            "token_type_ids": np.array(encoding.type_ids, np.int32),
        },
        offsets=np.array(offsets, np.int32),
    )


def _trimmed(context: str, start: int, end: int) -> tuple[int, int]:
    """The span without white space: SentencePiece counts the space before a word (ALBERT's "▁bridge") as the word's."""
    while start < end and context[start].isspace():
        start += 1
    while start < end and context[end - 1].isspace():
        end -= 1
    return start, end
