"""Tests reading questions of every format."""

import json
from pathlib import Path
from typing import Any

import pytest

from bundler.errors import QuestionsInvalid
from bundler.qa.questions import open_questions, read_squad
from bundler.qa.warnings import Notes
from tests.question_files import LINE, QA, file_of, json_lines, squad, without, written

CASES = Path(__file__).parents[1] / "../shared/cases"


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


def test_a_title_may_come_late_or_not_at_all(tmp_path: Path) -> None:
    """In SQuAD it precedes the paragraphs; a later title is ignored."""
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
        *((squad(QA, version=version), None, True) for version in ("V2.0", "2.1", 2.0)),  # type: ignore[arg-type]
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


@pytest.mark.parametrize("name", ["answers", "answer", "answer_text"])
@pytest.mark.parametrize("value", ["1808", ["1808"], {"text": "1808", "answer_start": 9}, {"text": ["1808"]}])
def test_an_answer_by_other_names(name: str, value: Any, tmp_path: Path) -> None:
    line = {**without(LINE, "answers"), name: value}
    for path in (json_lines(tmp_path, line), written(tmp_path, squad({**without(QA, "answers"), name: value}))):
        (found,) = read_squad(path)
        assert found.answers == ("1808",)


ROWS = [{**LINE, "answers": {"text": ["1808"], "answer_start": [9]}}, {**LINE, "id": "b", "question": "Who?"}]
TASK = {"text": LINE["context"], "question": "When?"}
MARK = {"result": [{"value": {"start": 9, "end": 13, "text": "1808", "labels": ["Answer"]}}]}


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(map(json.dumps, ROWS)),
        "\n".join(json.dumps(row, indent=1) for row in ROWS),
        json.dumps(ROWS),
        json.dumps({"version": "1", "data": ROWS}),
        json.dumps([{"context": LINE["context"], "qas": [{**QA, "id": key} for key in "ab"]}]),
        json.dumps(squad(QA)["data"] + [{"context": "Built in 1808.", "qas": [QA]}]).replace('"id": "q1", ', ""),
        json.dumps([{"id": 7, "annotations": [MARK], "data": TASK}, {"id": 8, "annotations": [MARK], "data": TASK}]),
    ],
    ids=["JSON lines", "objects", "rows", "rows in data", "simpletransformers", "without ids", "Label Studio"],
)
@pytest.mark.parametrize("limit", [None, 2])
def test_json_as_programs_write_it(content: str, limit: int | None, tmp_path: Path) -> None:
    found = open_questions(file_of(tmp_path, "q.json", content), limit=limit)
    assert [(q.context, q.answers) for q in found] == [("Built in 1808.", ("1808",))] * 2
    assert not found.may_be_unanswerable


@pytest.mark.parametrize(
    "fields",
    [
        {"id": float("nan"), "answers": [1808]},
        {"id": 7.0, "answers": 1808},
        {"answers": [{"text": "1808", "answer_start": 9.0}], "is_impossible": 0},
        {"answers": [{"text": 1808.0, "answer_start": "9"}], "is_impossible": "False"},
        {"answers": "1808", "title": float("nan")},
    ],
)
def test_values_as_pandas_writes_them(fields: dict[str, Any], tmp_path: Path) -> None:
    notes = Notes()
    (found,) = open_questions(json_lines(tmp_path, {**LINE, **fields}), notes=notes)
    assert (found.answers, found.impossible, found.title, notes.lines) == (("1808",), False, "", ())
    assert found.id in ("a", "7", "line-1")


def test_a_question_with_1_for_impossible(tmp_path: Path) -> None:
    (found,) = read_squad(written(tmp_path, squad({**QA, "answers": [], "is_impossible": 1})))
    assert found.impossible is True


@pytest.mark.parametrize(("name", "reader"), [("q.parquet", "read_parquet"), ("q.XLSX", "read_excel")])
def test_tables_that_only_pandas_reads(name: str, reader: str, tmp_path: Path) -> None:
    with pytest.raises(QuestionsInvalid) as caught:
        open_questions(file_of(tmp_path, name, b"PAR1"))
    assert f"pandas.{reader}('{name}').to_json('q.jsonl'" in (caught.value.hint or "")


ONE = (("1808",), False)
IMPOSSIBLE = ((), True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("answer_key.jsonl", [ONE]),
        ("answer_singular.json", [ONE]),
        ("cdqa_noids.json", [ONE]),
        ("excel_sep.csv", [ONE]),
        ("hf_to_json_named.json", [ONE, IMPOSSIBLE]),
        ("impossible_int.json", [IMPOSSIBLE]),
        ("label_studio.json", [ONE]),
        ("list_of_rows.json", [ONE, IMPOSSIBLE]),
        ("nan.jsonl", [ONE]),
        ("numeric_strings.jsonl", [ONE]),
        ("spaces_after_comma.csv", [ONE]),
        ("spaces_header.csv", [((), None)]),
        ("start_float.json", [ONE]),
        ("eight.json", [((), None)] * 8),
    ],
)
def test_the_collected_files(name: str, expected: list[Any]) -> None:
    if not CASES.is_dir():
        pytest.skip("../shared/cases is not here")
    source = open_questions(CASES / name)
    found = list(source)
    assert [(question.answers, question.impossible) for question in found] == expected
    assert source.may_be_unanswerable is (IMPOSSIBLE in expected)
    assert all(question.id and '"' not in question.context + question.text for question in found)
    assert all(text in question.context for question in found for text in question.answers)


