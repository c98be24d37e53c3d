"""Tests `ask`: its answers equal those of build, deploy and fetch-answers."""

import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler import layout
from bundler.bundle import Bundle, file_entries, read_bundle
from bundler.cli import main
from bundler.device.phone import AdbServer, Completed, Phone
from bundler.device.probe import probe
from bundler.device.server import private_adb_server
from bundler.errors import RunFailed
from bundler.pipeline.ask import AskRequest, _best, asking, sentence_around
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.qa.texts import Text
from bundler.soc import known_socs
from bundler.types import Answer, Candidate
from bundler.virtual.phones import start_phone, stop_phone
from tests.conftest import QUESTIONS
from tests.deploying import deploy, fetch, quiet, sh
from tests.phones import virtual_phone
from tests.test_first_light import left_behind
from tests.test_schemas import check

ROOT = layout.REMOTE_ROOT
BRIDGE = QUESTIONS[0].context


def at(phone: Phone) -> tuple[str, ...]:
    return ("--adb-host", phone.server.host, "--adb-port", str(phone.server.port), "--device", phone.serial)


def ask(capfd: pytest.CaptureFixture[str], *argv: str) -> Any:
    capfd.readouterr()
    assert main(["ask", *argv, "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    check(document, "ask")
    return document


def refused(capfd: pytest.CaptureFixture[str], code: int, said: str, *argv: str) -> str:
    capfd.readouterr()
    assert main(["ask", *argv]) == code
    shown = capfd.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith(("error: ", "hint: "))]
    assert [line.split(": ")[0] for line in lines] == ["error", "hint"], shown.err
    assert said in lines[0]
    return shown.out


def folders(phone: Phone) -> set[str]:
    return set(sh(phone, f"mkdir -p {ROOT} && ls {ROOT}").split())


@pytest.fixture
def session(phone: Phone, bundle: Bundle) -> Iterator[Any]:
    with asking(bundle.path, phone.server, AskRequest(devices=[phone.serial])) as made:
        yield made


@pytest.mark.slow
def test_answers_are_those_of_deploy_and_fetch(
    phone: Phone, bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    deploy(phone, bundle)
    fetched = fetch(phone, bundle).answers
    before, there = file_entries(bundle.path), folders(phone)
    for question, expected in zip(QUESTIONS, fetched, strict=True):
        text = tmp_path / "text.txt"
        text.write_text(question.context, encoding="utf-8")
        document = ask(capfd, question.text, str(bundle.path), "--context-file", str(text), *at(phone))
        (reply,) = document["answers"]
        answer = reply["answer"]
        assert (answer["text"], answer["start"], answer["end"]) == (expected.text, expected.start, expected.end)
        assert answer["confidence"] == pytest.approx(expected.confidence, abs=1e-5)
        assert answer["score"] == pytest.approx(expected.score, abs=1e-4)
        assert answer["text"] in answer["sentence"]
        assert document["pushed_bytes"] == 0
        assert 0 < reply["pushed_bytes"] < 20_000
        assert 0 < reply["phone_ms"] < reply["total_ms"]
    assert file_entries(bundle.path) == before
    assert folders(phone) == there


@pytest.mark.slow
def test_a_session(phone: Phone, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: Any, tmp_path: Path) -> None:
    """Asks three questions on standard input; the phone lacks the model, which is pushed once."""
    sh(phone, f"rm -rf {ROOT}")
    asked = ["When was the bridge built?", "Who built it?", "How many?"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([asked[0], "", *asked[1:]])))
    document = ask(capfd, "--bundle", str(bundle.path), "--context", BRIDGE, *at(phone))
    assert [reply["question"] for reply in document["answers"]] == asked
    assert document["pushed_bytes"] > (bundle.path / layout.DEVICE / layout.MODEL).stat().st_size
    assert all(reply["pushed_bytes"] < 20_000 for reply in document["answers"])
    assert folders(phone) == {"store"}
    assert main(["ask", asked[0], str(bundle.path), "--context", BRIDGE, *at(phone)]) == 0
    shown = capfd.readouterr().out
    text = document["answers"][0]["answer"]["text"]
    assert text in shown.splitlines()
    assert f"[{text}]" in shown
    assert "not on the phone" not in shown
    assert "ms on the phone" in shown
    assert sh(phone, f"ls {ROOT}/store/incoming") == ""


@pytest.mark.slow
def test_a_folder_of_texts(phone: Phone, bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "texts"
    (folder / "more").mkdir(parents=True)
    for name, question in zip(("a.txt", "b.md", "more/c.txt"), QUESTIONS, strict=True):
        (folder / name).write_text(question.context, encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG\0")
    (folder / os.fsdecode(b"caf\xe9.bin")).write_bytes(b"\0")
    (folder / "latin").write_bytes(b"caf\xe9")
    (folder / "empty").write_text(" ")
    texts = [Text(question.id, question.context) for question in QUESTIONS]
    asked = ["When was the bridge built?", str(bundle.path), *at(phone)]
    with asking(bundle.path, phone.server, AskRequest(devices=[phone.serial])) as session:
        alone = [session.ask(asked[0], [text]) for text in texts]
        document = ask(capfd, *asked, "--context-folder", str(folder))  # beside the other session
        assert session.ask(asked[0], texts[:1]).answer == alone[0].answer
    (reply,) = document["answers"]
    best = sorted(alone, key=lambda one: -one.answer.score)
    assert [found["text"] for found in reply["best"]] == [one.answer.text for one in best]
    assert reply["answer"] == reply["best"][0]
    assert {found["name"] for found in reply["best"]} == {"a.txt", "b.md", "more/c.txt"}
    assert reply["windows"] == 4
    assert reply["answer"]["confidence"] < best[0].answer.confidence
    assert main(["ask", *asked, "--context-folder", str(folder)]) == 0
    shown = capfd.readouterr()
    assert "4 passed over, empty or no UTF-8: caf\\xe9.bin, empty, latin, ..." in shown.err
    assert "more/c.txt" in shown.out


@pytest.mark.parametrize("phone", ["virtual"], indirect=True)
def test_a_question_is_one_command(phone: Phone, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes the phone once in a session, and uses one round trip for each question."""
    deploy(phone, bundle)
    said: list[str] = []
    run = Phone.run

    def counted(self: Phone, argv: Sequence[str], **more: Any) -> Completed:
        said.append(more["doing"])
        return run(self, argv, **more)

    monkeypatch.setattr(Phone, "run", counted)
    with asking(bundle.path, phone.server, AskRequest(devices=[phone.serial])) as session:
        assert said == ["looking at the phone", "making checksums", "linking the bundle"]
        for _ in range(2):
            said.clear()
            session.ask("Who?", [Text("", BRIDGE)])
            assert said == ["running the chunk"]
        said.clear()
    assert said == ["removing the links"]


@pytest.mark.slow
@pytest.mark.parametrize("phone", ["virtual"], indirect=True)
def test_many_windows_are_a_workers(phone: Phone, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with asking(bundle.path, phone.server, AskRequest(devices=[phone.serial])) as session:
        one = session.ask(QUESTIONS[2].text, [Text("", QUESTIONS[2].context)])
        monkeypatch.setattr("bundler.scheduler.single_question.AT_ONCE", 0)
        other = session.ask(QUESTIONS[2].text, [Text("", QUESTIONS[2].context)])
        monkeypatch.undo()
        again = session.ask(QUESTIONS[2].text, [Text("", QUESTIONS[2].context)])
    assert one.answer == other.answer == again.answer
    assert one.windows > 1


def answer_of(null: float, *scores: float) -> Answer:
    """Returns the answer to a possibly unanswerable question: spans with these scores, and "no answer"."""
    spans = [Candidate("text"[n:], n, 4, score, 0.1, "w") for n, score in enumerate(scores)]
    listed = sorted([*spans, Candidate("", 0, 0, null, 0.1, "w")], key=lambda one: -one.score)
    return Answer("q", "", 0, 0, 0.1, 0.0, (0, 4), null, "w", n_best=tuple(listed))


@pytest.mark.parametrize(
    ("first", "second", "found", "confidence"),
    [
        (answer_of(5, 1), answer_of(0, 1), "text", 0.4223),  # the least inclined window's "no answer" counts
        (answer_of(2, 1), answer_of(3, 1, 0), "", 0.5344),
        (answer_of(0, 1), answer_of(0, 3, 1), "text", 0.7573),
    ],
)
def test_no_answer_is_for_all_texts(first: Answer, second: Answer, found: str, confidence: float) -> None:
    answer, best = _best([Text("a", "text"), Text("b", "text.")], [first, second])
    assert answer.text == found
    assert answer.confidence == pytest.approx(confidence, abs=1e-4)
    assert {one.name for one in best} == {"a", "b"}
    assert (answer == best[0]) == bool(found)


@pytest.mark.parametrize("phone", ["virtual"], indirect=True)
def test_what_is_refused(
    phone: Phone, bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where, before = ("--bundle", str(bundle.path), *at(phone)), folders(phone)
    text, folder = ("--context", BRIDGE), tmp_path / "texts"
    folder.mkdir()
    (folder / "a.bin").write_bytes(bytes(9))
    large = tmp_path / "large.txt"
    large.write_text("word " * 2_000_000)
    (tmp_path / "empty.txt").write_text("\n")
    refused(capfd, 3, "the question is empty", " ", *text, *where)
    refused(capfd, 3, "--context is empty", "Who?", "--context", "", *where)
    refused(capfd, 3, "the text is empty", "Who?", "--context-file", str(tmp_path / "empty.txt"), *where)
    refused(capfd, 3, "cannot be read", "Who?", "--context-file", str(tmp_path / "none.txt"), *where)
    refused(capfd, 3, "not UTF-8", "Who?", "--context-file", str(bundle.path / layout.DEVICE / layout.MODEL), *where)
    refused(capfd, 3, "longer than 4,000,000 characters", "Who?", "--context-file", str(large), *where)
    shutil.copyfile(large, folder / "large.txt")
    refused(capfd, 3, "4,000,000", "Who?", "--context-folder", str(folder), *where)
    (folder / "large.txt").unlink()
    refused(capfd, 3, "holds no text, but 1 other files", "Who?", "--context-folder", str(folder), *where)
    refused(capfd, 3, "cannot be read", "Who?", "--context-folder", str(tmp_path / "none"), *where)
    refused(capfd, 2, "one text", "Who?", *where)
    refused(capfd, 2, "one text", "Who?", *text, "--context-folder", str(folder), *where)
    refused(capfd, 3, "no bundle", "Who?", *text, "--bundle", str(tmp_path / "none"))
    refused(capfd, 3, "tokens long", "Who? " * 400, *text, *where)
    refused(capfd, 3, "nothing that the tokenizer takes", "Who?", "--context", "\x01", *where)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    refused(capfd, 3, "holds no question", *text, *where)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9?\n"), encoding="utf-8"))
    refused(capfd, 3, "is not UTF-8", *text, *where)
    other = f"{phone.server.host}:{phone.server.port}/{phone.serial}"
    refused(capfd, 2, "one phone", "Who?", *text, *where, "--device", other)
    assert folders(phone) <= before | {"store"}
    assert read_bundle(bundle.path).id == bundle.id


def test_a_phone_that_loses_what_it_had(phone: Phone, bundle: Bundle, session: Any) -> None:
    """Checks that files removed by `clean --all` during a session are pushed again."""
    one = session.ask(QUESTIONS[0].text, [Text("", BRIDGE)])
    sh(phone, f"rm -rf {ROOT}")
    assert session.ask(QUESTIONS[0].text, [Text("", BRIDGE)]).answer == one.answer


@pytest.mark.parametrize("phone", ["virtual"], indirect=True)
def test_a_dialogue(
    phone: Phone, bundle: Bundle, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An invalid question does not end the dialogue; Ctrl-D does."""
    typed = iter(["Who?", "", "Who? " * 400, "When?"])

    def reads(prompt: str) -> str:
        assert prompt == "? "
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", reads)
    monkeypatch.setattr("bundler.console.Console.is_dialogue", True)
    assert main(["ask", "--bundle", str(bundle.path), "--context", BRIDGE, *at(phone)]) == 0
    shown = capfd.readouterr()
    assert "Ctrl-D ends" in shown.out
    assert shown.out.count("ms in all") == 2
    assert shown.err.count("error: ") == shown.err.count("hint: ") == 1


@pytest.mark.slow
def test_a_phone_that_is_too_slow(bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with virtual_phone(tmp_path / "phone", faults=["run-time:60000"]) as phone:
        where = ("--bundle", str(bundle.path), *at(phone), "--timeout", "2")
        refused(capfd, 5, "no end of answering within 2 s", "Who?", "--context", BRIDGE, *where)
        assert folders(phone) == {"store"}
        assert [line for line in left_behind(tmp_path) if "/ask-" in line] == []


@pytest.mark.parametrize("phone", ["virtual"], indirect=True)
def test_a_phone_without_net_run(
    phone: Phone, bundle: Bundle, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = replace(probe(phone), net_run="", qnn_net_run="")
    monkeypatch.setattr("bundler.scheduler.member.probe", lambda _: facts)
    refused(capfd, 5, "there is no snpe-net-run", "Who?", str(bundle.path), "--context", BRIDGE, *at(phone))


@pytest.mark.slow
def test_a_phone_that_goes_away(
    bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removes the phone between two questions, after the first answer."""
    with private_adb_server() as server:
        started = start_phone(known_socs()["SM8650"], 0, tmp_path / "phone")

        def questions() -> Iterator[str]:
            yield "Who?"
            stop_phone(started)
            yield "When?"

        monkeypatch.setattr("sys.stdin", questions())
        monkeypatch.setattr("bundler.console.Console.is_dialogue", False)
        where = ("--adb-host", server.host, "--adb-port", str(server.port), "--device", started.serial)
        out = refused(capfd, 5, "no phone answers", "--bundle", str(bundle.path), "--context", BRIDGE, *where)
        assert "ms in all" in out


def test_a_run_that_fails_says_why(bundle: Bundle, tmp_path: Path) -> None:
    with virtual_phone(tmp_path / "phone", faults=["run-fail:0:always"]) as phone:
        request = AskRequest(devices=[phone.serial])
        with pytest.raises(RunFailed) as failed, asking(bundle.path, phone.server, request) as session:
            session.ask("Who?", [Text("", BRIDGE)])
        log = Path(failed.value.data["log"])
        assert log.read_text()
        log.unlink()
        assert folders(phone) == {"store"}


@pytest.mark.parametrize(
    ("text", "answer", "sentence"),
    [
        ("It is old. It was built in 1808. It stands.", "1808", "It was built in 1808."),
        ("It was built in 1808.", "1808.", "It was built in 1808."),
        ("Built in\n1808 by who\nlater", "1808", "1808 by who"),
        ("One. Two three. Four", "Two three. Four", "Two three. Four"),
        ("\u6a4b\u3002\u6a4b\u306f1808\u5e74\u3002\u6a4b", "1808", "\u6a4b\u306f1808\u5e74\u3002"),
        ("a" * 1000, "a" * 1000, "a" * 1000),
    ],
)
def test_the_sentence_of_an_answer(text: str, answer: str, sentence: str) -> None:
    start = text.index(answer)
    begin, end = sentence_around(text, start, start + len(answer))
    assert text[begin:end] == sentence


@pytest.mark.slow
def test_what_goes_wrong_once_is_mended(bundle: Bundle, tmp_path: Path) -> None:
    """Pulls the cable while the phone computes, then returns an output that is not finite."""
    with virtual_phone(tmp_path / "phone", faults=["cut-run:0", "run-nan:1"]) as phone:
        with asking(bundle.path, phone.server, AskRequest(devices=[phone.serial])) as session:
            first, second, third = (session.ask("Who?", [Text("", BRIDGE)]) for _ in range(3))
        assert first.answer == second.answer == third.answer
        assert folders(phone) == {"store"}


@pytest.mark.slow
def test_a_simulated_phone_answers_too(
    bundle: Bundle, capfd: pytest.CaptureFixture[str], phone: Phone, tmp_path: Path
) -> None:
    """Gives the same answers as a phone, one for each line; leaves no process running."""
    for number, question in enumerate(QUESTIONS):
        (tmp_path / f"{number}.txt").write_text(question.context)
    where = ("--context-folder", str(tmp_path), "--runtime", "cpu", "--bundle", str(bundle.path))
    real = ask(capfd, "Who built it?", *where, *at(phone))
    simulated = ask(capfd, "Who built it?", *where, "--simulate")
    assert simulated["answers"][0]["best"] == real["answers"][0]["best"]
    assert simulated["phone"] == {"name": "simulator", "soc": "SM8650", "model": "ONNX Runtime, float32"}
    assert simulated["pushed_bytes"] == simulated["answers"][0]["pushed_bytes"] == 0
    assert simulated["answers"][0]["network_ms"] <= simulated["answers"][0]["total_ms"]
    refused(capfd, 2, "--simulate does not use a phone", "Who?", *where, "--simulate", "--device", "x")


def test_windows_overlap_as_they_do_in_the_bundle(request_for: BuildRequest, tmp_path: Path) -> None:
    for overlap in (128, 0):
        bundle = build_bundle(replace(request_for, overlap=overlap), tmp_path / str(overlap), quiet)
        windows = [window for window in bundle.manifest.windows if window.question_id == QUESTIONS[2].id]
        request = AskRequest(simulate=True)
        with asking(bundle.path, AdbServer("127.0.0.1", 9), request) as session:
            reply = session.ask(QUESTIONS[2].text, [Text("", QUESTIONS[2].context)])
        assert reply.windows == len(windows)
