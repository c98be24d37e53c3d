"""Reading questions of every format, and saying where a file is not what it should be."""

import json
import re
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.errors import FileUnreadable, QuestionsInvalid
from bundler.qa.notes import Notes
from bundler.qa.questions import QuestionSource, formats, ids, json_stream, open_questions, read_squad, text
from bundler.qa.questions.entry import Reading
from bundler.qa.questions.ids import Seen
from bundler.qa.questions.json_stream import JsonStream
from bundler.types import Question

QA = {"id": "q1", "question": "When?", "answers": [{"text": "1808", "answer_start": 9}]}


def squad(*qas: Any, context: Any = "Built in 1808.", version: str = "1.1") -> dict[str, Any]:
    return {"version": version, "data": [{"title": "T", "paragraphs": [{"context": context, "qas": list(qas)}]}]}


def written(folder: Path, document: Any) -> Path:
    path = folder / "questions.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


SQUAD_HINT = "Questions are SQuAD JSON (v1.1 or v2.0): data[].paragraphs[].qas[]."
LINES_HINT = "JSON lines are one object a line: id, question, context, answers (a list of texts)."
COLUMNS_HINT = "Name the columns in the first line, or map them: --columns question=NAME,context=NAME."
QUOTES_HINT = "Put cells with quotes or line ends in quotes, and double the quotes in them."
TEXTS_HINT = "Give every question a text and a context."


@contextmanager
def refused(path: Path, said: str, hint: str = SQUAD_HINT) -> Iterator[None]:
    """The block must refuse the file: in one line with its name and nothing but what `said` matches, and this hint."""
    with pytest.raises(QuestionsInvalid) as caught:
        yield
    assert re.fullmatch(f"{re.escape(str(path))}: {said}", str(caught.value))
    assert caught.value.hint == hint


def file_of(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_reads_version_1_and_2(tmp_path: Path) -> None:
    v1 = read_squad(written(tmp_path, squad(QA)))
    assert [(q.id, q.text, q.context, q.title, q.answers) for q in v1.questions] == [
        ("q1", "When?", "Built in 1808.", "T", ("1808",))
    ]
    assert not v1.may_be_unanswerable
    impossible = {"id": "q2", "question": "Who?", "answers": [], "is_impossible": True}
    v2 = read_squad(written(tmp_path, squad(QA, impossible, version="v2.0")))
    assert v2.may_be_unanswerable
    assert v2.questions[1].answers == ()


def test_limit_takes_the_first(tmp_path: Path) -> None:
    path = written(tmp_path, squad(*({**QA, "id": str(number)} for number in range(5))))
    assert [q.id for q in read_squad(path, 2).questions] == ["0", "1"]


def test_byte_order_mark_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(squad(QA)).encode())
    assert len(read_squad(path).questions) == 1


def without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name != key}


QAS = r"data\[0\]\.paragraphs\[0\]\.qas"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([1, 2], "is not SQuAD JSON: there is no list `data` at the top"),
        ({"data": {}}, "is not SQuAD JSON: there is no list `data` at the top"),
        ({"version": "1.1"}, "is not SQuAD JSON: there is no list `data` at the top"),
        ({"data": []}, "holds no questions"),
        (squad(), "holds no questions"),
        ({"data": [7]}, r"data\[0\] is not an object"),
        ({"data": [{"title": "x"}]}, r"data\[0\]\.paragraphs is missing"),
        ({"data": [{"paragraphs": {}}]}, r"data\[0\]\.paragraphs is of the wrong kind"),
        ({"data": [{"paragraphs": ["x"]}]}, r"data\[0\]\.paragraphs\[0\] is not an object"),
        ({"data": [{"paragraphs": [{"context": "x"}]}]}, r"data\[0\]\.paragraphs\[0\]\.qas is missing"),
        (squad(QA, context=7), r"data\[0\]\.paragraphs\[0\]\.context is of the wrong kind"),
        (squad(QA, without({**QA, "id": "q2"}, "question")), QAS + r"\[1\]\.question is missing"),
        (squad(without(QA, "id")), QAS + r"\[0\]\.id is missing"),
        (squad({**QA, "answers": 1808}), QAS + r"\[0\]\.answers is not a list"),
        (squad("q"), QAS + r"\[0\] is not an object"),
    ],
)
def test_says_where_it_is_not_squad(document: Any, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, document)
    with refused(path, said):
        read_squad(path)


