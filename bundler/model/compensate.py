"""Rounds weights so that the outputs of a matrix product are preserved, by GPTQ and bias correction.

GPTQ (Frantar et al. 2022, arXiv:2210.17323) rounds the weights of an output one after the other. After each, it adjusts
the weights not yet rounded, to cancel the output error on calibration windows. Bias correction (Nagel et al. 2019,
arXiv:1906.04721) moves the remaining mean error into the bias.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from bundler.model.calibrate import Calibration, watched
from bundler.model.fixed_point import FixedWeight, FixedWeights, weight_axis
from bundler.model.graph import Feed, FitGraph
from bundler.model.mixed import Measure
from bundler.model.onnx_graph import Array, Net, attribute
from bundler.model.quantize import Scheme
from bundler.types import Progress

COMPARED = 4  # windows, at most a quarter, on which it must be better than rounding to nearest
GAIN = 0.95  # the largest allowed share of the logits' error that remains
DAMPING = 0.05  # of an input's mean power, added to each input, because unseen windows differ
BLOCK = 32  # inputs whose weights are rounded before the error is passed on to the other weights
ROOM = 2**29  # bytes of sums at a time; for more, the windows are run again


@dataclass(frozen=True)
class Moments:
    """Moments of the values (count, inputs) that a matrix multiplies: the mean (inputs,), and the mean product of any
    two inputs (inputs, inputs), float64."""

    count: int
    mean: Array
    products: Array


@dataclass(frozen=True)
class Matrix:
    """A constant matrix: its name, the operators that multiply by it, and their shared bias; None if there is none or
    if other operators use it too."""

    name: str
    nodes: tuple[onnx.NodeProto, ...]
    bias: str | None


def compensated(
    fit: FitGraph, calibration: Calibration, scheme: Scheme, feeds: Sequence[Feed], progress: Progress
) -> FixedWeights:
    """Returns the graph's matrices in the scheme's bits, with matching biases; none if measurements show no gain.
    Measures with 16-bit activations, since 8-bit rounding would hide the error of the weights.

    feeds: calibration windows, int32 (1, length) each. The last ones are held out for the comparison if there are
    enough.
    """
    nothing = FixedWeights()
    if scheme.weight_bits > 8:
        return nothing
    judges = max(1, min(COMPARED, len(feeds) // 4))
    found = _all_fixed(fit, scheme, feeds[:-judges] or feeds, progress)
    measure = Measure(fit, calibration, feeds[-judges:])
    fine = replace(scheme, activation_bits=16, wide=frozenset(), given=replace(scheme.given, activations={}))
    return found if measure.noise(fine, found) < GAIN * measure.noise(fine) else nothing


def _all_fixed(fit: FitGraph, scheme: Scheme, feeds: Sequence[Feed], progress: Progress) -> FixedWeights:
    net, fixed, biases = Net(fit.model), dict[str, FixedWeight](), dict[str, Array]()
    for number, (each, moments) in enumerate(_measured(fit, matrices(net), feeds)):
        progress("rounding the model's weights", number, None)
        bits = scheme.weight_encoding(each.nodes[0], net.constants[each.name]).bits
        if bits > 8 or moments.count < len(moments.mean):  # too few values to estimate correlations between inputs
            continue
        try:
            fixed[each.name], bias = fixed_weight(net, each, moments, scheme)
        except np.linalg.LinAlgError:  # extreme values: rounded to nearest
            continue
        if each.bias is not None and bias is not None:
            biases[each.bias] = bias
    return FixedWeights(fixed, biases)


def matrices(net: Net) -> list[Matrix]:
    """Returns the constant matrices that activations are multiplied with."""
    nodes: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
    for each in net.ordered():
        if each.op_type in ("Gemm", "MatMul") and net.constants.get(each.input[1], np.array(0)).ndim == 2:
            nodes[each.input[1]].append(each)
    return [
        Matrix(name, tuple(readers), _bias(net, readers))
        for name, readers in nodes.items()
        if len(readers) == len(net.readers(name)) and all(_is_plain(net, each) for each in readers)
    ]


def _is_plain(net: Net, each: onnx.NodeProto) -> bool:
    factors = attribute(each, "alpha", 1.0), attribute(each, "beta", 1.0)
    return each.input[0] not in net.constants and not attribute(each, "transA", 0) and factors == (1.0, 1.0)


def _bias(net: Net, nodes: Sequence[onnx.NodeProto]) -> str | None:
    found = {_bias_of(net, each) for each in nodes}
    name = found.pop()
    alone = name is not None and not found and len(net.readers(name)) == len(nodes)
    return name if alone else None


def _bias_of(net: Net, each: onnx.NodeProto) -> str | None:
    """Returns the name of the constant (outputs,) that is added to the operator's output."""
    units = net.constants[each.input[1]].shape[0 if attribute(each, "transB", 0) else 1]
    names = list(each.input[2:])
    if not names and net.read_once(each.output[0]) and net.readers(each.output[0])[0].op_type == "Add":
        names = list(net.readers(each.output[0])[0].input)
    return next((name for name in names if name in net.constants and net.constants[name].shape == (units,)), None)


