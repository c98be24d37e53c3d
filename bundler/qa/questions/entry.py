"""Builds a question from the fields of every format: id, question, context, title, answers, is_impossible."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundler.errors import QuestionsInvalid
from bundler.qa.questions.text import check_text, check_unicode
from bundler.qa.warnings import Notes
from bundler.types import Question

FIELDS = ("id", "question", "context", "title", "answers", "is_impossible")
OTHER_NAMES = {"answers": ("answer", "answer_text")}  # alternative names of a field in other tools' files
YES_NO = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
Known = tuple[str, int | None]  # an answer, and its stated start


@dataclass
class Reading:
    """One reading of a file: warnings about its questions, and whether its version is SQuAD v2.0."""

    notes: Notes
    is_version_2: bool = False
    count: int = 0  # questions so far


def question_of(path: Path, where: str, fields: Any, reading: Reading, *, made_id: str | None = None) -> Question:
    """Returns the question in `fields`; `where` names their place and precedes the field's name in messages.

    `made_id` is the id to use if there is none; by default it comes from the question's number in the file.

    Raises:
        QuestionsInvalid
    """
    if not isinstance(fields, dict):
        raise QuestionsInvalid(path, f"{where.rstrip('.: ')} is not an object")
    reading.count += 1
    fields = {name: _plain(value) for name, value in fields.items()}
    fields |= _by_other_names(fields)
    if fields.get("id") in (None, ""):
        fields["id"] = made_id or f"question-{reading.count}"
    key = str(field(path, where, fields, "id", (str, int)))
    check_unicode(path, f"{where}id", key)
    title = str(fields.get("title") or "")
    check_unicode(path, f"{where}title", title)
    text = field(path, where, fields, "question", str)
    check_text(path, f"{where}question", text)
    context = field(path, where, fields, "context", str)
    check_text(path, f"{where}context", context)
    impossible = fields.get("is_impossible")
    if isinstance(impossible, (str, int)):
        impossible = YES_NO.get(str(impossible).strip().lower(), impossible)
    if impossible is not None and not isinstance(impossible, bool):
        raise QuestionsInvalid(path, f"{where}is_impossible is neither true nor false")
    known = _known(path, where, fields.get("answers"))
    if impossible is None and isinstance(fields.get("answers"), dict) and not known:
        impossible = True  # the form of SQuAD v2 on the hub
    named = f"{path}: question {key!r}"
    if impossible and known:
        reading.notes.add("said to have no answer, yet answers are given, which are left out", named)
        known = []
    _look_at(known, context, named, reading.notes)
    answers = tuple(dict.fromkeys(answer for answer, _ in known if answer.strip()))
    if answers and impossible is None:
        impossible = False
    return Question(key, text, context, title, answers, impossible)


def _by_other_names(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the missing fields that are given under another name."""
    return {
        name: fields[other]
        for name, others in OTHER_NAMES.items()
        for other in reversed(others)
        if fields.get(name) is None and fields.get(other) is not None
    }


def _plain(value: Any) -> Any:
    """Undoes what pandas does: NaN for missing values, and 35.0 for 35."""
    if isinstance(value, float) and (math.isnan(value) or value.is_integer()):
        return None if math.isnan(value) else int(value)
    return value


def _text(value: Any) -> Any:
    """Converts a number to text; returns other values unchanged."""
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _start(value: Any) -> Any:
    """Converts a whole number in any notation to int; returns other values unchanged."""
    value = _plain(value)
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10 else value


def field(path: Path, where: str, fields: Any, name: str, kind: type[Any] | tuple[type[Any], ...]) -> Any:
    """Returns the field of this name after checking its type.

    Raises:
        QuestionsInvalid
    """
    if not isinstance(fields, dict):
        raise QuestionsInvalid(path, f"{where.rstrip('.: ')} is not an object")
    if fields.get(name) is None:
        raise QuestionsInvalid(path, f"{where}{name} is missing")
    if not isinstance(fields[name], kind):
        raise QuestionsInvalid(path, f"{where}{name} has the wrong type")
    return fields[name]


def _known(path: Path, where: str, answers: Any) -> list[Known]:
    """Parses the answers: a text, a list of texts or of {text, answer_start}, or {text: [...], answer_start: [...]}.

    Raises:
        QuestionsInvalid
    """
    if isinstance(answers, dict) and isinstance(answers.get("text"), str):
        if not isinstance(answers.get("answer_start"), list):
            answers = [answers]
    elif isinstance(answers := _text(answers), str):
        answers = [answers]
    if isinstance(answers, dict):
        texts = answers.get("text", [])
        starts = answers.get("answer_start") or [None] * (len(texts) if isinstance(texts, list) else 0)
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise QuestionsInvalid(path, f"{where}answers has not as many answer_start as text")
        answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if answers is None:
        return []
    if not isinstance(answers, list):
        raise QuestionsInvalid(path, f"{where}answers is not a list")
    found = []
    for number, answer in enumerate(answers):
        text, start = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, dict) else (answer, None)
        text, start = _text(_plain(text)), _start(start)
        if not isinstance(text, str):
            raise QuestionsInvalid(path, f"{where}answers[{number}] is neither a text nor an object with `text`")
        check_unicode(path, f"{where}answers[{number}]", text)
        if start is not None and (not isinstance(start, int) or isinstance(start, bool)):
            raise QuestionsInvalid(path, f"{where}answers[{number}].answer_start is not a whole number")
        found.append((text, start))
    return found


def _look_at(known: list[Known], context: str, named: str, notes: Notes) -> None:
    """Reports each kind of oddity once."""
    odd = set()
    for text, start in known:
        if not text.strip():
            odd.add("an answer that is given is empty, and left out")
        elif text not in context:
            odd.add("an answer that is given does not occur in the context")
        elif start is not None and (start < 0 or not context.startswith(text, start)):
            odd.add("an answer that is given stands elsewhere in the context than answer_start says")
    for kind in sorted(odd):
        notes.add(kind, named)
