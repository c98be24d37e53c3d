"""Reads each format as a stream of questions: SQuAD JSON, JSON lines, plain text. Tables are in table.py."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bundler.errors import QUESTION_HINTS, QuestionsInvalid
from bundler.qa.questions.entry import FIELDS, OTHER_NAMES, Reading, field, question_of
from bundler.qa.questions.json_stream import LARGEST, JsonStream
from bundler.qa.questions.text import check_text, lines_of, whole_text
from bundler.types import Question

LINES_HINT = QUESTION_HINTS[".jsonl"]
NEEDED = ("question", "context")
KEPT = {*FIELDS, *(name for names in OTHER_NAMES.values() for name in names), "qas", "data", "annotations"}
HEAD_BYTES = 4096
ONE_DOCUMENT = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\[\s*\{|\{\s*(?:"version"\s*:\s*"[^"]*"\s*,\s*)?"data"\s*:\s*\[)')
NO_SQUAD = "is not SQuAD JSON: there is no list `data` at the top"


def read_squad_json(path: Path, reading: Reading) -> Iterator[Question]:
    """Yields the questions of SQuAD JSON, paragraph by paragraph; or those of a list, or of a sequence of objects.

    The items of a list, and of `data`, may be SQuAD's articles or paragraphs, rows, or Label Studio's tasks.

    Raises:
        FileUnreadable, QuestionsInvalid
    """
    stream, found = JsonStream(path), False
    if stream.peek() == "[":
        for number in stream.items():
            yield from _item(path, f"[{number}]", stream, reading)
        stream.end()
        return
    _see(stream, "{", path, NO_SQUAD)
    for name in stream.members():
        if name == "data":
            _see(stream, "[", path, NO_SQUAD)
            found = True
            for number in stream.items():
                yield from _item(path, f"data[{number}]", stream, reading)
        elif name == "version":
            reading.is_version_2 = _is_version_2(stream.value())
        elif name in NEEDED:
            yield from _objects(path, reading)
            return
        else:
            stream.skip()
    stream.end()
    if not found:
        raise QuestionsInvalid(path, NO_SQUAD)


def _objects(path: Path, reading: Reading) -> Iterator[Question]:
    """Yields the questions of a sequence of objects, which may span several lines each."""
    stream, number = JsonStream(path), 0
    while stream.peek():
        number += 1
        yield question_of(path, f"object {number}: ", stream.value(), reading)


def _item(path: Path, where: str, stream: JsonStream, reading: Reading) -> Iterator[Question]:
    _see(stream, "{", path, f"{where} is not an object")
    title, found, fields = "", False, {}
    for name in stream.members():
        if name == "title":
            title = str(stream.value() or "")
        elif name in KEPT:
            fields[name] = stream.value()
        elif name == "paragraphs":
            found = True
            _see(stream, "[", path, f"{where}.paragraphs has the wrong type")
            for number in stream.items():
                yield from _paragraph(path, f"{where}.paragraphs[{number}].", stream.value(), title, reading)
        else:
            stream.skip()
    if found:
        return
    if "qas" in fields:
        yield from _paragraph(path, f"{where}.", fields, title, reading)
    elif "annotations" in fields and isinstance(fields.get("data"), dict):
        yield question_of(path, f"{where}.data.", _task(fields), reading)
    elif "question" in fields or "context" in fields:
        yield question_of(path, f"{where}.", {**fields, "title": title}, reading)
    else:
        raise QuestionsInvalid(path, f"{where}.paragraphs is missing")


def _task(item: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a Label Studio task: the spans marked in its text are the answers."""
    data, annotations = item["data"], item["annotations"]
    found = [one for one in annotations if isinstance(one, dict)] if isinstance(annotations, list) else []
    results = [one.get("result") for one in found if not one.get("was_cancelled")]
    marks = [mark for marks in results if isinstance(marks, list) for mark in marks if isinstance(mark, dict)]
    values = [value for mark in marks if isinstance(value := mark.get("value"), dict)]
    answers = [{"text": value["text"], "answer_start": value.get("start")} for value in values if "text" in value]
    return {"id": item.get("id"), "context": data.get("text"), **data, "answers": answers or data.get("answers")}


def _see(stream: JsonStream, mark: str, path: Path, otherwise: str) -> None:
    """Checks that an object or a list comes next."""
    if stream.peek() != mark:
        stream.skip()  # raises if it is not JSON at all
        raise QuestionsInvalid(path, otherwise)


def _paragraph(path: Path, where: str, paragraph: Any, title: str, reading: Reading) -> Iterator[Question]:
    context = field(path, where, paragraph, "context", str)
    check_text(path, f"{where}context", context)
    for number, qa in enumerate(field(path, where, paragraph, "qas", list)):
        fields = {**qa, "context": context, "title": title} if isinstance(qa, dict) else qa
        yield question_of(path, f"{where}qas[{number}].", fields, reading)


def says_version_2(path: Path) -> bool:
    """Returns whether SQuAD JSON states version 2.0; reads up to its `version`, or to the end.

    Raises:
        FileUnreadable, QuestionsInvalid
    """
    stream = JsonStream(path)
    if stream.peek() != "{":
        return False
    for name in stream.members():
        if name == "version":
            return _is_version_2(stream.value())
        stream.skip()
    return False


def _is_version_2(version: Any) -> bool:
    return str(version).lower().startswith(("v2", "2"))


def read_json_lines(path: Path, reading: Reading) -> Iterator[Question]:
    """Yields the questions of a file with one object a line; uses the line number for a missing id.

    Raises:
        FileUnreadable, QuestionsInvalid
    """
    if _is_one_document(path):
        yield from read_squad_json(path, reading)
        return
    for number, line in enumerate(lines_of(path), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            what = f"line {number} is not JSON: {error.msg} at column {error.pos + 1}"
            raise QuestionsInvalid(path, what, LINES_HINT) from error
        except ValueError as error:
            raise QuestionsInvalid(path, f"line {number}: a number has too many digits", LINES_HINT) from error
        except RecursionError as error:
            raise QuestionsInvalid(path, f"line {number} is nested too deeply", LINES_HINT) from error
        yield question_of(path, f"line {number}: ", fields, reading, made_id=f"line-{number}")


def _is_one_document(path: Path) -> bool:
    """Returns whether a JSON lines file really begins like a list or a SQuAD document."""
    with path.open("rb") as file:
        return ONE_DOCUMENT.match(file.read(HEAD_BYTES)) is not None


def read_plain(path: Path, context: Path) -> Iterator[Question]:
    """Yields one question a line, all about one text; the id comes from the line number.

    Raises:
        FileUnreadable, QuestionsInvalid
    """
    text = whole_text(context, LARGEST, f"has more than {LARGEST >> 20} million characters", "Cut it into parts.")
    for number, line in enumerate(lines_of(path), 1):
        if line.strip():
            yield Question(f"line-{number}", line.strip(), text, context.stem)
