"""Reads questions from a table with a header line: CSV, or separated by tabs, semicolons or bars."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from bundler.errors import QuestionsInvalid
from bundler.qa.questions.entry import FIELDS, OTHER_NAMES, Reading, question_of
from bundler.qa.questions.text import lines_of
from bundler.types import Question

NEEDED = ("question", "context")
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabulators", "|": "bars"}
COLUMNS_HINT = "Name the columns in the first line, or map them: --columns question=NAME,context=NAME."
EXCEL = re.compile(r'"?sep=([,;|\t])"?\s*', re.IGNORECASE)  # Excel's first line, if it names the separator
LONGEST = 1 << 26  # characters of a cell


def read_table(path: Path, reading: Reading, columns: Mapping[str, str]) -> Iterator[Question]:
    """Yields the table's questions; `columns` gives a field's column if it has another name.

    A first line `sep=;`, as Excel writes it, names the separator. Spaces after a separator are not part of a cell. The
    line number replaces a missing id. The cell of `answers` is a text, or JSON as in SQuAD.

    Raises:
        FileUnreadable, QuestionsInvalid
    """
    lines = lines_of(path)
    head, skipped = next(lines, ""), 0
    separators = tuple(SEPARATORS)
    if named := EXCEL.fullmatch(head):
        separators, head, skipped = (named[1],), next(lines, ""), 1
    names = {name: columns.get(name, name) for name in FIELDS}
    csv.field_size_limit(LONGEST)
    try:
        separator = _separator(path, head, [names[name] for name in NEEDED], separators)
    except csv.Error as error:
        raise QuestionsInvalid(path, f"its first line is not a table line: {error}", COLUMNS_HINT) from error
    rows = csv.reader(chain([head], lines), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        header = [name.strip() for name in next(rows)]
        names |= {name: other for name in FIELDS for other in _other_names(name, columns, header)}
        places = {name: header.index(column) for name, column in names.items() if column in header}
        _check_header(path, header, columns)
        begin = skipped + rows.line_num + 1
        for row in rows:
            where = f"line {begin}"
            if any(cell.strip() for cell in row):
                if len(row) != len(header):
                    what = f"{where} has {len(row)} cells, and the first line has {len(header)}"
                    raise QuestionsInvalid(path, what, f"Put cells that hold {SEPARATORS[separator]} in quotes.")
                cells = {name: row[place] for name, place in places.items()}
                yield question_of(path, f"{where}: ", _fields(path, where, cells), reading, made_id=f"line-{begin}")
            begin = skipped + rows.line_num + 1
    except csv.Error as error:
        hint = "Put cells with quotes or line ends in quotes, and double the quotes in them."
        raise QuestionsInvalid(path, f"line {skipped + rows.line_num} is not a table line: {error}", hint) from error


def _separator(path: Path, head: str, needed: Sequence[str], separators: Sequence[str]) -> str:
    """Returns the separator that yields the needed columns."""
    found = {
        each: [name.strip() for name in next(csv.reader([head], delimiter=each, skipinitialspace=True), [])]
        for each in separators
    }
    for separator, names in found.items():
        if set(needed) <= set(names):
            return separator
    separator = max(found, key=lambda each: len(found[each]))
    missing = next(name for name in needed if name not in found[separator])
    if len(found[separator]) > 1:
        said = f"its columns, separated by {SEPARATORS[separator]}, are {', '.join(map(repr, found[separator]))}"
    else:
        said = f"its first line is {head.strip()[:80]!r}, in which nothing separates columns"
    raise QuestionsInvalid(path, f"has no column {missing!r}: {said}", COLUMNS_HINT)


def _other_names(name: str, columns: Mapping[str, str], header: Sequence[str]) -> Sequence[str]:
    """Returns the column with the field's alternative name, if neither the caller nor the header names the field."""
    if name in columns or name in header:
        return ()
    return [other for other in OTHER_NAMES.get(name, ()) if other in header][:1]


def _check_header(path: Path, header: Sequence[str], columns: Mapping[str, str]) -> None:
    for name in header:
        if header.count(name) > 1 and name in (*FIELDS, *columns.values()):
            raise QuestionsInvalid(path, f"has {header.count(name)} columns {name!r}", "Give each a name of its own.")
    for name, column in columns.items():
        if column not in header:
            said = ", ".join(map(repr, header))
            raise QuestionsInvalid(
                path, f"has no column {column!r} for {name}: its columns are {said}", "See --columns."
            )


def _fields(path: Path, where: str, cells: Mapping[str, str]) -> dict[str, Any]:
    """Returns the cells as values, without empty ones."""
    fields: dict[str, Any] = {name: cell for name, cell in cells.items() if cell.strip() or name in NEEDED}
    answers = fields.get("answers", "")
    if answers.startswith(('["', '[{"', '{"', "[]")):
        try:
            fields["answers"] = json.loads(answers)
        except (ValueError, RecursionError) as error:
            raise QuestionsInvalid(path, f"{where}: answers is not JSON: {error}") from error
    elif answers.startswith(("['", "{'")):
        hint = "Write a text, or JSON: a list of texts."
        raise QuestionsInvalid(path, f"{where}: answers is written in Python, not in JSON", hint)
    return fields
