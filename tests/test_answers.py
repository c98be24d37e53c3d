"""Tests the files of answers: written one by one, identical to json.dumps of everything; all of them or none."""

import json
import shutil
import tracemalloc
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler import layout
from bundler.bundle import Bundle, read_bundle
from bundler.cli import main
from bundler.errors import OutputsInvalid
from bundler.pipeline.fetch import Fetched
from bundler.pipeline.simulate import SimulateRequest, simulate_bundle
from bundler.qa.spans import USUAL, Decoding
from bundler.runs.answers import Arriving, answered
from bundler.runs.json_writer import list_file, object_file
from bundler.runs.predictions import write_answers
from bundler.runs.record import Run, Verified
from bundler.types import Answer, Question
from tests.deploying import quiet
from tests.finished import finished_bundle
from tests.test_schemas import check

FILES = (layout.ANSWERS, layout.PREDICTIONS, layout.N_BEST, layout.NULL_ODDS)
FEW, MANY = 300, 2000
GROWTH = 1 << 20  # bytes: so many answers more would take ten times as much

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def whole(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("entries")


@settings(max_examples=100, deadline=None)
@given(members=st.dictionaries(st.text(), JSON, max_size=4))
def test_an_object_is_written_as_a_whole_one_would_be(folder: Path, members: dict[str, Any]) -> None:
    with object_file(folder / "object.json") as add:
        for name, value in members.items():
            add(name, value)
    assert (folder / "object.json").read_bytes() == whole(members)


@settings(max_examples=100, deadline=None)
@given(head=st.dictionaries(st.text(), JSON, max_size=3), items=st.lists(JSON, max_size=4))
def test_a_list_in_an_object_is_written_as_a_whole_one_would_be(folder: Path, head: Any, items: list[Any]) -> None:
    head.pop("items", None)
    with list_file(folder / "list.json", head, "items") as add:
        for item in items:
            add(item)
    assert (folder / "list.json").read_bytes() == whole({**head, "items": items})


@pytest.fixture(scope="module", params=[True, False], ids=["with no answer", "always an answer"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Run]:
    folder = tmp_path_factory.mktemp("finished")
    bundle, run = finished_bundle(folder / "bundle", 130, may_be_unanswerable=request.param)
    return bundle, replace(run, verified=Verified(0.99991, 0.999, 8, True))


def documents(bundle: Bundle, run: Run, pairs: list[tuple[Question, Answer]]) -> dict[str, Any]:
    """Returns the expected content of each file, built in memory."""
    entries = []
    for question, answer in pairs:
        entry = {"id": question.id, "question": question.text, "answer": answer.text}
        entry |= {"start": answer.start, "end": answer.end}  # type: ignore[dict-item]
        entry |= {"confidence": round(answer.confidence, 6), "score": round(answer.score, 6)}  # type: ignore[dict-item]
        start, end = answer.best_span
        entry["best_span"] = {"text": question.context[start:end], "start": start, "end": end}  # type: ignore[assignment]
        entries.append({**entry, "null_score": round(answer.null_score, 6), "window": answer.window})
    (part,), model, verified = run.parts, bundle.manifest.model, run.verified
    assert verified is not None
    phones = [{"serial": part.phone, "soc": part.soc, "model": part.model, "windows": part.windows}]
    head = {"schema": 3, "bundle": bundle.id, "model": model.name, "precision": model.precision, "runtime": "cpu"}
    lists = {
        question.id: [
            {"text": each.text, "start": each.start, "end": each.end}
            | {"probability": round(each.confidence, 6), "score": round(each.score, 6)}
            for each in answer.n_best
        ]
        for question, answer in pairs
    }
    made = {
        layout.ANSWERS: {
            **head,
            "phones": phones,
            "verified": asdict(verified),
            "not_plausible": [],
            "answers": entries,
        },
        layout.PREDICTIONS: {question.id: answer.text for question, answer in pairs},
        layout.N_BEST: lists,
    }
    odds = {layout.NULL_ODDS: {question.id: answer.null_odds for question, answer in pairs}}
    return made | odds if bundle.manifest.may_be_unanswerable else made


@pytest.mark.parametrize("decoding", [USUAL, Decoding(n_best=3, null_threshold=2.5, max_tokens=2)])
def test_the_files_are_those_of_all_answers_together(finished: tuple[Bundle, Run], decoding: Decoding) -> None:
    bundle, run = finished
    pairs = list(Fetched(bundle, run, decoding).answered())
    assert [(question.id, answer.question_id) for question, answer in pairs] == [(f"q{n}",) * 2 for n in range(130)]
    folder = run.folder(bundle.path)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    write_answers(bundle, run, iter(pairs))
    expected = documents(bundle, run, pairs)
    assert {path.name for path in folder.glob("*.json")} == {*expected, layout.RUN}
    for name, document in expected.items():
        assert (folder / name).read_bytes() == whole(document)
        check(document, Path(name).stem)


def test_all_files_are_written_or_none(finished: tuple[Bundle, Run]) -> None:
    bundle, run = finished
    folder = run.folder(bundle.path)
    pairs = list(Fetched(bundle, run, USUAL).answered())
    write_answers(bundle, run, pairs[:7])
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert len(before) == (5 if bundle.manifest.may_be_unanswerable else 4)

    def broken() -> Iterator[tuple[Question, Answer]]:
        yield from pairs
        raise OutputsInvalid("the second chunk cannot be read")

    with pytest.raises(OutputsInvalid):
        write_answers(bundle, run, broken())
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_answers_json_is_named_last(finished: tuple[Bundle, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, run = finished
    named: list[str] = []
    replace_file = Path.replace

    def watched(self: Path, target: Path) -> Path:
        named.append(Path(target).name)
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    write_answers(bundle, run, Fetched(bundle, run, USUAL).answered())
    assert len(named) == (4 if bundle.manifest.may_be_unanswerable else 3)
    assert named[-1] == layout.ANSWERS


def test_people_see_some_answers_and_programs_all(
    finished: tuple[Bundle, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, run = finished
    run.save(bundle.path)
    assert main(["fetch-answers", "--bundle", str(bundle.path)]) == 0
    shown = capsys.readouterr().out
    path = run.folder(bundle.path) / layout.ANSWERS
    assert shown.count("When was ") == 100
    assert f"and 30 more; all written to {path}" in " ".join(shown.split("\n"))
    assert main(["fetch-answers", "--bundle", str(bundle.path), "--json"]) == 0
    assert capsys.readouterr().out.encode() == path.read_bytes()
    assert len(json.loads(path.read_text())["answers"]) == 130


def peak_of(bundle: Bundle, run: Run) -> int:
    """Returns the peak memory, in bytes, to decode and write all answers."""
    tracemalloc.start()
    try:
        write_answers(bundle, run, Fetched(bundle, run, USUAL).answered())
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_many_more_questions_take_no_more_memory(tmp_path: Path) -> None:
    few, many = (finished_bundle(tmp_path / f"{count}", count, size=100) for count in (FEW, MANY))
    peak_of(*few)  # what is made once is made
    assert peak_of(*many) < peak_of(*few) + GROWTH


def test_answers_come_as_soon_as_their_windows_have(built: Path, tmp_path: Path) -> None:
    """Checks the order, whichever chunk comes first: a question waits for its windows and for earlier ones."""
    bundle = read_bundle(Path(shutil.copytree(built, tmp_path / "bundle")))
    run = simulate_bundle(bundle.path, SimulateRequest(runtime="cpu"), quiet)
    done = run.folder(bundle.path)
    expected = list(answered(bundle, done, 1, USUAL))
    arriving, folder = Arriving(bundle, tmp_path / "run", 1), tmp_path / "run"
    (folder / layout.LOGITS).mkdir(parents=True)
    come = []
    for line in (2, 0, 1, 3):  # the last question has lines 2 and 3
        name = f"{layout.LOGITS}/{line:07d}-{line + 1:07d}.npz"
        shutil.copyfile(done / name, folder / name)
        come.append(list(arriving.new()))
    assert [len(each) for each in come] == [0, 0, 2, 1]
    assert [pair for each in come for pair in each] == expected
    assert list(arriving.new()) == []


def test_a_terminal_shows_answers_as_they_come(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(shutil.copytree(built, tmp_path / "bundle"))
    assert main(["simulate", str(path), "--runtime", "cpu"]) == 0
    assert " -> " not in capsys.readouterr().out
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True)
    assert main(["simulate", str(path), "--runtime", "cpu", "--restart"]) == 0
    said = "".join(capsys.readouterr())  # rich shows them above its bar
    shown = [line.rpartition("\x1b[2K")[2] for line in said.splitlines() if " -> " in line]
    assert [line.partition(" -> ")[0] for line in shown] == [question.text for question in read_bundle(path).questions]
