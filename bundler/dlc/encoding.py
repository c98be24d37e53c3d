"""Encodings of fixed-point tensors: real = scale * (stored + offset), for a whole tensor or along an axis."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Reals = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Encoding:
    """One scale and offset for the whole tensor (`axis` None), or one of each for every index along `axis`.

    `bits` is the number of bits that the stored integers use, at most that of their dtype.
    """

    scales: tuple[float, ...]
    offsets: tuple[int, ...]
    bits: int
    axis: int | None = None

    def dequantize(self, stored: Array) -> Reals:
        """Returns the real values, float32, of integers of any shape."""
        scales, offsets = self._along(stored.ndim)
        reals: Reals = ((stored.astype(np.float64) + offsets) * scales).astype(np.float32)
        return reals

    def quantize(self, reals: Array, dtype: npt.DTypeLike) -> Array:
        """Returns the integers nearest to the real values, clipped to the range."""
        scales, offsets = self._along(reals.ndim)
        low, high = self.limits(dtype)
        stored: Array = np.clip(np.rint(reals.astype(np.float64) / scales) - offsets, low, high).astype(dtype)
        return stored

    def is_never_negative(self, dtype: npt.DTypeLike) -> bool:
        """Returns whether the smallest storable real value is zero. Quantizers replace a ReLU by such an encoding."""
        return all(offset == -self.limits(dtype)[0] for offset in self.offsets)

    def _along(self, rank: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        shape = [1] * rank
        if self.axis is not None:
            shape[self.axis] = len(self.scales)
        return np.asarray(self.scales, np.float64).reshape(shape), np.asarray(self.offsets, np.int64).reshape(shape)

    def limits(self, dtype: npt.DTypeLike) -> tuple[int, int]:
        """Returns the smallest and the largest storable integer."""
        signed = np.dtype(dtype).kind == "i"
        return (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if signed else (0, (1 << self.bits) - 1)


def widen(stored: Array, bits: int) -> Array:
    """Sign-extends integers of `bits` bits in a wider dtype, whose upper bits may be anything."""
    spare = 8 * stored.dtype.itemsize - bits
    return (stored << spare) >> spare if spare and stored.dtype.kind == "i" else stored
