"""Tests try: it leaves nothing on the phone, explains failures, and its report contains no personal data."""

import json
import socket
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import typer

from bundler import layout
from bundler.bundle import Bundle
from bundler.cli import main
from bundler.commands import field_trial, look
from bundler.commands.field_report import DOCUMENT, PROBE, TABLE, remarks, write_report
from bundler.commands.field_steps import trouble_of
from bundler.commands.field_trial import Trial, precision_for
from bundler.commands.redaction import Redaction
from bundler.console import Console
from bundler.device.known_limits import known_limits
from bundler.device.phone import Phone
from bundler.device.probe import PhoneFacts
from bundler.errors import PhoneFull, PhoneLost, RunFailed
from tests.deploying import deploy, sh
from tests.fake_sdk import make_sdk
from tests.phones import virtual_phone
from tests.snippets import sdk_for_virtual_phones
from tests.test_doctor import adb_that_lists
from tests.test_first_light import at
from tests.test_schemas import check

TELLING = """#!/bin/sh
cat >&2 <<'END'
canaryuser@canaryhost.example built this in {home} and {sdk}, for 192.168.77.5 and fe80::7 (02:00:5e:77:77:77)
serial {serial}, folder {here}, temporary {tmp}/x, /home/canaryother/x and C:\\Users\\canarythird\\x
DspTransport.createUnsignedPD unsigned PD or DSPRPC_GET_DSP_INFO not supported by DSP
END
exit 1
"""


def read(report: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(report) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def everything(phone: Phone) -> str:
    """Returns everything in the tool's folder on the phone, with its content."""
    script = f"cd {layout.REMOTE_ROOT} && find . | sort && find . -type f -exec sha256sum {{}} + | sort; true"
    return sh(phone, script)


def tried(phone: Phone, *options: str) -> int:
    return main(["try", "--yes", *options, *at(phone)])


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field_trial, "QUESTIONS", 1)


@pytest.mark.slow
@pytest.mark.usefixtures("isolated", "few")
def test_every_way_is_tried_and_the_phone_is_left_as_it_was(
    phone: Phone, bundle: Bundle, capfd: pytest.CaptureFixture[str]
) -> None:
    deploy(phone, bundle)
    before = everything(phone)
    assert tried(phone, "--json") == 0
    told = json.loads(capfd.readouterr().out)
    check(told, "trial")
    runs = {(step["engine"], step["runtime"]): step for step in told["steps"] if step["engine"]}
    assert set(runs) == {(engine, runtime) for engine in ("snpe", "qnn") for runtime in ("cpu", "gpu", "dsp")}
    assert all(step["verified"]["passed"] and step["answers"] == {"try-demo-01": "1849"} for step in runs.values())
    assert (told["left"], told["report"]) == ("", "report.zip")
    assert everything(phone) == before
    files = read(Path("report.zip"))
    check(json.loads(files[DOCUMENT]), "trial")
    assert {f"logits/built-in-{engine}-{runtime}.npz" for engine, runtime in runs} <= files.keys()
    assert b"SERIAL-1" in files[DOCUMENT]
    assert phone.serial.encode() not in b"".join(files.values())
    assert list(files) == sorted(files)
    sh(phone, f"rm -rf {layout.REMOTE_ROOT}")
    assert main(["try", "--sdk", "nowhere", *at(phone)]) == 4
    assert everything(phone) == ""


@pytest.fixture
def told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Path]:
    """Sets folders and names of this process that must not appear in the report."""
    folders = {name: tmp_path / f"canary{name}" for name in ("home", "here", "tmp", "sdk")}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.chdir(folders["here"])
    monkeypatch.setenv("HOME", str(folders["home"]))
    monkeypatch.setenv("USER", "canaryuser")
    monkeypatch.setattr(tempfile, "tempdir", str(folders["tmp"]))
    monkeypatch.setattr(socket, "gethostname", lambda: "canaryhost.example")
    return folders


@pytest.fixture(scope="module")
def virtual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    with virtual_phone(tmp_path_factory.mktemp("phone")) as phone:
        yield phone


