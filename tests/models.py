"""Makes small ONNX models and a vocabulary without torch or downloads; they take milliseconds on the simulator."""

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LENGTH = 384
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
WORDS = (
    "the a an of in is was to and who what when where how many which built bridge museum tower river 18 19 20 ?"
).split()
PIECES = [*string.ascii_lowercase, *string.digits, *string.punctuation]
VOCABULARY = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *PIECES, *(f"##{p}" for p in PIECES)]))


def write_vocabulary(folder: Path) -> Path:
    """Writes a vocab.txt that splits English into known words and single characters."""
    path = folder / "vocab.txt"
    path.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return path


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[Any]]],
    outputs: Mapping[str, tuple[int, Sequence[Any]]],
    weights: Mapping[str, Any] | None = None,
) -> onnx.ModelProto:
    """Returns an ONNX model of opset 17; inputs and outputs are name -> (element type, shape)."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def qa_model(*, length: int = LENGTH, hidden: int = 16, seed: int = 0) -> onnx.ModelProto:
    """Returns one attention layer over embeddings, with start and end logits: a realistic graph with random weights."""
    random = np.random.default_rng(seed)

    def weight(*shape: int) -> Any:
        return random.normal(0, 1 / np.sqrt(shape[0]), shape).astype(np.float32)

    weights = {
        "words": random.normal(0, 1, (len(VOCABULARY), hidden)).astype(np.float32),
        "types": random.normal(0, 1, (2, hidden)).astype(np.float32),
        "positions": random.normal(0, 1, (1, length, hidden)).astype(np.float32),
        "query": weight(hidden, hidden),
        "key": weight(hidden, hidden),
        "value": weight(hidden, hidden),
        "head": weight(hidden, 2),
        "bias": random.normal(0, 1, 2).astype(np.float32),
        "one": np.float32(1),
        "penalty": np.float32(-100),
        "mask_shape": np.array([1, 1, length]),
        "halves": np.array([1, 1]),
        "last": np.array([2]),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["words", "input_ids"], ["word"]),
        node("Gather", ["types", "token_type_ids"], ["type"]),
        node("Add", ["word", "type"], ["typed"]),
        node("Add", ["typed", "positions"], ["embedded"]),
        node("Cast", ["attention_mask"], ["mask_float"], to=TensorProto.FLOAT),
        node("Sub", ["one", "mask_float"], ["absent"]),
        node("Mul", ["absent", "penalty"], ["mask_flat"]),
        node("Reshape", ["mask_flat", "mask_shape"], ["mask"]),
        node("MatMul", ["embedded", "query"], ["q"]),
        node("MatMul", ["embedded", "key"], ["k"]),
        node("MatMul", ["embedded", "value"], ["v"]),
        node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["scores"]),
        node("Add", ["scores", "mask"], ["masked"]),
        node("Softmax", ["masked"], ["shares"], axis=-1),
        node("MatMul", ["shares", "v"], ["mixed"]),
        node("Add", ["mixed", "embedded"], ["summed"]),
        node("Relu", ["summed"], ["activated"]),
        node("MatMul", ["activated", "head"], ["heads"]),
        node("Add", ["heads", "bias"], ["logits"]),
        node("Split", ["logits", "halves"], ["start", "end"], axis=-1),
        node("Squeeze", ["start", "last"], ["start_logits"]),
        node("Squeeze", ["end", "last"], ["end_logits"]),
    ]
    return model(
        nodes,
        {name: (TensorProto.INT32, [1, length]) for name in INPUTS},
        {name: (TensorProto.FLOAT, [1, length]) for name in ("start_logits", "end_logits")},
        weights,
    )


def random_feed(length: int = LENGTH, seed: int = 0) -> dict[str, Any]:
    """Returns inputs for qa_model: some padding, two segments."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, len(VOCABULARY), (1, length)).astype(np.int32)
    mask = (np.arange(length) < length * 3 // 4).astype(np.int32)[None]
    types = (np.arange(length) > length // 8).astype(np.int32)[None] * mask
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": types}
