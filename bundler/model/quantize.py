"""Inserts QuantizeLinear and DequantizeLinear around a float32 graph's operators: the HTP's fixed-point form.

Activations are asymmetric uint8 or uint16, weights symmetric int8 or int16. Tensors that an operator only moves
(Reshape, Slice, Gather, ...) share one encoding. Outputs stay fixed point, as SNPE's own quantizer leaves them.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import helper

from bundler.model.calibrate import Calibration, float_tensors
from bundler.model.fixed_point import (
    Encoding,
    Encodings,
    FixedWeights,
    asymmetric,
    reals,
    squared_error,
    stored,
    symmetric,
    weight_axis,
)
from bundler.model.graph import Feed, FitGraph, logits_of
from bundler.model.onnx_graph import Array, Net

MOVES = frozenset("Concat Expand Gather Identity Pad Reshape Slice Split Squeeze Transpose Unsqueeze".split())
HEADROOM = 1.25  # of 16-bit ranges: values outside are clipped, and 16 bits have resolution to spare
PER_CHANNEL_GAIN = 1.5  # a weight gets a scale per channel if that divides its squared error by at least this
ELEMENTS = {8: onnx.TensorProto.UINT8, 16: onnx.TensorProto.UINT16}


@dataclass(frozen=True)
class Scheme:
    """The bits of weights and activations. Operators in `wide` (by their first output) get the next larger of both;
    tensors in `given` get the encodings given there."""

    weight_bits: int
    activation_bits: int
    per_channel: bool = False
    wide: frozenset[str] = field(default_factory=frozenset)
    given: Encodings = field(default_factory=Encodings)

    def weight_bits_of(self, each: onnx.NodeProto) -> int:
        return 16 if self.activation_bits == 16 and each.output[0] in self.wide else self.weight_bits

    def weight_encoding(self, each: onnx.NodeProto, value: Array) -> Encoding:
        """Returns the encoding of a product's weight."""
        axis, given = weight_axis(each, value), self.given.weights.get(each.input[1])
        if given is not None:
            return replace(given, axis=axis if given.scale.ndim else None)
        bits = self.weight_bits_of(each)
        whole, split = symmetric(value, bits), symmetric(value, bits, axis)
        gains = squared_error(value, whole) > PER_CHANNEL_GAIN * squared_error(value, split)
        return split if self.per_channel and gains else whole


@dataclass(frozen=True)
class QuantizedModel:
    """A model with fixed-point outputs, the encodings to read them, and its tensors' encodings (None: float)."""

    model: onnx.ModelProto
    outputs: Mapping[str, Encoding] = field(default_factory=dict)
    encodings: Encodings | None = None

    def logits(self, feeds: Iterable[Feed]) -> list[dict[str, Array]]:
        """Runs the model in ONNX Runtime on the CPU; returns float outputs (1, length) by name, for each feed."""
        return [
            {name: reals(value, self.outputs[name]) if name in self.outputs else value for name, value in each.items()}
            for each in logits_of(self.model, feeds)
        ]


def quantize(
    fit: FitGraph, calibration: Calibration, scheme: Scheme, fixed: FixedWeights | None = None
) -> QuantizedModel:
    """Returns the graph in fixed point; the ranges must cover all its float tensors. `fixed`: 8-bit weights that are
    already rounded."""
    return _Quantizer(fit, calibration, scheme, fixed or FixedWeights()).quantized()


class Groups:
    """Groups of tensors that share an encoding, because operators only move values between them."""

    def __init__(self, net: Net) -> None:
        self._parents: dict[str, str] = {}
        for each in net.ordered():
            if each.op_type in MOVES:
                for name in (*_moved(each), *each.output):
                    self._join(name, each.output[0])
            elif each.op_type == "Relu" and clipped_by_relu(net, each.input[0]):
                self._join(each.input[0], each.output[0])

    def of(self, name: str) -> str:
        """Returns the name that represents the tensor's group."""
        while (parent := self._parents.get(name, name)) != name:
            name = parent
        return name

    def _join(self, first: str, second: str) -> None:
        self._parents[self.of(first)] = self.of(second)


