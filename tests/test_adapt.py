"""Tests ONNX models of exporters: other names, one output for both logits, 16 bits, dropout, quantized ones."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bundler.bundle import read_bundle
from bundler.cli import main
from bundler.model.adapt import adapt
from bundler.model.graph import runner
from bundler.model.sources import load_onnx
from tests.models import LENGTH, qa_model
from tests.refusals import Refusal, build, isolate, refusal

CASES = Path(__file__).parents[2] / "shared" / "cases"
NEEDS_CASES = pytest.mark.skipif(not CASES.is_dir(), reason="the cases of ../shared are not here")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return isolate(tmp_path / "here", monkeypatch)


@pytest.fixture
def refused(here: Path, capfd: pytest.CaptureFixture[str]) -> Refusal:
    return partial(refusal, capfd)


def renamed(made: onnx.ModelProto, **names: str) -> onnx.ModelProto:
    """Returns the model with other names of inputs and outputs."""
    graph = made.graph
    for each in graph.node:
        each.input[:] = [names.get(name, name) for name in each.input]
        each.output[:] = [names.get(name, name) for name in each.output]
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    return made


def feeds() -> dict[str, Any]:
    random = np.random.default_rng(1)
    ids = random.integers(0, 60, (1, LENGTH)).astype(np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def same_logits(made: onnx.ModelProto, tolerance: float = 0.0) -> None:
    """Checks that the adapted model computes the same as qa_model, with the usual names."""
    names = ["start_logits", "end_logits"]
    kinds = {value.name: value.type.tensor_type.elem_type for value in made.graph.input}
    given = {name: feeds()[name].astype(helper.tensor_dtype_to_np_dtype(kind)) for name, kind in kinds.items()}
    plain = qa_model()
    kinds = {value.name: value.type.tensor_type.elem_type for value in plain.graph.input}
    usual = {name: feeds()[name].astype(helper.tensor_dtype_to_np_dtype(kind)) for name, kind in kinds.items()}
    for one, other in zip(runner(made).run(names, given), runner(plain).run(names, usual), strict=True):
        assert one.shape == (1, LENGTH)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


def adapted(made: onnx.ModelProto, **names: str) -> tuple[str, ...]:
    notes = adapt(Path("model.onnx"), made, LENGTH, names)
    onnx.checker.check_model(made)
    return notes


def test_a_model_as_it_should_be_stays_as_it_is() -> None:
    made = qa_model()
    before = made.SerializeToString(deterministic=True)
    assert adapted(made) == ()
    assert made.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    "names",
    [
        {"start_logits": "output_0", "end_logits": "output_1"},
        {"start_logits": "clone_9", "end_logits": "clone_10"},
        {"start_logits": "1234", "end_logits": "1236"},
        {"start_logits": "unstack:0", "end_logits": "unstack:1"},
        {"end_logits": "end_logit"},
        {"attention_mask": "input_mask:0", "token_type_ids": "segment_ids:0", "input_ids": "input_ids:0"},
        {"attention_mask": "serving_default_input_mask", "input_ids": "input_word_ids"},
    ],
)
def test_other_names_of_tensors(names: dict[str, str]) -> None:
    made = renamed(qa_model(), **names)
    assert {note.split(" is taken as ")[1] for note in adapted(made)} == set(names)
    same_logits(made)


def test_a_tensor_inside_that_has_the_usual_name() -> None:
    made = renamed(qa_model(), start_logits="output_0", end_logits="output_1", query="start_logits")
    for tensor in made.graph.initializer:
        if tensor.name == "query":
            tensor.name = "start_logits"
    adapted(made)
    same_logits(made)


def test_names_that_the_user_gives(refused: Refusal) -> None:
    onnx.save(renamed(qa_model(), start_logits="first", end_logits="second", input_ids="words_in"), "model.onnx")
    inputs, outputs = ("--inputs", "input_ids=words_in"), ("--outputs", "start_logits=first,end_logits=second")
    hint = refused(3, "has no output start_logits (it has first, second)", *build("model.onnx", *inputs))
    assert "--outputs start_logits=NAME,end_logits=NAME" in hint
    assert "--inputs input_ids=NAME" in refused(3, "takes words_in", *build("model.onnx", *outputs))
    wrong = build("model.onnx", "--outputs", "start_logits=third")
    refused(2, "--outputs start_logits=third: model.onnx has no such tensor", *wrong)
    for text in ("start_logits", "pixels=first", "start_logits=first,start_logits=second", ""):
        refused(2, f"--outputs {text}: is not a list of NAME=NAME", *build("model.onnx", "--outputs", text))
    assert main([*build("model.onnx", *outputs, *inputs)]) == 0
    assert read_bundle(Path("bundle")).manifest.inputs[0].name == "input_ids"


@pytest.mark.parametrize("names", [("output_1", "output_0"), ("Identity", "Identity_1"), ("hidden", "pooled")])
def test_names_that_do_not_tell_which_is_the_start(names: tuple[str, str], refused: Refusal) -> None:
    onnx.save(renamed(qa_model(), start_logits=names[0], end_logits=names[1]), "model.onnx")
    refused(3, "has no output start_logits", *build("model.onnx"))


def joined() -> onnx.ModelProto:
    """Returns a model with both logits in one output (1, length, 2)."""
    made = renamed(qa_model(), start_logits="first", end_logits="second")
    graph = made.graph
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("both", TensorProto.FLOAT, [1, LENGTH, 2]))
    graph.initializer.append(numpy_helper.from_array(np.array([1, LENGTH, 1], np.int64), "column"))
    graph.node.extend(
        [
            helper.make_node("Reshape", ["first", "column"], ["a"]),
            helper.make_node("Reshape", ["second", "column"], ["b"]),
            helper.make_node("Concat", ["a", "b"], ["both"], axis=2),
        ]
    )
    return made


def test_one_output_for_both_logits(here: Path) -> None:
    made = joined()
    assert adapted(made) == ("output both is taken as start_logits and end_logits, in this order",)
    same_logits(made)
    onnx.save(joined(), "model.onnx")
    assert main(list(build("model.onnx"))) == 0


def halved(made: onnx.ModelProto) -> onnx.ModelProto:
    """Changes the model like a converter to float16, including the mask's arithmetic."""
    for tensor in made.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            half = np.clip(numpy_helper.to_array(tensor), -65504, 65504).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    for each in made.graph.node:
        for found in each.attribute:
            if each.op_type == "Cast" and found.i == TensorProto.FLOAT:
                found.i = TensorProto.FLOAT16
    for value in made.graph.output:
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return made


