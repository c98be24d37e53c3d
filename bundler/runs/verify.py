"""Verifies a phone: compares its logits and answers for the windows kept by build with float32's."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from bundler.bundle import Bundle
from bundler.device.chunks import Chunk
from bundler.device.outputs import load
from bundler.errors import BundleInvalid
from bundler.qa.spans import WindowLogits, decode_all
from bundler.runs.comparison import Comparison
from bundler.runs.record import Run, Verified
from bundler.runs.reference import real_tokens, verify_logits
from bundler.types import OUTPUTS, Answer, Question

FLOAT, FIXED_POINT = 0.999, 0.99  # thresholds of the cosine, by precision
MOST_CHANGED = 0.05  # the largest share of windows whose answer may change
NEAR_TIE = 0.1  # of a span's score: float32 itself prefers its own answer by at most a tenth


def default_threshold(precision: str) -> float:
    """Returns the least allowed cosine. Float16 has about 0.99999 and 8 bits about 0.998 on the demo model."""
    return FLOAT if precision in ("fp32", "fp16") else FIXED_POINT


def verify_run(bundle: Bundle, run: Run, threshold: float | None = None) -> Run:
    """Returns the finished run with its verdict, and saves it in the run's record.

    It passes if each output of each kept window has at least this cosine with the reference's, on real tokens, and if
    at most MOST_CHANGED of the windows have another answer. An answer counts as equal if float32 scores it nearly as
    high as its own. With the user's `threshold`, the cosine alone decides.

    Raises:
        BundleInvalid: the bundle kept none; OutputsInvalid: an output cannot be read; HostStorageFailed
    """
    lines, exact = verify_logits(bundle)
    windows, size = bundle.manifest.windows, run.settings.chunk
    questions = _questions(bundle, [windows[line].question_id for line in lines.tolist()])
    comparison, equal = Comparison(), 0
    for place, line in enumerate(lines.tolist()):
        start = line - line % size
        chunk = Chunk(start, min(start + size, len(windows)))
        loaded = load(run.folder(bundle.path), chunk, bundle.manifest.outputs)
        both = [
            {name: values[at] for name, values in side.items()} for side, at in ((exact, place), (loaded, line - start))
        ]
        real = real_tokens(bundle, [windows[line]])
        for name in exact:
            comparison.add(both[0][name], both[1][name], real)
        question = questions[windows[line].question_id]
        equal += _is_as_good(*(_answer(bundle, question, line, logits) for logits in both))
    smallest = comparison.likeness().smallest_cosine
    least = default_threshold(bundle.manifest.model.precision) if threshold is None else threshold
    passed = smallest >= least and (threshold is not None or len(lines) - equal <= MOST_CHANGED * len(lines))
    done = replace(run, verified=Verified(round(smallest, 7), least, len(lines), passed, equal))
    done.save(bundle.path)
    return done


def _questions(bundle: Bundle, ids: Sequence[str]) -> dict[str, Question]:
    """Returns the questions with these ids.

    Raises:
        BundleInvalid: one is not there
    """
    wanted = set(ids)
    found = {question.id: question for question in bundle.questions if question.id in wanted}
    if wanted - found.keys():
        raise BundleInvalid(bundle.path, f"has a window of question {min(wanted - found.keys())!r}, which is not there")
    return found


def _answer(bundle: Bundle, question: Question, line: int, logits: Mapping[str, npt.NDArray[Any]]) -> Answer:
    """Returns the answer from one window alone."""
    start, end = (logits[name].reshape(-1) for name in OUTPUTS)
    window = WindowLogits(bundle.manifest.windows[line].key, bundle.offsets[line], start, end)
    most, unanswerable = bundle.manifest.max_answer_tokens, bundle.manifest.may_be_unanswerable
    (answer,) = decode_all([(question, [window])], max_tokens=most, may_be_unanswerable=unanswerable)
    return answer


def _is_as_good(exact: Answer, other: Answer) -> bool:
    """Returns whether float32 scores the other answer nearly as high as its own."""
    scores = {(each.start, each.end): each.score for each in exact.n_best}
    score = scores.get((other.start, other.end))
    return score is not None and score >= exact.score - NEAR_TIE