def _moved(each: onnx.NodeProto) -> list[str]:
    """Returns the inputs whose values an operator of MOVES passes on."""
    if each.op_type not in MOVES:
        return []
    return list(each.input if each.op_type == "Concat" else each.input[:1])


def clipped_by_relu(net: Net, name: str) -> bool:
    """Returns whether only a Relu reads the tensor. Its negative values then need no range: fixed point clips them."""
    return net.read_once(name) and net.readers(name)[0].op_type == "Relu" and name not in net.constants


class _Quantizer:
    """Builds the quantized graph: reads `net`, writes `made`."""

    def __init__(self, fit: FitGraph, calibration: Calibration, scheme: Scheme, fixed: FixedWeights) -> None:
        self.net = Net(fit.model)
        self.net.constants.update(fixed.biases)
        self.fixed = fixed.weights
        self.weights: dict[str, Encoding] = {}
        self.scheme = scheme
        self.floats = set(float_tensors(fit.model))
        self.groups = Groups(self.net)
        self.ranges = {8: self._group_ranges(calibration.ranges), 16: self._group_ranges(calibration.full)}
        self.given = self._group_given()
        self.bits = self._group_bits()
        self.made: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self._read: dict[tuple[str, int], str] = {}

    def _group_ranges(self, calibrated: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """Returns the range of each group of tensors, including its constants."""
        ranges: dict[str, tuple[float, float]] = {}

        def widen(name: str, low: float, high: float) -> None:
            group = self.groups.of(name)
            before = ranges.get(group, (0.0, 0.0))
            ranges[group] = (min(before[0], low), max(before[1], high))

        for name in self.floats:
            if not clipped_by_relu(self.net, name):
                widen(name, *calibrated[name])
        for each in self.net.ordered():
            for name in _moved(each):
                if name in self.net.constants:
                    widen(name, float(self.net.constants[name].min()), float(self.net.constants[name].max()))
            if each.op_type == "Softmax":
                ranges[self.groups.of(each.output[0])] = (0.0, 1.0)
        return ranges

    def _group_given(self) -> dict[str, Encoding]:
        """Returns the given encoding of each group: that of its first tensor with one."""
        names = [each.output[0] for each in self.net.ordered() if not clipped_by_relu(self.net, each.output[0])]
        given = self.scheme.given.activations
        return {self.groups.of(name): given[name] for name in reversed(names) if name in given}

    def _group_bits(self) -> dict[str, int]:
        """Returns each group's bits, 16 if any operator writing to it is wide. An operator has its output's bits."""
        writers = [each for each in self.net.ordered() if each.op_type not in MOVES]
        wide = {self.groups.of(each.output[0]) for each in writers if each.output[0] in self.scheme.wide}
        bits = {self.groups.of(name): self.scheme.activation_bits for each in writers for name in each.output}
        return bits | dict.fromkeys(wide, 16) | {group: given.bits for group, given in self.given.items()}

    def quantized(self) -> QuantizedModel:
        for each in self.net.ordered():
            copy = deepcopy(each)
            for position, name in enumerate(each.input):
                copy.input[position] = self._operand(each, position, name)
            for position, name in enumerate(each.output):
                if name in self.net.output_names:
                    copy.output[position] = _real(name)
            self.made.append(copy)
        outputs = {name: self._quantize_output(name) for name in self.net.output_names}
        names = [name for each in self.net.ordered() for name in each.output if name in self.floats]
        activations = {name: self._encoding(name, self._bits_of(name)) for name in names}
        return QuantizedModel(self._model(), outputs, Encodings(activations, self.weights))

    def _operand(self, each: onnx.NodeProto, position: int, name: str) -> str:
        """Returns the tensor that the operator reads in place of `name`."""
        constant = self.net.constants.get(name)
        if constant is None:
            return self._activation(name, self._bits_of(each.output[0])) if name in self.floats else name
        if constant.dtype != np.float32 or each.op_type == "Pad" or (each.op_type == "Gemm" and position == 2):
            return name
        if each.op_type in ("Gemm", "MatMul") and position == 1:
            return self._weight(each, name)
        if each.op_type == "LayerNormalization":
            return self._norm(each, position, name)
        if each.op_type in ("Gather", "Concat"):
            return self._constant(name, self._encoding(name, self._bits_of(each.output[0])))
        low, high = float(constant.min()), float(constant.max())
        return self._constant(name, asymmetric(low, high, self._bits_of(each.output[0])))

    def _bits_of(self, name: str) -> int:
        return self.bits.get(self.groups.of(name), self.scheme.activation_bits)

    def _encoding(self, name: str, bits: int) -> Encoding:
        group = self.groups.of(name)
        if group in self.given and self.given[group].bits == bits:
            return self.given[group]
        low, high = self.ranges[bits][group]
        room = HEADROOM if bits == 16 and (low, high) != (0.0, 1.0) else 1.0
        return asymmetric(low * room, high * room, bits)

    def _activation(self, name: str, bits: int) -> str:
        """Rounds the tensor to its own bits and, if the reader's bits differ, to those too; returns its name."""
        own = self._bits_of(name)
        if (name, own) not in self._read:
            self._read[name, own] = self._round(_real(name) if name in self.net.output_names else name, name, own)
        if (name, bits) not in self._read:
            self._read[name, bits] = self._round(self._read[name, own], name, bits)
        return self._read[name, bits]

    def _round(self, source: str, name: str, bits: int) -> str:
        fixed, real = f"{name}:fixed{bits}", f"{name}:real{bits}"
        parameters = self._parameters(f"{name}:{bits}", self._encoding(name, bits))
        self.made.append(helper.make_node("QuantizeLinear", [source, *parameters], [fixed], name=fixed))
        self.made.append(helper.make_node("DequantizeLinear", [fixed, *parameters], [real], name=real))
        return real

    def _quantize_output(self, name: str) -> Encoding:
        encoding = self._encoding(name, self._bits_of(name))
        parameters = self._parameters(f"{name}:out", encoding)
        self.made.append(helper.make_node("QuantizeLinear", [_real(name), *parameters], [name], name=name))
        return encoding

    def _parameters(self, hint: str, encoding: Encoding) -> list[str]:
        names = [f"{hint}:scale", f"{hint}:zero"]
        self.constants.update(zip(names, (encoding.scale, encoding.zero_point), strict=True))
        return names

    def _constant(self, name: str, encoding: Encoding, values: Array | None = None) -> str:
        """Adds a fixed-point weight and its DequantizeLinear, once for each encoding; returns the latter's output."""
        hint = f"{name}:{encoding.zero_point.dtype}:{encoding.scale.ravel()[0]:.9g}"
        real = f"{hint}:real"
        if f"{hint}:fixed" not in self.constants:
            self.constants[f"{hint}:fixed"] = stored(self.net.constants[name], encoding) if values is None else values
            axes = {} if encoding.axis is None else {"axis": encoding.axis}
            inputs = [f"{hint}:fixed", *self._parameters(hint, encoding)]
            self.made.append(helper.make_node("DequantizeLinear", inputs, [real], name=real, **axes))
        return real

    def _weight(self, each: onnx.NodeProto, name: str) -> str:
        encoding = self.scheme.weight_encoding(each, self.net.constants[name])
        self.weights[name] = encoding
        fixed = self.fixed.get(name)
        values = fixed.values if fixed is not None and fixed.encoding.bits == encoding.bits else None
        return self._constant(name, encoding, values)

    def _norm(self, each: onnx.NodeProto, position: int, name: str) -> str:
        """Rounds the scale or bias of a LayerNormalization. The HTP handles other dtypes in float16, or not at all."""
        value = self.net.constants[name]
        if position == 2:
            return self._constant(name, symmetric(value, 24))
        if self.scheme.weight_bits_of(each) == 16:
            return self._constant(name, symmetric(value, 16))
        return self._constant(name, asymmetric(float(value.min()), float(value.max()), 8))

    def _model(self) -> onnx.ModelProto:
        outputs = [
            helper.make_tensor_value_info(
                value.name,
                ELEMENTS[self._bits_of(value.name)],
                [dim.dim_value for dim in value.type.tensor_type.shape.dim],
            )
            for value in self.net.outputs
        ]
        graph = helper.make_graph(self.made, "model", self.net.inputs, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.net.opset)], ir_version=10)
        written = Net(model)
        written.constants = {**self.net.constants, **self.constants}
        return written.to_model()


def _real(output: str) -> str:
    return f"{output}:real"
