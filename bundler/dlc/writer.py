"""The ONNX model written while a DLC's graph is translated: its nodes, its constants, its numbers' precision."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from bundler.dlc.graph import Graph, Operator, Tensor

MOVEMENT = frozenset(
    ("Concat ExpandDims Gather GatherElements GatherNd Pad Reshape Split Squeeze StridedSlice Tile Transpose").split()
)
"""Operators that move numbers without changing them."""


class UnsupportedOperator(Exception):
    """An operator, or a use of one, that has no translation."""


def element_type(tensor: Tensor) -> int:
    """Returns ONNX's element type of a tensor: float32 if it represents real numbers."""
    kind: int = TensorProto.FLOAT if tensor.is_real else helper.np_dtype_to_tensor_dtype(tensor.dtype)
    return kind


class Writer:
    """The ONNX graph being written; with `half`, all results that are real numbers are rounded to float16.

    The kernels still compute in float32. Pairs of Cast nodes do the rounding, so that a sum of many products is rounded
    once, at its end, and a value too large for float16 becomes infinite.
    """

    def __init__(self, graph: Graph, *, half: bool) -> None:
        self.graph = graph
        self.half = half
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._written: set[str] = set()
        self._renamed: dict[str, str] = {}

    def tensor(self, name: str) -> Tensor:
        return self.graph.tensors[name]

    def use(self, name: str) -> str:
        """Returns the tensor's name in the ONNX graph; writes a weight, dequantized, at its first use."""
        tensor = self.tensor(name)
        if tensor.data is not None and name not in self._written:
            self._written.add(name)
            values = tensor.reals() if tensor.is_real else tensor.data
            if tensor.is_real and self.half:
                values = to_half(values)
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return self._renamed.get(name, name)

    def inputs(self, op: Operator) -> list[str]:
        return [self.use(name) for name in op.inputs]

    def constant(self, op: Operator, role: str, value: npt.ArrayLike, dtype: Any = np.int64) -> str:
        name = f"{op.name}:{role}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(
        self, op: Operator, kind: str, inputs: Sequence[str], outputs: Sequence[str] | None = None, **attributes: Any
    ) -> None:
        self.nodes.append(helper.make_node(kind, inputs, op.outputs if outputs is None else outputs, **attributes))

    def step(self, op: Operator, kind: str, inputs: Sequence[str], role: str, **attributes: Any) -> str:
        """Adds a node whose result only this operator's next nodes read; returns the result's name."""
        name = f"{op.outputs[0]}:{role}"
        self.add(op, kind, inputs, [name], **attributes)
        return name

    def begin(self) -> None:
        """Rounds the graph's inputs."""
        for name in self.graph.inputs:
            if self.half and self.tensor(name).is_real:
                self._renamed[name] = f"{name}:rounded"
                self._round(name, f"{name}:rounded")

    def finish(self, op: Operator, first: int) -> None:
        """Gives the results of `op`, whose nodes begin at `first`, the range and precision of their tensors."""
        if op.type in MOVEMENT:
            return
        for name in op.outputs:
            tensor = self.tensor(name)
            clamped = tensor.encoding is not None and tensor.encoding.is_never_negative(tensor.dtype)
            if not tensor.is_real or not (clamped or self.half):
                continue
            for node in self.nodes[first:]:
                node.output[:] = [f"{name}:exact" if made == name else made for made in node.output]
            made = f"{name}:exact"
            if clamped:
                clamp = f"{name}:clamped" if self.half else name
                self.nodes.append(helper.make_node("Relu", [made], [clamp]))
                made = clamp
            if self.half:
                self._round(made, name)

    def _round(self, source: str, target: str) -> None:
        self.nodes.append(helper.make_node("Cast", [source], [f"{target}:half"], to=TensorProto.FLOAT16))
        self.nodes.append(helper.make_node("Cast", [f"{target}:half"], [target], to=TensorProto.FLOAT))


def to_half(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Returns the nearest float16 numbers, as float32; infinite beyond float16's range."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)