@pytest.mark.parametrize(
    ("document", "said", "hint"),
    [
        (squad(QA, context="  "), r"data\[0\]\.paragraphs\[0\]\.context is empty", TEXTS_HINT),
        (squad({**QA, "question": "\t"}), QAS + r"\[0\]\.question is empty", TEXTS_HINT),
        (
            squad({**QA, "question": "ab\ud83d"}),
            QAS + r"\[0\]\.question holds half of a surrogate pair at character 2",
            "Save the text as valid Unicode.",
        ),
    ],
)
def test_texts_that_no_question_is_made_of(document: Any, said: str, hint: str, tmp_path: Path) -> None:
    path = written(tmp_path, document)
    with refused(path, said, hint):
        read_squad(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON: Expecting value at line 1, column 1"),
        (b'{"data": [', r"is not JSON: \] is missing at line 1, column 11"),
        (
            b'{"data": [{"paragraphs": [{"context": "a", "qas": []} 7]}]}',
            r"is not JSON: , or \] is missing at line 1, column 55",
        ),
        (b'{"x": [\n1,\n2 3]}', r"is not JSON: , or \] is missing at line 3, column 3"),
        (b'{"x": ' + b"[" * 100_000, r"is nested too deeply at line 1, column \d+"),
        (b'{"data": [{"paragraphs": [' + b"[" * 100_000, "is nested too deeply at line 1, column 27"),
        (
            b'{"data": [{"paragraphs": [{"context": "a',
            "is not JSON: Unterminated string starting at at line 1, column 39",
        ),
        (b'{"data": [],\n "x": tru}', "is not JSON: Expecting value at line 2, column 7"),
        (b'{"data": [], }', "is not JSON: Expecting .* at line 1, column 14"),
        (b'{"data": []} {}', "is not JSON: more follows the document's end at line 1, column 14"),
        (b'{"data": [] "x": 1}', "is not JSON: , or } is missing at line 1, column 13"),
        (b'{"x": ' + b"1" * 5000 + b"}", r"is not JSON: a number has too many digits at line 1, column 7"),
        (b"{1: 2}", "is not JSON: a name and a colon are missing at line 1, column 3"),
        (b'{"data", []}', "is not JSON: a name and a colon are missing at line 1, column 8"),
    ],
)
def test_what_is_no_json_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, "q.json", content)
    with refused(path, said):
        read_squad(path)


