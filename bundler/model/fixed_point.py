"""Fixed-point formats of activations (asymmetric) and weights (symmetric), and conversions to and from them."""

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
    """A format: real = scale * (stored - zero_point); float32 and the stored dtype, () or (n,) for a weight's channels.

    axis: the axis of the channels, if known.
    """

    scale: Array
    zero_point: Array
    axis: int | None = None

    @property
    def bits(self) -> int:
        """Returns the width of the stored dtype."""
        return 8 * self.zero_point.dtype.itemsize

    def spread(self, rank: int) -> tuple[Array, Array]:
        """Returns scale and zero point, broadcastable to arrays of this rank."""
        shape = () if self.axis is None else tuple(-1 if index == self.axis else 1 for index in range(rank))
        return self.scale.reshape(shape), self.zero_point.reshape(shape)


@dataclass(frozen=True)
class Encodings:
    """The encodings of a graph's tensors by name: activations (asymmetric) and constant matrices (symmetric)."""

    activations: Mapping[str, Encoding] = field(default_factory=dict)
    weights: Mapping[str, Encoding] = field(default_factory=dict)


@dataclass(frozen=True)
class FixedWeight:
    """A weight in fixed point."""

    values: Array
    encoding: Encoding

    @property
    def reals(self) -> Array:
        """Returns the real values, float32."""
        return np.asarray(self.values.astype(np.float32) * self.encoding.spread(self.values.ndim)[0])


@dataclass(frozen=True)
class FixedWeights:
    """Weights that are already rounded, and their adjusted biases, float32; both by the constant's name."""

    weights: Mapping[str, FixedWeight] = field(default_factory=dict)
    biases: Mapping[str, Array] = field(default_factory=dict)


def asymmetric(low: float, high: float, bits: int) -> Encoding:
    """Returns the encoding for values from `low` to `high`; zero is always exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    steps = 2**bits - 1
    scale = np.float32((high - low) / steps or 1e-6)
    zero_point = np.clip(np.round(-low / scale), 0, steps)
    return Encoding(np.asarray(scale), zero_point.astype(ACTIVATIONS[bits]))


def symmetric(value: Array, bits: int, axis: int | None = None) -> Encoding:
    """Returns a weight's encoding, for the whole weight or for each index of an axis."""
    others = None if axis is None else tuple(index for index in range(value.ndim) if index != axis)
    largest = np.maximum(np.abs(value).max(axis=others), 1e-6)
    scale = (largest / (2 ** (bits - 1) - 1)).astype(np.float32)
    return Encoding(np.asarray(scale), np.zeros(np.shape(scale), WEIGHTS[bits]), axis)


def stored(value: Array, encoding: Encoding) -> Array:
    """Converts real numbers to fixed point."""
    limits = np.iinfo(encoding.zero_point.dtype)
    scale, zero_point = encoding.spread(value.ndim)
    rounded = np.round(value / scale) + zero_point
    return np.clip(rounded, limits.min, limits.max).astype(encoding.zero_point.dtype)


def reals(value: Array, encoding: Encoding) -> Array:
    """Converts fixed-point numbers to real ones, float64."""
    return np.asarray((value.astype(np.float64) - encoding.zero_point) * encoding.scale)


def squared_error(value: Array, encoding: Encoding) -> float:
    """Returns the summed squared error from rounding the weight to the encoding."""
    scale, _ = encoding.spread(value.ndim)
    return float(np.square(np.round(value / scale) * scale - value).sum())


def weight_axis(each: onnx.NodeProto, value: Array) -> int:
    """Returns the axis of a product's outputs in its weight."""
    return 0 if attribute(each, "transB", 0) else value.ndim - 1
