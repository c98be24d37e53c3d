"""Answers as the official evaluation scripts of SQuAD take them."""

import json
from collections.abc import Mapping
from pathlib import Path

from bundler import layout
from bundler.bundle import writing


def write_predictions(folder: Path, texts: Mapping[str, str], null_odds: Mapping[str, float] | None) -> None:
    """predictions.json: question id -> text, empty for "no answer"; and where `null_odds` are given null_odds.json:
    question id -> how far the score of "no answer" is above the best span's.

    Raises:
        HostStorageFailed
    """
    _write(folder / layout.PREDICTIONS, texts)
    if null_odds is not None:
        _write(folder / layout.NULL_ODDS, null_odds)


def _write(path: Path, values: Mapping[str, str] | Mapping[str, float]) -> None:
    with writing(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as file:
        json.dump(values, file, indent=1, ensure_ascii=False)
        file.write("\n")