@pytest.mark.parametrize("name", ["q.json", "q.jsonl", "q.csv"])
@pytest.mark.parametrize("order", ["le", "be"])
def test_utf_16_is_refused(name: str, order: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, name, ("\ufeff" + json.dumps(squad(QA))).encode(f"utf-16-{order}"))
    with refused(path, "is UTF-16, not UTF-8", "Save it as UTF-8."):
        list(open_questions(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match=r"nowhere\.json: cannot be read: No such file or directory$"):
        read_squad(tmp_path / "nowhere.json")
    with pytest.raises(FileUnreadable):
        read_squad(tmp_path)


def test_a_title_may_come_late_or_not_at_all(tmp_path: Path) -> None:
    """In SQuAD it stands before the paragraphs; what stands behind them came too late."""
    paragraphs = squad(QA)["data"][0]["paragraphs"]
    for article in ({"paragraphs": paragraphs}, {"title": None, "paragraphs": paragraphs}):
        (found,) = read_squad(written(tmp_path, {"data": [article]}))
        assert found.title == ""


def test_json_without_a_space_is_read(tmp_path: Path) -> None:
    path = file_of(tmp_path, "q.json", json.dumps(squad(QA, version="v2.0"), separators=(",", ":")))
    found = read_squad(path)
    assert found.questions[0].answers == ("1808",)
    assert found.may_be_unanswerable


def test_a_question_knows_what_is_known(tmp_path: Path) -> None:
    asked = [
        {**QA, "id": "known", "is_impossible": False},
        {**QA, "id": "impossible", "answers": [], "is_impossible": True},
        {**QA, "id": "both", "is_impossible": True},
        {"id": "unknown", "question": "Who?"},
        {**QA, "id": "several", "answers": [{"text": t} for t in ("1808", "in 1808", "1808")]},
    ]
    notes = Notes()
    path = written(tmp_path, squad(*asked))
    source = open_questions(path, notes=notes)
    found = {q.id: (q.answers, q.impossible, q.has_truth) for q in source}
    assert found == {
        "known": (("1808",), False, True),
        "impossible": ((), True, True),
        "both": ((), True, True),
        "unknown": ((), None, False),
        "several": (("1808", "in 1808"), False, True),
    }
    assert source.may_be_unanswerable
    assert notes.lines == (
        "1 question: said to have no answer, yet answers are given, which are left out "
        f"(the first: {path}: question 'both')",
    )


def test_odd_answers_are_counted_and_kept(tmp_path: Path) -> None:
    asked = [
        {**QA, "id": "elsewhere", "answers": [{"text": "1808", "answer_start": 3}]},
        {**QA, "id": "negative", "answers": [{"text": "1808", "answer_start": -5}]},
        {**QA, "id": "absent", "answers": [{"text": "1936", "answer_start": 9}]},
        {**QA, "id": "empty", "answers": [{"text": "", "answer_start": 0}, {"text": "1808", "answer_start": 9}]},
        {**QA, "id": "at the begin", "answers": [{"text": "Built", "answer_start": 0}]},
    ]
    notes = Notes()
    path = written(tmp_path, squad(*asked))
    found = list(open_questions(path, notes=notes))
    assert [question.answers for question in found] == [("1808",), ("1808",), ("1936",), ("1808",), ("Built",)]
    assert notes.lines == (
        "2 questions: an answer that is given stands elsewhere in the context than answer_start says "
        f"(the first: {path}: question 'elsewhere')",
        f"1 question: an answer that is given does not occur in the context (the first: {path}: question 'absent')",
        f"1 question: an answer that is given is empty, and left out (the first: {path}: question 'empty')",
    )


def test_where_answers_begin_is_looked_at_in_either_form(tmp_path: Path) -> None:
    notes = Notes()
    told = {"text": ["1808", "1808"], "answer_start": [9, 3]}
    list(open_questions(json_lines(tmp_path, {**LINE, "answers": told}), notes=notes))
    assert len(notes.lines) == 1
    assert "stands elsewhere in the context than answer_start says" in notes.lines[0]


def test_oddities_are_counted_once_however_often_it_is_read(tmp_path: Path) -> None:
    notes = Notes()
    source = open_questions(written(tmp_path, squad({**QA, "answers": [{"text": "1936"}]})), notes=notes)
    for _ in range(3):
        list(source)
    assert notes.lines[0].startswith("1 question: ")


@pytest.mark.parametrize(
    ("document", "limit", "expected"),
    [
        (squad(QA, version="v2.0"), None, True),
        (squad(QA, QA, version="v2.0"), 1, True),
        (squad(QA, version="1.1"), None, False),
        (squad(QA, {**QA, "id": "q2", "answers": [], "is_impossible": True}), None, True),
        (squad(QA, {**QA, "id": "q2", "answers": [], "is_impossible": True}), 1, False),
        ({"data": squad(QA)["data"], "version": "v2.0"}, 1, True),  # said only after the questions
        ({"data": squad(QA)["data"]}, 1, False),
        *((squad(QA, version=version), None, True) for version in ("V2.0", "2.1", 2.0)),
    ],
)
@pytest.mark.parametrize("read_before", [True, False])
def test_whether_no_answer_may_be_right(
    document: Any, limit: int | None, expected: bool, read_before: bool, tmp_path: Path
) -> None:
    path = written(tmp_path, document)
    source = open_questions(path, limit=limit)
    if read_before:
        list(source)
    assert source.may_be_unanswerable is expected
    assert open_questions(path, limit=limit, may_be_unanswerable=not expected).may_be_unanswerable is not expected


# JSON lines

LINE = {"id": "a", "question": "When?", "context": "Built in 1808.", "answers": ["1808"]}


def json_lines(folder: Path, *lines: Any) -> Path:
    return file_of(folder, "questions.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def test_json_lines(tmp_path: Path) -> None:
    found = list(
        open_questions(
            json_lines(
                tmp_path,
                LINE,
                {**LINE, "id": 7, "answers": "1808", "title": "T"},
                without({**LINE, "answers": None}, "id"),
                {**LINE, "id": "hub", "answers": {"text": ["1808", "in 1808"], "answer_start": [9, 6]}},
                {**LINE, "id": "none", "answers": {"text": [], "answer_start": []}},
                {**LINE, "id": "", "answers": {}},
                {**LINE, "id": "open", "answers": []},
                {**LINE, "id": "line\u2028separator", "context": "Built in 1808.\u2028Repaired."},
            )
        )
    )
    assert [(q.id, q.answers, q.impossible) for q in found] == [
        ("a", ("1808",), False),
        ("7", ("1808",), False),
        ("line-3", (), None),
        ("hub", ("1808", "in 1808"), False),
        ("none", (), True),
        ("line-6", (), True),
        ("open", (), None),
        ("line\u2028separator", ("1808",), False),
    ]
    assert found[1].title == "T"


def test_a_version_in_json_lines_means_nothing(tmp_path: Path) -> None:
    path = json_lines(tmp_path, {"version": "v2.0", **LINE})
    assert not open_questions(path).may_be_unanswerable
    assert not open_questions(path, limit=1).may_be_unanswerable


def test_json_lines_without_a_last_line_feed_and_with_windows_line_ends(tmp_path: Path) -> None:
    text = "\r\n\r\n".join(json.dumps({**LINE, "id": key}) for key in "abc")
    assert [q.id for q in open_questions(file_of(tmp_path, "q.jsonl", text))] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("content", "said", "hint"),
    [
        ('{"id": 1', "line 1 is not JSON: Expecting ',' delimiter at column 9", LINES_HINT),
        ("[" * 100_000, "line 1 is nested too deeply", LINES_HINT),
        ("1" * 5000, "line 1: a number has too many digits", LINES_HINT),
        (json.dumps(LINE) + "\n[]\n", "line 2 is not an object", SQUAD_HINT),
        (json.dumps(without(LINE, "context")), "line 1: context is missing", SQUAD_HINT),
        (json.dumps({**LINE, "context": " "}), "line 1: context is empty", TEXTS_HINT),
        (json.dumps({**LINE, "question": None}), "line 1: question is missing", SQUAD_HINT),
        (json.dumps({**LINE, "question": 7}), "line 1: question is of the wrong kind", SQUAD_HINT),
        (json.dumps({**LINE, "id": 7.5}), "line 1: id is of the wrong kind", SQUAD_HINT),
        (
            json.dumps({**LINE, "answers": ["a", 1808]}),
            r"line 1: answers\[1\] is neither a text nor an object with `text`",
            SQUAD_HINT,
        ),
        *(
            (json.dumps({**LINE, "answers": told}), "line 1: answers has not as many answer_start as text", SQUAD_HINT)
            for told in (
                {"text": ["a"], "answer_start": [1, 2]},
                {"text": "a", "answer_start": [1]},
                {"text": ["a"], "answer_start": "1"},
            )
        ),
        *(
            (
                json.dumps({**LINE, "answers": [{"text": "1808", "answer_start": start}]}),
                r"line 1: answers\[0\]\.answer_start is no whole number",
                SQUAD_HINT,
            )
            for start in ("9", 9.5, True)
        ),
        (json.dumps({**LINE, "is_impossible": "no"}), "line 1: is_impossible is neither true nor false", SQUAD_HINT),
        (b'{"id": "\xe9"}', "is not UTF-8 at byte 8", "Save it as UTF-8."),
        ("\n\n", "holds no questions", SQUAD_HINT),
    ],
)
def test_bad_json_lines_are_refused(content: str | bytes, said: str, hint: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, "q.jsonl", content)
    with refused(path, said, hint):
        list(open_questions(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.json", json.dumps(squad(QA, QA))),
        (
            "q.jsonl",  # also where there is something to note
            "\n\n".join(json.dumps({**LINE, "id": key, "answers": ["1936"]}) for key in ("q0", "q1", "q1")),
        ),
        ("q.csv", "id,question,context\nq1,When?,Built.\nq1,Who?,Built.\n"),
    ],
)
def test_an_id_that_occurs_twice_is_refused(name: str, content: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, name, content)
    with refused(path, "question id 'q1' occurs twice", "Give each question an id of its own."):
        list(open_questions(path))


# tables

HEADER = "id,question,context,answers,title,is_impossible\n"


def test_a_table(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        "q.csv",
        "\ufeff" + HEADER + 'a,When?,"Built in 1808, as they say.\nA ""bridge"".",1808,T,\n'
        '\n,Who?,Built in 1808.,,,\nb,Where?,Built in 1808.,"[""1808"", ""in 1808""]",,no\nc,Why?,Built.,,,TRUE\n',
    )
    source = open_questions(path)
    found = [(q.id, q.context, q.answers, q.title, q.impossible) for q in source]
    assert found == [
        ("a", 'Built in 1808, as they say.\nA "bridge".', ("1808",), "T", False),
        ("line-5", "Built in 1808.", (), "", None),
        ("b", "Built in 1808.", ("1808", "in 1808"), "", False),
        ("c", "Built.", (), "", True),
    ]
    assert source.may_be_unanswerable


@pytest.mark.parametrize(("name", "separator"), [("q.tsv", "\t"), ("q.csv", "\t"), ("q.csv", ";"), ("q.csv", "|")])
def test_other_separators(name: str, separator: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, name, f"context{separator}question\r\nBuilt, in 1808.{separator}When?\r\n")
    assert [(q.id, q.text, q.context) for q in open_questions(path)] == [("line-2", "When?", "Built, in 1808.")]


def test_mapped_columns(tmp_path: Path) -> None:
    path = file_of(tmp_path, "q.csv", "Nr;Frage;Text\n7;Wann?;Gebaut 1808.\n")
    (found,) = open_questions(path, columns={"id": "Nr", "question": "Frage", "context": "Text"})
    assert (found.id, found.text, found.context) == ("7", "Wann?", "Gebaut 1808.")


@pytest.mark.parametrize(
    ("content", "columns", "said", "hint"),
    [
        ("", {}, "has no column 'question': its first line is '', in which nothing separates columns", COLUMNS_HINT),
        (
            "question:context\n",
            {},
            "has no column 'question': its first line is 'question:context', in which nothing separates columns",
            COLUMNS_HINT,
        ),
        (
            "x" * 100,
            {},
            f"has no column 'question': its first line is '{'x' * 80}', in which nothing separates columns",
            COLUMNS_HINT,
        ),
        (
            "id;frage;text\n",
            {},
            "has no column 'question': its columns, separated by semicolons, are 'id', 'frage', 'text'",
            COLUMNS_HINT,
        ),
        (
            "question|text\n",
            {},
            "has no column 'context': its columns, separated by bars, are 'question', 'text'",
            COLUMNS_HINT,
        ),
        (
            "question,context\n",
            {"id": "Nr"},
            "has no column 'Nr' for id: its columns are 'question', 'context'",
            "See --columns.",
        ),
        ("question,context,question\n", {}, "has 2 columns 'question'", "Give each a name of its own."),
        ("question,context,Nr,Nr\n", {"id": "Nr"}, "has 2 columns 'Nr'", "Give each a name of its own."),
        ("question,context\n", {}, "holds no questions", SQUAD_HINT),
        (
            "question,context\nWhen?,Built, in 1808.\n",
            {},
            "line 2 has 3 cells, and the first line has 2",
            "Put cells that hold commas in quotes.",
        ),
        (
            "question\tcontext\nWhen?\n",
            {},
            "line 2 has 1 cells, and the first line has 2",
            "Put cells that hold tabulators in quotes.",
        ),
        ("question,context\nWhen?,\n", {}, "line 2: context is empty", TEXTS_HINT),
        ("question,context\n,Built.\n", {}, "line 2: question is empty", TEXTS_HINT),
        (
            'question,context\nWhen?,"Built\nin 1808.\n',
            {},
            "line 3 is no line of a table: unexpected end of data",
            QUOTES_HINT,
        ),
        ('question,context\nWhen?,"Built" in\n', {}, "line 2 is no line of a table: .*", QUOTES_HINT),
        (
            'question,context,answers\nWhen?,Built.,"[""a"""\n',
            {},
            "line 2: answers is no JSON: Expecting ',' delimiter: .*",
            SQUAD_HINT,
        ),
        *(
            (
                f'question,context,answers\nWhen?,Built.,"{told}"\n',
                {},
                "line 2: answers is written in Python, not in JSON",
                "Write a text, or JSON: a list of texts.",
            )
            for told in ("{'text': 'a'}", "['a']")
        ),
        (
            "question,context,is_impossible\nWhen?,Built.,maybe\n",
            {},
            "line 2: is_impossible is neither true nor false",
            SQUAD_HINT,
        ),
        (b"question,context\nWhen?,Caf\xe9.\n", {}, "is not UTF-8 at byte 26", "Save it as UTF-8."),
    ],
)
def test_bad_tables_are_refused(
    content: str | bytes, columns: dict[str, str], said: str, hint: str, tmp_path: Path
) -> None:
    path = file_of(tmp_path, "q.csv", content)
    with refused(path, said, hint):
        list(open_questions(path, columns=columns))


@pytest.mark.parametrize(
    ("cell", "answers"),
    [
        ('"[""Built""]"', ("Built",)),
        ('"[{""text"": ""Built""}]"', ("Built",)),
        ('"{""text"": [""Built""]}"', ("Built",)),
        ("[]", ()),
        ("[sic]", ("[sic]",)),
        ("", ()),
    ],
)
def test_answers_in_a_cell_are_a_text_or_json(cell: str, answers: tuple[str, ...], tmp_path: Path) -> None:
    path = file_of(tmp_path, "q.csv", f"question,context,answers\nWhen?,Built [sic].,{cell}\n")
    (found,) = open_questions(path)
    assert found.answers == answers


@pytest.mark.parametrize(
    ("cell", "impossible"),
    [(" Yes ", True), ("1", True), ("true", True), ("NO", False), ("0", False), ("false", False)],
)
def test_yes_and_no_in_a_cell(cell: str, impossible: bool, tmp_path: Path) -> None:
    path = file_of(tmp_path, "q.csv", f"question,context,is_impossible\nWhen?,Built.,{cell}\n")
    (found,) = open_questions(path)
    assert found.impossible is impossible


def test_columns_that_are_of_no_use_may_have_any_names(tmp_path: Path) -> None:
    path = file_of(tmp_path, "q.csv", "note, question ,note,context\nx,When?,y,Built.\n")
    assert [(q.text, q.context) for q in open_questions(path)] == [("When?", "Built.")]


# a text and questions about it


def test_plain_text(tmp_path: Path) -> None:
    context = file_of(tmp_path, "bridge.txt", "Built in 1808.\nRepaired in 1936.\n")
    asked = file_of(tmp_path, "asked.txt", "When was it built?\r\n\n  Who? \nWhy?")
    found = list(open_questions(asked, context=context))
    assert [(q.id, q.text) for q in found] == [("line-1", "When was it built?"), ("line-3", "Who?"), ("line-4", "Why?")]
    assert {q.context for q in found} == {"Built in 1808.\nRepaired in 1936.\n"}
    assert {q.title for q in found} == {"bridge"}


def test_bad_plain_texts_are_refused(tmp_path: Path) -> None:
    asked = file_of(tmp_path, "asked.txt", "When?\n")
    empty, latin = file_of(tmp_path, "empty.txt", " \n"), file_of(tmp_path, "latin.txt", b"a\xff")
    with refused(empty, "the text is empty", TEXTS_HINT):
        list(open_questions(asked, context=empty))
    with refused(latin, "is not UTF-8 at byte 1", "Save it as UTF-8."):
        list(open_questions(asked, context=latin))
    with pytest.raises(FileUnreadable, match="nowhere"):
        open_questions(asked, context=tmp_path / "nowhere")
    with pytest.raises(FileUnreadable, match="nowhere"):
        open_questions(tmp_path / "nowhere", context=asked)
    none = file_of(tmp_path, "none.txt", "\n")
    with refused(none, "holds no questions"):
        list(open_questions(none, context=asked))


def test_a_text_beyond_all_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "LARGEST", 2 << 20)
    monkeypatch.setattr(text, "PIECE", 1 << 20)
    asked = file_of(tmp_path, "asked.txt", "When?\n")
    assert len(list(open_questions(asked, context=file_of(tmp_path, "fits.txt", b"x" * (2 << 20))))) == 1
    large = file_of(tmp_path, "large.txt", b"x" * ((2 << 20) + 1))
    with refused(large, "has more than 2 million characters", "Cut it into parts."):
        list(open_questions(asked, context=large))


