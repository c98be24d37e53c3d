"""Tests inspect's report of a DLC against its ONNX file, and that no damaged file can harm it."""

import hashlib
import json
import os
import random
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bundler.dlc.inspect
from bundler.cli import main
from bundler.dlc.archive import Step, read_archive
from bundler.dlc.graph import read_graph
from bundler.dlc.htp import context_name
from bundler.dlc.inspect import inspect_dlc
from bundler.errors import DlcInvalid, FileUnreadable
from bundler.types import TensorSpec
from tests.dlcs import DEMO, HIDDEN, KINDS, convert, halved, quantized
from tests.models import INPUTS, VOCABULARY, model, qa_model, random_feed

OUTPUTS = ("end_logits", "start_logits")
SHAPE = (1, 384)
ENOUGH_S = 30


def float_elements(made: onnx.ModelProto) -> int:
    """Counts elements of float initializers and Constant nodes, except the value of a Pad."""
    pads = {node.input[2] for node in made.graph.node if node.op_type == "Pad" and len(node.input) > 2}
    tensors = {weight.name: weight for weight in made.graph.initializer}
    tensors |= {node.output[0]: node.attribute[0].t for node in made.graph.node if node.op_type == "Constant"}
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    return sum(
        numpy_helper.to_array(tensor).size
        for name, tensor in tensors.items()
        if tensor.data_type in floats and name not in pads
    )


@pytest.fixture(scope="module")
def small_dlc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(qa_model(), tmp_path_factory.mktemp("small"))


def test_tells_what_a_float_dlc_holds(small_dlc: Path) -> None:
    report = inspect_dlc(small_dlc)
    assert report.precision == "fp32"
    assert {tensor.spec for tensor in report.inputs} == {TensorSpec(name, "int32", SHAPE) for name in INPUTS}
    assert {tensor.spec for tensor in report.outputs} == {TensorSpec(name, "float32", SHAPE) for name in OUTPUTS}
    assert not any(tensor.encoding for tensor in (*report.inputs, *report.outputs))
    assert report.parameters == float_elements(qa_model())
    assert report.embedding_rows == len(VOCABULARY)
    assert report.parameter_bytes == 4 * report.parameters
    assert report.parameter_dtypes == {"float32": report.parameters}
    assert report.size_bytes == small_dlc.stat().st_size
    assert report.operator_counts["MatMul"] == 2
    assert sum(report.operator_counts.values()) == len(report.operators) == len(read_graph(small_dlc).operators)
    assert list(report.operator_counts.values()) == sorted(report.operator_counts.values(), reverse=True)
    last = next(op for op in report.operators if "start_logits" in op.outputs)
    assert (last.type, last.dtypes) == ("Reshape", ("float32",))
    assert report.caches == ()
    assert {"model", "model.params", "model.params.bin"} < set(report.records)
    assert report.converter == "qnn-net-run 2.51.0.260929181845"
    assert [(step.kind, step.tool) for step in report.history] == [("converterCommand", "qnn-net-run")]
    assert report.history[0].arguments["backend"] == "libQnnIr.so(.dll)"


