"""Finds the channel exponents at which rounding a graph to few bits costs least.

A tensor of n bits is rounded in steps of its largest value / 2 ** n. In a channel scaled by 2**e, this noise weighs
2**-e as much. A tensor therefore costs max(range ** 2) * sum(cost of each channel's noise), where both factors depend
on the exponents; a weight costs the same in its rows and columns. The sum over all tensors and weights is convex in the
exponents, so its minimum does not depend on how a model's channels were scaled before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bundler.model.onnx_graph import Array

SHARPNESS = 8  # the maximum is replaced by a norm of this power, which has a gradient
STEPS = 120
FIRST_STEP, LAST_STEP = 0.5, 0.01  # octaves
ROUNDS = 40  # of levelling
LIMIT = 30.0  # octaves
OCTAVE = 2 * np.log(2)
TINY = 1e-300


@dataclass(frozen=True)
class Stream:
    """Channels that are rounded together. Each has a class, a sign, its largest |value| (above 0), and the cost of one
    unit of squared noise."""

    classes: Array
    signs: Array
    ranges: Array
    costs: Array


@dataclass(frozen=True)
class Weights:
    """A matrix (read, written). `powers`: its values to the power of SHARPNESS, float64; `power`: the mean square of
    each input channel; `costs`: the cost of one unit of squared noise in each output channel."""

    read: tuple[Array, Array]
    written: tuple[Array, Array]
    powers: Array
    power: Array
    costs: Array


@dataclass(frozen=True)
class Problem:
    """The rounded tensors of a graph with `count` classes of channels; class 0 keeps exponent 0."""

    count: int
    streams: Sequence[Stream]
    weights: Sequence[Weights]


def powers_of(values: Array) -> Array:
    """Returns the `powers` of `Weights`."""
    return np.asarray(values.astype(np.float64) ** SHARPNESS)


def levelled(problem: Problem) -> Array:
    """Returns exponents that bring all channels' largest values near 4, and those of all rows and columns near 1/8."""
    exponents = np.zeros(problem.count)
    for _ in range(ROUNDS):
        wishes: list[tuple[Array, Array]] = []
        for stream in problem.streams:
            here = stream.signs * exponents[stream.classes]
            wishes.append((stream.classes, stream.signs * (2 - np.log2(stream.ranges) - here)))
        for each in problem.weights:
            rows, columns = _sides(each, exponents)
            for (classes, signs), sums, sign in ((each.read, rows, 1), (each.written, columns, -1)):
                live = sums > 0  # all-zero rows and columns have no preference
                wishes.append((classes[live], sign * (signs[live] * (np.log2(sums[live]) / SHARPNESS + 3))))
        classes, octaves = (np.concatenate(part) for part in zip(*wishes, strict=True))
        number = np.maximum(np.bincount(classes, minlength=problem.count), 1)
        exponents = exponents + 0.5 * np.bincount(classes, octaves, problem.count) / number
        exponents = np.clip(exponents, -LIMIT, LIMIT)
        exponents[0] = 0
    return exponents


def balanced(problem: Problem, activation_bits: float, weight_bits: float, start: Array | None = None) -> Array:
    """Returns the exponents of least cost, by gradient descent (Adam). Starts at `start` and moves only its nonzero
    exponents, or starts at the levelled exponents and moves all."""
    exponents = levelled(problem) if start is None else start
    free = np.arange(problem.count) > 0 if start is None else start != 0
    first, second = np.zeros(problem.count), np.zeros(problem.count)
    steps = STEPS if start is None else STEPS // 2
    for step in range(1, steps + 1):
        gradient = np.where(free, _gradient(problem, exponents, activation_bits, weight_bits), 0.0)
        first = 0.9 * first + 0.1 * gradient
        second = 0.95 * second + 0.05 * gradient**2
        rate = FIRST_STEP * (LAST_STEP / FIRST_STEP) ** (step / steps)
        move = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.95**step)) + TINY)
        exponents = np.clip(exponents - rate * move, -LIMIT, LIMIT)
    return exponents


def _sides(each: Weights, exponents: Array) -> tuple[Array, Array]:
    """Returns the sum of the scaled values, to the power of SHARPNESS, for each row and each column."""
    read, written = (2.0 ** (SHARPNESS * signs * exponents[classes]) for classes, signs in (each.read, each.written))
    return (each.powers @ written) / read, ((1 / read) @ each.powers) * written


def _gradient(problem: Problem, exponents: Array, activation_bits: float, weight_bits: float) -> Array:
    """Returns the gradient of the logarithm of the total cost."""
    parts = [_stream_cost(stream, exponents, 4.0**-activation_bits) for stream in problem.streams]
    parts += [part for each in problem.weights for part in _weights_costs(each, exponents, 4.0**-weight_bits)]
    classes, slopes = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    total = sum(part[2] for part in parts)
    return np.asarray(OCTAVE / max(total, TINY) * np.bincount(classes, slopes, problem.count))


def _stream_cost(stream: Stream, exponents: Array, step: float) -> tuple[Array, Array, float]:
    """Returns the classes, the cost's slope in each in half octaves, and the cost; `step`: of values of 1, squared."""
    here = stream.signs * exponents[stream.classes]
    sizes, noise = (stream.ranges * 2.0**here) ** SHARPNESS, stream.costs * 4.0**-here
    cost = step * sizes.sum() ** (2 / SHARPNESS) * noise.sum()
    return stream.classes, cost * stream.signs * (_shares(sizes) - _shares(noise)), float(cost)


def _weights_costs(each: Weights, exponents: Array, step: float) -> Iterator[tuple[Array, Array, float]]:
    """Yields the same for a matrix: first for its rows, then for its columns with cost 0, so that it counts once."""
    rows, columns = _sides(each, exponents)
    (read, read_signs), (written, written_signs) = each.read, each.written
    power = each.power * 4.0 ** (read_signs * exponents[read])
    noise = each.costs * 4.0 ** (-written_signs * exponents[written])
    cost = step * rows.sum() ** (2 / SHARPNESS) * power.sum() * noise.sum()
    yield read, cost * read_signs * (_shares(power) - _shares(rows)), float(cost)
    yield written, cost * written_signs * (_shares(columns) - _shares(noise)), 0.0


def _shares(values: Array) -> Array:
    return np.asarray(values / max(values.sum(), TINY))
