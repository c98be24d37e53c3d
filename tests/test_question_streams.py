"""Tests that files of questions of any size are read in pieces, with the same result."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.errors import QuestionsInvalid
from bundler.qa.questions import json_stream, open_questions, read_squad, text
from bundler.qa.questions.json_stream import JsonStream
from tests.question_files import LINE, QA, file_of, json_lines, refused, squad, written

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def gathered(stream: JsonStream, deep: int) -> Any:
    """Reads the next value; enters its outer levels."""
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
    """Their depth is limited: at most 99 nested arrays or objects below the document's own."""
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["q.json", "q.jsonl", "q.csv"])
def test_a_large_file_takes_little_memory(name: str, tmp_path: Path) -> None:
    """Uses 20,000 questions in 20 MB; one article."""
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


def test_an_id_that_was_there_before(tmp_path: Path) -> None:
    path = json_lines(tmp_path, LINE, {**LINE, "id": "b"})
    assert [question.id for question in open_questions(path)] == ["a", "b"]
    path = json_lines(tmp_path, LINE, {**LINE, "id": "b"}, LINE)
    with pytest.raises(QuestionsInvalid, match="'a' occurs twice"):
        list(open_questions(path))
