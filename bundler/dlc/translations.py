"""Translates QNN's operators to ONNX: one function per operator type, named as in the QNN operator definition.

Each appends nodes to the model being written. All real numbers there are float32, in whatever form the DLC has them.
"""

from collections.abc import Callable

import numpy as np

from bundler.dlc.graph import Operator
from bundler.dlc.writer import UnsupportedOperator, Writer, element_type

Translation = Callable[[Writer, Operator], None]

BINARY = {
    0: "Add", 1: "And", 2: "Div", 3: "Equal", 6: "Greater", 7: "GreaterOrEqual", 8: "Less", 9: "LessOrEqual",
    10: "Max", 11: "Min", 13: "Mul", 15: "Or", 16: "Pow", 18: "Sub", 19: "Xor",
}  # fmt: skip
FLOOR_DIVIDE, FMOD, NOT_EQUAL, SQUARED_DIFFERENCE = 4, 5, 14, 17
UNARY = {
    0: "Abs", 1: "Asin", 2: "Atan", 3: "Ceil", 4: "Cos", 5: "Exp", 6: "Floor", 7: "Log", 8: "Neg", 9: "Not",
    10: "Reciprocal", 11: "Round", 13: "Sign", 14: "Sin", 15: "Sqrt",
}  # fmt: skip
RSQRT = 12
NEURON = {3: "HardSwish", 4: "Relu", 6: "Sigmoid", 8: "Tanh"}
ELU, GELU, HARD_SIGMOID, RELU_MIN_MAX, SOFTPLUS = 0, 1, 2, 5, 7
MASKS = ("begin_mask", "end_mask", "shrink_axes", "new_axes_mask")


def _plain(kind: str, *attributes: str) -> Translation:
    """Returns a translation to the ONNX operator `kind` with the same attributes."""

    def translate(model: Writer, op: Operator) -> None:
        values = {key: np.asarray(op.params[key]).tolist() for key in attributes if key in op.params}
        model.add(op, kind, model.inputs(op), **values)

    return translate


def _fixed(operation: int, translate: Translation) -> Translation:
    """Returns the translation of an older operator that newer converters write as one operation of a general one."""

    def translate_it(model: Writer, op: Operator) -> None:
        translate(model, Operator(op.type, op.name, op.inputs, op.outputs, {**op.params, "operation": operation}))

    return translate_it


def _unknown(op: Operator) -> UnsupportedOperator:
    return UnsupportedOperator(f"{op.type} operation {op.params['operation']}")


def _binary(model: Writer, op: Operator) -> None:
    operation, operands = op.params["operation"], model.inputs(op)
    if operation in BINARY:
        model.add(op, BINARY[operation], operands)
    elif operation == FLOOR_DIVIDE:
        model.add(op, "Floor", [model.step(op, "Div", operands, "quotient")])
    elif operation == FMOD:
        model.add(op, "Mod", operands, fmod=1)
    elif operation == NOT_EQUAL:
        model.add(op, "Not", [model.step(op, "Equal", operands, "equal")])
    elif operation == SQUARED_DIFFERENCE:
        difference = model.step(op, "Sub", operands, "difference")
        model.add(op, "Mul", [difference, difference])
    else:
        raise _unknown(op)


def _unary(model: Writer, op: Operator) -> None:
    operation, operands = op.params["operation"], model.inputs(op)
    if operation in UNARY:
        model.add(op, UNARY[operation], operands)
    elif operation == RSQRT:
        model.add(op, "Reciprocal", [model.step(op, "Sqrt", operands, "root")])
    else:
        raise _unknown(op)


def _neuron(model: Writer, op: Operator) -> None:
    operation, operands = op.params["operation"], model.inputs(op)
    if operation in NEURON:
        model.add(op, NEURON[operation], operands)
    elif operation == ELU:
        model.add(op, "Elu", operands, alpha=op.params.get("alpha", 1.0))
    elif operation == GELU:
        _gelu(model, op, operands[0])
    elif operation == HARD_SIGMOID:
        model.add(op, "HardSigmoid", operands, alpha=op.params.get("alpha", 0.2), beta=op.params.get("beta", 0.5))
    elif operation == RELU_MIN_MAX:
        bounds = [model.constant(op, key, op.params[key], np.float32) for key in ("min_value", "max_value")]
        model.add(op, "Clip", [*operands, *bounds])
    elif operation == SOFTPLUS and op.params.get("beta", 1.0) == 1.0:
        model.add(op, "Softplus", operands)
    else:
        raise _unknown(op)


