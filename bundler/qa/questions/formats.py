"""Each format as a stream of questions: SQuAD JSON, JSON lines, plain text. Tables are in table.py."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bundler.errors import QuestionsInvalid
from bundler.qa.questions.entry import Reading, field, question_of
from bundler.qa.questions.json_stream import LARGEST, JsonStream
from bundler.qa.questions.text import check_text, lines_of, pieces_of
from bundler.types import Question

LINES_HINT = "JSON lines are one object a line: id, question, context, answers (a list of texts)."
NO_SQUAD = "is not SQuAD JSON: there is no list `data` at the top"


def read_squad_json(path: Path, reading: Reading) -> Iterator[Question]:
    """The questions of SQuAD JSON, paragraph by paragraph.

    Raises:
        FileUnreadable, QuestionsInvalid
    """
    stream, found = JsonStream(path), False
    _see(stream, "{", path, NO_SQUAD)
    for name in stream.members():
        if name == "data":
            _see(stream, "[", path, NO_SQUAD)
            found = True
            for number in stream.items():
                yield from _article(path, f"data[{number}]", stream, reading)
        elif name == "version":
            reading.is_version_2 = _is_version_2(stream.value())
        else:
            stream.skip()
    stream.end()
    if not found:
        raise QuestionsInvalid(path, NO_SQUAD)


def _article(path: Path, where: str, stream: JsonStream, reading: Reading) -> Iterator[Question]:
    _see(stream, "{", path, f"{where} is not an object")
    title, found = "", False
    for name in stream.members():
        if name == "title":
            title = str(stream.value() or "")
        elif name == "paragraphs":
            found = True
            _see(stream, "[", path, f"{where}.paragraphs is of the wrong kind")
            for number in stream.items():
                yield from _paragraph(path, f"{where}.paragraphs[{number}].", stream.value(), title, reading)
        else:
            stream.skip()
    if not found:
        raise QuestionsInvalid(path, f"{where}.paragraphs is missing")


def _see(stream: JsonStream, mark: str, path: Path, otherwise: str) -> None:
    """Sees to it that an object or a list comes next."""
    if stream.peek() != mark:
        stream.skip()  # it may be no JSON at all
        raise QuestionsInvalid(path, otherwise)


def _paragraph(path: Path, where: str, paragraph: Any, title: str, reading: Reading) -> Iterator[Question]:
    context = field(path, where, paragraph, "context", str)
    check_text(path, f"{where}context", context)
    for number, qa in enumerate(field(path, where, paragraph, "qas", list)):
        fields = {**qa, "context": context, "title": title} if isinstance(qa, dict) else qa
        yield question_of(path, f"{where}qas[{number}].", fields, reading)


def says_version_2(path: Path) -> bool:
    """Whether SQuAD JSON says of itself that it is of v2.0; reads on to where it says so, or to the end.

    Raises:
        FileUnreadable, QuestionsInvalid
    """
    stream = JsonStream(path)
    for name in stream.members():
        if name == "version":
            return _is_version_2(stream.value())
        stream.skip()
    return False


def _is_version_2(version: Any) -> bool:
    return str(version).lower().startswith(("v2", "2"))


def read_json_lines(path: Path, reading: Reading) -> Iterator[Question]:
    """The questions of a file with one object a line; a question without id is called by its line.

    Raises:
        FileUnreadable, QuestionsInvalid
    """
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


def read_plain(path: Path, context: Path) -> Iterator[Question]:
    """A question a line, all about one text; a question is called by its line.

    Raises:
        FileUnreadable, QuestionsInvalid
    """
    pieces, size = [], 0
    for piece in pieces_of(context):
        pieces.append(piece)
        size += len(piece)
        if size > LARGEST:
            raise QuestionsInvalid(context, f"has more than {LARGEST >> 20} million characters", "Cut it into parts.")
    text = "".join(pieces)
    check_text(context, "the text", text)
    for number, line in enumerate(lines_of(path), 1):
        if line.strip():
            yield Question(f"line-{number}", line.strip(), text, context.stem)
