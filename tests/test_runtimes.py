"""Tests the three runtimes on float, float16 and quantized DLCs: their rounding, and the distance from the model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from bundler.dlc.execute import CpuNetwork, GpuNetwork, HtpNetwork, context_name, save_context
from bundler.dlc.graph import Operator, Tensor, read_graph
from bundler.dlc.to_onnx import to_onnx
from bundler.errors import DlcInvalid, FileUnreadable
from tests.dlcs import (
    DEMO,
    HIDDEN,
    KINDS,
    SOC,
    convert,
    demo_feeds,
    halved,
    likeness,
    quantized,
    reference,
    run_single,
    single,
)
from tests.models import qa_model, random_feed

OUTPUTS = ("start_logits", "end_logits")
WEIGHTS = {"w8a8": "int8", "w8a16": "int8", "w16a16": "int16"}
ACTIVATIONS = {"w8a8": "uint8", "w8a16": "uint16", "w16a16": "uint16"}


def small() -> onnx.ModelProto:
    return qa_model(hidden=HIDDEN)


@pytest.fixture(scope="module")
def dlcs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Makes DLCs of one small model: fp32, fp16 and each of KINDS."""
    folder = tmp_path_factory.mktemp("dlcs")
    onnx.save(small(), folder / "model.onnx")
    feeds = [random_feed(seed=seed) for seed in range(4)]
    models = {"fp32": small(), "fp16": halved(small())}
    models |= {kind: quantized(folder / "model.onnx", feeds, kind, folder) for kind in KINDS}
    made = {}
    for kind, it in models.items():
        (folder / kind).mkdir()
        made[kind] = convert(it, folder / kind)
    return made


FEED = random_feed(seed=9)


def near(computed: Mapping[str, Any], least: float) -> None:
    """Checks that both logits are float32 and correlate with the float model's."""
    expected = reference(small(), FEED)
    for name in OUTPUTS:
        assert computed[name].dtype == np.float32
        assert likeness(computed[name], expected[name]) > least


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantized_dlc_holds_its_encodings_and_its_weights_in_their_integers(
    dlcs: dict[str, Path], kind: str
) -> None:
    graph = read_graph(dlcs[kind])
    weights = [t for t in graph.tensors.values() if t.data is not None and t.name.startswith("query")]
    assert [weight.dtype.name for weight in weights] == [WEIGHTS[kind]]
    query = next(onnx.numpy_helper.to_array(w) for w in small().graph.initializer if w.name == "query")
    np.testing.assert_allclose(weights[0].reals(), query.T, atol=np.abs(query).max() / 100)
    for name in OUTPUTS:
        tensor = graph.tensors[name]
        assert tensor.dtype.name == ACTIVATIONS[kind]
        assert tensor.encoding is not None
        assert tensor.encoding.axis is None
        assert tensor.encoding.bits == 8 * tensor.dtype.itemsize
    assert all(graph.tensors[name].dtype == np.int32 for name in graph.inputs)


@pytest.mark.parametrize(("kind", "least"), [("fp16", 0.99999), ("w8a8", 0.998), ("w8a16", 0.999), ("w16a16", 0.99999)])
@pytest.mark.parametrize("network", [CpuNetwork, GpuNetwork])
def test_cpu_and_gpu_take_every_precision(
    dlcs: dict[str, Path], kind: str, least: float, network: type[CpuNetwork]
) -> None:
    opened = network(dlcs[kind])
    assert {spec.dtype for spec in opened.outputs} == {ACTIVATIONS.get(kind, "float32")}
    assert set(opened.encodings) == (set(OUTPUTS) if kind in KINDS else set())
    near(opened.execute(FEED), least)


@pytest.mark.parametrize(("kind", "least"), [("fp16", 0.99999), ("w8a8", 0.99), ("w8a16", 0.998), ("w16a16", 0.998)])
def test_dsp_takes_every_precision(dlcs: dict[str, Path], kind: str, least: float) -> None:
    network = HtpNetwork(dlcs[kind], SOC.qnn_id)
    computed = network.execute(FEED)
    near(computed, least)
    for name, encoding in network.encodings.items():  # what it gives are the integers' values, nothing between
        stored = encoding.quantize(computed[name], ACTIVATIONS[kind])
        assert encoding.dequantize(stored).tobytes() == computed[name].tobytes()


def test_the_cpu_does_not_round_activations(dlcs: dict[str, Path]) -> None:
    network = CpuNetwork(dlcs["w8a8"])
    logits = network.execute(FEED)["start_logits"]
    encoding = network.encodings["start_logits"]
    assert not np.array_equal(encoding.dequantize(encoding.quantize(logits, np.uint8)), logits)


