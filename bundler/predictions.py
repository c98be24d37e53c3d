"""Answers as the official evaluation scripts of SQuAD take them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from bundler import layout
from bundler.bundle import writing
from bundler.types import Answer


def write_predictions(folder: Path, texts: Mapping[str, str], null_odds: Mapping[str, float] | None) -> None:
    """predictions.json: question id -> text, empty for "no answer"; and where `null_odds` are given null_odds.json:
    question id -> how far the score of "no answer" is above the best span's.

    Raises:
        HostStorageFailed
    """
    _write(folder / layout.PREDICTIONS, texts)
    if null_odds is not None:
        _write(folder / layout.NULL_ODDS, null_odds)


def write_n_best(folder: Path, answers: Iterable[Answer]) -> None:
    """nbest_predictions.json, as the scripts of BERT and transformers name it: question id -> its best spans, best
    first, and "no answer" where it may win; the probabilities of a question sum to 1.

    Raises:
        HostStorageFailed
    """
    lists = {
        answer.question_id: [
            {
                "text": candidate.text,
                "start": candidate.start,
                "end": candidate.end,
                "probability": round(candidate.confidence, 6),
                "score": round(candidate.score, 6),
            }
            for candidate in answer.n_best
        ]
        for answer in answers
    }
    _write(folder / layout.N_BEST, lists)


def _write(path: Path, values: Mapping[str, object]) -> None:
    with writing(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as file:
        json.dump(values, file, indent=1, ensure_ascii=False)
        file.write("\n")