def test_a_file_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path, "q.xlsx", b"PK")
    kinds = (
        r"\.json \(SQuAD JSON\), \.jsonl \(JSON lines\), \.ndjson \(JSON lines\), \.csv \(a table\), \.tsv \(a table\)"
    )
    hint = "One question a line about one text: --context-file TEXT --questions-file FILE."
    with refused(path, f"is of no known kind: files of questions end in {kinds}", hint):
        open_questions(path)


def test_a_kind_is_told_by_the_end_of_the_name_in_any_case(tmp_path: Path) -> None:
    assert [q.id for q in open_questions(file_of(tmp_path, "Q.NDJSON", json.dumps(LINE)))] == ["a"]
    assert [q.id for q in open_questions(file_of(tmp_path, "Q.JSON", json.dumps(squad(QA))))] == ["q1"]


# streams

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def gathered(stream: JsonStream, deep: int) -> Any:
    """The next value, the outer parts of it by going into them."""
    if deep and stream.peek() == "{":
        return {name: gathered(stream, deep - 1) for name in stream.members()}
    if deep and stream.peek() == "[":
        return [gathered(stream, deep - 1) for _ in stream.items()]
    return stream.value()


@settings(max_examples=200, deadline=None)
@given(value=JSON, piece=st.integers(1, 9), deep=st.integers(0, 3), indent=st.sampled_from([None, 1]))
def test_json_in_pieces_is_the_same_json(
    value: Any, piece: int, deep: int, indent: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False), encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "PIECE", piece)
        stream = JsonStream(path)
        assert gathered(stream, deep) == value
        stream.end()
        skipped = JsonStream(path)
        skipped.skip()
        skipped.end()


