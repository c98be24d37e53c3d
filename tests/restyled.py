"""Restyles the demo model with the inputs, axes and masks of other exporters, without torch."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from bundler import resources

LENGTH = 384
HEADS = 4
LEAST = float(np.finfo(np.float32).min)
INT64, BOOL, FLOAT = TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT
MASK = "/Mul_output_0"  # the demo model's additive mask
STYLES = ("ours", "optimum", "optimum_inf", "newest")


def restyled(style: str) -> onnx.ModelProto:
    """Returns the demo model in one of STYLES.

    ours          int32, static, a mask of -10000
    optimum       int64, dynamic, (1 - mask) * -3.4e38
    optimum_inf   int64, dynamic, a Where with -inf in each layer and a guard against NaN after each Softmax
    newest        int64, static, opset 20, GatherND, And and Where on booleans
    """
    made = onnx.load(resources.DEMO_MODEL)
    graph = made.graph
    old = list(graph.node)
    last = next(index for index, each in enumerate(old) if each.output[0] == MASK)
    between = {"attention_mask"}
    kept = []
    for index, each in enumerate(old):
        if index <= last and between & set(each.input):
            between.update(each.output)  # makes the mask out of the input, and nothing else
        else:
            kept.append(each)
    node, constant = helper.make_node, _Constants(graph)
    before: list[onnx.NodeProto] = []
    if style in ("ours", "optimum"):
        size = -10000.0 if style == "ours" else LEAST
        before = [
            node("Unsqueeze", ["attention_mask", constant([1, 2], np.int64)], ["m:wide"]),
            node("Cast", ["m:wide"], ["m:float"], to=FLOAT),
            node("Sub", [constant(1, np.float32), "m:float"], ["m:absent"]),
            node("Mul", ["m:absent", constant(size, np.float32)], [MASK]),
        ]
    elif style == "newest":
        indices = np.stack([np.zeros(LENGTH, np.int64), np.arange(LENGTH)], axis=-1)[None, None, None]
        before = [
            node("Cast", ["attention_mask"], ["m:bool"], to=BOOL),
            node("GatherND", ["m:bool", constant(indices, np.int64)], ["m:found"]),
            node("And", [constant(np.ones((1, 1, LENGTH, 1)), np.bool_), "m:found"], ["m:kept"]),
            node("Where", ["m:kept", constant(0, np.float32), constant(LEAST, np.float32)], [MASK]),
        ]
    else:
        before = [
            node("Cast", ["attention_mask"], ["m:bool"], to=BOOL),
            node("Unsqueeze", ["m:bool", constant([1, 2], np.int64)], ["m:kept"]),
        ]
        kept = [made for each in kept for made in _guarded(each, constant)]
    del graph.node[:]
    graph.node.extend([*before, *kept])
    if style != "ours":
        for value in graph.input:
            value.type.tensor_type.elem_type = INT64
    if style.startswith("optimum"):
        _make_dynamic(graph, constant)
    if style == "newest":
        made = version_converter.convert_version(made, 20)
    onnx.checker.check_model(made)
    return made


class _Constants:
    """Adds initializers to a graph; returns their names."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._count = 0

    def __call__(self, value: Any, dtype: Any) -> str:
        self._count += 1
        name = f"m:constant{self._count}"
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name


def _guarded(each: onnx.NodeProto, constant: _Constants) -> list[onnx.NodeProto]:
    """Adds a separate Where to an attention's Add, and a guard to its Softmax; returns other nodes unchanged."""
    node, name = helper.make_node, each.output[0]
    if each.op_type == "Add" and MASK in each.input:
        infinite = [constant([0], np.float32), constant([-np.inf], np.float32)]
        each.input[list(each.input).index(MASK)] = f"{name}:mask"
        return [node("Where", ["m:kept", *infinite], [f"{name}:mask"]), each]
    if each.op_type == "Softmax":
        each.output[0] = f"{name}:raw"
        guard = [f"{name}:nan", constant([0], np.float32), each.output[0]]
        return [each, node("IsNaN", [each.output[0]], [guard[0]]), node("Where", guard, [name])]
    return [each]


def _make_dynamic(graph: onnx.GraphProto, constant: _Constants) -> None:
    """Makes the axes dynamic: Reshape targets leave the length open, and the position embedding is cut to it."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    position = next(each for each in graph.node if each.output[0].endswith("position_embeddings/Gather_output_0"))
    for each in graph.node:
        target = values.get(each.input[1]) if each.op_type == "Reshape" else None
        if target is not None and LENGTH in target:
            opened = [HEADS if size == -1 else -1 if size == LENGTH else size for size in target.tolist()]
            each.input[1] = constant(opened, np.int64)
        for at, name in enumerate(each.input):
            if name == position.output[0]:
                each.input[at] = "m:positions"
    node, first, second = helper.make_node, constant([0], np.int64), constant([1], np.int64)
    cut = [
        node("Shape", ["input_ids"], ["m:shape"]),
        node("Gather", ["m:shape", second], ["m:length"]),
        node("Slice", [position.output[0], first, "m:length", second], ["m:positions"]),
    ]
    rest = [each for each in graph.node if each is not position]
    rest = [position, *cut, *rest]
    copies = [onnx.NodeProto.FromString(each.SerializeToString()) for each in rest]
    del graph.node[:]
    graph.node.extend(copies)
    for value in (*graph.input, *graph.output):
        for dim, name in zip(value.type.tensor_type.shape.dim, ("batch_size", "sequence_length"), strict=True):
            dim.dim_param = name
