"""A DLC's graph as an ONNX model: the float32 reading of it that the CPU runtime executes.

One function an operator type, named as in the QNN operator definition; each appends nodes to the model under way.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from bundler.dlc.graph import Graph, Operator, Tensor
from bundler.errors import DlcInvalid

OPSET = 17
IR_VERSION = 8

BINARY = {0: "Add", 2: "Div", 10: "Max", 11: "Min", 13: "Mul", 16: "Pow", 18: "Sub"}
NEURON = {0: "Elu", 4: "Relu", 6: "Sigmoid", 7: "Softplus", 8: "Tanh"}


class UnsupportedOperator(Exception):
    """An operator, or a use of one, that has no translation."""


class _Model:
    """The ONNX graph under way."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._written: set[str] = set()

    def tensor(self, name: str) -> Tensor:
        return self.graph.tensors[name]

    def use(self, name: str) -> str:
        """The name itself; a weight is written down at its first use."""
        tensor = self.tensor(name)
        if tensor.data is not None and name not in self._written:
            self._written.add(name)
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(tensor.data), name))
        return name

    def constant(self, op: Operator, role: str, value: npt.ArrayLike, dtype: Any = np.int64) -> str:
        name = f"{op.name}:{role}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(
        self, op: Operator, kind: str, inputs: Sequence[str], outputs: Sequence[str] | None = None, **attributes: Any
    ) -> None:
        self.nodes.append(helper.make_node(kind, inputs, op.outputs if outputs is None else outputs, **attributes))


def _plain(kind: str, *attributes: str) -> Callable[[_Model, Operator], None]:
    """An operator that ONNX has under the name `kind` with the same attributes."""

    def translate(model: _Model, op: Operator) -> None:
        values = {key: np.asarray(op.params[key]).tolist() for key in attributes if key in op.params}
        model.add(op, kind, [model.use(name) for name in op.inputs], **values)

    return translate


def _by_operation(table: dict[int, str]) -> Callable[[_Model, Operator], None]:
    def translate(model: _Model, op: Operator) -> None:
        kind = table.get(op.params["operation"])
        if kind is None:
            raise UnsupportedOperator(f"{op.type} operation {op.params['operation']}")
        model.add(op, kind, [model.use(name) for name in op.inputs])

    return translate


def _reshape(model: _Model, op: Operator) -> None:
    shape = model.constant(op, "shape", model.tensor(op.outputs[0]).shape)
    model.add(op, "Reshape", [model.use(op.inputs[0]), shape])


def _cast(model: _Model, op: Operator) -> None:
    target = helper.np_dtype_to_tensor_dtype(model.tensor(op.outputs[0]).dtype)
    model.add(op, "Cast", [model.use(op.inputs[0])], to=target)


def _fully_connected(model: _Model, op: Operator) -> None:
    """Weights are (units, inputs); the data is flattened to rows of `inputs`."""
    weights = model.tensor(op.inputs[1])
    data, rows = model.use(op.inputs[0]), f"{op.outputs[0]}:rows"
    flat = f"{op.name}:flat"
    model.add(op, "Reshape", [data, model.constant(op, "flat_shape", (-1, weights.shape[1]))], [flat])
    model.add(op, "Gemm", [flat, *(model.use(name) for name in op.inputs[1:])], [rows], transB=1)
    shape = model.constant(op, "shape", model.tensor(op.outputs[0]).shape)
    model.add(op, "Reshape", [rows, shape])


def _matmul(model: _Model, op: Operator) -> None:
    operands = []
    for index, name in enumerate(op.inputs[:2]):
        operand = model.use(name)
        if op.params.get(f"transpose_in{index}"):
            rank = len(model.tensor(name).shape)
            turned = f"{op.name}:turned{index}"
            model.add(op, "Transpose", [operand], [turned], perm=[*range(rank - 2), rank - 1, rank - 2])
            operand = turned
        operands.append(operand)
    if len(op.inputs) == 2:
        model.add(op, "MatMul", operands)
    else:
        product = f"{op.name}:product"
        model.add(op, "MatMul", operands, [product])
        model.add(op, "Add", [product, model.use(op.inputs[2])])


def _softmax(model: _Model, op: Operator) -> None:
    if op.params.get("beta", 1.0) != 1.0:
        raise UnsupportedOperator(f"Softmax with beta {op.params['beta']}")
    rank = len(model.tensor(op.inputs[0]).shape)
    model.add(op, "Softmax", [model.use(op.inputs[0])], axis=int(op.params.get("axis", rank - 1)))


def _strided_slice(model: _Model, op: Operator) -> None:
    if any(op.params.get(mask) for mask in ("begin_mask", "end_mask", "shrink_axes", "new_axes_mask")):
        raise UnsupportedOperator("StridedSlice with masks")
    begin, end, step = np.asarray(op.params["ranges"]).T
    bounds = [model.constant(op, role, value) for role, value in (("begin", begin), ("end", end))]
    axes, steps = model.constant(op, "axes", np.arange(len(begin))), model.constant(op, "steps", step)
    model.add(op, "Slice", [model.use(op.inputs[0]), *bounds, axes, steps])


def _pad(model: _Model, op: Operator) -> None:
    if op.params["scheme"] != 0:
        raise UnsupportedOperator(f"Pad scheme {op.params['scheme']}")
    amounts = model.constant(op, "amounts", np.asarray(op.params["pad_amount"]).T.ravel())
    value = model.constant(op, "value", op.params.get("pad_constant_value", 0), model.tensor(op.inputs[0]).dtype)
    model.add(op, "Pad", [model.use(op.inputs[0]), amounts, value])


def _split(model: _Model, op: Operator) -> None:
    axis = int(op.params["axis"])
    sizes = [model.tensor(name).shape[axis] for name in op.outputs]
    model.add(op, "Split", [model.use(op.inputs[0]), model.constant(op, "sizes", sizes)], axis=axis)


TRANSLATIONS: dict[str, Callable[[_Model, Operator], None]] = {
    "Cast": _cast,
    "Concat": _plain("Concat", "axis"),
    "ElementWiseBinary": _by_operation(BINARY),
    "ElementWiseNeuron": _by_operation(NEURON),
    "FullyConnected": _fully_connected,
    "Gather": _plain("Gather", "axis"),
    "MatMul": _matmul,
    "Pad": _pad,
    "Reshape": _reshape,
    "Softmax": _softmax,
    "Split": _split,
    "StridedSlice": _strided_slice,
    "Transpose": _plain("Transpose", "perm"),
}


def _value_info(tensor: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, helper.np_dtype_to_tensor_dtype(tensor.dtype), tensor.shape)


def to_onnx(graph: Graph) -> onnx.ModelProto:
    """An ONNX model that computes what the DLC's float graph says.

    Raises:
        DlcInvalid: an operator has no translation, or the graph is quantized.
    """
    model = _Model(graph)
    for op in graph.operators:
        translate = TRANSLATIONS.get(op.type)
        if translate is None:
            raise DlcInvalid(graph.name, f"operator {op.type} ({op.name}) is not known to the CPU runtime")
        try:
            translate(model, op)
        except UnsupportedOperator as unsupported:
            raise DlcInvalid(graph.name, f"{unsupported} ({op.name}) is not known to the CPU runtime") from unsupported
    onnx_graph = helper.make_graph(
        model.nodes,
        "dlc",
        [_value_info(graph.tensors[name]) for name in graph.inputs],
        [_value_info(graph.tensors[name]) for name in graph.outputs],
        model.initializers,
    )
    return helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