@pytest.mark.slow
@pytest.mark.usefixtures("isolated", "few")
def test_it_goes_on_after_failures_and_its_report_tells_nothing_of_a_person(
    virtual: Phone, told_of: Mapping[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    sdk = make_sdk(told_of["sdk"], "2.35")
    telling = TELLING.format(**{**told_of, "sdk": sdk}, serial=virtual.serial)
    (sdk / "bin/aarch64-android/snpe-net-run").write_text(telling, encoding="utf-8")
    assert tried(virtual, "--sdk", str(sdk)) == 6
    said = capfd.readouterr().out
    assert "createUnsignedPD" in said
    assert "next: Use --runtime gpu or cpu on this phone." in said
    files = read(Path("report.zip"))
    steps = json.loads(files[DOCUMENT])["steps"]
    outcomes = {step["name"]: step["outcome"] for step in steps}
    assert outcomes["built-in-snpe-dsp"] == "failed"
    assert outcomes["built-in-qnn-dsp"] == "worked"
    assert next(step for step in steps if step["name"] == "sdk-build")["outcome"] == "worked"
    assert "createUnsignedPD" in files["logs/built-in-snpe-dsp.txt"].decode()
    for name, content in files.items():
        for canary in ("canary", "192.168", "fe80", "02:00:5e", virtual.serial, layout.file_safe(virtual.serial)):
            assert canary not in content.decode(errors="replace").lower(), (name, canary)
    assert everything(virtual) == ""


@pytest.mark.slow
@pytest.mark.usefixtures("isolated", "few")
def test_nobody_is_asked_where_nobody_can_answer(
    virtual: Phone, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(field_trial, "RUNTIMES", ("cpu",))
    assert main(["try", *at(virtual)]) == 0
    assert "no report was written" in capfd.readouterr().out
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("isolated", "few")
def test_what_a_chip_has_not_is_no_failure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with virtual_phone(tmp_path / "phone", "SM8250") as phone:
        assert tried(phone, "--json") == 0
    steps = json.loads(capfd.readouterr().out)["steps"]
    outcomes = {step["name"]: step["outcome"] for step in steps if step["engine"]}
    assert {name for name, outcome in outcomes.items() if outcome == "worked"} == {
        f"built-in-{engine}-{runtime}" for engine in ("snpe", "qnn") for runtime in ("cpu", "gpu")
    }
    assert outcomes["built-in-snpe-dsp"] == outcomes["built-in-qnn-dsp"] == "not on this chip"


@pytest.mark.slow
@pytest.mark.usefixtures("isolated", "few")
def test_a_known_limit_is_no_failure(
    virtual: Phone, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = sdk_for_virtual_phones(tmp_path)
    (sdk / "bin/aarch64-android/snpe-net-run").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    limit = known_limits()[0]
    monkeypatch.setattr(field_trial, "RUNTIMES", ("cpu",))
    monkeypatch.setattr(field_trial, "limits_of", lambda _, use: [limit] if use.engine == "snpe" else [])
    assert tried(virtual, "--sdk", str(sdk)) == 0
    said = capfd.readouterr().out
    assert "known limit" in said
    assert f"known: {limit.warning} {limit.remedy}" in said


@pytest.mark.parametrize("answer", [True, False, None])
def test_a_person_is_asked(answer: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """None means Ctrl-C or Ctrl-D instead of an answer."""

    def confirm(text: str, *, err: bool) -> bool:
        assert (text, err) == ("Write report.zip?", True)
        if answer is None:
            raise typer.Abort
        return answer

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(typer, "confirm", confirm)
    assert look._agrees(Console(), Path("report.zip")) is (answer is True)


@pytest.mark.slow
@pytest.mark.usefixtures("isolated", "few")
def test_a_full_phone_is_told_of_once_and_cleaned(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with virtual_phone(tmp_path / "phone", faults=["disk:1000000"]) as phone:
        assert tried(phone) == 6
        assert everything(phone) == ""
        assert sh(phone, f"ls -A {layout.REMOTE_ROOT.parent}") == ""
    said = capfd.readouterr().out
    assert said.count("no room for the bundle") == 1
    assert "next: Make room on the phone" in said
    assert "0 of 6 runs worked" in said


@pytest.mark.slow
@pytest.mark.usefixtures("isolated", "few")
def test_ctrl_c_leaves_nothing(virtual: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    def ctrl_c(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(field_trial, "fetch_answers", ctrl_c)
    assert tried(virtual) == 130
    assert sh(virtual, f"ls -A {layout.REMOTE_ROOT.parent}") == ""
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.usefixtures("isolated")
def test_a_folder_is_no_report() -> None:
    assert main(["try", "--report", "."]) == 2


@pytest.mark.usefixtures("isolated")
def test_no_phone() -> None:
    with adb_that_lists() as server:
        assert main(["try", "--yes", "--adb-port", str(server.port)]) == 5
    assert list(Path.cwd().iterdir()) == []


def test_redaction() -> None:
    redaction = Redaction(
        ["R5CT30", "192.168.1.20:5555", ""],
        {"/home/ann": "~", "/home/ann/work": "HERE", "/": "ROOT", "/root": "~", "C:\\Temp": "TMP"},
        ["ann", "root", ""],
        ["box.example", "box"],
    )
    kept = (
        "phone R5CT301", "/rootfs and /data/root", "annual boxes", "SDK 2.35.0.250530, 1.24.4 at 12:34:56",
        "127.0.0.1:5037", "std::add is C++", "try root", "QnnDsp <E> 0x80000406", "::1",
    )  # fmt: skip
    for text in kept:
        assert redaction.text(text) == text
    changed = {
        "phone R5CT30: ann's": "phone SERIAL-1: USER's",
        "log-192.168.1.20_5555.txt of 192.168.1.20:5555": "log-SERIAL-2.txt of SERIAL-2",
        "/home/ann/work/x, /home/ann/y": "HERE/x, ~/y",
        "/home/bob/x:/Users/bob/y": "~/x:~/y",
        "C:\\Users\\bob\\x C:\\Temp\\y": "~\\x TMP\\y",
        "ANN@Box.example, box": "USER@HOST, HOST",
        "10.0.0.7:80. 10.0.0.8.": "ADDRESS:80. ADDRESS.",
        "fe80::1, 2001:db8::2 and 02:00:5e:10:00:01": "ADDRESS, ADDRESS and ADDRESS",
        "/root/.cache": "~/.cache",
    }
    for text, expected in changed.items():
        assert redaction.text(text) == expected
    assert redaction.value({"ann": ["ann", 1, None, ("box",)]}) == {"ann": ["USER", 1, None, ["HOST"]]}


def test_troubles() -> None:
    line = "<E> DspTransport.openSession qnn_open failed, 0x80000416"
    known = trouble_of(RunFailed("S", 1, ["x", line], Path("log"), line=line, cause="C.", remedy="R."))
    assert (known.line, known.explanation, known.exit_status) == (line, "DSP session refused", 1)
    assert "log" not in known.remedy
    unknown = trouble_of(RunFailed("S", 3, ["nobody has seen this"], Path("log")))
    assert (unknown.line, unknown.explanation) == ("nobody has seen this", "")
    assert "field-reports" in unknown.remedy
    full = trouble_of(PhoneFull("S", 5_000_000, 1_000_000))
    assert (full.message, full.remedy) == (str(PhoneFull("S", 5_000_000, 1_000_000)), PhoneFull("S", 1).hint)


def facts(soc: str) -> PhoneFacts:
    return PhoneFacts(soc, "arm64-v8a", "a phone", "14", None, "", "QTI")


@pytest.mark.parametrize(
    ("soc", "precision"), [("SM8650", "fp16"), ("SM8250", "fp16"), ("SM7325", "w8a16"), ("XX1", "fp16")]
)
def test_the_precision_is_one_that_the_dsp_computes(soc: str, precision: str) -> None:
    assert precision_for(facts(soc)) == precision


def test_a_phone_that_is_gone_is_told_of() -> None:
    trial = Trial("S", ("S",), facts("SM8650"), "", None, left=str(PhoneLost("S", "cleaning up", "gone")))
    assert not trial.all_well
    assert "clean --all" in remarks(trial)[-1]


def test_a_report_is_written_whole_and_always_the_same(tmp_path: Path) -> None:
    files = {TABLE: b"a", PROBE: b"b" * 1000}
    for name in ("one.zip", "two.zip"):
        write_report(tmp_path / name, files)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert read(tmp_path / "one.zip") == files
