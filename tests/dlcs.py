"""Makes DLCs for tests: float, float16 and quantized ones of small ONNX models, with ONNX Runtime's results."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize
from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config

import bundler.demo
from bundler.dlc.graph import Graph, Operator, Tensor
from bundler.dlc.to_onnx import to_onnx
from bundler.model.convert import onnx_to_dlc
from bundler.soc import DEFAULT, known_socs

SOC = known_socs()[DEFAULT]
DEMO = Path(bundler.demo.__file__).parent
TYPES = {
    "w4a16": (QuantType.QUInt16, QuantType.QInt4),
    "w8a8": (QuantType.QUInt8, QuantType.QInt8),
    "w8a16": (QuantType.QUInt16, QuantType.QInt8),
    "w16a16": (QuantType.QUInt16, QuantType.QInt16),
}
KINDS = ("w8a8", "w8a16", "w16a16")
HIDDEN = 24  # with 16, the HTP simulator's 16-bit Gather gives wrong numbers

Feed = Mapping[str, Any]


def convert(made: onnx.ModelProto, folder: Path) -> Path:
    """Writes the model's DLC into `folder`."""
    onnx.save(made, folder / "model.onnx")
    onnx_to_dlc(folder / "model.onnx", folder / "model.dlc", SOC)
    return folder / "model.dlc"


def reference(made: onnx.ModelProto, feed: Feed) -> dict[str, Any]:
    """Returns ONNX Runtime's results for the model on the CPU."""
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, dict(feed)), strict=True))


def demo_feeds(count: int) -> list[dict[str, Any]]:
    """Returns the demo's first questions as inputs of the demo model."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    tokenizer.enable_truncation(384)
    tokenizer.enable_padding(length=384)
    data = json.loads((DEMO / "questions.json").read_text())["data"]
    pairs = [(q["question"], p["context"]) for a in data for p in a["paragraphs"] for q in p["qas"]]
    feeds = []
    for encoded in tokenizer.encode_batch(pairs[:count]):
        columns = (encoded.ids, encoded.attention_mask, encoded.type_ids)
        names = ("input_ids", "attention_mask", "token_type_ids")
        feeds.append({name: np.array([c], np.int32) for name, c in zip(names, columns, strict=True)})
    return feeds


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def quantized(source: Path, feeds: Sequence[Feed], kind: str, folder: Path, **options: Any) -> onnx.ModelProto:
    """Returns the model with quantized weights and activations (QDQ), whose outputs are the integers themselves."""
    activations, weights = TYPES[kind]
    config = get_qnn_qdq_config(
        source, _Reader(feeds), activation_type=activations, weight_type=weights, weight_symmetric=True, **options
    )
    quantize(source, folder / "qdq.onnx", config)
    made = onnx.load(folder / "qdq.onnx")
    producers = {name: node for node in made.graph.node for name in node.output}
    for output in made.graph.output:
        last = producers[output.name]
        integers = producers[last.input[0]]
        assert (last.op_type, integers.op_type) == ("DequantizeLinear", "QuantizeLinear")
        zero = next(value for value in made.graph.initializer if value.name == integers.input[2])
        made.graph.node.remove(last)
        integers.output[0] = output.name
        output.type.tensor_type.elem_type = zero.data_type
    onnx.checker.check_model(made)
    return made


def halved(made: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with weights and activations in float16; inputs and outputs keep their types."""
    half = onnx.ModelProto()
    half.CopyFrom(made)
    graph = half.graph
    for weight in graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(weight).astype(np.float16)
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    outputs = {output.name for output in graph.output if output.type.tensor_type.elem_type == TensorProto.FLOAT}
    for node in graph.node:
        node.output[:] = [f"{name}_half" if name in outputs else name for name in node.output]
    graph.node.extend(helper.make_node("Cast", [f"{n}_half"], [n], to=TensorProto.FLOAT) for n in sorted(outputs))
    onnx.checker.check_model(half)
    return half


def likeness(one: Any, other: Any) -> float:
    """Returns the correlation of two arrays."""
    return float(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1])


def single(op: Operator, shape: tuple[int, ...], **weights: Tensor) -> Graph:
    """Returns a graph of one operator on the float32 input `a`."""
    tensors = {name: Tensor(name, np.dtype(np.float32), shape, None) for name in ("a", "out")}
    return Graph("single", ("a",), ("out",), (op,), {**tensors, **weights})


def run_single(graph: Graph, data: Any, *, half: bool = False) -> Any:
    """Runs the graph's translation on `a`."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = to_onnx(graph, half=half).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(["out"], {"a": np.asarray(data, np.float32)})[0]
