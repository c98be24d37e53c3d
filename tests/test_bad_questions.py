"""Tests refused files of questions: one line with name and place, and a hint."""

import json
from pathlib import Path
from typing import Any

import pytest

from bundler.errors import QUESTION_HINTS, FileUnreadable
from bundler.qa.questions import formats, open_questions, read_squad, text
from tests.question_files import LINE, QA, file_of, json_lines, refused, squad, without, written

LINES_HINT, TABLE_HINT = QUESTION_HINTS[".jsonl"], QUESTION_HINTS[".csv"]
COLUMNS_HINT = "Name the columns in the first line, or map them: --columns question=NAME,context=NAME."
QUOTES_HINT = "Put cells with quotes or line ends in quotes, and double the quotes in them."
TEXTS_HINT = "Give every question a text and a context."
QAS = r"data\[0\]\.paragraphs\[0\]\.qas"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([1, 2], r"\[0\] is not an object"),
        ([{"context": "x"}], r"\[0\]\.question is missing"),
        (7, "is not SQuAD JSON: there is no list `data` at the top"),
        ([{"id": 1, "annotations": 7, "data": {"question": "Who?"}}], r"\[0\]\.data\.context is missing"),
        ({"data": {}}, "is not SQuAD JSON: there is no list `data` at the top"),
        ({"version": "1.1"}, "is not SQuAD JSON: there is no list `data` at the top"),
        ({"data": []}, "holds no questions"),
        (squad(), "holds no questions"),
        ({"data": [7]}, r"data\[0\] is not an object"),
        ({"data": [{"paragraphs": []}, {"paragraphs": []}, 7]}, r"data\[2\] is not an object"),
        ({"data": [{"title": "x"}]}, r"data\[0\]\.paragraphs is missing"),
        ({"data": [{"paragraphs": {}}]}, r"data\[0\]\.paragraphs has the wrong type"),
        ({"data": [{"paragraphs": ["x"]}]}, r"data\[0\]\.paragraphs\[0\] is not an object"),
        ({"data": [{"paragraphs": [{"context": "x"}]}]}, r"data\[0\]\.paragraphs\[0\]\.qas is missing"),
        (squad(QA, context=7), r"data\[0\]\.paragraphs\[0\]\.context has the wrong type"),
        (squad(QA, without({**QA, "id": "q2"}, "question")), QAS + r"\[1\]\.question is missing"),
        (squad({**QA, "answers": True}), QAS + r"\[0\]\.answers is not a list"),
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
        *(
            (
                squad({**QA, name: told}),
                QAS + rf"\[0\]\.{field} holds half of a surrogate pair at character 2",
                "Save the text as valid Unicode.",
            )
            for name, told, field in (
                ("question", "ab\ud83d", "question"),
                ("id", "ab\ud83d", "id"),
                ("answers", ["1808", "ab\ud83d"], r"answers\[1\]"),
            )
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


def test_half_a_surrogate_pair_in_a_title_is_refused(tmp_path: Path) -> None:
    path = json_lines(tmp_path, LINE)
    path.write_text(json.dumps({**LINE, "title": "\ud83d"}))
    with refused(
        path, "line 1: title holds half of a surrogate pair at character 0", "Save the text as valid Unicode."
    ):
        list(open_questions(path))


@pytest.mark.parametrize("piece", [1, 7, 1000])
@pytest.mark.parametrize(
    "content", ['{"x": [1, 2, 3,\n 4, 5, 6, 7, 8 9]\n}\n\n', '{"x": [1, 2, 3, 4, 5, 6, 7, 8 9]\n}\n']
)
def test_the_place_of_an_error_is_that_in_the_file(
    content: str, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "PIECE", piece)
    lines = content[: content.index("9")].split("\n")
    path = file_of(tmp_path, "q.json", content)
    with refused(path, rf"is not JSON: , or \] is missing at line {len(lines)}, column {len(lines[-1]) + 1}"):
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
    for read in (read_squad, lambda path: list(text.pieces_of(path))):
        with pytest.raises(FileUnreadable, match=f"^{tmp_path}: cannot be read: Is a directory$"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("content", "said", "hint"),
    [
        ('{"id": 1', "line 1 is not JSON: Expecting ',' delimiter at column 9", LINES_HINT),
        ("[" * 100_000, "line 1 is nested too deeply", LINES_HINT),
        ("1" * 5000, "line 1: a number has too many digits", LINES_HINT),
        (json.dumps(LINE) + "\n[]\n", "line 2 is not an object", LINES_HINT),
        (json.dumps(without(LINE, "context")), "line 1: context is missing", LINES_HINT),
        (json.dumps({**LINE, "context": " "}), "line 1: context is empty", TEXTS_HINT),
        (json.dumps({**LINE, "question": None}), "line 1: question is missing", LINES_HINT),
        (json.dumps({**LINE, "question": 7}), "line 1: question has the wrong type", LINES_HINT),
        (json.dumps({**LINE, "id": 7.5}), "line 1: id has the wrong type", LINES_HINT),
        (
            json.dumps({**LINE, "answers": ["a", True]}),
            r"line 1: answers\[1\] is neither a text nor an object with `text`",
            LINES_HINT,
        ),
        *(
            (json.dumps({**LINE, "answers": told}), "line 1: answers has not as many answer_start as text", LINES_HINT)
            for told in (
                {"text": ["a"], "answer_start": [1, 2]},
                {"text": "a", "answer_start": [1]},
                {"text": ["a"], "answer_start": "1"},
            )
        ),
        *(
            (
                json.dumps({**LINE, "answers": [{"text": "1808", "answer_start": start}]}),
                r"line 1: answers\[0\]\.answer_start is not a whole number",
                LINES_HINT,
            )
            for start in ("nine", 9.5, True)
        ),
        (
            json.dumps({**LINE, "is_impossible": "perhaps"}),
            "line 1: is_impossible is neither true nor false",
            LINES_HINT,
        ),
        (b'{"id": "\xe9"}', "is not UTF-8 at byte 8", "Save it as UTF-8."),
        ("\n\n", "holds no questions", LINES_HINT),
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
        ("question,context\n", {}, "holds no questions", TABLE_HINT),
        (
            "question,con\rtext\n",
            {},
            "has no column 'context': its columns, separated by commas, are 'question', 'con'",
            COLUMNS_HINT,
        ),
        (
            "sep=;\nquestion,context\n",
            {},
            "has no column 'question': its first line is 'question,context', in which nothing separates columns",
            COLUMNS_HINT,
        ),
        ("sep=;\nquestion;context\nWhen?;\n", {}, "line 3: context is empty", TEXTS_HINT),
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
            "line 3 is not a table line: unexpected end of data",
            QUOTES_HINT,
        ),
        ('question,context\nWhen?,"Built" in\n', {}, "line 2 is not a table line: .*", QUOTES_HINT),
        (
            'question,context,answers\nWhen?,Built.,"[""a"""\n',
            {},
            "line 2: answers is not JSON: Expecting ',' delimiter: .*",
            TABLE_HINT,
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
            TABLE_HINT,
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
    path = file_of(tmp_path, "q.docx", b"PK")
    kinds = (
        r"\.json \(SQuAD JSON\), \.jsonl \(JSON lines\), \.ndjson \(JSON lines\), \.csv \(a table\), \.tsv \(a table\)"
    )
    hint = "One question a line about one text: --context-file TEXT --questions-file FILE."
    with refused(path, f"is of no known kind: files of questions end in {kinds}", hint):
        open_questions(path)