def test_the_collected_annotations_are_scored_as_far_as_they_tell() -> None:
    if not CASES.is_dir():
        pytest.skip("../shared/cases is not here")
    notes = Notes()
    found = list(open_questions(CASES / "eval_edge_v2.json", notes=notes))
    assert [question.id for question in found if not question.has_truth] == ["c", "f"]
    assert len(notes.lines) == 3


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("version", [{}, {"version": "v2.0"}])
def test_one_document_that_is_called_json_lines(version: dict[str, str], indent: int | None, tmp_path: Path) -> None:
    document = {**squad(QA), **version} if indent is None else {**version, "data": squad(QA)["data"]}
    text = json.dumps(document, indent=indent)
    expected = list(open_questions(file_of(tmp_path, "q.json", text)))
    found = open_questions(file_of(tmp_path, "q.jsonl", "\ufeff" + text))
    assert list(found) == expected
    assert found.may_be_unanswerable is bool(version)
    rows = json.dumps([LINE], indent=indent)
    assert [q.id for q in open_questions(file_of(tmp_path, "rows.jsonl", rows))] == [LINE.get("id", "item-1")]


def test_a_version_in_json_lines_means_nothing(tmp_path: Path) -> None:
    path = json_lines(tmp_path, {"version": "v2.0", **LINE})
    assert not open_questions(path).may_be_unanswerable
    assert not open_questions(path, limit=1).may_be_unanswerable


def test_json_lines_without_a_last_line_feed_and_with_windows_line_ends(tmp_path: Path) -> None:
    text = "\r\n\r\n".join(json.dumps({**LINE, "id": key}) for key in "abc")
    assert [q.id for q in open_questions(file_of(tmp_path, "q.jsonl", text))] == ["a", "b", "c"]


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


@pytest.mark.parametrize(
    "content",
    [
        'id, question, context, answers\n1, "When?", "Built, in 1808.", "1808"\n',
        "sep=;\r\nid;question;context;answers\r\n1;When?;Built, in 1808.;1808\r\n",
        '"SEP=,"\nid,question,context,answers\n1,When?,"Built, in 1808.",1808\n',
        " id |question | context| answers \n1|When?|Built, in 1808.|1808\n",
        'id,question,context,answers\r1,When?,"Built, in 1808.",1808\r',
        'id,question,context,answer\n1,When?,"Built, in 1808.",1808\n',
    ],
    ids=["blanks", "sep", "quoted sep", "blanks in the header", "carriage returns", "answer"],
)
def test_tables_as_programs_write_them(content: str, tmp_path: Path) -> None:
    (found,) = open_questions(file_of(tmp_path, "q.csv", "\ufeff" + content))
    assert (found.id, found.text, found.context, found.answers) == ("1", "When?", "Built, in 1808.", ("1808",))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_on_a_piece_s_edge(end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file_of(tmp_path, "q.csv", end.join(["question,context", 'When?,"In', '1808."', "Who?,Krell."]))
    for size in range(1, 12):
        monkeypatch.setattr("bundler.qa.questions.text.PIECE", size)
        assert [(q.id, q.context) for q in open_questions(path)] == [("line-2", f"In{end}1808."), ("line-4", "Krell.")]


def test_mapped_columns(tmp_path: Path) -> None:
    path = file_of(tmp_path, "q.csv", "Nr;Frage;Text\n7;Wann?;Gebaut 1808.\n")
    (found,) = open_questions(path, columns={"id": "Nr", "question": "Frage", "context": "Text"})
    assert (found.id, found.text, found.context) == ("7", "Wann?", "Gebaut 1808.")


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


def test_plain_text(tmp_path: Path) -> None:
    context = file_of(tmp_path, "bridge.txt", "Built in 1808.\nRepaired in 1936.\n")
    asked = file_of(tmp_path, "asked.txt", "When was it built?\r\n\n  Who? \nWhy?")
    found = list(open_questions(asked, context=context))
    assert [(q.id, q.text) for q in found] == [("line-1", "When was it built?"), ("line-3", "Who?"), ("line-4", "Why?")]
    assert {q.context for q in found} == {"Built in 1808.\nRepaired in 1936.\n"}
    assert {q.title for q in found} == {"bridge"}


def test_a_kind_is_told_by_the_end_of_the_name_in_any_case(tmp_path: Path) -> None:
    assert [q.id for q in open_questions(file_of(tmp_path, "Q.NDJSON", json.dumps(LINE)))] == ["a"]
    assert [q.id for q in open_questions(file_of(tmp_path, "Q.JSON", json.dumps(squad(QA))))] == ["q1"]
