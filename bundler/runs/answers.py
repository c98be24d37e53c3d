"""The answers in a run's logits, decoded as they are asked for."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, tee
from pathlib import Path

import numpy as np

from bundler import layout
from bundler.bundle import Bundle, Window
from bundler.device.chunks import chunks_of
from bundler.device.outputs import load
from bundler.errors import BundleInvalid
from bundler.qa.spans import USUAL, Decoding, WindowLogits, decode_all
from bundler.qa.words import tells_words
from bundler.types import OUTPUTS, Answer, Question

START, END = OUTPUTS


def decode_answers(bundle: Bundle, folder: Path, size: int) -> Iterator[Answer]:
    """The answer to each question, as `answered` finds it."""
    return (answer for _, answer in answered(bundle, folder, size, USUAL))


def answered(bundle: Bundle, folder: Path, size: int, decoding: Decoding) -> Iterator[tuple[Question, Answer]]:
    """Each question with its answer from the outputs in a run's folder, kept in chunks of `size` windows, in the order
    of the questions. Chunks are read as their answers are asked for.

    Raises:
        OutputsInvalid: an output cannot be read; BundleInvalid
    """
    manifest = bundle.manifest
    tokenizer = bundle.path / layout.HOST / layout.TOKENIZER
    asked, again = tee(_asked(bundle, folder, size))
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


def _asked(bundle: Bundle, folder: Path, size: int) -> Iterator[tuple[Question, list[WindowLogits]]]:
    """Each question with the logits of its windows."""
    questions = iter(bundle.questions)
    for question_id, windows in groupby(_windows(bundle, folder, size), key=lambda pair: pair[0].question_id):
        yield _question(bundle, questions, question_id), [logits for _, logits in windows]


def _question(bundle: Bundle, questions: Iterator[Question], question_id: str) -> Question:
    """The next of the questions that has this id.

    Raises:
        BundleInvalid: there is none
    """
    found = next((question for question in questions if question.id == question_id), None)
    if found is None:
        path = bundle.path / layout.HOST / layout.WINDOWS
        raise BundleInvalid(path, f"has a window of question {question_id!r}, which is not there, or not in its place")
    return found


def _windows(bundle: Bundle, folder: Path, size: int) -> Iterator[tuple[Window, WindowLogits]]:
    manifest = bundle.manifest
    for chunk in chunks_of(len(manifest.windows), size):
        logits = load(folder, chunk, manifest.outputs)
        # a new mapping for each chunk: pages that were read stay in memory as long as their mapping
        offsets = np.array(replace(bundle).offsets[chunk.start : chunk.stop])
        for line, window in enumerate(manifest.windows[chunk.start : chunk.stop]):
            start, end = (logits[name][line].reshape(-1) for name in (START, END))
            yield window, WindowLogits(window.key, offsets[line], start, end)