def test_weights_of_16_bits() -> None:
    made = halved(qa_model())
    assert adapted(made) == ("the model is of 16-bit floats: it is taken as float32",)
    assert {value.type.tensor_type.elem_type for value in made.graph.output} == {TensorProto.FLOAT}
    same_logits(made, tolerance=0.05)


def test_position_ids_and_inputs_that_lead_nowhere() -> None:
    made = qa_model()
    graph = made.graph
    graph.input.append(helper.make_tensor_value_info("position_ids", TensorProto.INT64, [1, LENGTH]))
    graph.input.append(helper.make_tensor_value_info("unique_ids:0", TensorProto.INT64, [1]))
    graph.output.append(helper.make_tensor_value_info("unique:0", TensorProto.INT64, [1]))
    graph.initializer.append(numpy_helper.from_array(np.zeros((LENGTH, 16), np.float32), "nothing"))
    positions = next(each for each in graph.node if "positions" in each.input)
    graph.node.insert(0, helper.make_node("Gather", ["nothing", "position_ids"], ["added"]))
    graph.node.insert(1, helper.make_node("Add", ["positions", "added"], ["moved"]))
    positions.input[:] = ["moved" if name == "positions" else name for name in positions.input]
    graph.node.append(helper.make_node("Identity", ["unique_ids:0"], ["unique:0"]))
    assert adapted(made) == (
        "input unique_ids:0 does not reach the logits: it is left out",
        f"position_ids are 0 to {LENGTH - 1} for every window",
    )
    same_logits(made)


