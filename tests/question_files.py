"""Contains files of questions, and a check of their refusals."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bundler.errors import QuestionsInvalid

QA = {"id": "q1", "question": "When?", "answers": [{"text": "1808", "answer_start": 9}]}
LINE = {"id": "a", "question": "When?", "context": "Built in 1808.", "answers": ["1808"]}
SQUAD_HINT = "Questions are SQuAD JSON (v1.1 or v2.0): data[].paragraphs[].qas[]."


def squad(*qas: Any, context: Any = "Built in 1808.", version: str = "1.1") -> dict[str, Any]:
    return {"version": version, "data": [{"title": "T", "paragraphs": [{"context": context, "qas": list(qas)}]}]}


def written(folder: Path, document: Any) -> Path:
    path = folder / "questions.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def file_of(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def json_lines(folder: Path, *lines: Any) -> Path:
    return file_of(folder, "questions.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name != key}


@contextmanager
def refused(path: Path, said: str, hint: str = SQUAD_HINT) -> Iterator[None]:
    """Checks that the block refuses the file in one line that has its name and matches `said`, with this hint."""
    with pytest.raises(QuestionsInvalid) as caught:
        yield
    assert re.fullmatch(f"{re.escape(str(path))}: {said}", str(caught.value))
    assert caught.value.hint == hint
