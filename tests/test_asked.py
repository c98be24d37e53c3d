"""Tests the options of `build` about questions: allowed combinations, and what they open."""

import json
from pathlib import Path

import pytest

from bundler.cli import main
from bundler.commands.question_options import Asked, columns_of
from bundler.errors import QuestionsInvalid, UsageError
from bundler.qa.warnings import Notes


def ids(asked: Asked) -> list[str]:
    return [question.id for question in asked.open(Notes(), one_may_be_unanswerable=True)]


def test_the_demo_where_nothing_is_named() -> None:
    assert len(ids(Asked())) == 12
    assert len(ids(Asked(limit=2))) == 2
    assert Asked().open(Notes(), one_may_be_unanswerable=False).may_be_unanswerable


def test_each_way(tmp_path: Path) -> None:
    table = tmp_path / "q.csv"
    table.write_text("Nr,Frage,Text\n7,Wann?,Gebaut 1808.\n")
    assert ids(Asked(table, columns="id=Nr, question=Frage,context=Text")) == ["7"]
    (tmp_path / "asked.txt").write_text("When?\nWho?\n")
    (tmp_path / "text.txt").write_text("Built in 1808.")
    assert ids(Asked(questions_file=tmp_path / "asked.txt", context_file=tmp_path / "text.txt")) == ["line-1", "line-2"]
    assert ids(Asked(question="When?", context="Built in 1808.")) == ["question-1"]


@pytest.mark.parametrize(
    ("said", "default", "expected"), [(None, True, True), (None, False, False), (False, True, False)]
)
def test_whether_one_question_may_be_unanswerable(said: bool | None, default: bool, expected: bool) -> None:
    one = Asked(question="When?", context="Then.", may_be_unanswerable=said)
    assert one.open(Notes(), one_may_be_unanswerable=default).may_be_unanswerable is expected


FILE = Path("q.json")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(question="When?"), "--question and --context go together"),
        (Asked(context="Then."), "--question and --context go together"),
        (Asked(questions_file=FILE), "--questions-file and --context-file go together"),
        (Asked(context_file=FILE), "--questions-file and --context-file go together"),
        (Asked(FILE, question="When?", context="Then."), "--question does not go with --questions"),
        (Asked(FILE, questions_file=FILE, context_file=FILE), "--questions-file does not go with --questions"),
        (Asked(FILE, columns="question=Frage"), "--columns is for tables"),
        (Asked(columns="question=Frage"), "--columns is for tables"),
    ],
)
def test_what_does_not_go_together(asked: Asked, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ids(asked)


@pytest.mark.parametrize("text", ["", "Frage", "question=", "frage=Frage", "question=a,question=b", "question=a,,"])
def test_columns_that_are_no_list(text: str) -> None:
    with pytest.raises(UsageError, match="is not a list of FIELD=COLUMN"):
        columns_of(text)


def test_empty_texts_on_the_command_line() -> None:
    with pytest.raises(QuestionsInvalid, match="--question is empty"):
        ids(Asked(question=" ", context="Then."))


def test_build_tells_what_is_odd(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [
        {"id": "odd", "question": "When?", "context": "The bridge was built in 1808.", "answers": ["1936"]},
        {"id": "long", "question": "bridge " * 500, "context": "The bridge."},
    ]
    Path("q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    model = str(model_folder / "model.onnx")
    assert main(["build", "--model", model, "--questions", "q.jsonl", "--max-answer-tokens", "7", "--json"]) == 0
    said = capfd.readouterr()
    document = json.loads(said.out)
    assert document["questions"] == 2
    assert len(document["notes"]) == 2
    assert all(f"note: {note}" in said.err for note in document["notes"])
    assert document["notes"][0].startswith("1 question: an answer that is given does not occur in the context")
    assert document["bytes"] > 10_000
    assert json.loads(Path("bundle/manifest.json").read_text())["max_answer_tokens"] == 7
