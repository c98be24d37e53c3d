"""Finds which channels of a float32 graph may be scaled. Ties channels that must share a scale; pins the others to 1.

Every channel of an activation has a label. Operators tie labels. An Add gives its operands and its result one scale.
Attention scores need reciprocal scales for a channel of the query and of the key. A Gemm ties nothing, since its
weights absorb the scales of its input and its output. Unknown operators pin their labels to scale 1. Views are traced
as arrays of labels, so that no axis is guessed from its size.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from bundler.model.onnx_graph import Array, Net, attribute

PINNED = 0  # the label, and the class, of channels that keep their scale


class Ties:
    """Labels, and which of them share a scale (sign 1) or have reciprocal scales (sign -1)."""

    def __init__(self) -> None:
        self._parents = [PINNED]
        self._signs = [1]

    def fresh(self, count: int) -> Array:
        """Returns `count` new untied labels."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        self._signs.extend([1] * count)
        return np.arange(first, first + count)

    def tie(self, first: Array, second: Array, sign: int = 1) -> None:
        """Ties each label to its counterpart in the other array, after broadcasting."""
        one, other = np.broadcast_arrays(first, second)
        pairs = np.unique(np.stack([one[one != other], other[one != other]]), axis=1)
        if sign < 0:
            pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
        for a, b in pairs.T.tolist():
            self._join(a, b, sign)

    def pin(self, labels: Array) -> None:
        self.tie(labels, np.array(PINNED))

    def merged(self, labels: Array, axis: int) -> Array:
        """Returns the labels reduced to one entry along the axis, after tying all labels along it."""
        first = labels.take([0], axis)
        self.tie(labels, first)
        return first

    def all_pinned(self, labels: Array) -> bool:
        return all(self._find(label)[0] == PINNED for label in np.unique(labels).tolist())

    def resolved(self) -> tuple[Array, Array]:
        """Returns each label's class and its sign in the class. Classes count from 1 in label order, or are PINNED."""
        found = np.array([self._find(label) for label in range(len(self._parents))])
        _, classes = np.unique(found[:, 0], return_inverse=True)
        return classes.reshape(-1), found[:, 1]

    def _find(self, label: int) -> tuple[int, int]:
        """Returns the label's root and the sign between them."""
        path = []
        while self._parents[label] != label:
            path.append(label)
            label = self._parents[label]
        sign = 1
        for each in reversed(path):
            sign *= self._signs[each]
            self._parents[each], self._signs[each] = label, sign
        return label, sign

    def _join(self, first: int, second: int, sign: int) -> None:
        """Joins the labels' classes. Pins them on a contradiction, since a scale equal to its reciprocal is 1."""
        (a, sign_a), (b, sign_b) = self._find(first), self._find(second)
        if a != b:
            low, high = min(a, b), max(a, b)
            self._parents[high], self._signs[high] = low, sign * sign_a * sign_b
        elif sign != sign_a * sign_b:
            self._parents[a] = PINNED


@dataclass(frozen=True)
class Use:
    """A constant that takes part in scaling, as input `position` of the node whose first output is `node`.

    It is multiplied by the scales of the labels `outward` and divided by those of `inward`, both of at least its rank.
    """

    node: str
    position: int
    outward: Array
    inward: Array


@dataclass(frozen=True)
class Channels:
    """The labels of every float tensor that nodes produce, as arrays of its rank; an axis of equal labels has size 1.
    `classes` and `signs` go by label: a label's exponent is its class's times its sign."""

    labels: Mapping[str, Array]
    uses: Sequence[Use]
    classes: Array
    signs: Array

    @property
    def count(self) -> int:
        """Returns the number of classes, including PINNED."""
        return int(self.classes.max()) + 1


def channels_of(net: Net, shapes: Mapping[str, Sequence[int]]) -> Channels:
    """Returns the channels of a graph; `shapes` holds the shapes of all tensors."""
    return _Tracer(net, shapes).traced()