def test_the_command_shows_a_bundles_dlc_and_what_was_prepared_of_it(
    small_dlc: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    device = tmp_path / "bundle" / "device"
    (device / "htp").mkdir(parents=True)
    content = small_dlc.read_bytes()
    (device / "model.dlc").write_bytes(content)
    caches = [context_name("SM8550", hashlib.sha256(data).hexdigest()) for data in (content, b"another DLC")]
    for name in caches:
        (device / name).write_bytes(b"")
    assert main(["inspect", str(tmp_path / "bundle"), "--ops"]) == 0
    said = capfd.readouterr().out
    for part in ("fp32", "qnn-net-run 2.51.0", caches[0], "token_type_ids", "1 x 384", "FullyConnected", "activated"):
        assert part in said
    assert caches[1] not in said
    assert main(["inspect", str(device / "model.dlc"), "--json"]) == 0
    shown = capfd.readouterr()
    assert json.loads(shown.out) == inspect_dlc(device / "model.dlc").to_json()
    assert shown.err == ""


def test_the_report_is_json(small_dlc: Path) -> None:
    report = inspect_dlc(small_dlc)
    plain = report.to_json()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["operator_counts"] == report.operator_counts
    assert plain["inputs"][0]["shape"] == [1, 384]


@pytest.mark.parametrize("kind", KINDS)
def test_tells_what_a_quantized_dlc_holds(kind: str, tmp_path: Path) -> None:
    onnx.save(qa_model(hidden=HIDDEN), tmp_path / "float.onnx")
    feeds = [random_feed(seed=seed) for seed in range(2)]
    dlc = convert(quantized(tmp_path / "float.onnx", feeds, kind, tmp_path), tmp_path)
    report = inspect_dlc(dlc)
    assert report.precision == kind
    assert report.parameters == float_elements(qa_model(hidden=HIDDEN))
    assert set(report.parameter_dtypes) == {"w8a8": {"int8", "uint8"}, "w8a16": {"int8", "uint16"}}.get(
        kind, {"int16", "uint16"}
    )
    graph = read_graph(dlc)
    for tensor in report.outputs:
        assert tensor.dtype == ("uint8" if kind == "w8a8" else "uint16")
        assert tensor.encoding == graph.tensors[tensor.name].encoding
        assert tensor.encoding is not None


def test_tells_what_a_float16_dlc_holds(tmp_path: Path) -> None:
    report = inspect_dlc(convert(halved(qa_model()), tmp_path))
    assert report.precision == "fp16"
    assert report.parameters == float_elements(qa_model())
    assert report.parameter_bytes == 2 * report.parameters


def test_counts_the_demo_models_parameters(tmp_path: Path) -> None:
    demo = onnx.load(DEMO / "model.onnx")
    assert inspect_dlc(convert(demo, tmp_path)).parameters == float_elements(demo) > 1_000_000


def test_a_graph_without_real_numbers(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["a", "one"], ["out"])
    made = model([node], {"a": (TensorProto.INT32, [2])}, {"out": (TensorProto.INT32, [2])}, {"one": np.int32(1)})
    report = inspect_dlc(convert(made, tmp_path))
    assert (report.precision, report.parameters) == ("integer", 0)


def with_records(dlc: Path, path: Path, **records: str) -> Path:
    """Writes a copy of the DLC with additional records."""
    path.write_bytes(dlc.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return path


def test_records_of_prepared_networks_are_told(small_dlc: Path, tmp_path: Path) -> None:
    path = with_records(small_dlc, tmp_path / "cached.dlc", **{"backend.metadata0": "x", "htp.cache1": "y"})
    assert inspect_dlc(path).caches == ("backend.metadata0", "htp.cache1")


def history_of(path: Path, name: str, content: str, compression: int = zipfile.ZIP_STORED) -> tuple[Step, ...]:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("model", b"\0" * 100)
        archive.writestr(name, content)
    return read_archive(path).history


def test_histories_of_newer_and_older_tools(tmp_path: Path) -> None:
    runs = [
        {"converterCommand": {"tool": "qairt-converter", "converterVersion": "2.30", "args": {"a": 1}}},
        {"quantizerCommand": {"tool": "qairt-quantizer", "quantizerVersion": "2.31", "args": None}},
    ]
    newer = json.dumps({"dlcGenerationInfo": runs})
    steps = (
        Step("converterCommand", "qairt-converter", "2.30", {"a": 1}),
        Step("quantizerCommand", "qairt-quantizer", "2.31", {}),
    )
    path = tmp_path / "some.dlc"
    assert history_of(path, "dlc.metadata.history.2.3.0", newer) == steps
    assert history_of(path, "dlc.metadata.history.2.3.0", newer, zipfile.ZIP_DEFLATED) == steps
    older = "converter-command=snpe-onnx-to-dlc input_network=x\nconverter-version=2.10.0.4541\nmodel-version=1\n"
    command = {"command": "snpe-onnx-to-dlc input_network=x"}
    assert history_of(path, "dlc.metadata", older) == (
        Step("converterCommand", "snpe-onnx-to-dlc", "2.10.0.4541", command),
    )


@pytest.mark.parametrize(
    "content",
    ["", "nonsense", "[]", '{"dlcGenerationInfo": 3}', '{"dlcGenerationInfo": [{"a": 3}]}', "[" * 100_000, "\x00\xff"],
)
def test_a_history_that_says_nothing(content: str, tmp_path: Path) -> None:
    assert history_of(tmp_path / "some.dlc", "dlc.metadata", content) == ()


def judged(path: Path) -> str:
    """Returns the result of inspect: a report or one of two errors, whose message must name the file."""
    try:
        inspect_dlc(path, timeout_s=ENOUGH_S)
    except (DlcInvalid, FileUnreadable) as error:
        verdict, said = type(error).__name__, str(error)
    else:
        return "report"
    assert said.startswith(f"{path}: ")
    assert "Traceback" not in said
    return verdict


def mutations(data: bytes) -> dict[str, bytes]:
    """Returns forty seeded damages: flipped bits in the graph's and the archive's records, and truncations."""
    dice = random.Random(7)
    weights = data.index(b"dlc.metadata.history")  # the weights come first, and any value of theirs is a value
    damaged = {}
    for number in range(30):
        changed = bytearray(data)
        for _ in range(1 + number % 3 * 8):
            changed[dice.randrange(weights, len(data))] ^= 1 << dice.randrange(8)
        damaged[f"flipped {number}"] = bytes(changed)
    for number in range(6):
        damaged[f"cut {number}"] = data[: dice.randrange(len(data))]
    for number in range(4):
        start = dice.randrange(weights, len(data) - 64)
        damaged[f"wiped {number}"] = data[:start] + bytes(64) + data[start + 64 :]
    return damaged


@pytest.mark.slow
def test_no_damage_leads_to_more_than_an_error(small_dlc: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.dlc"
    verdicts = {}
    for name, content in mutations(small_dlc.read_bytes()).items():
        path.write_bytes(content)
        verdicts[name] = judged(path)
    assert len(verdicts) == 40
    assert set(verdicts.values()) <= {"report", "DlcInvalid"}
    assert all(verdict == "DlcInvalid" for name, verdict in verdicts.items() if name.startswith("cut"))


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"just text\n" * 100, b"\0" * 5000, bytes(range(256)) * 40])
def test_what_is_no_dlc_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.dlc").write_bytes(content)
    assert judged(tmp_path / "model.dlc") == "DlcInvalid"


def test_what_cannot_be_read_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "empty.dlc").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.dlc")
    with pytest.raises(DlcInvalid, match="is empty"):
        inspect_dlc(tmp_path / "empty.dlc")
    for path, said in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe.dlc", "is not a regular file"),
        (tmp_path / "none.dlc", "No such file"),
        (tmp_path / ("x" * 5000), "name too long"),
        (tmp_path / "null\0.dlc", "null byte"),
    ):
        with pytest.raises(FileUnreadable, match=said):
            inspect_dlc(path)


@pytest.mark.parametrize(
    ("child", "said"),
    [
        ("import os\nos.abort()", r"the libraries crashed on it \(exit code -6\)"),
        ("import time\ntime.sleep(60)", "did not finish within 1 s"),
        ("pass", r"the libraries crashed on it \(exit code 0\)"),
    ],
)
def test_a_child_that_dies_or_hangs(
    child: str, said: str, small_dlc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    (tmp_path / "child.py").write_text(child)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "{tmp_path}/child.py"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(DlcInvalid, match=said):
        inspect_dlc(small_dlc, timeout_s=1)


def test_what_the_child_finds_wrong_is_the_files_fault(small_dlc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> Any:
        raise KeyError("x")

    monkeypatch.setattr(bundler.dlc.inspect, "_report", fail)
    assert bundler.dlc.inspect._child(small_dlc) == {"invalid": "its content cannot be read: KeyError: 'x'"}
