"""Tests DLCs: written by Qualcomm's library, read by our recorder, run in float32 and on the DSP's simulator."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bundler.dlc.execute import CpuNetwork, HtpNetwork
from bundler.dlc.graph import read_graph
from bundler.errors import DlcInvalid
from bundler.soc import known_socs
from tests.dlcs import convert, reference
from tests.models import model, qa_model, random_feed

F = TensorProto.FLOAT
A = (F, [2, 3, 4])


@pytest.fixture(scope="module")
def qa_dlc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(qa_model(), tmp_path_factory.mktemp("dlc"))


def test_reads_back_inputs_outputs_and_weights(qa_dlc: Path) -> None:
    graph = read_graph(qa_dlc)
    assert set(graph.inputs) == {"input_ids", "attention_mask", "token_type_ids"}
    assert set(graph.outputs) == {"start_logits", "end_logits"}
    assert all(graph.tensors[name].dtype == np.int32 for name in graph.inputs)
    assert all(graph.tensors[name].shape == (1, 384) for name in (*graph.inputs, *graph.outputs))
    weights = {np.asarray(t.data).tobytes() for t in graph.tensors.values() if t.data is not None}
    words = next(w for w in qa_model().graph.initializer if w.name == "words")
    assert onnx.numpy_helper.to_array(words).tobytes() in weights


def test_cpu_equals_onnx_runtime_on_the_onnx(qa_dlc: Path) -> None:
    expected = reference(qa_model(), random_feed())
    computed = CpuNetwork(qa_dlc).execute(random_feed())
    for name, logits in expected.items():
        assert np.abs(computed[name] - logits).max() < 1e-4
        assert np.ptp(logits) > 1  # something was computed


@pytest.mark.parametrize("soc", ["SM8450", "SM8550", "SM8650", "SM8750", "SM8850"])  # one of each Hexagon version
def test_dsp_is_within_float16_of_the_cpu(qa_dlc: Path, soc: str) -> None:
    expected = reference(qa_model(), random_feed())
    computed = HtpNetwork(qa_dlc, known_socs()[soc].qnn_id).execute(random_feed())
    for name, logits in expected.items():
        assert np.corrcoef(computed[name].ravel(), logits.ravel())[0, 1] > 0.9999
        assert np.abs(computed[name] - logits).max() > 0  # float16 it is, not float32 again


BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow")
UNARY = (
    "Relu Sigmoid Tanh Abs Ceil Cos Elu Exp Floor HardSigmoid HardSwish Identity LeakyRelu Log Neg Reciprocal Round "
    "Sign Sin Softplus Sqrt"
).split()
COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
REDUCTIONS = ("ReduceMax", "ReduceMean", "ReduceMin")


def one_node(
    kind: str, shape: list[int], weights: dict[str, Any] | None = None, extra: tuple[str, ...] = (), **attributes: Any
) -> onnx.ModelProto:
    node = helper.make_node(kind, ["a", *extra, *(weights or {})], ["out"], **attributes)
    inputs = dict.fromkeys(("a", *extra), A)
    return model([node], inputs, {"out": (F, shape)}, weights)


def several(*nodes: tuple[str, list[str], str, dict[str, Any]], shape: list[int], **weights: Any) -> onnx.ModelProto:
    """Returns a chain of nodes (type, inputs, output, attributes) over `a` and `b` to `out`."""
    made = [helper.make_node(kind, inputs, [output], **more) for kind, inputs, output, more in nodes]
    inputs = {name: A for name in "ab" if any(name in node.input for node in made)}
    return model(made, inputs, {"out": (F, shape)}, {key: np.asarray(value) for key, value in weights.items()})


def chosen(*conditions: tuple[str, list[str], str, dict[str, Any]]) -> onnx.ModelProto:
    """Returns `a` where the last of the conditions holds, `b` elsewhere."""
    return several(*conditions, ("Where", [conditions[-1][2], "a", "b"], "out", {}), shape=[2, 3, 4], one=np.float32(1))


BOUNDS = ([1, 0], [3, 4], [1, 2], [1, 2])  # begins, ends, axes, steps
CASES = {
    **{kind: one_node(kind, [2, 3, 4], extra=("b",)) for kind in BINARY},
    **{kind: one_node(kind, [2, 3, 4]) for kind in UNARY},
    "Add constant": one_node("Add", [2, 3, 4], {"w": np.arange(4, dtype=np.float32)}),
    "Transpose": one_node("Transpose", [4, 2, 3], perm=[2, 0, 1]),
    "Concat": one_node("Concat", [2, 6, 4], extra=("b",), axis=1),
    "Softmax": one_node("Softmax", [2, 3, 4], axis=-1),
    "Reshape": one_node("Reshape", [6, 4], {"s": np.array([6, 4])}),
    "Slice": one_node("Slice", [2, 2, 2], {name: np.array(v) for name, v in zip("bexs", BOUNDS, strict=True)}),
    "Pad": one_node("Pad", [2, 5, 4], {"p": np.array([0, 2, 0, 0, 0, 0]), "v": np.float32(1.5)}),
    "Slice backwards": one_node(
        "Slice", [2, 3, 2], {name: np.array(v) for name, v in zip("bexs", ([3], [-10], [2], [-2]), strict=True)}
    ),
    "MatMul weights": one_node("MatMul", [2, 3, 5], {"w": np.arange(20, dtype=np.float32).reshape(4, 5)}),
    "MatMul batched weights": one_node("MatMul", [2, 3, 5], {"w": np.arange(40, dtype=np.float32).reshape(2, 4, 5)}),
    "Einsum": one_node("Einsum", [2, 3, 3], extra=("b",), equation="bij,bkj->bik"),
    **{kind: chosen((kind, ["a", "b"], "c", {})) for kind in COMPARISONS},
    "Not": chosen(("Less", ["a", "b"], "c", {}), ("Not", ["c"], "d", {})),
    **{
        kind: chosen(("Less", ["a", "b"], "c", {}), ("Greater", ["a", "one"], "d", {}), (kind, ["c", "d"], "e", {}))
        for kind in ("And", "Or")
    },
    **{kind: one_node(kind, [2, 3, 1], axes=[-1], keepdims=1) for kind in REDUCTIONS},
    "ReduceMean without its axis": one_node("ReduceMean", [2, 4], axes=[1], keepdims=0),
    "ReduceSum": one_node("ReduceSum", [2, 3, 1], {"x": np.array([2])}, keepdims=1),
    "LayerNormalization": one_node(
        "LayerNormalization",
        [2, 3, 4],
        {"gamma": np.arange(1, 5, dtype=np.float32), "beta": np.ones(4, np.float32)},
        axis=-1,
        epsilon=1e-5,
    ),
    "Gelu of Erf": several(
        ("Div", ["a", "root"], "b1", {}),
        ("Erf", ["b1"], "c", {}),
        ("Add", ["c", "one"], "d", {}),
        ("Mul", ["a", "d"], "e", {}),
        ("Mul", ["e", "half"], "out", {}),
        shape=[2, 3, 4],
        root=np.float32(2**0.5),
        one=np.float32(1),
        half=np.float32(0.5),
    ),
    "CumSum": one_node("CumSum", [2, 3, 4], {"x": np.array(1)}),
    "LogSoftmax": one_node("LogSoftmax", [2, 3, 4], axis=-1),
    "PRelu": one_node("PRelu", [2, 3, 4], {"s": np.array([0.1], np.float32)}),
    "Clip": one_node("Clip", [2, 3, 4], {"low": np.float32(0.7), "high": np.float32(1.2)}),
    "Tile": one_node("Tile", [4, 3, 4], {"r": np.array([2, 1, 1])}),
    "Expand": one_node("Expand", [5, 2, 3, 4], {"r": np.array([5, 2, 3, 4])}),
    "Unsqueeze": one_node("Unsqueeze", [1, 2, 3, 4], {"x": np.array([0])}),
    "GatherElements": one_node("GatherElements", [2, 3, 2], {"x": np.ones((2, 3, 2), np.int64)}, axis=2),
    "Cast to integers and back": several(
        ("Cast", ["a"], "i", {"to": TensorProto.INT32}),
        ("Add", ["i", "three"], "j", {}),
        ("Cast", ["j"], "out", {"to": F}),
        shape=[2, 3, 4],
        three=np.array([3], np.int32),
    ),
    "Cast of a condition": several(("Less", ["a", "b"], "c", {}), ("Cast", ["c"], "out", {"to": F}), shape=[2, 3, 4]),
    "Gemm": several(
        ("Reshape", ["a", "rows"], "r", {}),
        ("Gemm", ["r", "w", "bias"], "out", {"transB": 1}),
        shape=[6, 5],
        rows=[6, 4],
        w=np.arange(20, dtype=np.float32).reshape(5, 4),
        bias=np.arange(5, dtype=np.float32),
    ),
}


def sign(case: str) -> Any:
    """Returns signs of the operands: both if the operator accepts both."""
    if case in ("Pow", "Log", "Sqrt", "Reciprocal", "Div"):
        return np.float32(1)
    return np.resize(np.array([1, -1, 1, 1, -1], np.float32), [2, 3, 4])


@pytest.mark.parametrize("case", CASES)
def test_each_operator_computes_what_onnx_says(case: str, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    made = CASES[case]
    feed = {value.name: random.uniform(0.5, 2, [2, 3, 4]).astype(np.float32) for value in made.graph.input}
    feed = {name: np.round(value, 1) * sign(case) for name, value in feed.items()}
    computed = CpuNetwork(convert(made, tmp_path)).execute(feed)
    np.testing.assert_allclose(computed["out"], reference(made, feed)["out"], rtol=1e-5, atol=1e-6)


def test_batched_matmul_and_split(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["b"], ["bt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["a", "bt"], ["product"]),
        helper.make_node("Split", ["product", "sizes"], ["left", "right"], axis=2),
    ]
    made = model(
        nodes, {"a": A, "b": A}, {"left": (F, [2, 3, 1]), "right": (F, [2, 3, 2])}, {"sizes": np.array([1, 2])}
    )
    random = np.random.default_rng(2)
    feed = {name: random.normal(size=(2, 3, 4)).astype(np.float32) for name in "ab"}
    computed = CpuNetwork(convert(made, tmp_path)).execute(feed)
    for name, value in reference(made, feed).items():
        np.testing.assert_allclose(computed[name], value, rtol=1e-5, atol=1e-6)


def test_an_operator_without_translation_is_named(tmp_path: Path) -> None:
    dlc = convert(one_node("GatherND", [3, 4], {"x": np.array([1])}), tmp_path)
    with pytest.raises(DlcInvalid, match="GatherNd"):
        CpuNetwork(dlc)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no more", b"\0" * 5000, bytes(range(256)) * 40])
def test_what_is_no_dlc_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.dlc"
    path.write_bytes(content)
    with pytest.raises(DlcInvalid, match=r"model\.dlc"):
        read_graph(path)


def test_a_dlc_cut_short_is_refused(qa_dlc: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.dlc"
    path.write_bytes(qa_dlc.read_bytes()[:-100])
    with pytest.raises(DlcInvalid):
        CpuNetwork(path)


def test_changed_weights_change_the_result(qa_dlc: Path, tmp_path: Path) -> None:
    """Checks that the given file is the executed one."""
    words = onnx.numpy_helper.to_array(next(w for w in qa_model().graph.initializer if w.name == "words"))
    data = qa_dlc.read_bytes()
    assert data.count(words.tobytes()) == 1
    path = tmp_path / "model.dlc"
    path.write_bytes(data.replace(words.tobytes(), (words * 2).astype(np.float32).tobytes()))
    before, after = CpuNetwork(qa_dlc).execute(random_feed()), CpuNetwork(path).execute(random_feed())
    assert np.abs(before["start_logits"] - after["start_logits"]).max() > 0.1
