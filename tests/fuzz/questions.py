"""Fuzzes files of questions, which are read and written as in `build`."""

from pathlib import Path

from bundler.bundle import read_questions
from bundler.bundle.inputs import kept_questions
from bundler.commands.question_options import columns_of
from bundler.errors import UsageError
from bundler.qa.questions import open_questions
from bundler.qa.warnings import Notes
from tests.fuzz import work


def _take(path: Path, *, context: Path | None = None, columns: str = "") -> None:
    """Reads the questions, writes them to a bundle, and reads them again."""
    host, notes = work.folder("host"), Notes()
    named = columns_of(columns) if columns else None
    source = open_questions(path, notes=notes, context=context, columns=named)
    questions = tuple(kept_questions(source, host))
    assert questions
    assert isinstance(source.may_be_unanswerable, bool)
    assert all(line.encode(errors="surrogatepass") for line in notes.lines)
    assert [*read_questions(host)] == [*questions]


def _written(name: str, data: bytes) -> Path:
    path = work.folder("questions") / name
    path.write_bytes(data)
    return path


def squad_json(data: bytes) -> None:
    """Reads SQuAD JSON."""
    _take(_written("q.json", data))


def json_lines(data: bytes) -> None:
    """Reads JSON lines."""
    _take(_written("q.jsonl", data))


def table(data: bytes) -> None:
    """Reads a table; its first line is the value of `--columns`."""
    columns, _, content = data.partition(b"\n")
    try:
        named = columns.decode(errors="surrogateescape")
        _take(_written("q.csv", content), columns=named)
    except UsageError:
        _take(_written("q.tsv", content))


def plain(data: bytes) -> None:
    """Reads a text, a null byte, and its questions."""
    context, _, questions = data.partition(b"\0")
    _take(_written("q.txt", questions), context=_written("context.txt", context))
