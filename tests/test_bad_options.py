"""Tests calibration files, SDK folders and chips that `build` refuses: two lines, an exit code, no files left."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest

from bundler.cli import main
from tests.fake_sdk import make_sdk, write
from tests.models import qa_model
from tests.refusals import Refusal, build, isolate, refusal


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return isolate(tmp_path / "here", monkeypatch)


@pytest.fixture
def refused(here: Path, capfd: pytest.CaptureFixture[str]) -> Refusal:
    return partial(refusal, capfd)


# Calibration


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "calibration.json: cannot be read"),
        ("", "calibration.json: is not JSON"),
        ('{"data": []}', "calibration.json: holds no questions"),
        ('{"questions": 3}', "calibration.json: is not SQuAD JSON"),
        (
            {"data": [{"paragraphs": [{"context": " ", "qas": [{"id": "one", "question": "when?"}]}]}]},
            "calibration.json: data[0].paragraphs[0].context is empty",
        ),
    ],
)
def test_a_calibration_file_with_nothing_usable(content: Any, said: str, refused: Refusal) -> None:
    onnx.save(qa_model(), "model.onnx")
    if content is not None:
        write(Path("calibration.json"), content if isinstance(content, str) else json.dumps(content))
    refused(3, said, *build("model.onnx", "--precision", "w8a8", "--calibration", "calibration.json"))


# SDKs


SDKS = {
    "empty": ((), "is not an SNPE or QAIRT SDK"),
    "for Windows": (
        ("bin/x86_64-windows-msvc/snpe-net-run.exe", "lib/x86_64-windows-msvc/SNPE.dll"),
        "is an SDK for other hosts: it has programs for x86_64-windows-msvc",
    ),
    "for embedded Linux": (
        ("bin/aarch64-oe-linux-gcc11.2/snpe-net-run",),
        "is an SDK for other hosts: it has programs for aarch64-oe-linux-gcc11.2",
    ),
    "QNN only": (("bin/aarch64-android/qnn-net-run",), "has QNN's programs only"),
    "of SDKs": (("2.25.0/bin/aarch64-android/snpe-net-run",), "is not an SDK, but has SDKs in it"),
    "without libSNPE.so": (("bin/aarch64-android/snpe-net-run",), "no lib/aarch64-android/libSNPE.so in this folder"),
}


@pytest.mark.parametrize("case", SDKS)
def test_a_folder_that_is_no_sdk_for_here(case: str, here: Path, refused: Refusal) -> None:
    files, said = SDKS[case]
    (here / "sdk").mkdir()
    for name in files:
        write(here / "sdk" / name, "")
    onnx.save(qa_model(), "model.onnx")
    refused(4, said, *build("model.onnx", "--sdk", "sdk"))


def test_the_sdk_of_a_variable_is_checked_too(refused: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QAIRT_SDK_ROOT", "/nowhere/qairt")
    refused(4, "/nowhere/qairt: there is no such folder", *build("model.onnx"))


def test_an_sdk_that_does_not_know_the_chip(here: Path, tmp_path: Path, refused: Refusal) -> None:
    sdk = make_sdk(tmp_path, "2.14")
    onnx.save(qa_model(), "model.onnx")
    said = refused(4, "has no libraries for Hexagon v81", *build("model.onnx", "--sdk", str(sdk), "--soc", "SM8850"))
    assert "newer SDK" in said


# Chips


@pytest.mark.parametrize(
    ("soc", "options", "said"),
    [
        ("SM7325", ("--prepare",), "its HTP takes no fp16"),
        ("SM8250", ("--check", "--precision", "w8a8"), "its HTP takes no w8a8"),
        ("SM8450", ("--check", "--precision", "w16a16"), "its HTP takes no w16a16"),
        ("SM8450", ("--mixed", "--precision", "w8a16"), "takes no weights of 16 bits"),
    ],
)
def test_a_chip_that_lacks_what_is_asked_for(soc: str, options: tuple[str, ...], said: str, refused: Refusal) -> None:
    onnx.save(qa_model(), "model.onnx")
    refused(2, said, *build("model.onnx", "--soc", soc, *options))


@pytest.mark.parametrize(
    ("soc", "precision"), [("SM8250", "fp16"), ("SM7325", "fp16"), ("SM7325", "w8a8"), ("SM8450", "w16a16")]
)
def test_a_bundle_for_the_cpu_and_gpu_of_any_chip(
    soc: str, precision: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    onnx.save(qa_model(hidden=24), "model.onnx")
    assert main(build("model.onnx", "--soc", soc, "--precision", precision)) == 0
    assert json.loads(Path("bundle/manifest.json").read_text())["model"]["precision"] == precision
    told = f"for the CPU and GPU of {soc} only: its DSP computes no {precision}"
    assert (told in capfd.readouterr().out) is (precision != "w8a8")


@pytest.mark.parametrize(
    "options", [("--mixed",), ("--per-channel", "--precision", "fp32"), ("--calibration", "x.json")]
)
def test_what_only_fixed_point_has_is_not_ignored(options: tuple[str, ...], refused: Refusal) -> None:
    onnx.save(qa_model(), "model.onnx")
    assert "--precision w8a16" in refused(2, f"{options[0]} is for fixed point", *build("model.onnx", *options))
