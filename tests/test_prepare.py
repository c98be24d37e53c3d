"""Tests `build --prepare` for users: the virtual phone's DSP runs the prepared context."""

import json
import re
from pathlib import Path

import onnx
import pytest

from bundler.cli import main
from bundler.device.phone import Phone
from bundler.model.convert import onnx_to_dlc
from bundler.soc import DEFAULT, known_socs
from tests.models import qa_model, write_vocabulary
from tests.phones import virtual_phone

ASKED = ("--question", "When was it built?", "--context", "The bridge was built in 1808.", "--always-answer")
SAID = rb"(?:using offline prepared cache|Creating context from binary file:) \S*htp/"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sets a current folder with a model and its vocabulary."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    onnx.save(qa_model(hidden=24), folder / "model.onnx")
    write_vocabulary(folder)
    return folder


def run(capfd: pytest.CaptureFixture[str], phone: Phone, bundle: str, engine: str = "auto") -> str:
    """Deploys to the phone's DSP; returns the answer."""
    at = ("--device", phone.serial, "--adb-host", phone.server.host, "--adb-port", str(phone.server.port))
    assert main(["deploy", "--bundle", bundle, "--runtime", "dsp", "--engine", engine, *at]) == 0
    capfd.readouterr()
    assert main(["fetch-answers", "--bundle", bundle, *at, "--json"]) == 0
    return json.dumps(json.loads(capfd.readouterr().out)["answers"])


def logs(*folders: Path) -> bytes:
    """Returns the output of all runs, here or on the phone."""
    return b"".join(path.read_bytes() for folder in folders for path in folder.rglob("*log*") if path.is_file())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "engine"), [("fp16", "snpe"), ("w8a16", "snpe"), ("fp16", "qnn"), ("w8a16", "qnn")]
)
def test_a_prepared_bundle_runs_from_its_cache(
    precision: str, engine: str, here: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    how = ("--model", "model.onnx", *ASKED, "--precision", precision, "--soc", "SM8550")
    assert main(["build", *how, "--out", "plain"]) == 0
    assert main(["build", *how, "--out", "prepared", "--prepare"]) == 0
    caches = [path.name for path in (here / "prepared/device/htp").iterdir()]
    assert [name.split("-")[0] for name in caches] == ["SM8550"]
    with virtual_phone(tmp_path / "phone", "SM8550") as phone:
        plain = run(capfd, phone, "plain", engine)
        assert not re.search(SAID, logs(here, tmp_path / "phone"))
        assert run(capfd, phone, "prepared", engine) == plain
        assert re.search(SAID + caches[0].encode(), logs(here, tmp_path / "phone"))


@pytest.mark.slow
def test_on_another_chip_the_cache_is_left_at_home(
    here: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "--model", "model.onnx", *ASKED, "--soc", "SM8550", "--prepare"]) == 0
    with virtual_phone(tmp_path / "phone", "SM8450") as phone:
        run(capfd, phone, "bundle")
    assert not re.search(SAID, logs(here, tmp_path / "phone"))
    assert not list((tmp_path / "phone").rglob("SM8550-*"))


def test_a_dlc_taken_as_it_is_is_prepared_too(here: Path) -> None:
    onnx_to_dlc(here / "model.onnx", here / "model.dlc", known_socs()[DEFAULT])
    assert main(["build", "--model", "model.dlc", *ASKED, "--prepare", "--soc", "SM8850"]) == 0
    assert [path.name.split("-")[0] for path in (here / "bundle/device/htp").iterdir()] == ["SM8850"]
