"""Makes outlier channels in a fitted graph without changing its result: multiplies some channels in the weights that
write them by a factor, and divides them in the weights that read them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from bundler.model.graph import FitGraph
from bundler.model.onnx_graph import Net, attribute

VIEWS = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity")
Scales = Any


def disturbed(fit: FitGraph, place: str, factor: float, channels: int = 2, seed: int = 0) -> FitGraph:
    """Returns the graph with `channels` outliers in each stream of that kind; see PLACES."""
    net, random = Net(fit.model), np.random.default_rng(seed)

    def draw(width: int) -> Scales:
        scales = np.ones(width, np.float32)
        scales[random.choice(width, channels, replace=False)] = factor
        return scales

    PLACES[place](net, draw)
    return replace(fit, model=onnx.shape_inference.infer_shapes(net.to_model()))


def _times(net: Net, each: onnx.NodeProto, position: int, scales: Scales) -> None:
    value = (net.constants[each.input[position]] * scales).astype(np.float32)
    net.connect(each, position, net.add_constant(value, f"{each.input[position]}:outliers"))


def _turned(each: onnx.NodeProto) -> bool:
    return bool(attribute(each, "transB", 0))


def _write(net: Net, each: onnx.NodeProto, scales: Scales) -> None:
    _times(net, each, 1, scales[:, None] if _turned(each) else scales)
    if len(each.input) > 2:
        _times(net, each, 2, scales)


def _read(net: Net, each: onnx.NodeProto, scales: Scales) -> None:
    _times(net, each, 1, 1 / scales if _turned(each) else 1 / scales[:, None])


def _before(net: Net, name: str) -> onnx.NodeProto:
    each = net.maker(name)
    assert each is not None
    return _before(net, each.input[0]) if each.op_type in VIEWS else each


def _after(net: Net, name: str) -> onnx.NodeProto:
    (each,) = net.readers(name)
    return _after(net, each.output[0]) if each.op_type in VIEWS else each


def _products(net: Net, of_shares: bool) -> list[onnx.NodeProto]:
    """Finds the products of attention: shares with values, or queries with keys."""
    found = [each for each in net.ordered() if each.op_type == "MatMul" and each.input[1] not in net.constants]
    return [each for each in found if (_before(net, each.input[0]).op_type == "Softmax") == of_shares]


def _residual(net: Net, draw: Callable[[int], Scales]) -> None:
    """Finds everything that Add, Mul with a constant and Reshape tie to the sums, stream by stream."""
    seen: set[str] = set()
    for each in net.ordered():
        sums = each.op_type == "Add" and not any(name in net.constants for name in each.input)
        if sums and _after_all(net, each.output[0]) and each.output[0] not in seen:
            _stream(net, each.output[0], draw, seen)


def _after_all(net: Net, name: str) -> bool:
    """Returns whether no softmax reads the sum."""
    return all(reader.op_type != "Softmax" for reader in net.readers(name))


def _stream(net: Net, start: str, draw: Callable[[int], Scales], seen: set[str]) -> None:
    todo, done, scales = [start], set(), None
    actions: list[tuple[Any, ...]] = []
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        each = net.maker(name)
        assert each is not None
        if each.op_type in ("Gemm", "Gather"):
            actions.append((_write if each.op_type == "Gemm" else _table, each))
            scales = draw(net.constants[each.input[0 if each.op_type == "Gather" else 1]].shape[_axis(each)])
        elif each.output[0] not in done:
            done.add(each.output[0])
            places = [p for p, source in enumerate(each.input) if source in net.constants and each.op_type == "Add"]
            actions += [(_constant, each, place) for place in places]
            todo += [source for source in each.input if source not in net.constants]
        for reader in net.readers(name):
            if reader.op_type == "Gemm":
                actions.append((_read, reader))
            else:
                todo += [reader.output[0]]
    assert scales is not None
    for act, node, *rest in actions:
        act(net, node, scales, *rest)


def _axis(each: onnx.NodeProto) -> int:
    return 0 if each.op_type == "Gemm" and _turned(each) else -1


def _table(net: Net, each: onnx.NodeProto, scales: Scales) -> None:
    _times(net, each, 0, scales)


def _constant(net: Net, each: onnx.NodeProto, scales: Scales, position: int) -> None:
    _times(net, each, position, scales)


def _feed_forward(net: Net, draw: Callable[[int], Scales]) -> None:
    for each in [each for each in net.ordered() if each.op_type == "Relu"]:
        first, second = _before(net, each.input[0]), _after(net, each.output[0])
        scales = draw(len(net.constants[first.input[2]]))
        _write(net, first, scales)
        _read(net, second, scales)


def _queries(net: Net, draw: Callable[[int], Scales]) -> None:
    for each in _products(net, of_shares=False):
        query, key = (_before(net, name) for name in each.input)
        scales = draw(len(net.constants[query.input[2]]))
        _write(net, query, scales)
        _write(net, key, 1 / scales)


def _values(net: Net, draw: Callable[[int], Scales]) -> None:
    for each in _products(net, of_shares=True):
        value, after = _before(net, each.input[1]), _after(net, each.output[0])
        scales = draw(len(net.constants[value.input[2]]))
        _write(net, value, scales)
        _read(net, after, scales)


def _embeddings(net: Net, draw: Callable[[int], Scales]) -> None:
    """Finds the words' own table, which the first Gemm reads three times."""
    each = next(each for each in net.ordered() if each.op_type == "Gather" and each.input[1] == "input_ids")
    scales = draw(net.constants[each.input[0]].shape[1])
    _table(net, each, scales)
    _read(net, next(each for each in net.ordered() if each.op_type == "Gemm"), np.tile(scales, 3))


PLACES: dict[str, Callable[[Net, Callable[[int], Scales]], None]] = {
    "residual": _residual, "feed-forward": _feed_forward, "queries and keys": _queries, "values": _values,
    "embeddings": _embeddings,
}  # fmt: skip
