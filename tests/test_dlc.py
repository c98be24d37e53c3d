"""DLCs: written by Qualcomm's library, read back through our recorder, run in float32 and on the DSP's simulator."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from bundler.dlc.execute import CpuNetwork, HtpNetwork
from bundler.dlc.graph import read_graph
from bundler.errors import DlcInvalid
from bundler.model.convert import onnx_to_dlc
from bundler.soc import DEFAULT, SIMULATED, known_socs
from tests.models import model, qa_model, random_feed

SOC = known_socs()[DEFAULT]
F = TensorProto.FLOAT
A = (F, [2, 3, 4])


def convert(made: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(made, folder / "model.onnx")
    onnx_to_dlc(folder / "model.onnx", folder / "model.dlc", SOC)
    return folder / "model.dlc"


def reference(made: onnx.ModelProto, feed: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))


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


@pytest.mark.parametrize("soc", SIMULATED)
def test_dsp_is_within_float16_of_the_cpu(qa_dlc: Path, soc: str) -> None:
    expected = reference(qa_model(), random_feed())
    computed = HtpNetwork(qa_dlc, known_socs()[soc].qnn_id).execute(random_feed())
    for name, logits in expected.items():
        assert np.corrcoef(computed[name].ravel(), logits.ravel())[0, 1] > 0.9999
        assert np.abs(computed[name] - logits).max() > 0  # float16 it is, not float32 again


BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow")
UNARY = ("Relu", "Sigmoid", "Tanh")


def one_node(
    kind: str, shape: list[int], weights: dict[str, Any] | None = None, extra: tuple[str, ...] = (), **attributes: Any
) -> onnx.ModelProto:
    node = helper.make_node(kind, ["a", *extra, *(weights or {})], ["out"], **attributes)
    inputs = dict.fromkeys(("a", *extra), A)
    return model([node], inputs, {"out": (F, shape)}, weights)


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
    "MatMul weights": one_node("MatMul", [2, 3, 5], {"w": np.arange(20, dtype=np.float32).reshape(4, 5)}),
}


@pytest.mark.parametrize("case", CASES)
def test_each_operator_computes_what_onnx_says(case: str, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    made = CASES[case]
    feed = {value.name: random.uniform(0.5, 2, [2, 3, 4]).astype(np.float32) for value in made.graph.input}
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
    dlc = convert(one_node("Floor", [2, 3, 4]), tmp_path)
    with pytest.raises(DlcInvalid, match="ElementWiseUnary"):
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
    """The file that is given is the file that is executed."""
    words = onnx.numpy_helper.to_array(next(w for w in qa_model().graph.initializer if w.name == "words"))
    data = qa_dlc.read_bytes()
    assert data.count(words.tobytes()) == 1
    path = tmp_path / "model.dlc"
    path.write_bytes(data.replace(words.tobytes(), (words * 2).astype(np.float32).tobytes()))
    before, after = CpuNetwork(qa_dlc).execute(random_feed()), CpuNetwork(path).execute(random_feed())
    assert np.abs(before["start_logits"] - after["start_logits"]).max() > 0.1
