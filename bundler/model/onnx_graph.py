"""A mutable ONNX graph: nodes, constants as arrays, and the producer and readers of each tensor."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]


class Net:
    """A copy of a model's main graph. Passes change it by the methods here; `to_model` drops what no output needs.

    Ignores the subgraphs of control flow.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.inputs = [deepcopy(value) for value in model.graph.input]
        self.outputs = [deepcopy(value) for value in model.graph.output]
        self.opset = opset_of(model)
        self.constants: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._makers: dict[str, onnx.NodeProto] = {}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        self._names = 0
        for each in model.graph.node:
            if each.op_type == "Constant":
                self.constants[each.output[0]] = _constant(each)
            else:
                self.insert(deepcopy(each))

    @property
    def input_names(self) -> list[str]:
        return [value.name for value in self.inputs]

    @property
    def output_names(self) -> list[str]:
        return [value.name for value in self.outputs]

    def maker(self, name: str) -> onnx.NodeProto | None:
        """Returns the node that produces `name`; None for inputs and constants."""
        return self._makers.get(name)

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """Returns the nodes that read `name`, one entry per use."""
        return self._readers.get(name, [])

    def read_once(self, name: str) -> bool:
        return len(self.readers(name)) == 1 and name not in self.output_names

    def add_constant(self, value: npt.ArrayLike, hint: str) -> str:
        """Adds a constant and returns its name."""
        name = self.fresh(hint)
        self.constants[name] = np.asarray(value)
        return name

    def fresh(self, hint: str) -> str:
        """Returns an unused tensor name."""
        while True:
            self._names += 1
            name = f"{hint}:{self._names}"
            if not (name in self.constants or name in self._makers or name in self.input_names):
                return name

    def insert(self, each: onnx.NodeProto) -> str:
        """Adds a node, which `ordered` puts in place. Returns the name of its first output."""
        for name in filter(None, each.output):
            self._makers[name] = each
        for name in each.input:
            self._readers.setdefault(name, []).append(each)
        return str(each.output[0])

    def remove(self, each: onnx.NodeProto) -> None:
        """Removes the node. No other node may read its outputs."""
        for name in filter(None, each.output):
            del self._makers[name]
        for name in each.input:
            self._forget(name, each)

    def connect(self, each: onnx.NodeProto, position: int, name: str) -> None:
        """Makes the node read `name` at this position."""
        self._forget(each.input[position], each)
        each.input[position] = name
        self._readers.setdefault(name, []).append(each)

    def redirect(self, old: str, new: str, *, among: Sequence[onnx.NodeProto] | None = None) -> None:
        """Makes the readers of `old` (all, or the given ones) read `new`."""
        for reader in list(self.readers(old) if among is None else among):
            for position, name in enumerate(reader.input):
                if name == old:
                    self.connect(reader, position, new)

    def rename_output(self, each: onnx.NodeProto, old: str, new: str) -> None:
        """Renames the node's output `old` to `new`, also for its readers."""
        each.output[list(each.output).index(old)] = new
        del self._makers[old]
        self._makers[new] = each
        self.redirect(old, new)

    def bypass(self, each: onnx.NodeProto, source: str) -> None:
        """Removes a node and makes its readers read `source` instead."""
        self.redirect(each.output[0], source)
        self.remove(each)

    def _forget(self, name: str, reader: onnx.NodeProto) -> None:
        readers = self._readers[name]
        del readers[next(index for index, other in enumerate(readers) if other is reader)]

    def ordered(self) -> list[onnx.NodeProto]:
        """Returns the nodes that outputs depend on, in topological order."""
        order: list[onnx.NodeProto] = []
        done: set[int] = set()
        stack = [(each, False) for name in reversed(self.output_names) if (each := self.maker(name)) is not None]
        while stack:
            each, entered = stack.pop()
            if id(each) in done:
                continue
            if entered:
                done.add(id(each))
                order.append(each)
                continue
            stack.append((each, True))
            makers = (self.maker(name) for name in reversed(each.input))
            stack.extend((maker, False) for maker in makers if maker is not None)
        return order

    def to_model(self) -> onnx.ModelProto:
        """Returns the model without unused parts, its nodes in topological order."""
        nodes = self.ordered()
        _name_apart(nodes)
        used = {name for each in nodes for name in each.input} | set(self.output_names)
        constants = [numpy_helper.from_array(array, name) for name, array in self.constants.items() if name in used]
        graph = helper.make_graph(nodes, "model", self.inputs, self.outputs, constants)
        opsets = [helper.make_opsetid("", self.opset)]
        if any(each.domain == "com.microsoft" for each in nodes):
            opsets.append(helper.make_opsetid("com.microsoft", 1))
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def shaped(model: onnx.ModelProto) -> onnx.GraphProto:
    """Returns the model's graph with the type and shape of every tensor. Infers them only if some are missing, which
    saves seconds with large weights."""
    graph = model.graph
    known = {value.name for value in (*graph.value_info, *graph.output) if value.type.tensor_type.HasField("shape")}
    if all(name in known for each in graph.node for name in each.output if name):
        return graph
    return onnx.shape_inference.infer_shapes(model).graph


def sizes(value: onnx.ValueInfoProto) -> list[int | None]:
    """Returns the sizes of a tensor's axes; None for each axis without a fixed size."""
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]


def opset_of(model: onnx.ModelProto) -> int:
    """Returns the opset version of ONNX's own operators; 0 if the model states none."""
    return int(next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0))


def _name_apart(nodes: Sequence[onnx.NodeProto]) -> None:
    """Renames nodes with duplicate names; several nodes may have the empty name."""
    seen: set[str] = set()
    for number, each in enumerate(nodes):
        if each.name and each.name in seen:
            each.name = f"{each.output[0]}:node{number}"
        seen.add(each.name)


def _constant(each: onnx.NodeProto) -> Array:
    """Returns the value of a Constant node."""
    only = each.attribute[0]
    value = helper.get_attribute_value(only)
    if only.name == "value":
        return np.asarray(numpy_helper.to_array(value))
    return np.asarray(value, np.float32 if only.name.startswith("value_float") else np.int64)


def attribute(each: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Returns the attribute's value, or the default if the node lacks it."""
    return next((helper.get_attribute_value(a) for a in each.attribute if a.name == name), default)


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    """Returns a node with one output, named after it."""
    return helper.make_node(kind, inputs, [output], name=output, **attributes)
