"""Cuts questions and contexts into windows of tokens; a long context gets several overlapping windows."""

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from bundler.errors import FileUnreadable, ModelInvalid, QuestionsInvalid, QuestionTooLong
from bundler.qa.special_tokens import HINT, Frame, Tokens
from bundler.qa.warnings import Notes
from bundler.types import Feature, Question

__all__ = ["HINT", "LEAST_CONTEXT", "OVERLAP", "Windower", "load_tokenizer", "read_settings", "tokenizer_text"]

BATCH = 512
BERT_SETTINGS = {
    "lowercase": "do_lower_case",
    "strip_accents": "strip_accents",
    "handle_chinese_chars": "tokenize_chinese_chars",
}
Batch = tuple[Question, ...]
OVERLAP = 128  # tokens of context that two windows share by default
LEAST_CONTEXT = 16  # tokens of context that a window must have room for
MANY_CAPITALS = 0.01  # a vocabulary with more than this share of upper-case pieces is cased
SPACES = np.array([chr(point).isspace() for point in range(0x3002)])  # U+3000 is the last white space


def load_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """Loads the tokenizer from a `tokenizer.json`, or BERT's from a `vocab.txt`.

    The tokenizer_config.json beside a vocab.txt, or else the words themselves, tell whether it is lower-cased.

    Raises:
        FileUnreadable, ModelInvalid
    """
    text = tokenizer_text(path)
    settings = read_settings(path.with_name("tokenizer_config.json")) if path.suffix == ".txt" else {}
    try:
        if path.suffix == ".txt":
            return _bert_tokenizer(text.removesuffix("\n").split("\n"), settings)
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the Rust library raises bare Exception
        raise ModelInvalid(path, f"is not a tokenizer: {error}", HINT) from error


def tokenizer_text(path: Path) -> str:
    """Returns a tokenizer file's text, with BERT's normalizer set from tokenizer_config.json, as in transformers.

    Raises:
        FileUnreadable, ModelInvalid
    """
    text = _read(path)
    settings = read_settings(path.with_name("tokenizer_config.json")) if path.suffix == ".json" else {}
    wanted = {own: settings[name] for own, name in BERT_SETTINGS.items() if settings.get(name) is not None}
    if not wanted:
        return text
    try:
        made = json.loads(text)
        normalizer = made["normalizer"]
        if normalizer["type"] != "BertNormalizer" or wanted.items() <= normalizer.items():
            return text
    except (ValueError, RecursionError, KeyError, TypeError):  # no tokenizer, or one without a normalizer
        return text
    normalizer.update(wanted)
    return json.dumps(made, ensure_ascii=False, indent=2) + "\n"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelInvalid(path, f"is not a tokenizer: not UTF-8 at byte {error.start}", HINT) from error
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error


def read_settings(path: Path, hint: str = HINT) -> dict[str, Any]:
    """Reads a tokenizer_config.json or a config.json; returns an empty dictionary if there is none.

    Raises:
        FileUnreadable; ModelInvalid: it is not a JSON object
    """
    if not path.exists():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise ModelInvalid(path, f"is not JSON: {error}", hint) from error
    if not isinstance(settings, dict):
        raise ModelInvalid(path, "is not a JSON object", hint)
    return settings