def _gelu(model: Writer, op: Operator, data: str) -> None:
    """Writes the exact Gelu, x / 2 * (1 + erf(x / sqrt 2)), which opset 17 has no operator for."""
    root, half, one = (
        model.constant(op, role, value, np.float32) for role, value in (("root", 0.5**0.5), ("half", 0.5), ("one", 1.0))
    )
    erf = model.step(op, "Erf", [model.step(op, "Mul", [data, root], "scaled")], "erf")
    share = model.step(op, "Mul", [model.step(op, "Add", [erf, one], "shifted"), half], "share")
    model.add(op, "Mul", [data, share])


def _reshape(model: Writer, op: Operator) -> None:
    shape = model.constant(op, "shape", model.tensor(op.outputs[0]).shape)
    model.add(op, "Reshape", [model.use(op.inputs[0]), shape])


def _cast(model: Writer, op: Operator) -> None:
    """Translates Cast, Convert, Quantize and Dequantize; conversions between real types need no operation."""
    source, target = (model.tensor(name) for name in (op.inputs[0], op.outputs[0]))
    if source.is_real and target.is_real:
        model.add(op, "Identity", [model.use(op.inputs[0])])
    else:
        model.add(op, "Cast", [model.use(op.inputs[0])], to=element_type(target))


def _fully_connected(model: Writer, op: Operator) -> None:
    """Translates a product with weights (units, inputs); flattens the data to rows of `inputs`."""
    weights = model.tensor(op.inputs[1])
    data = model.use(op.inputs[0])
    flat = model.step(op, "Reshape", [data, model.constant(op, "flat_shape", (-1, weights.shape[1]))], "flat")
    rows = model.step(op, "Gemm", [flat, *(model.use(name) for name in op.inputs[1:])], "rows", transB=1)
    model.add(op, "Reshape", [rows, model.constant(op, "shape", model.tensor(op.outputs[0]).shape)])


def _matmul(model: Writer, op: Operator) -> None:
    operands = []
    for index, name in enumerate(op.inputs[:2]):
        operand = model.use(name)
        if op.params.get(f"transpose_in{index}"):
            rank = len(model.tensor(name).shape)
            turn = [*range(rank - 2), rank - 1, rank - 2]
            operand = model.step(op, "Transpose", [operand], f"turned{index}", perm=turn)
        operands.append(operand)
    if len(op.inputs) == 2:
        model.add(op, "MatMul", operands)
    else:
        model.add(op, "Add", [model.step(op, "MatMul", operands, "product"), model.use(op.inputs[2])])


def _softmax(kind: str) -> Translation:
    def translate(model: Writer, op: Operator) -> None:
        if op.params.get("beta", 1.0) != 1.0:
            raise UnsupportedOperator(f"{op.type} with beta {op.params['beta']}")
        rank = len(model.tensor(op.inputs[0]).shape)
        model.add(op, kind, [model.use(op.inputs[0])], axis=int(op.params.get("axis", rank - 1)))

    return translate


def _layer_norm(model: Writer, op: Operator) -> None:
    """Translates LayerNorm over the last axes; gamma and beta have those axes' shape."""
    shape = model.tensor(op.inputs[0]).shape
    axes = sorted(int(axis) for axis in np.asarray(op.params["axes"]).ravel())
    if axes != list(range(axes[0], len(shape))):
        raise UnsupportedOperator(f"{op.type} over axes {axes} of {len(shape)}")
    operands = model.inputs(op)
    if len(operands) == 1:
        operands.append(model.constant(op, "gamma", np.ones(shape[axes[0] :]), np.float32))
    model.add(op, "LayerNormalization", operands, axis=axes[0], epsilon=op.params.get("epsilon", 1e-6))


def _reduce(kind: str) -> Translation:
    def translate(model: Writer, op: Operator) -> None:
        axes = np.asarray(op.params["axes"]).ravel().tolist()
        keep = int(op.params.get("keep_dims", 0))
        if kind == "ReduceSum":
            model.add(op, kind, [*model.inputs(op), model.constant(op, "axes", axes)], keepdims=keep)
        else:
            model.add(op, kind, model.inputs(op), axes=axes, keepdims=keep)

    return translate