class _Tracer:
    """Assigns labels to every tensor, node by node."""

    def __init__(self, net: Net, shapes: Mapping[str, Sequence[int]]) -> None:
        self.net, self.shapes = net, shapes
        self.ties = Ties()
        self.labels: dict[str, Array] = {}
        self.uses: list[Use] = []

    def traced(self) -> Channels:
        for each in self.net.ordered():
            made = RULES.get(each.op_type, _Tracer.unknown)(self, each) if each.domain == "" else self.unknown(each)
            self.labels.update(zip(each.output, made, strict=True))
        for name in self.net.output_names:
            self.ties.pin(self.of(name))
        return Channels(self.labels, self.uses, *self.ties.resolved())

    def of(self, name: str) -> Array:
        """Returns the labels of a tensor; inputs and constants are pinned."""
        known = self.labels.get(name)
        if known is not None:
            return known
        constant = self.net.constants.get(name)
        rank = constant.ndim if constant is not None else len(self.shapes.get(name, ()))
        return np.full((1,) * rank, PINNED)

    def constant(self, each: onnx.NodeProto, position: int) -> Array | None:
        """Returns the constant at this input, or None."""
        present = len(each.input) > position and each.input[position]
        return self.net.constants.get(each.input[position]) if present else None

    def unknown(self, each: onnx.NodeProto) -> list[Array]:
        for name in filter(None, each.input):
            self.ties.pin(self.of(name))
        return [np.full((1,) * len(self.shapes.get(name, ())), PINNED) for name in each.output]

    def passes(self, each: onnx.NodeProto) -> list[Array]:
        return [self.of(each.input[0])]

    def sum(self, each: onnx.NodeProto) -> list[Array]:
        rank = len(self.shapes[each.output[0]])
        values = [self.constant(each, position) for position in (0, 1)]
        sides = [_ranked(self.of(name), rank) for name in each.input]
        if all(value is None for value in values):
            first, second = sides
            self.ties.tie(first, second)
            return [first if first.size >= second.size else second]
        position = 0 if values[0] is not None else 1
        labels = sides[1 - position]
        self.uses.append(Use(each.output[0], position, labels, np.array(PINNED)))
        return [labels]

    def factor(self, each: onnx.NodeProto) -> list[Array]:
        """Labels a product with a constant, or a quotient by one."""
        constant = next((p for p in (1, 0) if self.constant(each, p) is not None), None)
        if constant is None or (each.op_type == "Div" and constant == 0):
            return self.unknown(each)
        return [_ranked(self.of(each.input[1 - constant]), len(self.shapes[each.output[0]]))]

    def gemm(self, each: onnx.NodeProto) -> list[Array]:
        weights = self.constant(each, 1)
        if weights is None or weights.ndim != 2 or self.constant(each, 0) is not None:
            return self.unknown(each)
        if attribute(each, "transA", 0):
            return self.unknown(each)
        turned = bool(attribute(each, "transB", 0))
        written = self._weights(each, weights.T if turned else weights, turned)
        if len(each.input) > 2 and each.input[2]:
            if self.constant(each, 2) is not None:
                self.uses.append(Use(each.output[0], 2, written, np.array(PINNED)))
            else:
                self.ties.tie(_ranked(self.of(each.input[2]), 2), written)
        return [written]

    def matmul(self, each: onnx.NodeProto) -> list[Array]:
        weights = self.constant(each, 1)
        if self.constant(each, 0) is not None:
            return self.unknown(each)
        if weights is not None:
            simple = weights.ndim == 2 and self.of(each.input[0]).ndim >= 2
            return [self._weights(each, weights, False)] if simple else self.unknown(each)
        return self._product(each)

    def _weights(self, each: onnx.NodeProto, weights: Array, turned: bool) -> Array:
        """Returns new labels for the output channels, after tying the input channels of all rows."""
        read = self.of(each.input[0])
        for axis in range(read.ndim - 1):
            read = self.ties.merged(read, axis)
        inward, outward = np.broadcast_to(read.reshape(-1), len(weights)), self.ties.fresh(weights.shape[1])
        sides = (outward[None, :], inward[:, None])
        self.uses.append(Use(each.output[0], 1, *(side.T if turned else side for side in sides)))
        return _ranked(outward, read.ndim)

    def _product(self, each: onnx.NodeProto) -> list[Array]:
        """Labels a product of activations: a pinned operand passes scales on, else the contracted axis inverts them."""
        first, second = (self.of(name) for name in each.input)
        rank = len(self.shapes[each.output[0]])
        if min(first.ndim, second.ndim) < 2:
            return self.unknown(each)
        first, second = _ranked(first, rank), _ranked(second, rank)
        if self.ties.all_pinned(first):
            return [self.ties.merged(second, rank - 2)]
        if self.ties.all_pinned(second):
            return [self.ties.merged(first, rank - 1)]
        first, second = self.ties.merged(first, rank - 2), self.ties.merged(second, rank - 1)
        self.ties.tie(first, second.swapaxes(-1, -2), -1)
        return [np.full((1,) * rank, PINNED)]

    def gather(self, each: onnx.NodeProto) -> list[Array]:
        table, indices = self.constant(each, 0), self.constant(each, 1)
        axis, rank = attribute(each, "axis", 0), len(self.shapes[each.output[0]])
        if table is not None:
            if axis != 0 or table.ndim != 2 or table.dtype != np.float32:
                return self.unknown(each)
            labels = self.ties.fresh(table.shape[1])
            self.uses.append(Use(each.output[0], 0, labels[None, :], np.array(PINNED)))
            return [_ranked(labels, rank)]
        labels = self.of(each.input[0])
        axis %= labels.ndim
        if labels.shape[axis] > 1 and indices is not None:
            return [np.take(labels, indices, axis)]
        labels = self.ties.merged(labels, axis)
        between = (1,) * (rank - labels.ndim + 1)
        return [labels.reshape(labels.shape[:axis] + between + labels.shape[axis + 1 :])]

    def reshape(self, each: onnx.NodeProto) -> list[Array]:
        if self.constant(each, 0) is not None:
            return self.unknown(each)
        full = np.broadcast_to(self.of(each.input[0]), self.shapes[each.input[0]])
        return [_least(full.reshape(self.shapes[each.output[0]]))]

    def transpose(self, each: onnx.NodeProto) -> list[Array]:
        labels = self.of(each.input[0])
        return [labels.transpose(attribute(each, "perm", tuple(reversed(range(labels.ndim)))))]

    def expand(self, each: onnx.NodeProto) -> list[Array]:
        return [_ranked(self.of(each.input[0]), len(self.shapes[each.output[0]]))]

    def slice(self, each: onnx.NodeProto) -> list[Array]:
        labels = self.of(each.input[0])
        starts, ends, axes, steps = (self.constant(each, position) for position in (1, 2, 3, 4))
        if starts is None or ends is None or (axes is None and len(each.input) > 3 and each.input[3]):
            return self.unknown(each)
        if steps is None and len(each.input) > 4 and each.input[4]:
            return self.unknown(each)
        cuts = [slice(None)] * labels.ndim
        along = range(len(starts)) if axes is None else axes.tolist()
        for number, axis in enumerate(along):
            if labels.shape[axis] > 1:
                cuts[axis] = _cut(int(starts[number]), int(ends[number]), 1 if steps is None else int(steps[number]))
        return [labels[tuple(cuts)]]

    def split(self, each: onnx.NodeProto) -> list[Array]:
        labels, axis = self.of(each.input[0]), attribute(each, "axis", 0)
        if labels.shape[axis] == 1:
            return [labels for _ in each.output]
        borders = np.cumsum([self.shapes[name][axis] for name in each.output])[:-1]
        return [np.asarray(part) for part in np.split(labels, borders, axis)]

    def concat(self, each: onnx.NodeProto) -> list[Array]:
        axis = attribute(each, "axis") % len(self.shapes[each.output[0]])
        parts = [self.of(name) for name in each.input]
        wide = np.max([part.shape for part in parts], axis=0)
        full = []
        for name, part in zip(each.input, parts, strict=True):
            constant = self.net.constants.get(name)
            wide[axis] = (self.shapes[name] if constant is None else constant.shape)[axis]
            full.append(np.broadcast_to(part, tuple(wide)))
        return [_least(np.concatenate(full, axis))]

    def pad(self, each: onnx.NodeProto) -> list[Array]:
        """Labels padding; zeros are unaffected by any scale."""
        pads, value = self.constant(each, 1), self.constant(each, 2)
        given = len(each.input) > 2 and bool(each.input[2])
        zeros = attribute(each, "mode", b"constant") == b"constant" and (
            not given or (value is not None and not value.any())
        )
        if not zeros or pads is None or (len(each.input) > 3 and each.input[3]):
            return self.unknown(each)
        labels = self.of(each.input[0])
        for axis, around in enumerate(pads.reshape(2, -1).T.tolist()):
            if labels.shape[axis] > 1 and any(around):
                if min(around) < 0:
                    return self.unknown(each)
                sides = [(0, 0)] * labels.ndim
                sides[axis] = tuple(around)
                labels = np.pad(labels, sides, constant_values=PINNED)
        return [labels]


