"""Tests what `build` options for precision, calibration and converter change in bundle, manifest and report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bundler.cli import main
from bundler.dlc.graph import read_graph
from tests.fake_sdk import RELEASES, make_sdk, write
from tests.models import qa_model, write_vocabulary

CHIP = ("--soc", "SM8550")  # all recorded releases know it
CONTEXTS = ("The bridge was built in 1808.", "The old tower is a museum.", "Who built the river bridge in 1920?")
RUSSIAN = ("Мост построен в 1808 году.", "Старая башня теперь музей.")


def squad(name: str, copies: int, contexts: Sequence[str] = CONTEXTS) -> str:
    """Writes a SQuAD file with a question for each context and copy; returns its name."""
    asked = [
        {"context": f"{context} {copy}", "qas": [{"id": f"{copy}-{n}", "question": "When?", "answers": []}]}
        for copy in range(copies)
        for n, context in enumerate(contexts)
    ]
    write(Path(name), json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": asked}]}))
    return name


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sets a current folder with a model, its vocabulary and questions; the environment names no SDK."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("SNPE_ROOT", "QAIRT_SDK_ROOT", "QNN_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MBQA_SDK_CACHE", str(tmp_path / "sdks"))
    onnx.save(qa_model(hidden=24), "model.onnx")
    write_vocabulary(Path())
    squad("questions.json", 1)
    return tmp_path / "here"


def build(capfd: pytest.CaptureFixture[str], *options: str, out: str = "bundle") -> dict[str, Any]:
    """Builds a bundle; returns the report about its model, which is also in its manifest."""
    how = ("--model", "model.onnx", "--questions", "questions.json", *CHIP, "--out", out)
    capfd.readouterr()
    assert main(["build", *how, *options, "--json"]) == 0
    told: dict[str, Any] = json.loads(capfd.readouterr().out)["model"]
    assert json.loads((Path(out) / "manifest.json").read_text())["model"] == told
    return told


def dlc(out: str = "bundle") -> bytes:
    return (Path(out) / "device/model.dlc").read_bytes()


# Fixed point by the built-in converter


@pytest.mark.slow
def test_the_bundles_own_questions_are_the_sample(capfd: pytest.CaptureFixture[str]) -> None:
    made = build(capfd, "--precision", "w8a8", "--check")
    assert made["calibration"] == {
        "questions": "the bundle's questions", "windows": 2, "seed": 0, "method": "min-max", "per_channel": False,
        "wide_operators": 6,
    }  # fmt: skip
    assert made["dlc_bytes"] == len(dlc()) < made["float_bytes"]
    assert made["check"]["windows"] == 1
    assert made["check"]["correlation"] > 0.99
    assert 10 < made["mask_size"] < 1000


@pytest.mark.slow
def test_a_report_for_people_tells_sizes_calibration_and_check(capfd: pytest.CaptureFixture[str]) -> None:
    how = ("--model", "model.onnx", "--questions", "questions.json", "--precision", "w8a16", "--check")
    assert main(["build", *how]) == 0
    said = " ".join(capfd.readouterr().out.split())
    for part in (
        "0.1 MB of float32 weights -> w8a16 DLC of 0.",
        "calibrated on 2 windows of the bundle's questions",
        "(min-max, seed 0)",
        "check against float32 on 1 window that it was not calibrated on (DSP simulator, SM8650): 1 of 1 answers equal",
    ):
        assert part in said


@pytest.mark.slow
def test_a_calibration_file_its_count_and_its_seed(capfd: pytest.CaptureFixture[str]) -> None:
    how = ("--precision", "w8a8", "--calibration", squad("other.json", 5), "--calibration-windows", "4")
    made = build(capfd, *how, "--seed", "7")
    assert (made["calibration"]["questions"], made["calibration"]["windows"]) == ("other.json", 4)
    assert made["calibration"]["seed"] == 7
    build(capfd, *how, "--seed", "7", out="again")
    assert dlc("again") == dlc()
    build(capfd, *how, "--seed", "8", out="other")
    assert dlc("other") != dlc()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "name"), [("--calibration", "other.json"), ("--questions", "the bundle's questions")]
)
@pytest.mark.parametrize("contexts", [CONTEXTS, RUSSIAN])
def test_text_in_another_language_is_noted(
    option: str, name: str, contexts: Sequence[str], capfd: pytest.CaptureFixture[str]
) -> None:
    how = ("--model", "model.onnx", "--questions", "questions.json", "--precision", "w8a8", "--json")
    assert main(["build", *how, option, squad("other.json", 1, contexts)]) == 0
    said = [line for line in json.loads(capfd.readouterr().out)["notes"] if "the tokenizer knows no word" in line]
    assert [line.partition(" of ")[2] for line in said] == (
        [f"{name}: give text in the model's language"] if contexts is RUSSIAN else []
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_another_method(method: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses 8 bits: ranges of 16 bits are not cut."""
    monkeypatch.setattr("bundler.model.make.loud_operators", lambda *_: frozenset())
    how = ("--precision", "w8a8", "--check", "--no-cache")
    build(capfd, *how, out="plain")
    made = build(capfd, *how, "--calibration-method", method)
    assert made["calibration"]["method"] == method
    assert made["check"]["correlation"] > 0.95
    cuts = method == "entropy"  # percentiles leave the few values of these windows as they are
    assert (dlc() != dlc("plain")) is cuts


