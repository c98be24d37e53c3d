"""Writes a run's answers to files in its folder: answers.json, and the inputs of SQuAD's official scripts."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from bundler import layout
from bundler.bundle import Bundle
from bundler.runs.json_writer import list_file, object_file
from bundler.runs.record import Run
from bundler.types import Answer, Question

SCHEMA = 3

Json = dict[str, Any]


def write_answers(
    bundle: Bundle, run: Run, answered: Iterable[tuple[Question, Answer]], doubts: Sequence[str] = ()
) -> None:
    """Writes answers.json, predictions.json, nbest_predictions.json (BERT's and transformers' name for it) and, if a
    question may have no answer, null_odds.json; each entry by entry, without holding all in memory.

    doubts: why the logits are not plausible.

    The files appear when all are complete, answers.json last; after a failure the earlier files remain.

    Raises:
        HostStorageFailed
    """
    folder = run.folder(bundle.path)
    with ExitStack() as files:
        answers = files.enter_context(list_file(folder / layout.ANSWERS, _head(bundle, run, doubts), "answers"))
        texts = files.enter_context(object_file(folder / layout.PREDICTIONS))
        lists = files.enter_context(object_file(folder / layout.N_BEST))
        odds = None
        if bundle.manifest.may_be_unanswerable:
            odds = files.enter_context(object_file(folder / layout.NULL_ODDS))
        for question, answer in answered:
            answers(_entry(question, answer))
            texts(question.id, answer.text)
            lists(question.id, _n_best(answer))
            if odds is not None:
                odds(question.id, answer.null_odds)


def _head(bundle: Bundle, run: Run, doubts: Sequence[str]) -> Json:
    """Returns the fields of answers.json about all answers."""
    return {
        "schema": SCHEMA,
        "bundle": bundle.id,
        "model": bundle.manifest.model.name,
        "precision": bundle.manifest.model.precision,
        "runtime": run.settings.runtime,
        "phones": [
            {"serial": part.phone, "soc": part.soc, "model": part.model, "windows": part.windows} for part in run.parts
        ],
        "verified": asdict(run.verified) if run.verified else None,
        "not_plausible": list(doubts),
    }


def _entry(question: Question, answer: Answer) -> Json:
    """Returns the fields of answers.json about one answer."""
    start, end = answer.best_span
    return {
        "id": answer.question_id,
        "question": question.text,
        "answer": answer.text,
        "start": answer.start,
        "end": answer.end,
        "confidence": round(answer.confidence, 6),
        "score": round(answer.score, 6),
        "best_span": {"text": question.context[start:end], "start": start, "end": end},
        "null_score": round(answer.null_score, 6),
        "window": answer.window,
    }


def _n_best(answer: Answer) -> list[Json]:
    """Returns the best spans, best first, and "no answer" if it may win; their probabilities sum to 1."""
    return [
        {
            "text": candidate.text,
            "start": candidate.start,
            "end": candidate.end,
            "probability": round(candidate.confidence, 6),
            "score": round(candidate.score, 6),
        }
        for candidate in answer.n_best
    ]
