"""Reading SQuAD JSON, and saying where a file is not SQuAD JSON."""

import json
from pathlib import Path
from typing import Any

import pytest

from bundler.errors import FileUnreadable, QuestionsInvalid
from bundler.qa.questions import read_squad

QA = {"id": "q1", "question": "When?", "answers": [{"text": "1808", "answer_start": 9}]}


def squad(*qas: Any, context: Any = "Built in 1808.", version: str = "1.1") -> dict[str, Any]:
    return {"version": version, "data": [{"title": "T", "paragraphs": [{"context": context, "qas": list(qas)}]}]}


def written(folder: Path, document: Any) -> Path:
    path = folder / "questions.json"
    path.write_text(json.dumps(document), encoding="utf-8")
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


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([1, 2], "no list `data`"),
        ({"data": {}}, "no list `data`"),
        ({"data": []}, "holds no questions"),
        (squad(), "holds no questions"),
        ({"data": [7]}, r"data\[0\] is not an object"),
        ({"data": [{"title": "x"}]}, r"data\[0\]\.paragraphs is missing"),
        (squad(QA, context=7), r"data\[0\]\.paragraphs\[0\]\.context is of the wrong kind"),
        (squad(QA, context="  "), r"data\[0\]\.paragraphs\[0\]\.context is empty"),
        (squad(QA, without({**QA, "id": "q2"}, "question")), r"qas\[1\]\.question is missing"),
        (squad(without(QA, "id")), r"qas\[0\]\.id is missing"),
        (squad({**QA, "answers": "1808"}), r"qas\[0\]\.answers is not a list"),
        (squad({**QA, "question": "\ud83d"}), r"qas\[0\]\.question holds half of a surrogate pair at character 0"),
        (squad(QA, QA), "question id 'q1' occurs twice"),
        (squad("q"), r"qas\[0\] is not an object"),
    ],
)
def test_says_where_it_is_not_squad(document: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(QuestionsInvalid, match=said):
        read_squad(written(tmp_path, document))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (b'{"data": [', "is not JSON: .* at line 1, column"),
        (b'{"data": "\xff"}', "is not UTF-8 at byte 10"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    path.write_bytes(content)
    with pytest.raises(QuestionsInvalid, match=said):
        read_squad(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match=r"nowhere\.json"):
        read_squad(tmp_path / "nowhere.json")
    with pytest.raises(FileUnreadable):
        read_squad(tmp_path)
