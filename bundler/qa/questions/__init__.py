"""Streams questions from files; keeps only the ids of earlier questions in memory."""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from bundler.errors import FileUnreadable, QuestionsInvalid
from bundler.qa.questions.entry import Reading
from bundler.qa.questions.formats import read_json_lines, read_plain, read_squad_json, says_version_2
from bundler.qa.questions.table import read_table
from bundler.qa.questions.text import check_text
from bundler.qa.warnings import Notes
from bundler.types import Question, QuestionSet

__all__ = ["QuestionSource", "check_text", "open_questions", "read_squad"]

WITH_PANDAS = {".parquet": "parquet", ".xlsx": "excel", ".xls": "excel"}  # formats that pandas reads
KINDS = {".json": "SQuAD JSON", ".jsonl": "JSON lines", ".ndjson": "JSON lines", ".csv": "a table", ".tsv": "a table"}


class QuestionSource:
    """The questions of a file in their order, at most `limit`. Each iteration reads the file again.

    The first iteration reports oddities in `notes`. An iteration raises FileUnreadable and QuestionsInvalid.
    """

    def __init__(
        self, path: Path, *, limit: int | None, notes: Notes | None, may_be_unanswerable: bool | None,
        columns: Mapping[str, str], context: Path | None,
    ) -> None:  # fmt: skip
        self._path, self._limit, self._columns, self._context = path, limit, columns, context
        self._notes, self._unanswerable = notes or Notes(), may_be_unanswerable

    def __iter__(self) -> Iterator[Question]:
        reading, self._notes = Reading(self._notes), Notes()
        seen, impossible = set[str](), False
        for question in islice(self._read(reading), self._limit):
            if question.id in seen:
                hint = "Give each question an id of its own."
                raise QuestionsInvalid(self._path, f"question id {question.id!r} occurs twice", hint)
            seen.add(question.id)
            impossible = impossible or question.impossible is True
            yield question
        if not seen:
            raise QuestionsInvalid(self._path, "holds no questions")
        if self._unanswerable is None:
            ends_early = len(seen) == self._limit and self._path.suffix.lower() == ".json"
            self._unanswerable = impossible or reading.is_version_2 or (ends_early and says_version_2(self._path))

    def _read(self, reading: Reading) -> Iterator[Question]:
        if self._context is not None:
            return read_plain(self._path, self._context)
        kind = KINDS[self._path.suffix.lower()]
        if kind == "SQuAD JSON":
            return read_squad_json(self._path, reading)
        if kind == "JSON lines":
            return read_json_lines(self._path, reading)
        return read_table(self._path, reading, self._columns)

    @property
    def may_be_unanswerable(self) -> bool:
        """Returns whether "no answer" may be right: set by the caller, the file's version, or one of its questions.

        Raises:
            FileUnreadable, QuestionsInvalid
        """
        if self._unanswerable is None:
            for _ in self:
                pass
        return bool(self._unanswerable)


def open_questions(
    path: Path, *, limit: int | None = None, notes: Notes | None = None, may_be_unanswerable: bool | None = None,
    columns: Mapping[str, str] | None = None, context: Path | None = None,
) -> QuestionSource:  # fmt: skip
    """Opens a file of questions: JSON, JSON lines or a table, by its suffix; one question a line with `context`.

    `columns` maps the fields of a table to the names of its columns.

    Raises:
        FileUnreadable, QuestionsInvalid: it is of no known kind.
    """
    for each in (path, *([context] if context else [])):
        try:
            each.open("rb").close()
        except OSError as error:
            raise FileUnreadable(each, error.strerror or str(error)) from error
    if context is None and path.suffix.lower() not in KINDS:
        known = ", ".join(f"{end} ({each})" for end, each in KINDS.items())
        hint = "One question a line about one text: --context-file TEXT --questions-file FILE."
        if reader := WITH_PANDAS.get(path.suffix.lower()):
            read_as = f"pandas.read_{reader}('{path.name}')"
            write_as = f"to_json('{path.stem}.jsonl', orient='records', lines=True)"
            hint = f'Convert it: python -c "import pandas; {read_as}.{write_as}"'
        raise QuestionsInvalid(path, f"is of no known kind: files of questions end in {known}", hint)
    return QuestionSource(
        path, limit=limit, notes=notes, may_be_unanswerable=may_be_unanswerable, columns=columns or {}, context=context
    )


def read_squad(path: Path, limit: int | None = None) -> QuestionSet:
    """Reads all questions of a file into memory.

    Raises:
        FileUnreadable, QuestionsInvalid
    """
    source = open_questions(path, limit=limit)
    return QuestionSet(tuple(source), source.may_be_unanswerable)