@settings(max_examples=200, deadline=None)
@given(value=JSON, piece=st.integers(1, 9), cut=st.floats(0, 1, exclude_max=True))
def test_json_that_is_cut_is_refused(
    value: Any, piece: int, cut: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = json.dumps([value])
    path = tmp_path_factory.getbasetemp() / "cut.json"
    path.write_text(whole[: int(cut * len(whole))], encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "PIECE", piece)
        with pytest.raises(QuestionsInvalid, match=r"is not JSON: .* at line 1, column"):
            JsonStream(path).skip()


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("content", "at"), [(b"caf\xe9!", 3), ("\u6a4b\u6a4b".encode() + b"\xff", 6), ("a\u6a4b".encode()[:-1], 1)]
)
def test_the_first_bad_byte_is_named(
    content: bytes, at: int, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "PIECE", piece)
    with pytest.raises(QuestionsInvalid, match=f"is not UTF-8 at byte {at}$"):
        list(text.pieces_of(file_of(tmp_path, "any", content)))


def test_a_value_beyond_all_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "LARGEST", 2 << 20)
    monkeypatch.setattr(text, "PIECE", 1 << 16)
    path = written(tmp_path, squad(QA, context="Built in 1808. " * 200_000))
    hint = "Is this a file of questions? JSON of any size may hold them."
    with refused(path, r"holds a value of more than 2 million characters at line 1, column \d+", hint):
        read_squad(path)