@pytest.mark.slow
def test_a_scale_for_each_channel_where_that_gains(capfd: pytest.CaptureFixture[str]) -> None:
    made = onnx.load("model.onnx")
    value = next(tensor for tensor in made.graph.initializer if tensor.name == "value")
    scaled = numpy_helper.to_array(value) * np.logspace(-3, 0, 24, dtype=np.float32)
    value.CopyFrom(numpy_helper.from_array(scaled, "value"))
    onnx.save(made, "model.onnx")
    for options, axes in (((), set()), (("--per-channel",), {2, 24})):
        told = build(capfd, "--precision", "w8a8", "--no-equalize", *options)
        assert told["calibration"]["per_channel"] is bool(options)
        encodings = [tensor.encoding for tensor in read_graph(Path("bundle/device/model.dlc")).tensors.values()]
        assert {len(each.scales) for each in encodings if each and each.axis is not None} == axes


@pytest.mark.slow
def test_sixteen_bits_where_they_count(capfd: pytest.CaptureFixture[str]) -> None:
    made = build(capfd, "--precision", "w8a8", "--mixed", "--check")
    assert made["calibration"]["wide_operators"] > 0
    assert made["check"]["correlation"] > 0.99


# Calibration on little, or on values that say nothing


def change(weight: str, channels: list[int], value: float) -> None:
    """Sets columns of one of model.onnx's weights to `value`."""
    made = onnx.load("model.onnx")
    tensor = next(each for each in made.graph.initializer if each.name == weight)
    numbers = numpy_helper.to_array(tensor).copy()
    numbers[:, channels] = value
    tensor.CopyFrom(numpy_helper.from_array(numbers, weight))
    onnx.save(made, "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["w8a8", "w8a16", "w16a16"])
def test_one_window_is_enough(precision: str, capfd: pytest.CaptureFixture[str]) -> None:
    made = build(capfd, "--precision", precision, "--calibration-windows", "1")
    assert made["calibration"]["windows"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["w8a8", "w8a16"])
@pytest.mark.parametrize("channels", [[3], list(range(24))])
def test_channels_that_are_always_zero(precision: str, channels: list[int], capfd: pytest.CaptureFixture[str]) -> None:
    change("value", channels, 0.0)
    build(capfd, "--precision", precision, "--per-channel")
    tensors = read_graph(Path("bundle/device/model.dlc")).tensors.values()
    scales = [scale for each in tensors if each.encoding is not None for scale in each.encoding.scales]
    assert np.isfinite(scales).all()
    assert min(scales) > 0


def test_values_beyond_float32_on_the_windows_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    change("query", [3], 3e38)
    assert main(["build", "--model", "model.onnx", "--questions", "questions.json", "--precision", "w8a8"]) == 3
    error, _ = [line for line in capfd.readouterr().err.splitlines() if line.startswith(("error: ", "hint: "))]
    assert "not finite" in error


# The vendor's SDK


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8a8", "w8a16", "w16a16"])
@pytest.mark.parametrize("release", RELEASES)
def test_an_sdks_tools_make_the_dlc(
    release: str, precision: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every option is known to the release: the tools of the tests' SDKs refuse others."""
    made = build(capfd, "--precision", precision, "--prepare", "--sdk", str(make_sdk(tmp_path, release)))
    assert made["converter"].startswith("SDK 2.")
    written = json.loads(dlc())
    assert written["cache"][-2:] == ["start_logits", "end_logits"]
    assert written["history"][0][0] in ("snpe-onnx-to-dlc", "qairt-converter")
    assert len(written["history"]) == (3 if precision.startswith("w") else 2)
    assert Path("bundle/device/bin/snpe-net-run").exists()
    assert Path("bundle/device/dsp/libSnpeHtpV73Skel.so").exists()


def test_the_built_in_converter_on_request_beside_an_sdk(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = build(capfd, "--converter", "built-in", "--sdk", str(make_sdk(tmp_path, "2.25")))
    assert made["converter"].startswith("onnxruntime-qnn")
    assert Path("bundle/device/lib/libSNPE.so").exists()


@pytest.mark.slow
def test_an_sdk_that_fails_shows_its_words_its_log_and_the_command(
    here: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sdk = make_sdk(tmp_path, "2.25")
    tool = sdk / "bin/x86_64-linux-clang/snpe-dlc-quant"
    tool.write_text("#!/bin/sh\necho reading\necho ERROR_QUANT: no encodings for /layer.0/Add\nexit 3\n")
    how = ("--model", "model.onnx", "--questions", "questions.json", "--precision", "w8a8", "--sdk", str(sdk))
    assert main(["build", *how]) == 3
    error, hint = [line for line in capfd.readouterr().err.splitlines() if line.startswith(("error: ", "hint: "))]
    assert "snpe-dlc-quant of the vendor's SDK failed: ERROR_QUANT: no encodings for /layer.0/Add" in error
    assert f"{tool} --input_dlc" in hint
    log = next(path for path in here.iterdir() if path.suffix == ".log")
    assert str(log.name) in hint
    assert "snpe-onnx-to-dlc starts" in log.read_text()
    assert not Path("bundle").exists()


def test_an_sdk_of_another_machine_is_told_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sdk = make_sdk(tmp_path, "2.25")
    tool = sdk / "bin/x86_64-linux-clang/snpe-onnx-to-dlc"
    tool.write_bytes(b"\x7fELF\x02\x01\x01 of a machine that nobody has")
    assert main(["build", "--model", "model.onnx", "--questions", "questions.json", "--sdk", str(sdk)]) == 4
    error, hint = [line for line in capfd.readouterr().err.splitlines() if line.startswith(("error: ", "hint: "))]
    assert "snpe-onnx-to-dlc of the vendor's SDK does not run on this machine" in error
    assert "Linux on x86-64" in hint
    assert not Path("bundle").exists()


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
def test_an_sdks_converter_gets_the_encodings_that_were_judged(
    tmp_path: Path, release: str, capfd: pytest.CaptureFixture[str]
) -> None:
    sdk = ("--precision", "w8a16", "--sdk", str(make_sdk(tmp_path, release)))
    build(capfd, *sdk, "--save-encodings", "saved.json")
    told = json.loads(dlc())["overrides"]
    assert told == json.loads(Path("saved.json").read_text())
    build(capfd, "--precision", "w8a16", "--converter", "built-in", "--save-encodings", "ours.json", out="ours")
    assert told == json.loads(Path("ours.json").read_text())
    build(capfd, "--precision", "fp16", "--sdk", sdk[-1], out="float")
    assert "overrides" not in json.loads(dlc("float"))


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "kind"), [("w8a8", "activation_encodings"), ("w8a16", "param_encodings")])
def test_mixed_bits_reach_an_sdks_converter_by_the_encodings(
    tmp_path: Path, precision: str, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """At w8a16 the weights get more bits."""
    sdk, wide = ("--precision", precision, "--sdk", str(make_sdk(tmp_path, "2.25"))), []
    for options in ((), ("--mixed",)):
        build(capfd, *sdk, *options)
        wide.append(sum(each["bw"] == 16 for each in json.loads(dlc())["overrides"][kind]))
    assert wide[0] < wide[1]
