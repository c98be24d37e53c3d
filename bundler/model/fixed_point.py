"""Numbers in fixed point: how real ones are stored, of activations (asymmetric) and of weights (symmetric)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from bundler.model.onnx_graph import Array, attribute

ACTIVATIONS: dict[int, np.dtype[Any]] = {8: np.dtype(np.uint8), 16: np.dtype(np.uint16)}
WEIGHTS: dict[int, np.dtype[Any]] = {8: np.dtype(np.int8), 16: np.dtype(np.int16), 24: np.dtype(np.int32)}


@dataclass(frozen=True)
class Encoding:
    """real = scale * (stored - zero_point); float32 and the stored dtype, () or, of a weight, (n,) for its channels.

    axis: along which the channels lie, where that is known.
    """

    scale: Array
    zero_point: Array
    axis: int | None = None

    @property
    def bits(self) -> int:
        """Of the stored dtype."""
        return 8 * self.zero_point.dtype.itemsize

    def spread(self, rank: int) -> tuple[Array, Array]:
        """Scale and zero point for arrays of this rank."""
        shape = () if self.axis is None else tuple(-1 if index == self.axis else 1 for index in range(rank))
        return self.scale.reshape(shape), self.zero_point.reshape(shape)


@dataclass(frozen=True)
class Encodings:
    """What a graph's tensors are rounded to, by name: activations (asymmetric), and constant matrices (symmetric)."""

    activations: Mapping[str, Encoding] = field(default_factory=dict)
    weights: Mapping[str, Encoding] = field(default_factory=dict)


@dataclass(frozen=True)
class FixedWeight:
    """A weight in fixed point."""

    values: Array
    encoding: Encoding

    @property
    def reals(self) -> Array:
        """What the numbers stand for, float32."""
        return np.asarray(self.values.astype(np.float32) * self.encoding.spread(self.values.ndim)[0])


@dataclass(frozen=True)
class FixedWeights:
    """Weights that are rounded already, and what biases become by it, float32; both by the constant's name."""

    weights: Mapping[str, FixedWeight] = field(default_factory=dict)
    biases: Mapping[str, Array] = field(default_factory=dict)


def asymmetric(low: float, high: float, bits: int) -> Encoding:
    """The encoding of values from `low` to `high`; zero is always exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    steps = 2**bits - 1
    scale = np.float32((high - low) / steps or 1e-6)
    zero_point = np.clip(np.round(-low / scale), 0, steps)
    return Encoding(np.asarray(scale), zero_point.astype(ACTIVATIONS[bits]))


def symmetric(value: Array, bits: int, axis: int | None = None) -> Encoding:
    """A weight's encoding, for the whole of it or for each index of an axis."""
    others = None if axis is None else tuple(index for index in range(value.ndim) if index != axis)
    largest = np.maximum(np.abs(value).max(axis=others), 1e-6)
    scale = (largest / (2 ** (bits - 1) - 1)).astype(np.float32)
    return Encoding(np.asarray(scale), np.zeros(np.shape(scale), WEIGHTS[bits]), axis)


def stored(value: Array, encoding: Encoding) -> Array:
    """The fixed-point numbers of real ones."""
    limits = np.iinfo(encoding.zero_point.dtype)
    scale, zero_point = encoding.spread(value.ndim)
    rounded = np.round(value / scale) + zero_point
    return np.clip(rounded, limits.min, limits.max).astype(encoding.zero_point.dtype)


def reals(value: Array, encoding: Encoding) -> Array:
    """The real numbers of fixed-point ones, float64."""
    return np.asarray((value.astype(np.float64) - encoding.zero_point) * encoding.scale)


def squared_error(value: Array, encoding: Encoding) -> float:
    """What rounding to the encoding does to the weight."""
    scale, _ = encoding.spread(value.ndim)
    return float(np.square(np.round(value / scale) * scale - value).sum())


def weight_axis(each: onnx.NodeProto, value: Array) -> int:
    """The axis of a product's outputs in the weight that it multiplies by."""
    return 0 if attribute(each, "transB", 0) else value.ndim - 1