def test_a_relu_that_the_quantizer_left_to_an_encoding_is_computed(dlcs: dict[str, Path]) -> None:
    graph = read_graph(dlcs["w8a8"])
    assert not any(op.type == "ElementWiseNeuron" for op in graph.operators)
    session = run_all(to_onnx(graph))
    assert session["activated_QuantizeLinear_Output"].min() == 0


def run_all(model: onnx.ModelProto, *, optimized: bool = False) -> dict[str, Any]:
    """Returns all intermediate results of the model on FEED."""
    every = onnx.ModelProto()
    every.CopyFrom(model)
    names = [name for node in model.graph.node for name in node.output]
    del every.graph.output[:]
    every.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(every.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {value.name: FEED[value.name] for value in model.graph.input}
    return dict(zip(names, session.run(names, feed), strict=True))


@pytest.mark.parametrize("kind", ["fp32", "w8a16"])
def test_gpu_rounds_every_result_to_float16(dlcs: dict[str, Path], kind: str) -> None:
    graph = read_graph(dlcs[kind])
    results = run_all(to_onnx(graph, half=True))
    made = {name for op in graph.operators for name in op.outputs if graph.tensors[name].is_real}
    assert made <= set(results)
    for name in made:
        assert np.array_equal(results[name], results[name].astype(np.float16).astype(np.float32)), name
    network = GpuNetwork(dlcs[kind]).execute(FEED)  # without all the outputs that keep the optimizer's hands off
    exact = CpuNetwork(dlcs[kind]).execute(FEED)
    for name in OUTPUTS:
        assert network[name].tobytes() == results[name].tobytes()
        assert network[name].tobytes() != exact[name].tobytes()
    weights = [onnx.numpy_helper.to_array(value) for value in to_onnx(graph, half=True).graph.initializer]
    assert all(np.array_equal(w, w.astype(np.float16).astype(w.dtype)) for w in weights if w.dtype == np.float32)


def test_gpu_rounds_inputs_and_overflows_as_float16_does() -> None:
    double = single(Operator("ElementWiseBinary", "double", ("a", "a"), ("out",), {"operation": 0}), (4,))
    computed = run_single(double, [40000, -40000, 1 / 3, 2049], half=True)
    assert computed.tolist() == [np.inf, -np.inf, 2 * float(np.float16(1 / 3)), 4096]


@pytest.mark.parametrize(
    ("kind", "computes"),
    [
        ("ElementWiseAdd", lambda a: a + a),
        ("ElementWiseSubtract", lambda a: a - a),
        ("ElementWiseMultiply", lambda a: a * a),
        ("ElementWiseDivide", lambda a: a / a),
        ("ElementWiseMaximum", np.abs),
        ("ElementWiseSquaredDifference", lambda a: 0 * a),
        ("ElementWiseRsqrt", lambda a: 1 / np.sqrt(a)),
        ("ElementWiseSquareRoot", np.sqrt),
        ("ElementWiseExp", np.exp),
        ("ElementWiseNeg", np.negative),
        ("ElementWiseAbs", np.abs),
        ("Relu", np.abs),
        ("Tanh", np.tanh),
        ("Sigmoid", lambda a: 1 / (1 + np.exp(-a))),
    ],
)
def test_operators_under_the_names_that_older_converters_write(kind: str, computes: Any) -> None:
    data = np.array([0.5, 1, 2], np.float32)
    binary = ("Add", "Subtract", "Multiply", "Divide", "Maximum", "SquaredDifference")
    names = ("a", "a") if kind.endswith(binary) else ("a",)
    np.testing.assert_allclose(
        run_single(single(Operator(kind, "it", names, ("out",), {}), (3,)), data), computes(data), rtol=1e-6
    )


def test_a_binary_operation_that_onnx_has_no_one_operator_for() -> None:
    other = np.array([2, 3, -2], np.float32)
    op = Operator("ElementWiseBinary", "it", ("a", "b"), ("out",), {"operation": 17})
    data = np.array([5, -7.5, 3], np.float32)
    graph = single(op, (3,), b=Tensor("b", np.dtype(np.float32), (3,), other))
    np.testing.assert_allclose(run_single(graph, data), (data - other) ** 2)


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("ElementWiseBinary", {"operation": 12}),
        ("ElementWiseUnary", {"operation": 99}),
        ("ElementWiseNeuron", {"operation": 7, "beta": 2.0}),
        ("Softmax", {"beta": 0.5}),
        ("LayerNorm", {"axes": np.array([0]), "epsilon": 1e-5}),
        ("Pad", {"scheme": 1}),
        ("StridedSlice", {"begin_mask": 1}),
        ("Nonsense", {}),
    ],
)
def test_a_use_that_has_no_translation_is_named(kind: str, params: dict[str, Any]) -> None:
    with pytest.raises(DlcInvalid, match=rf"{kind}.*\(it\) is not known"):
        to_onnx(single(Operator(kind, "it", ("a",), ("out",), params), (2, 3)))


