"""Tests child programs that die, hang, or do not start: one line reports it, and no process is left."""

import errno
import socket
import sys
from pathlib import Path

import adbutils
import pytest

from bundler.device.server import private_adb_server
from bundler.errors import DlcInvalid, ModelInvalid, NoAdb, NoConverter, VirtualPhoneFailed
from bundler.model.convert import onnx_to_dlc
from bundler.model.simulate import prepare_context, run_on_simulator
from bundler.soc import DEFAULT, known_socs
from bundler.virtual.phones import start_phone
from tests.deploying import quiet
from tests.models import qa_model

SOC = known_socs()[DEFAULT]
LISTENS_AND_STAYS = f"""#!{sys.executable}
import signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
listening = socket.create_server(("127.0.0.1", int(sys.argv[2].rpartition(":")[2])))
time.sleep(60)
"""


def program(folder: Path, text: str, *, may_run: bool = True) -> str:
    path = folder / "program"
    path.write_text(text)
    path.chmod(0o755 if may_run else 0o644)
    return str(path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(qa_model().SerializeToString())
    return path


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [
        ("echo 'no luck' >&2; exit 3", ModelInvalid, r"model\.onnx: the converter died with code 3: no luck"),
        ("kill -9 $$", ModelInvalid, "the converter died with code -9: no message"),
        ('echo \'{"missing": "half of it"}\' >"$5/verdict.json"', NoConverter, "half of it"),
        ('echo \'{"error": "it is odd"}\' >"$5/verdict.json"', ModelInvalid, r"model\.onnx: it is odd"),
        ("exec sleep 60", ModelInvalid, r"no DLC within 0\.5 s"),
    ],
)
def test_a_converter_that_fails(
    script: str, error: type[Exception], said: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundler.model.convert.LIMIT_S", 0.5 if "sleep" in script else 60.0)
    monkeypatch.setattr(sys, "executable", program(tmp_path, f"#!/bin/sh\n{script}\n"))
    with pytest.raises(error, match=said):
        onnx_to_dlc(model, tmp_path / "model.dlc", SOC)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "program"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("kill -11 $$", "the HTP's simulator died on it with code -11"),
        ('echo \'{"refused": "not this"}\'', "not this"),
        ("exec sleep 60", r"the HTP's simulator does not come to an end within 0\.5 s"),
    ],
)
def test_a_simulator_that_fails(
    script: str, said: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WINDOW_S", "PREPARE_S"):
        monkeypatch.setattr(f"bundler.dlc.child.{name}", 0.5 if "sleep" in script else 60.0)
    monkeypatch.setattr(sys, "executable", program(tmp_path, f"#!/bin/sh\n{script}\n"))
    with pytest.raises(DlcInvalid, match=f"model.onnx: {said}"):
        run_on_simulator(model, SOC, [{}], quiet)
    with pytest.raises(DlcInvalid, match=f"model.onnx: {said}"):
        prepare_context(model, SOC)


@pytest.mark.parametrize(
    ("text", "may_run", "said"),
    [
        ("#!/bin/sh\n", False, "program: Permission denied"),
        (
            "#!/bin/sh\necho first; echo 'cannot bind' >&2; exit 1\n",
            True,
            "the adb program did not start it: cannot bind",
        ),
        ("#!/bin/sh\nexit 1\n", True, "the adb program did not start it: no message"),
    ],
)
def test_an_adb_program_that_does_not_start(
    text: str, may_run: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adbutils, "adb_path", lambda: program(tmp_path, text, may_run=may_run))
    with pytest.raises(NoAdb, match=said), private_adb_server():
        pass


def test_an_adb_server_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adbutils, "adb_path", lambda: program(tmp_path, LISTENS_AND_STAYS))
    monkeypatch.setattr("bundler.device.server.STOP_S", 0.2)
    with private_adb_server() as server:
        pass
    with socket.socket() as probe:
        assert probe.connect_ex((server.host, server.port)) == errno.ECONNREFUSED


@pytest.mark.parametrize(
    ("script", "said"),
    [("echo 'no room' >&2; exit 1", "did not start: no room"), ("exec sleep 60", "did not start: no message")],
)
def test_a_virtual_phone_that_does_not_start(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundler.virtual.phones.START_S", 0.5 if "sleep" in script else 20.0)
    monkeypatch.setattr(sys, "executable", program(tmp_path, f"#!/bin/sh\n{script}\n"))
    with pytest.raises(VirtualPhoneFailed, match=said):
        start_phone(SOC, 0, tmp_path / "phone")