def _bert_tokenizer(pieces: Sequence[str], settings: dict[str, Any]) -> tokenizers.Tokenizer:
    """Builds a WordPiece tokenizer of these pieces, normalized by a tokenizer_config.json's settings or defaults."""
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
    """Makes windows of `length` tokens that overlap by `overlap` tokens of context.

    Each equals the tokenizer's own result for the pair with `only_second` truncation and padding, but a text shared by
    several questions of a batch is tokenized once. A question that leaves no room for its context is truncated and
    reported in `notes`.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, length: int, overlap: int, notes: Notes | None = None) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self._length, self._overlap = tokenizer, length, overlap
        self._frame, self._notes = Frame.of(tokenizer), notes or Notes()
        self._no_text = np.full((length, 2), -1, np.int32)
        self._longest = length - len(self._frame) - LEAST_CONTEXT

    def windows(self, questions: Iterable[Question]) -> Iterator[Feature]:
        """Yields the windows of each question, in order. Works in batches, so that memory use stays constant.

        Raises:
            QuestionTooLong: `length` has no room for any question; QuestionsInvalid: a context without a token;
            ModelInvalid: the tokenizer does not take a text
        """
        stream = iter(questions)
        with ThreadPoolExecutor(1) as thread:  # tokenizes the next batch while the windows of this one are made
            following = self._begin(stream, thread)
            while following is not None:
                batch, job = following
                following = self._begin(stream, thread)
                asked, contexts = job.result()
                for question in batch:
                    yield from self._cut(question, asked[question.text], contexts[question.context])

    def _begin(self, stream: Iterator[Question], thread: Executor) -> tuple[Batch, "Future[_Tokenized]"] | None:
        batch = tuple(islice(stream, BATCH))
        return (batch, thread.submit(self._tokenized, batch)) if batch else None

    def _tokenized(self, batch: Batch) -> "_Tokenized":
        texts = list(dict.fromkeys(question.text for question in batch))
        contexts = list(dict.fromkeys(question.context for question in batch))
        try:
            asked = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            encodings = self._tokenizer.encode_batch(contexts, add_special_tokens=False)
        except Exception as error:  # the Rust library raises bare Exception
            raise ModelInvalid("tokenizer", f"does not take the questions' texts: {error}", HINT) from error
        return (
            {text: encoding.ids for text, encoding in zip(texts, asked, strict=True)},
            {text: _Context.of(text, encoding) for text, encoding in zip(contexts, encodings, strict=True)},
        )

    def _cut(self, question: Question, asked: list[int], context: "_Context") -> Iterator[Feature]:
        if not context.holds_text:
            raise QuestionsInvalid(
                f"question {question.id!r}",
                "its context holds nothing that the tokenizer takes for a word",
                "Correct it.",
            )
        if len(asked) > self._longest:
            if self._longest < 1:
                raise QuestionTooLong(question.id, len(asked), max(0, self._longest))
            kind = f"cut to its first {self._longest} tokens, as the model's input has no room for more"
            self._notes.add(kind, f"question {question.id!r}")
        head = self._frame.head(asked[: self._longest])
        room = self._length - head.shape[1] - self._frame.after.shape[1]
        step = room - min(self._overlap, room // 2)  # a question that leaves little room gets less overlap
        further = max(0, -(-(len(context.ids) - room) // step))
        for index in range(further + 1):
            part = slice(index * step, index * step + room)
            yield self._feature(question, index, head, context.ids[part], context.offsets[part])

    def _feature(
        self, question: Question, index: int, head: Tokens, ids: Tokens, spans: npt.NDArray[np.int32]
    ) -> Feature:
        frame, begin = self._frame, head.shape[1]
        stop = begin + len(ids)
        end = stop + frame.after.shape[1]
        tokens = np.zeros((2, self._length), np.int32)
        tokens[:, :begin] = head
        tokens[0, begin:stop], tokens[1, begin:stop] = ids, frame.segments[1]
        tokens[:, stop:end] = frame.after
        tokens[0, end:] = frame.pad
        mask = np.zeros(self._length, np.int32)
        mask[:end] = 1
        offsets = self._no_text.copy()
        offsets[begin:stop] = spans
        inputs = {"input_ids": tokens[0], "attention_mask": mask, "token_type_ids": tokens[1]}
        return Feature(f"{question.id}#{index}", question.id, inputs, offsets)


@dataclass(frozen=True)
class _Context:
    """A text's tokens: ids, int32 (tokens,), and characters, int32 (tokens, 2); whether any token has characters."""

    ids: Tokens
    offsets: npt.NDArray[np.int32]
    holds_text: bool

    @classmethod
    def of(cls, text: str, encoding: tokenizers.Encoding) -> "_Context":
        offsets = _without_space(text, np.array(encoding.offsets, np.int32).reshape(-1, 2))
        holds_text = bool((offsets[:, 1] > offsets[:, 0]).any())
        return cls(np.array(encoding.ids, np.int32), offsets, holds_text)


_Tokenized = tuple[dict[str, list[int]], dict[str, _Context]]


def _without_space(text: str, spans: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Trims white space from the spans: SentencePiece includes the space before a word (ALBERT's "▁bridge")."""
    points = np.frombuffer(text.encode("utf-32-le"), "<u4")
    space = SPACES[np.minimum(points, len(SPACES) - 1)]
    words = spans[spans[:, 0] < spans[:, 1]]
    if not (space[words[:, 0]].any() or space[words[:, 1] - 1].any()):
        return spans
    places = np.arange(len(text) + 1, dtype=np.int32)
    following = np.append(np.where(space, len(text), places[:-1]), len(text))
    following = np.minimum.accumulate(following[::-1])[::-1]  # where the next text begins, at or after each place
    before = np.maximum.accumulate(np.insert(np.where(space, 0, places[1:]), 0, 0))  # where the last text ends
    starts = np.minimum(following[spans[:, 0]], spans[:, 1])
    return np.stack((starts, np.maximum(before[spans[:, 1]], starts)), axis=1).astype(np.int32)