def test_a_float_mask() -> None:
    made = qa_model()
    mask = next(value for value in made.graph.input if value.name == "attention_mask")
    mask.type.tensor_type.elem_type = TensorProto.FLOAT
    notes = adapted(made)
    assert notes == ("input attention_mask is given as int32, and cast to what the model takes",)
    same_logits(made)


@pytest.mark.parametrize("as_node", [True, False])
def test_dropout_in_training_mode(as_node: bool) -> None:
    made = qa_model()
    flag = numpy_helper.from_array(np.array(True), "flag")
    ratio = numpy_helper.from_array(np.array(0.5, np.float32), "ratio")
    made.graph.initializer.append(ratio)
    if as_node:
        made.graph.node.insert(0, helper.make_node("Constant", [], ["flag"], value=flag))
    else:
        made.graph.initializer.append(flag)
    relu = next(each for each in made.graph.node if each.op_type == "Relu")
    out = relu.output[0]
    relu.output[0] = "before"
    place = list(made.graph.node).index(relu) + 1
    made.graph.node.insert(place, helper.make_node("Dropout", ["before", "ratio", "flag"], [out]))
    assert adapted(made) == ("1 Dropout operators are in training mode: they are left out",)
    same_logits(made)


def quantized(kind: str) -> Callable[[onnx.ModelProto], None]:
    def change(made: onnx.ModelProto) -> None:
        made.graph.node.append(helper.make_node(kind, ["bias"], ["unused"]))

    return change


@pytest.mark.parametrize(
    "kind",
    ["DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear", "MatMulInteger", "QLinearMatMul", "MatMulNBits"],
)
def test_a_quantized_model_is_refused_by_its_operators(kind: str, refused: Refusal) -> None:
    made = qa_model()
    quantized(kind)(made)
    Path("model.onnx").write_bytes(made.SerializeToString())
    hint = refused(3, f"model.onnx: is quantized already ({kind})", *build("model.onnx"))
    assert "Give the float32 model.onnx" in hint


def test_operators_and_versions_of_the_future(refused: Refusal) -> None:
    made = qa_model()
    made.ir_version = 99
    Path("model.onnx").write_bytes(made.SerializeToString())
    assert load_onnx(Path("model.onnx")).ir_version == 10
    assert main(list(build("model.onnx"))) == 0
    made.opset_import[0].version = 23
    made.graph.node.append(helper.make_node("Attention", ["bias"], ["unused"]))
    Path("model.onnx").write_bytes(made.SerializeToString())
    refused(3, "opset 23 cannot be brought to 21: it holds Attention", *build("model.onnx"))


@NEEDS_CASES
@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("model_out01.onnx", 0, "output output_0 is taken as start_logits"),
        ("model_comb.onnx", 0, "output logits is taken as start_logits and end_logits"),
        ("model_half.onnx", 0, "the model is of 16-bit floats"),
        ("model_dynquant.onnx", 3, "is quantized already (DequantizeLinear, DynamicQuantizeLinear, MatMulInteger)"),
        ("model_qdq.onnx", 3, "is quantized already (DequantizeLinear, QuantizeLinear)"),
        ("xenova_layout", 0, ""),
        ("lora_adapter", 3, "is an adapter"),
        ("lfs.onnx", 3, "is a Git LFS pointer"),
        ("tok_lower_mismatch", 0, ""),
        ("biggervocab_model", 3, "gives the token id"),
        ("model_zero_logits.onnx", 0, "note: the model gives the same logit to every token"),
        ("fp16_activation_overflow_mobilebert.onnx", 0, "channels"),
        ("model_dropout_training_mode.onnx", 3, "its external data cannot be read"),
    ],
)
def test_the_collected_models(name: str, code: int, said: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = CASES / name
    words = () if path.is_dir() else ("--tokenizer", str(CASES / "tokenizer.json"))
    file = "vocab10.jsonl" if name == "biggervocab_model" else "eight.json"
    asked = ("--questions", str(CASES / file), "--limit", "2" if code == 0 else "10000")
    assert main(["build", "--model", str(path), *words, *asked]) == code
    captured = capfd.readouterr()
    assert said in captured.out + captured.err
    assert (here / "bundle").exists() is (code == 0)
