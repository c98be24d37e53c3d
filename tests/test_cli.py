"""Tests the command line: mistakes and missing things give two lines and an exit code, never a traceback."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from bundler import layout
from bundler.bundle import read_bundle
from bundler.cli import _usual, main
from bundler.device.phone import Attached, without_twins
from bundler.device.server import private_adb_server
from bundler.errors import DlcInvalid, RunFailed, UsageError
from bundler.soc import known_socs
from bundler.virtual.phones import VirtualPhone, start_phone, stop_phone
from tests.models import qa_model

LIMIT_S = 120
NO_ADB = ("--adb-host", "127.0.0.2", "--adb-port", "9")


@pytest.fixture(autouse=True)
def first(isolated: None) -> None:
    """Isolates the test before any fixture that writes into the current folder."""


@pytest.fixture(scope="module")
def adb() -> Iterator[tuple[str, ...]]:
    """Returns options for a separate adb server without phones."""
    with private_adb_server() as server:
        yield ("--adb-host", server.host, "--adb-port", str(server.port))


def refused(capfd: pytest.CaptureFixture[str], code: int, said: str, *argv: str) -> str:
    """Runs a command that must fail with `code`; returns its hint after checking that it is two lines with `said`."""
    assert main(argv) == code
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith(("error: ", "hint: "))]
    assert len(lines) == 2, lines
    assert said in lines[0]
    assert lines[1].startswith("hint: ")
    return lines[1]


def write(name: str, content: str | bytes) -> str:
    path = Path(name)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def test_onnx_runtime_does_not_report_home(tmp_path: Path) -> None:
    """Its telemetry would leave a session file in the temporary folder, before it sends anything."""
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    command = [sys.executable, "-c", "import bundler.dlc.execute, onnxruntime; onnxruntime.get_device()"]
    subprocess.run(command, env=environment, timeout=LIMIT_S, check=True)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capfd.readouterr().out.startswith("mbqa-bundle 0.")


@pytest.mark.parametrize("argv", [["build", "--nonsense"], ["deploy", "--runtime", "tpu"], ["build", "--limit", "0"]])
def test_usage_errors_are_exit_code_2(argv: list[str]) -> None:
    assert main(argv) == 2


@pytest.mark.parametrize(
    ("typed", "usual"),
    [
        ("deploy --runtime npu", "deploy --runtime dsp"),
        ("deploy --runtime=htp", "deploy --runtime=dsp"),
        ("build --precision int8 --out int8", "build --precision w8a8 --out int8"),
        ("build --precision=float16", "build --precision=fp16"),
        ("build --question npu --runtime", "build --question npu --runtime"),
    ],
)
def test_words_of_other_tools(typed: str, usual: str) -> None:
    assert _usual(typed.split()) == usual.split()


def test_a_bundle_is_named_the_same_way_everywhere(capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("deploy", "fetch-answers", "stop", "bench", "evaluate"):
        refused(capfd, 3, "nowhere: there is no bundle here", name, "nowhere")
    for name in ("deploy", "fetch-answers", "stop", "bench"):
        refused(capfd, 3, "nowhere: there is no bundle here", name, "--bundle", "nowhere")
        refused(capfd, 3, "nowhere: there is no bundle here", name, "nowhere", "--bundle", "nowhere")
        refused(capfd, 2, "a and --bundle b are two bundles", name, "a", "--bundle", "b")


def test_errors_are_json_too(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "nowhere", "--json"]) == 3
    shown = capfd.readouterr()
    told = json.loads(shown.out)
    assert shown.err.splitlines()[-2:] == [f"error: {told['message']}", f"hint: {told['hint']}"]
    assert (told["error"], told["exit_code"], told["data"]) == ("NoBundle", 3, {"path": "nowhere"})
    assert main(["build", "--questions", "nowhere.json", "--json"]) == 3
    assert json.loads(capfd.readouterr().out)["data"]["path"] == "nowhere.json"


def test_errors_keep_what_they_were_made_of() -> None:
    error = RunFailed("R5CT", 3, ["a", "b"], Path("log"), cause="heat")
    assert DlcInvalid(Path("m.dlc"), "is empty").data == {"path": Path("m.dlc"), "what": "is empty"}
    assert UsageError("two bundles", hint="One.").data == {"message": "two bundles", "hint": "One."}
    assert error.data == {
        "serial": "R5CT", "exit_status": 3, "lines": ["a", "b"], "log": Path("log"), "cause": "heat",
    }  # fmt: skip
    with pytest.raises(TypeError, match="missing"):
        RunFailed("R5CT")  # type: ignore[call-arg]


def test_build_refuses_bad_questions(capfd: pytest.CaptureFixture[str]) -> None:
    refused(capfd, 3, "nowhere.json", "build", "--questions", "nowhere.json")
    refused(capfd, 3, "is not JSON", "build", "--questions", write("a.json", "{"))
    refused(capfd, 3, "holds no questions", "build", "--questions", write("b.json", '{"data": []}'))
    refused(capfd, 3, "holds no questions", "build", "--questions", write("c.json", "[]"))
    refused(capfd, 3, "--context is empty", "build", "--question", "When?", "--context", " ")
    refused(capfd, 3, "takes for a word", "build", "--question", "When?", "--context", "\u200d")
    assert sorted(path.name for path in Path().iterdir()) == ["a.json", "b.json", "c.json"]


def test_build_refuses_options_that_do_not_go_together(capfd: pytest.CaptureFixture[str]) -> None:
    refused(capfd, 2, "--question and --context go together", "build", "--question", "When?")
    both = ("--question", "When?", "--context", "Then.")
    refused(capfd, 2, "--question does not go with --questions", "build", "--questions", "x.json", *both)
    assert "SM8650" in refused(capfd, 2, "--soc MT6989", "build", "--soc", "MT6989")
    write("model.onnx", b"")
    refused(capfd, 2, "no tokenizer.json or vocab.txt beside it", "build", "--model", "model.onnx")


def test_build_refuses_bad_models(capfd: pytest.CaptureFixture[str], model_folder: Path) -> None:
    vocabulary = ("--tokenizer", str(model_folder / "vocab.txt"))
    refused(capfd, 3, "nowhere.onnx", "build", "--model", "nowhere.onnx", *vocabulary)
    whole = qa_model().SerializeToString()
    write("cut.onnx", whole[: len(whole) // 2])
    refused(capfd, 3, "cut.onnx: is not an ONNX file, or it was cut short", "build", "--model", "cut.onnx", *vocabulary)
    other = qa_model()
    other.graph.input[0].name = "pixels"
    onnx.save(other, "other.onnx")
    refused(capfd, 3, "takes pixels", "build", "--model", "other.onnx", *vocabulary)
    odd = qa_model()
    next(node for node in odd.graph.node if node.op_type == "Relu").op_type = "Sinh"
    onnx.save(odd, "odd.onnx")
    refused(capfd, 3, "the HTP does not take operator Sinh", "build", "--model", "odd.onnx", *vocabulary)
    assert not Path(layout.DEFAULT_BUNDLE).exists()


def test_build_answers_in_json(capfd: pytest.CaptureFixture[str], model_folder: Path) -> None:
    model = ("--model", str(model_folder / "model.onnx"))
    asked = ("--question", "Who 👩‍🚀?", "--context", "A 橋\0 by cafe\u0301 \u202e.")
    assert main(["build", *model, *asked, "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["questions"] == 1
    assert document["bundle"] == read_bundle(Path(layout.DEFAULT_BUNDLE)).id


def test_deploy_refuses_what_is_no_bundle(capfd: pytest.CaptureFixture[str], adb: tuple[str, ...]) -> None:
    refused(capfd, 3, "bundle: there is no bundle here", "deploy", *adb)
    Path("bundle").mkdir()
    write("bundle/manifest.json", "{}")
    refused(capfd, 3, "not a manifest", "deploy", *adb)


@pytest.fixture
def built(model_folder: Path) -> None:
    """Returns a bundle in the current folder."""
    asked = ("--question", "When was it built?", "--context", "The bridge was built in 1808.", "--always-answer")
    assert main(["build", "--model", str(model_folder / "model.onnx"), *asked]) == 0


@pytest.mark.usefixtures("built")
def test_deploy_without_a_usable_phone(capfd: pytest.CaptureFixture[str], adb: tuple[str, ...], tmp_path: Path) -> None:
    assert "mbqa-bundle phone start" in refused(capfd, 5, "no phone is attached", "deploy", *adb)
    refused(capfd, 5, "no phone with serial 'nonsense'", "deploy", "--device", "nonsense", *adb)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
        refused(capfd, 5, f"no phone answers at {nobody}: Connection refused", "deploy", "--device", nobody, *adb)
    refused(capfd, 3, "has no run, neither here nor on a phone", "fetch-answers", *adb)
    refused(capfd, 4, "no adb server at 127.0.0.2:9", "deploy", *NO_ADB)


@pytest.mark.slow
@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("state", ["unauthorized", "offline"])
def test_deploy_to_a_phone_that_is_not_ready(
    state: str, capfd: pytest.CaptureFixture[str], adb: tuple[str, ...], tmp_path: Path
) -> None:
    phone = start_phone(known_socs()["SM8650"], 0, tmp_path / "phone", adb_state=state)  # type: ignore[arg-type]
    try:
        refused(capfd, 5, f"{phone.serial} is {state}", "deploy", "--device", phone.serial, *adb)
    finally:
        stop_phone(phone)


@pytest.mark.slow
@pytest.mark.usefixtures("built")
def test_several_phones_need_a_choice_one_does_not(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    phones: list[VirtualPhone] = []
    with private_adb_server() as server:
        adb = ("--adb-host", server.host, "--adb-port", str(server.port))
        try:
            for number in range(2):
                phones.append(start_phone(known_socs()["SM8650"], 0, tmp_path / str(number)))
                server.find(phones[-1].serial)  # connects
                if number == 0:
                    assert main(["deploy", *adb, "--json"]) == 0
                    assert json.loads(capfd.readouterr().out)["phones"] == [phones[0].serial]
            hint = refused(capfd, 5, "2 phones are attached", "deploy", *adb)
            assert "--device" in hint
        finally:
            for phone in phones:
                stop_phone(phone)


def test_a_phone_that_adb_lists_twice_is_one() -> None:
    def listed(*serials: str) -> list[str]:
        return [phone.serial for phone in without_twins([Attached(serial, "device") for serial in serials])]

    assert listed("emulator-5554", "127.0.0.1:5555", "R5CT") == ["127.0.0.1:5555", "R5CT"]
    assert listed("emulator-5554", "127.0.0.1:5557") == ["emulator-5554", "127.0.0.1:5557"]


def test_phone_start_list_stop(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["phone", "start", "--port", "0", "--soc", "SM8550", "--json"]) == 0
    phone = json.loads(capfd.readouterr().out)
    port = str(phone["port"])
    try:
        assert main(["phone", "list", "--json"]) == 0
        assert json.loads(capfd.readouterr().out) == [phone]
        hint = refused(capfd, 5, f"port {port} of 127.0.0.1 is in use", "phone", "start", "--port", port)
        assert "--port" in hint
    finally:
        assert main(["phone", "stop", "--port", port, "--wipe"]) == 0
    refused(capfd, 5, "none is running", "phone", "stop", "--port", port)
    assert not Path(phone["state"]).exists()


def test_doctor_names_what_is_missing(capfd: pytest.CaptureFixture[str], adb: tuple[str, ...], tmp_path: Path) -> None:
    phone = start_phone(known_socs()["SM8650"], 0, tmp_path / "phone")
    try:
        assert main(["deploy", "--device", phone.serial, *adb]) == 3  # no bundle
        with private_adb_server() as server:
            server.find(phone.serial)
            options = ("--adb-host", server.host, "--adb-port", str(server.port))
            capfd.readouterr()
            assert main(["doctor", *options, "--json"]) == 0
    finally:
        stop_phone(phone)
    document = json.loads(capfd.readouterr().out)
    findings = {finding["what"]: finding for finding in document["here"]}
    assert findings["package numpy"]["ok"]
    assert [(p["serial"], p["state"], p["hexagon"]) for p in document["phones"]] == [(phone.serial, "ready", 75)]
    assert not findings["Qualcomm's SDK (for a real phone)"]["ok"]
    assert main(["doctor", *NO_ADB]) == 4


def test_a_defect_is_one_line_too(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("bundler.commands.question_options.open_questions", broken)
    refused(capfd, 1, "internal error: ZeroDivisionError: oops", "build")
    monkeypatch.setenv("MBQA_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main(["build"])
