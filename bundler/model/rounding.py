"""Measures, channel by channel, how large a graph's rounded values are and what noise in them costs their readers."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from bundler.model.balance import Problem, Stream, Weights, powers_of
from bundler.model.calibrate import float_tensors, token_axes, watched
from bundler.model.channels import PINNED, RULES, Channels
from bundler.model.graph import Feed, FitGraph
from bundler.model.onnx_graph import Array, Net, attribute
from bundler.model.quantize import MOVES, Groups, clipped_by_relu

LEAST_COST = 1e-4  # of a channel, relative to the mean of its tensor
PASSED_BY_RELU = 0.5  # the share of the noise
DEAD = 1e-12  # a channel below this part of its tensor's largest value is ignored


@dataclass(frozen=True)
class Span:
    """The largest |value| and the mean square of each channel of a tensor, in arrays shaped like its labels."""

    sizes: Array
    squares: Array


Spans = Mapping[str, Span]


def measure_spans(fit: FitGraph, channels: Channels, feeds: Iterable[Feed]) -> Spans:
    """Measures every tensor with more than one label, at tokens only: padding sets no range."""
    names = [name for name in float_tensors(fit.model) if channels.labels[name].size > 1]
    shared = {name: _shared(channels.labels[name].shape) for name in names}
    axes = {name: [axis for axis in axes if axis in shared.get(name, ())] for name, axes in token_axes(fit).items()}
    spans: dict[str, Span] = {}
    for windows, values in enumerate(watched(fit, feeds, names, axes), 1):
        for name, value in values.items():
            sizes = np.abs(value).max(shared[name], keepdims=True).astype(np.float64)
            squares = np.square(value, dtype=np.float64).mean(shared[name], keepdims=True)
            before = spans.get(name, Span(sizes, squares))
            with np.errstate(invalid="ignore"):  # non-finite values leave a model unchanged
                mean = before.squares + (squares - before.squares) / windows
            spans[name] = Span(np.maximum(sizes, before.sizes), mean)
    return spans


def problem_of(fit: FitGraph, channels: Channels, spans: Spans) -> Problem:
    """Returns the problem for `balance` to solve."""
    return _Survey(fit, channels, spans).problem()


class _Entries:
    """Channels that share an encoding, by key: their ranges, mean squares and costs."""

    def __init__(self) -> None:
        self.parts: list[tuple[Array, ...]] = []

    def add(self, keys: Array, ranges: Array, squares: Array, costs: Array) -> None:
        self.parts.append((keys.ravel(), ranges.ravel(), squares.ravel(), costs.ravel()))

    def merge(self) -> None:
        """Merges entries with equal keys. Normalizes the costs so that noise as loud as the values costs 1 in total."""
        keys, ranges, squares, costs = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        self.keys, places = np.unique(keys, return_inverse=True)
        self.ranges, self.squares = np.zeros(len(self.keys)), np.zeros(len(self.keys))
        np.maximum.at(self.ranges, places, ranges)
        np.maximum.at(self.squares, places, squares)
        self.costs = np.bincount(places, costs, len(self.keys))
        loud = self.costs * self.ranges**2
        least = LEAST_COST * loud.mean() if loud.any() else 1.0
        self.costs = np.maximum(self.costs, _over(least, self.ranges**2))
        self.costs = _over(self.costs, (self.costs * self.squares).sum(keepdims=True))

    def of(self, keys: Array, values: Array) -> Array:
        """Returns the values of these channels, where `values` go by entry; 0 for unknown channels."""
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[places] == keys, values[places], 0.0)


class _Survey:
    """Collects a graph's rounded tensors, node by node.

    Propagates the cost of noise from the outputs to the inputs, in the way that weights propagate its power. For
    attention weights and unknown operators, the noise counts relative to their whole output.
    """

    def __init__(self, fit: FitGraph, channels: Channels, spans: Spans) -> None:
        self.net = Net(fit.model)
        self.channels, self.spans = channels, spans
        self.groups = Groups(self.net)
        self.entries: defaultdict[str, _Entries] = defaultdict(_Entries)
        self.costs: defaultdict[str, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))

    def problem(self) -> Problem:
        nodes = self.net.ordered()
        for name in self.net.output_names:
            self._charge(name, np.array(1.0))
        for each in reversed(nodes):
            self._pass_back(each)
        for each in nodes:
            self._written(each)
        for group in self.entries.values():
            group.merge()
        streams = [_stream(group.keys, group.ranges, group) for group in self.entries.values()]
        streams += [stream for each in nodes for stream in self._summand(each)]
        weights = [found for each in nodes for found in self._weights(each)]
        return Problem(self.channels.count, [stream for stream in streams if stream.classes.any()], weights)

    def _keys(self, name: str) -> Array:
        """Returns a number for each label of the tensor: the negative label if it is pinned, else twice its class, plus
        one if its sign is -1."""
        labels = self.channels.labels[name]
        classes, signs = self.channels.classes[labels], self.channels.signs[labels]
        return np.where(classes == PINNED, -labels, 2 * classes + (signs < 0))

    def _group(self, name: str) -> _Entries:
        return self.entries[self.groups.of(name)]

    def _charge(self, name: str, costs: Array) -> None:
        """Adds the cost of noise in a tensor's channels."""
        keys, mine = self._keys(name), self.costs[name]
        for key, cost in zip(keys.ravel().tolist(), np.broadcast_to(costs, keys.shape).ravel().tolist(), strict=True):
            mine[key] += cost

    def _cost(self, name: str, keys: Array) -> Array:
        """Returns the cost of noise in these channels of a tensor."""
        mine = self.costs[name]
        return np.array([mine.get(key, 0.0) for key in keys.ravel().tolist()]).reshape(keys.shape)

    def _pass_back(self, each: onnx.NodeProto) -> None:
        """Charges a node's inputs with the cost of noise in its outputs."""
        name = each.output[0]
        cost = self._cost(name, self._keys(name))
        sources = [source for source in each.input if source in self.channels.labels]
        if self._has_weights(each):
            squares = np.square(self._matrix(each).astype(np.float64))
            costs = squares @ np.broadcast_to(cost.ravel(), squares.shape[1])
            self._charge(each.input[0], costs if self._keys(each.input[0]).size > 1 else costs.mean())
        elif each.op_type == "MatMul" and len(sources) == 2:
            self._pass_back_product(each, cost)
        elif each.op_type in RULES:
            for source in sources:
                keys = self._keys(source)
                costs = sum(self._cost(output, keys) for output in each.output)
                self._charge(source, costs * (PASSED_BY_RELU if each.op_type == "Relu" else 1.0) / _repeats(keys))
        else:
            for source in sources:
                self._charge(source, cost.sum() / self._keys(source).size)

    def _pass_back_product(self, each: onnx.NodeProto, cost: Array) -> None:
        """Charges queries and keys by each other's power, values with the output's cost, and shares by its power."""
        first, second = each.input
        if first in self.spans and second in self.spans:
            one, other = self.spans[first].squares, self.spans[second].squares.swapaxes(-1, -2)
            if one.shape == other.shape:
                self._charge(first, other * cost.sum())
                self._charge(second, (one * cost.sum()).swapaxes(-1, -2))
        elif each.output[0] in self.spans:
            self._charge(second, self._cost(each.output[0], self._keys(second)))
            self._charge(first, (cost * self.spans[each.output[0]].squares).sum())

    def _written(self, each: onnx.NodeProto) -> None:
        """Adds the sizes of a node's output, or of the table that it reads from."""
        name = each.output[0]
        if name not in self.spans or clipped_by_relu(self.net, name):
            return
        table = self.net.constants.get(each.input[0]) if each.op_type == "Gather" else None
        if each.op_type in MOVES and table is None:
            return
        keys, span = self._keys(name), self.spans[name]
        sizes = span.sizes if table is None else _of_channels(table, span.sizes.shape)
        self._group(name).add(keys, sizes, span.squares, self._cost(name, keys))

    def _has_weights(self, each: onnx.NodeProto) -> bool:
        return each.op_type in ("Gemm", "MatMul") and self.net.constants.get(each.input[1], np.array(0)).ndim == 2

    def _matrix(self, each: onnx.NodeProto) -> Array:
        value = self.net.constants[each.input[1]]
        return value.T if attribute(each, "transB", 0) else value

    def _weights(self, each: onnx.NodeProto) -> list[Weights]:
        if not self._has_weights(each) or each.input[0] not in self.spans or each.output[0] not in self.spans:
            return []
        read, written = self._keys(each.input[0]).ravel(), self._keys(each.output[0]).ravel()
        source, target = self._group(each.input[0]), self._group(each.output[0])
        power, costs = source.of(read, source.squares), target.of(written, target.costs)
        return [Weights(_apart(read), _apart(written), powers_of(self._matrix(each)), power, costs)]

    def _summand(self, each: onnx.NodeProto) -> list[Stream]:
        """Returns the stream of an added constant, which has its own encoding."""
        constants = [name for name in each.input if name in self.net.constants]
        name = each.output[0]
        if each.op_type not in ("Add", "Sub") or len(constants) != 1 or name not in self.spans:
            return []
        keys = self._keys(name)
        sizes = _of_channels(self.net.constants[constants[0]], keys.shape)
        return [_stream(keys.ravel(), sizes.ravel(), self._group(name))]


