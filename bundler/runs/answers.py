"""Decodes a run's logits to answers, on demand."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import groupby, tee
from pathlib import Path

import numpy as np

from bundler import layout
from bundler.bundle import Bundle, Window
from bundler.device.chunks import chunks_of
from bundler.device.outputs import kept_chunks, load
from bundler.errors import BundleInvalid, BundlerError
from bundler.qa.spans import USUAL, Decoding, WindowLogits, decode_all
from bundler.qa.words import tells_words
from bundler.types import OUTPUTS, Answer, Question, Seen

START, END = OUTPUTS
MOST_AT_ONCE = 2000  # windows


def decode_answers(bundle: Bundle, folder: Path, size: int) -> Iterator[Answer]:
    """Yields the answer to each question; see `answered`."""
    return (answer for _, answer in answered(bundle, folder, size, USUAL))


def answered(bundle: Bundle, folder: Path, size: int, decoding: Decoding) -> Iterator[tuple[Question, Answer]]:
    """Yields each question with its answer, in the order of the questions, from the outputs in a run's folder, kept in
    chunks of `size` windows. Reads each chunk only when its answers are needed.

    Raises:
        OutputsInvalid: an output cannot be read; BundleInvalid
    """
    lines = range(len(bundle.manifest.windows))
    return _decoded(bundle, _grouped(bundle, iter(bundle.questions), _windows(bundle, folder, size, lines)), decoding)


def _decoded(
    bundle: Bundle, questions: Iterator[tuple[Question, list[WindowLogits]]], decoding: Decoding
) -> Iterator[tuple[Question, Answer]]:
    manifest = bundle.manifest
    tokenizer = bundle.path / layout.HOST / layout.TOKENIZER
    asked, again = tee(questions)
    answers = decode_all(
        asked,
        max_tokens=decoding.max_tokens or manifest.max_answer_tokens,
        may_be_unanswerable=manifest.may_be_unanswerable,
        n_best=decoding.n_best,
        null_threshold=decoding.null_threshold,
        whole_words=tells_words(tokenizer) if decoding.whole_words is None else decoding.whole_words,
    )
    try:
        yield from zip((question for question, _ in again), answers, strict=True)
    except ValueError as error:  # a question without a token
        raise BundleInvalid(bundle.path / layout.HOST / layout.OFFSETS, str(error)) from error


class Arriving:
    """The answers of an unfinished run: each is available once its windows' logits, and all earlier ones, are there."""

    def __init__(self, bundle: Bundle, folder: Path, size: int, decoding: Decoding = USUAL) -> None:
        self._bundle, self._folder, self._size, self._decoding = bundle, folder, size, decoding
        self._questions = iter(bundle.questions)
        self._line = 0

    def new(self) -> Iterator[tuple[Question, Answer]]:
        """Yields the answers that arrived since the last call, up to a limit.

        Raises:
            OutputsInvalid, BundleInvalid
        """
        windows, kept = self._bundle.manifest.windows, kept_chunks(self._folder)
        chunks = chunks_of(len(windows), self._size)
        whole = next((chunk.start for chunk in chunks if chunk not in kept), len(windows))
        stop = min(whole, self._line + MOST_AT_ONCE)
        groups = [list(group) for _, group in groupby(windows[self._line : stop], key=lambda each: each.question_id)]
        count = sum(map(len, groups if stop == len(windows) else groups[:-1]))
        lines = range(self._line, self._line + count)
        self._line += count
        asked = _grouped(self._bundle, self._questions, _windows(self._bundle, self._folder, self._size, lines))
        yield from _decoded(self._bundle, asked, self._decoding)


def looking(
    bundle: Bundle, folder: Path, size: int, seen: Seen | None, decoding: Decoding = USUAL
) -> Callable[[], None]:
    """Returns a function that shows new answers to `seen` at each call. It ignores unreadable outputs."""
    if seen is None:
        return lambda: None
    arriving, see = Arriving(bundle, folder, size, decoding), seen

    def look() -> None:
        with suppress(BundlerError):
            for question, answer in arriving.new():
                see(question, answer)

    return look


def _grouped(
    bundle: Bundle, questions: Iterator[Question], windows: Iterable[tuple[Window, WindowLogits]]
) -> Iterator[tuple[Question, list[WindowLogits]]]:
    """Yields each question with the logits of its windows."""
    for question_id, own in groupby(windows, key=lambda pair: pair[0].question_id):
        yield _question(bundle, questions, question_id), [logits for _, logits in own]


def _question(bundle: Bundle, questions: Iterator[Question], question_id: str) -> Question:
    """Returns the next question with this id.

    Raises:
        BundleInvalid: there is none
    """
    found = next((question for question in questions if question.id == question_id), None)
    if found is None:
        path = bundle.path / layout.HOST / layout.WINDOWS
        raise BundleInvalid(path, f"has a window of question {question_id!r}, which is not there, or not in its place")
    return found


def _windows(bundle: Bundle, folder: Path, size: int, lines: range) -> Iterator[tuple[Window, WindowLogits]]:
    """Yields the windows of these lines with their logits."""
    manifest = bundle.manifest
    for chunk in chunks_of(len(manifest.windows), size):
        wanted = range(max(chunk.start, lines.start), min(chunk.stop, lines.stop))
        if not wanted:
            continue
        logits = load(folder, chunk, manifest.outputs)
        # a new mapping for each chunk, because pages that were read stay in memory as long as their mapping
        offsets = np.array(replace(bundle).offsets[wanted.start : wanted.stop])
        for place, window in enumerate(manifest.windows[wanted.start : wanted.stop]):
            start, end = (logits[name][place + wanted.start - chunk.start].reshape(-1) for name in (START, END))
            yield window, WindowLogits(window.key, offsets[place], start, end)