def test_what_is_passed_over_may_be_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not of any depth: at most 99 arrays or objects in one another below the document's own."""
    monkeypatch.setattr(json_stream, "LARGEST", 1000)
    monkeypatch.setattr(text, "PIECE", 100)
    for large in ([1] * 5000, {str(number): 1 for number in range(1000)}):
        assert len(read_squad(written(tmp_path, {"unknown": large, **squad(QA)})).questions) == 1
    for opening, closing in (("[", "]"), ('{"x": ', "}")):
        for depth, fits in ((99, True), (100, False)):
            nested = f"{opening * depth}{' ' * 2000}1{closing * depth}"
            path = file_of(tmp_path, "q.json", json.dumps(squad(QA))[:-1] + f', "unknown": {nested}}}')
            if fits:
                assert len(read_squad(path).questions) == 1
            else:
                with refused(path, r"is nested too deeply at line 1, column \d+"):
                    read_squad(path)


def test_a_stream_goes_into_what_is_there(tmp_path: Path) -> None:
    path = file_of(tmp_path, "any", "\n {}")
    with refused(path, r"is not JSON: \[ is missing at line 2, column 2"):
        list(JsonStream(path).items())
    assert list(JsonStream(path).members()) == []


def test_a_file_is_read_once_where_its_ids_differ(tmp_path: Path) -> None:
    readings = []

    def read(reading: Reading) -> Iterator[Question]:
        readings.append(reading)
        yield from (Question(key, "When?", "Then.") for key in "abc")

    source = QuestionSource(tmp_path, read, limit=None, notes=None, may_be_unanswerable=None)
    assert [question.id for question in source] == ["a", "b", "c"]
    assert len(readings) == 1