def _measured(fit: FitGraph, found: Sequence[Matrix], feeds: Sequence[Feed]) -> Iterator[tuple[Matrix, Moments]]:
    """Yields the matrices with the moments of their inputs at tokens, in batches that fit into ROOM."""
    net = Net(fit.model)
    for batch in _batches(net, found):
        names = list(dict.fromkeys(node.input[0] for each in batch for node in each.nodes))
        counts: defaultdict[str, int] = defaultdict(int)
        sums: dict[str, tuple[Array, Array]] = {}
        for values in watched(fit, feeds, names):
            for name, value in values.items():
                rows = np.ascontiguousarray(value.reshape(-1, value.shape[-1]))
                total, products = sums.get(name, (0.0, 0.0))
                sums[name] = total + rows.sum(0, np.float64), products + rows.T @ rows
                counts[name] += len(rows)
        for each in batch:
            readers = [node.input[0] for node in each.nodes]
            count = sum(counts[name] for name in readers)
            total, products = (sum(sums[name][part] for name in readers) for part in (0, 1))
            yield each, Moments(count, np.asarray(total / count), np.asarray(products, np.float64) / count)


def _batches(net: Net, found: Sequence[Matrix]) -> Iterator[list[Matrix]]:
    batch: list[Matrix] = []
    room = ROOM
    for each in found:
        inputs = net.constants[each.name].shape[1 if attribute(each.nodes[0], "transB", 0) else 0]
        room -= 4 * inputs**2 * len(each.nodes)
        if batch and room < 0:
            yield batch
            batch, room = [], ROOM - 4 * inputs**2 * len(each.nodes)
        batch.append(each)
    if batch:
        yield batch


def fixed_weight(net: Net, each: Matrix, moments: Moments, scheme: Scheme) -> tuple[FixedWeight, Array | None]:
    """Returns the matrix in fixed point, in its operators' layout, and its bias, float32 (outputs,).

    Raises:
        LinAlgError: the moments cannot be used.
    """
    value = net.constants[each.name]
    axis = weight_axis(each.nodes[0], value)
    matrix = np.moveaxis(value, axis, 1).astype(np.float64)  # (inputs, outputs)
    bias = net.constants[each.bias] if each.bias is not None else None
    spread = moments.products - (np.outer(moments.mean, moments.mean) if bias is not None else 0.0)
    encoding = scheme.weight_encoding(each.nodes[0], value)
    scale = encoding.scale.astype(np.float64)
    whole = rounded(matrix, spread, scale, encoding.bits)
    if bias is not None:
        bias = (bias + moments.mean @ (matrix - whole * scale)).astype(np.float32)
    return FixedWeight(np.moveaxis(whole, 1, axis).astype(encoding.zero_point.dtype), encoding), bias


def rounded(matrix: Array, spread: Array, scale: Array, bits: int) -> Array:
    """Rounds a matrix (inputs, outputs), divided by its scale, () or (outputs,), to whole numbers, float64.

    spread: the mean product of any two inputs, (inputs, inputs).

    Raises:
        LinAlgError: `spread` is not finite, or not positive definite.
    """
    if not np.isfinite(spread).all():
        raise np.linalg.LinAlgError("the spread is not finite")
    limit = 2 ** (bits - 1) - 1
    order = np.argsort(-np.diag(spread), kind="stable")  # the strongest inputs first, while others can still compensate
    damping = DAMPING * max(float(np.diag(spread).mean()), 1e-12)
    upper = np.linalg.cholesky(np.linalg.inv(spread[np.ix_(order, order)] + damping * np.eye(len(order)))).T
    left, made = matrix[order], np.empty(matrix.shape)
    for start in range(0, len(order), BLOCK):
        block, factors = left[start : start + BLOCK], upper[start : start + BLOCK, start:]
        lost = np.empty(block.shape)
        for row in range(len(block)):
            made[start + row] = np.clip(np.round(block[row] / scale), -limit, limit)
            lost[row] = (block[row] - made[start + row] * scale) / factors[row, row]
            block[row + 1 :] -= np.outer(factors[row, row + 1 : len(block)], lost[row])
        left[start + BLOCK :] -= factors[:, BLOCK:].T @ lost
    found = np.empty(matrix.shape)
    found[order] = made
    return found