Rule = Callable[[_Tracer, onnx.NodeProto], list[Array]]
RULES: dict[str, Rule] = {
    **dict.fromkeys("Relu Abs Neg Identity".split(), _Tracer.passes),
    **dict.fromkeys("Add Sub".split(), _Tracer.sum),
    **dict.fromkeys("Mul Div".split(), _Tracer.factor),
    **dict.fromkeys("Reshape Flatten Squeeze Unsqueeze".split(), _Tracer.reshape),
    "Gemm": _Tracer.gemm,
    "MatMul": _Tracer.matmul,
    "Gather": _Tracer.gather,
    "Transpose": _Tracer.transpose,
    "Expand": _Tracer.expand,
    "Slice": _Tracer.slice,
    "Split": _Tracer.split,
    "Concat": _Tracer.concat,
    "Pad": _Tracer.pad,
}


def _ranked(labels: Array, rank: int) -> Array:
    """Returns the labels with leading axes of size 1 up to the rank."""
    return labels.reshape((1,) * (rank - labels.ndim) + labels.shape)


def _least(labels: Array) -> Array:
    """Returns the labels with size 1 along every axis whose entries are all equal."""
    for axis in range(labels.ndim):
        first = labels.take([0], axis)
        if labels.shape[axis] > 1 and (labels == first).all():
            labels = first
    return labels


def _cut(start: int, end: int, step: int) -> slice:
    """Converts the bounds of an ONNX Slice to a Python slice; a very negative end means before the first element."""
    return slice(start, None if step < 0 and end < -(1 << 30) else end, step)
