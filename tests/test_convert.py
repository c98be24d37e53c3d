"""Tests ONNX -> DLC: its preceding checks, its errors, and its reproducibility."""

import time
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from bundler.errors import FileUnreadable, ModelInvalid, OperatorUnsupported
from bundler.model.convert import onnx_to_dlc
from bundler.model.sources import load_onnx, specs_of
from bundler.soc import DEFAULT, known_socs
from bundler.types import TensorSpec
from tests.models import LENGTH, model, qa_model

SOC = known_socs()[DEFAULT]
INT32, INT64, FLOAT = TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT


def saved(made: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(made, path)
    return path


def test_same_model_gives_same_bytes_wherever_and_whenever(tmp_path: Path) -> None:
    first, second = tmp_path / "one.dlc", tmp_path / "elsewhere" / "two.dlc"
    second.parent.mkdir()
    onnx_to_dlc(saved(qa_model(), tmp_path), first, SOC)
    time.sleep(1.1)  # the writer notes the time in seconds
    onnx_to_dlc(saved(qa_model(), second.parent), second, SOC)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "model.onnx", "one.dlc"]


def test_an_operator_that_the_htp_lacks_is_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["x"], to=FLOAT),
        helper.make_node("Atanh", ["x"], ["start_logits"], name="odd_one"),
        helper.make_node("Relu", ["x"], ["end_logits"]),
    ]
    shape = [1, LENGTH]
    outputs = {"start_logits": (FLOAT, shape), "end_logits": (FLOAT, shape)}
    path = saved(model(nodes, {"input_ids": (INT32, shape)}, outputs), tmp_path)
    with pytest.raises(OperatorUnsupported, match=r"model\.onnx.*Atanh \(odd_one\)"):
        onnx_to_dlc(path, tmp_path / "model.dlc", SOC)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_a_model_that_the_libraries_refuse_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(qa_model().SerializeToString()[:-5000])
    with pytest.raises(ModelInvalid, match=r"model\.onnx"):
        onnx_to_dlc(path, tmp_path / "model.dlc", SOC)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def specs(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    return specs_of(path, load_onnx(path))


def test_reads_what_a_model_takes_and_gives(tmp_path: Path) -> None:
    inputs, outputs = specs(saved(qa_model(length=64), tmp_path))
    assert {spec.name for spec in outputs} == {"start_logits", "end_logits"}
    assert {(spec.name, spec.dtype, spec.shape) for spec in inputs} == {
        ("input_ids", "int32", (1, 64)),
        ("attention_mask", "int32", (1, 64)),
        ("token_type_ids", "int32", (1, 64)),
    }


def passing(
    name: str, kind: int, shape: list[int | str], outputs: tuple[str, ...] = ("start_logits", "end_logits")
) -> onnx.ModelProto:
    """Returns a model that passes one input through to its outputs."""
    nodes = [helper.make_node("Cast", [name], [output], to=FLOAT) for output in outputs]
    return model(nodes, {name: (kind, shape)}, dict.fromkeys(outputs, (FLOAT, shape)))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (passing("pixels", INT32, [1, 384]), "takes pixels, not input_ids"),
        (passing("input_ids", FLOAT, [1, 384]), "input input_ids is float32, not int32 or int64"),
        (passing("input_ids", INT32, [1, 0]), r"input input_ids has shape"),
        (passing("input_ids", INT32, [4, 384]), r"input input_ids has shape \[4, 384\]"),
        (passing("input_ids", INT32, [384]), r"input input_ids has shape \[384\]"),
        (passing("input_ids", INT32, [1, 384], ("logits",)), r"no output start_logits \(it has logits\)"),
    ],
)
def test_a_model_of_another_kind_is_refused(made: onnx.ModelProto, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match=said):
        specs(saved(made, tmp_path))


@pytest.mark.parametrize("content", [b"", b"not an ONNX file at all", bytes(range(256)) * 10])
def test_what_is_no_onnx_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelInvalid, match="is not an ONNX file"):
        specs(path)


def test_a_missing_or_cut_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match=r"model\.onnx"):
        specs(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(qa_model().SerializeToString()[:2000])
    with pytest.raises(ModelInvalid, match="cut short"):
        specs(tmp_path / "model.onnx")
