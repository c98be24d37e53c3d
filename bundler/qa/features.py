"""Cuts questions and contexts into windows of tokens; a long context is seen through overlapping ones."""

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import tokenizers

from bundler.errors import FileUnreadable, ModelInvalid, QuestionTooLong
from bundler.types import Feature, Question

BATCH = 256
LEAST_CONTEXT = 16  # tokens of context that a window must have room for
HINT = "Give the model's tokenizer.json or its vocab.txt with --tokenizer."


def load_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a `tokenizer.json`, or an uncased BERT one from a `vocab.txt`.

    Raises:
        FileUnreadable, ModelInvalid
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelInvalid(path, f"is no tokenizer: not UTF-8 at byte {error.start}", HINT) from error
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error
    try:
        if path.suffix == ".txt":
            vocabulary = {word: number for number, word in enumerate(text.splitlines())}
            return tokenizers.Tokenizer.from_str(tokenizers.BertWordPieceTokenizer(vocabulary, lowercase=True).to_str())
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the Rust library raises bare Exception
        raise ModelInvalid(path, f"is no tokenizer: {error}", HINT) from error


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
    of_context = np.array([sequence == 1 for sequence in encoding.sequence_ids])
    return Feature(
        key=f"{question.id}#{index}",
        question_id=question.id,
        inputs={
            "input_ids": np.array(encoding.ids, np.int32),
            "attention_mask": np.array(encoding.attention_mask, np.int32),
            "token_type_ids": np.array(encoding.type_ids, np.int32),
        },
        offsets=np.where(of_context[:, None], np.array(encoding.offsets, np.int32), np.int32(-1)),
    )