@pytest.mark.parametrize("name", ["q.json", "q.jsonl", "q.csv"])
def test_a_large_file_takes_little_memory(name: str, tmp_path: Path) -> None:
    """20,000 questions in 20 MB; one article."""
    context, count = "Built in 1808. " * 66, 20_000
    path = tmp_path / name
    with path.open("w") as file:
        if name == "q.json":
            file.write('{"data": [{"paragraphs": [')
            for number in range(count):
                qa = json.dumps({"context": context, "qas": [{"id": f"{number}", "question": "When?"}]})
                file.write((", " if number else "") + qa)
            file.write("]}]}")
        elif name == "q.jsonl":
            file.writelines(
                json.dumps({"id": f"{number}", "question": "When?", "context": context}) + "\n"
                for number in range(count)
            )
        else:
            file.write("id,question,context\n")
            file.writelines(f"{number},When?,{context}\n" for number in range(count))
    assert path.stat().st_size > 19e6
    tracemalloc.start()
    try:
        assert sum(1 for _ in open_questions(path)) == count
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6e6


@given(keys=st.lists(st.text(max_size=3), max_size=60), fewest=st.integers(0, 5))
def test_ids_that_were_there_before(keys: list[str], fewest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "FEWEST", fewest)
        seen = Seen()
        assert [seen.add(key) for key in keys] == [key in keys[:place] for place, key in enumerate(keys)]
        assert len(seen) == len(set(keys))


def test_two_ids_with_one_hash_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Seen, "add", lambda self, key: True)
    path = json_lines(tmp_path, LINE, {**LINE, "id": "b"})
    assert [question.id for question in open_questions(path)] == ["a", "b"]
    path = json_lines(tmp_path, LINE, LINE)
    with pytest.raises(QuestionsInvalid, match="'a' occurs twice"):
        list(open_questions(path))