def _strided_slice(model: Writer, op: Operator) -> None:
    """Translates StridedSlice. With a negative step, an end of -1 is before the first element, unlike in ONNX."""
    if any(op.params.get(mask) for mask in MASKS):
        raise UnsupportedOperator("StridedSlice with masks")
    begin, end, step = np.asarray(op.params["ranges"], np.int64).T
    end = np.where((step < 0) & (end < 0), np.iinfo(np.int32).min, end)
    bounds = [model.constant(op, role, value) for role, value in (("begin", begin), ("end", end))]
    axes, steps = model.constant(op, "axes", np.arange(len(begin))), model.constant(op, "steps", step)
    model.add(op, "Slice", [model.use(op.inputs[0]), *bounds, axes, steps])


def _pad(model: Writer, op: Operator) -> None:
    if op.params["scheme"] != 0:
        raise UnsupportedOperator(f"Pad scheme {op.params['scheme']}")
    tensor = model.tensor(op.inputs[0])
    amounts = model.constant(op, "amounts", np.asarray(op.params["pad_amount"]).T.ravel())
    value = np.asarray(op.params.get("pad_constant_value", 0))
    if tensor.encoding is not None and value.dtype.kind != "f":
        value = tensor.encoding.dequantize(value)
    dtype = np.float32 if tensor.is_real else tensor.dtype
    model.add(op, "Pad", [model.use(op.inputs[0]), amounts, model.constant(op, "value", value, dtype)])


def _split(model: Writer, op: Operator) -> None:
    axis = int(op.params["axis"])
    sizes = [model.tensor(name).shape[axis] for name in op.outputs]
    model.add(op, "Split", [model.use(op.inputs[0]), model.constant(op, "sizes", sizes)], axis=axis)


def _cumulative_sum(model: Writer, op: Operator) -> None:
    axis = model.constant(op, "axis", int(op.params["axis"]))
    exclusive, reverse = (int(op.params.get(flag, 0)) for flag in ("exclusive", "reverse"))
    model.add(op, "CumSum", [model.use(op.inputs[0]), axis], exclusive=exclusive, reverse=reverse)


def _tile(model: Writer, op: Operator) -> None:
    repeats = model.constant(op, "repeats", np.asarray(op.params["multiples"]).ravel())
    model.add(op, "Tile", [model.use(op.inputs[0]), repeats])


TRANSLATIONS: dict[str, Translation] = {
    "Cast": _cast,
    "Concat": _plain("Concat", "axis"),
    "Convert": _cast,
    "CumulativeSum": _cumulative_sum,
    "Dequantize": _cast,
    "ElementWiseAbs": _fixed(0, _unary),
    "ElementWiseAdd": _fixed(0, _binary),
    "ElementWiseBinary": _binary,
    "ElementWiseDivide": _fixed(2, _binary),
    "ElementWiseExp": _fixed(5, _unary),
    "ElementWiseMaximum": _fixed(10, _binary),
    "ElementWiseMinimum": _fixed(11, _binary),
    "ElementWiseMultiply": _fixed(13, _binary),
    "ElementWiseNeg": _fixed(8, _unary),
    "ElementWiseNeuron": _neuron,
    "ElementWisePower": _fixed(16, _binary),
    "ElementWiseRsqrt": _fixed(RSQRT, _unary),
    "ElementWiseSelect": _plain("Where"),
    "ElementWiseSquareRoot": _fixed(15, _unary),
    "ElementWiseSquaredDifference": _fixed(SQUARED_DIFFERENCE, _binary),
    "ElementWiseSubtract": _fixed(18, _binary),
    "ElementWiseUnary": _unary,
    "ExpandDims": _reshape,
    "FullyConnected": _fully_connected,
    "Gather": _plain("Gather", "axis"),
    "GatherElements": _plain("GatherElements", "axis"),
    "Gelu": _fixed(GELU, _neuron),
    "LayerNorm": _layer_norm,
    "LogSoftmax": _softmax("LogSoftmax"),
    "MatMul": _matmul,
    "Pad": _pad,
    "Prelu": _plain("PRelu"),
    "Quantize": _cast,
    "ReduceMax": _reduce("ReduceMax"),
    "ReduceMean": _reduce("ReduceMean"),
    "ReduceMin": _reduce("ReduceMin"),
    "ReduceSum": _reduce("ReduceSum"),
    "Relu": _fixed(4, _neuron),
    "Reshape": _reshape,
    "Sigmoid": _fixed(6, _neuron),
    "Softmax": _softmax("Softmax"),
    "Split": _split,
    "Squeeze": _reshape,
    "StridedSlice": _strided_slice,
    "Tanh": _fixed(8, _neuron),
    "Tile": _tile,
    "Transpose": _plain("Transpose", "perm"),
}