def _stream(keys: Array, ranges: Array, group: _Entries) -> Stream:
    live = ranges > DEAD * ranges.max(initial=0)
    return Stream(*_apart(keys[live]), ranges[live].astype(np.float64), group.of(keys, group.costs)[live])


def _apart(keys: Array) -> tuple[Array, Array]:
    """Returns the classes and signs of keys."""
    return np.where(keys > 0, keys // 2, PINNED), 1.0 - 2.0 * (keys % 2)


def _shared(shape: Sequence[int]) -> tuple[int, ...]:
    """Returns the axes of size 1, along which all entries have the same labels."""
    return tuple(axis for axis, size in enumerate(shape) if size == 1)


def _of_channels(constant: Array, shape: tuple[int, ...]) -> Array:
    """Returns the largest |value| of a constant for each entry of a label array."""
    value = np.abs(constant).reshape((1,) * (len(shape) - constant.ndim) + constant.shape)
    return np.broadcast_to(value.max(_shared(shape), keepdims=True), shape)


def _repeats(keys: Array) -> Array:
    """Returns the number of occurrences of each key."""
    _, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return np.asarray(counts[places].reshape(keys.shape))


def _over(noise: "Array | float", power: Array) -> Array:
    """Returns the quotient, 0 where there is no power."""
    return np.where(power > 0, noise / np.where(power > 0, power, 1), 0.0)
