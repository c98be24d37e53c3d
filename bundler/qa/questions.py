"""Reads questions from SQuAD JSON, v1.1 or v2.0; says where a file is not what it should be."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from bundler.errors import FileUnreadable, QuestionsInvalid
from bundler.types import Question, QuestionSet


def read_squad(path: Path, limit: int | None = None) -> QuestionSet:
    """The file's questions in their order, at most `limit`; v2.0 files may hold unanswerable ones.

    Raises:
        FileUnreadable, QuestionsInvalid
    """
    document = _read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        raise QuestionsInvalid(path, "is not SQuAD JSON: there is no list `data` at the top")
    questions: dict[str, Question] = {}
    for question in islice(_walk(path, document["data"]), limit):
        if question.id in questions:
            raise QuestionsInvalid(
                path, f"question id {question.id!r} occurs twice", "Give each question an id of its own."
            )
        questions[question.id] = question
    if not questions:
        raise QuestionsInvalid(path, "holds no questions")
    return QuestionSet(tuple(questions.values()), str(document.get("version", "")).lower().startswith("v2"))


def _read_json(path: Path) -> Any:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise QuestionsInvalid(path, f"is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise QuestionsInvalid(
            path, f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except RecursionError as error:
        raise QuestionsInvalid(path, "is not SQuAD JSON: it is nested too deeply") from error


def _walk(path: Path, data: list[Any]) -> Iterator[Question]:
    for a, article in enumerate(data):
        for p, paragraph in enumerate(_field(path, article, f"data[{a}]", "paragraphs", list)):
            where = f"data[{a}].paragraphs[{p}]"
            context = _text(path, paragraph, where, "context")
            for q, qa in enumerate(_field(path, paragraph, where, "qas", list)):
                yield _question(path, qa, f"{where}.qas[{q}]", context, str(article.get("title", "")))


def _question(path: Path, qa: Any, where: str, context: str, title: str) -> Question:
    key, text = str(_field(path, qa, where, "id", (str, int))), _text(path, qa, where, "question")
    answers = qa.get("answers", [])
    if not isinstance(answers, list) or not all(
        isinstance(a, dict) and isinstance(a.get("text"), str) for a in answers
    ):
        raise QuestionsInvalid(path, f"{where}.answers is not a list of objects with `text`")
    known = () if qa.get("is_impossible") else tuple(dict.fromkeys(answer["text"] for answer in answers))
    return Question(key, text, context, title, known)


def _field(path: Path, value: Any, where: str, name: str, kind: type[Any] | tuple[type[Any], ...]) -> Any:
    if not isinstance(value, dict):
        raise QuestionsInvalid(path, f"{where} is not an object")
    if name not in value:
        raise QuestionsInvalid(path, f"{where}.{name} is missing")
    if not isinstance(value[name], kind):
        raise QuestionsInvalid(path, f"{where}.{name} is of the wrong kind")
    return value[name]


def _text(path: Path, value: Any, where: str, name: str) -> str:
    text: str = _field(path, value, where, name, str)
    check_text(path, f"{where}.{name}", text)
    return text


def check_text(source: Path | str, where: str, text: str) -> None:
    """Refuses what no tokenizer takes: blank text, and halves of surrogate pairs.

    Raises:
        QuestionsInvalid
    """
    if not text.strip():
        raise QuestionsInvalid(source, f"{where} is empty", "Give every question a text and a context.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QuestionsInvalid(
            source,
            f"{where} holds half of a surrogate pair at character {error.start}",
            "Save the text as valid Unicode.",
        ) from error