def normalized() -> onnx.ModelProto:
    """Returns a graph with LayerNormalization, Gelu and other BERT operators, in opset 20 because of Gelu."""
    random = np.random.default_rng(0)
    node = onnx.helper.make_node
    nodes = [
        node("LayerNormalization", ["a", "gamma", "beta"], ["c"], axis=-1, epsilon=1e-5),
        node("Gelu", ["c"], ["d"]),
        node("Gemm", ["d", "w", "b"], ["e"], transB=1),
        node("Tanh", ["e"], ["f"]),
        node("ReduceMean", ["f", "axes"], ["m"], keepdims=1),
        node("Sub", ["f", "m"], ["x"]),
        node("Mul", ["x", "x"], ["y"]),
        node("Sqrt", ["y"], ["z"]),
        node("Softmax", ["z"], ["out"], axis=-1),
    ]
    weights = {
        "gamma": random.normal(1, 1, HIDDEN).astype(np.float32),
        "beta": random.normal(size=HIDDEN).astype(np.float32),
        "w": random.normal(size=(8, HIDDEN)).astype(np.float32),
        "b": np.ones(8, np.float32),
        "axes": np.array([-1]),
    }
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "normalized",
        [tensor("a", onnx.TensorProto.FLOAT, [6, HIDDEN])],
        [tensor("out", onnx.TensorProto.FLOAT, [6, 8])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)


@pytest.mark.parametrize("kind", ["fp32", "w16a16"])
def test_the_operators_of_berts_kin(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(1)
    feeds = [{"a": random.normal(size=(6, HIDDEN)).astype(np.float32)} for _ in range(4)]
    onnx.save(normalized(), tmp_path / "float.onnx")
    made = normalized() if kind == "fp32" else quantized(tmp_path / "float.onnx", feeds, kind, tmp_path)
    dlc = convert(made, tmp_path)
    kinds = {op.type for op in read_graph(dlc).operators}
    assert {"LayerNorm", "ElementWiseNeuron", "ElementWiseUnary", "ReduceMean"} <= kinds
    expected = reference(normalized(), feeds[0])["out"]
    for network in (CpuNetwork(dlc), GpuNetwork(dlc), HtpNetwork(dlc, SOC.qnn_id)):
        assert likeness(network.execute(feeds[0])["out"], expected) > 0.9999


@pytest.fixture(scope="module")
def prepared(dlcs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("context") / "context.bin"
    save_context(dlcs["w8a16"], SOC.qnn_id, path)
    assert [entry.name for entry in path.parent.iterdir()] == ["context.bin"]
    return path


def test_a_prepared_context_computes_the_same(dlcs: dict[str, Path], prepared: Path) -> None:
    online, offline = HtpNetwork(dlcs["w8a16"], SOC.qnn_id), HtpNetwork(dlcs["w8a16"], SOC.qnn_id, prepared)
    assert (offline.inputs, offline.outputs, offline.encodings) == (online.inputs, online.outputs, online.encodings)
    expected, computed = online.execute(FEED), offline.execute(FEED)
    assert {name: array.tobytes() for name, array in computed.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }


def test_what_is_no_context_is_refused(dlcs: dict[str, Path], prepared: Path, tmp_path: Path) -> None:
    for content in (b"", b"no context", prepared.read_bytes()[:5000]):
        (tmp_path / "bad.bin").write_bytes(content)
        with pytest.raises(DlcInvalid, match=r"bad\.bin"):
            HtpNetwork(dlcs["w8a16"], SOC.qnn_id, tmp_path / "bad.bin")
    with pytest.raises(FileUnreadable, match=r"none\.bin"):
        HtpNetwork(dlcs["w8a16"], SOC.qnn_id, tmp_path / "none.bin")


def test_nothing_is_left_of_a_context_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "model.dlc").write_bytes(b"no DLC")
    with pytest.raises(DlcInvalid):
        save_context(tmp_path / "model.dlc", SOC.qnn_id, tmp_path / "context.bin")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.dlc"]


def test_the_name_of_a_context() -> None:
    assert context_name("SM8650", "0123456789abcdef" * 4) == "htp/SM8650-0123456789abcdef.bin"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "least"), [("w8a16", 0.999), ("w16a16", 0.9999)])
def test_the_demo_model_quantized_is_near_float32_on_the_dsp(tmp_path: Path, kind: str, least: float) -> None:
    feeds = demo_feeds(4)
    dlc = convert(quantized(DEMO / "model.onnx", feeds, kind, tmp_path), tmp_path)
    expected = reference(onnx.load(DEMO / "model.onnx"), feeds[0])
    for network in (HtpNetwork(dlc, SOC.qnn_id), CpuNetwork(dlc), GpuNetwork(dlc)):
        computed = network.execute(feeds[0])
        assert all(likeness(computed[name], expected[name]) > least for name in OUTPUTS)
