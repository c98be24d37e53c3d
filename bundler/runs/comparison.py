"""Compares logits with a reference's, on real tokens, by sums over chunks."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
MOST_DB = 200.0  # for equal logits, whose ratio would be infinite


@dataclass(frozen=True)
class Likeness:
    """Over all real tokens: cosine of the angle between both rows of logits, signal-to-noise ratio, the largest
    |difference|, Pearson's correlation; `smallest_cosine` is the minimum over outputs and windows."""

    cosine: float
    smallest_cosine: float
    sqnr_db: float
    largest_difference: float
    correlation: float


class Comparison:
    """Accumulates the sums for `Likeness`, in float64 and without keeping the logits; `rows`: how many were added."""

    def __init__(self) -> None:
        self._sums = np.zeros(7)  # count, a, b, aa, bb, ab, squares of differences
        self._largest = 0.0
        self.rows = 0
        self._smallest_cosine = 1.0

    @np.errstate(all="ignore")  # NaN shows in the likeness
    def add(self, exact: Floats, computed: Floats, real: npt.NDArray[np.bool_]) -> None:
        """Adds rows of an output, (windows, length) each; `real` marks the tokens that count."""
        a, b = (np.where(real, values, 0).astype(np.float64) for values in (exact, computed))
        aa, bb, ab = (np.einsum("ij,ij->i", one, other) for one, other in ((a, a), (b, b), (a, b)))
        self.rows += len(a)
        differences = np.abs(a - b)
        squares = float(np.square(differences).sum())
        self._sums += [real.sum(), a.sum(), b.sum(), aa.sum(), bb.sum(), ab.sum(), squares]
        self._largest = max(self._largest, float(differences.max(initial=0)))
        cosines = (_cosine(*sums) for sums in zip(aa.tolist(), bb.tolist(), ab.tolist(), strict=True))
        self._smallest_cosine = min(self._smallest_cosine, *cosines)

    def likeness(self) -> Likeness:
        count, a, b, aa, bb, ab, noise = self._sums.tolist()
        count = max(count, 1)
        return Likeness(
            cosine=_cosine(aa, bb, ab),
            smallest_cosine=self._smallest_cosine,
            sqnr_db=_decibels(aa, noise),
            largest_difference=self._largest,
            correlation=1.0 if noise == 0 else _cosine(aa - a * a / count, bb - b * b / count, ab - a * b / count),
        )


def known(value: float, digits: int) -> float | None:
    """Returns the value rounded; None if it is not finite, since JSON cannot represent it."""
    return round(value, digits) if math.isfinite(value) else None


def _cosine(aa: float, bb: float, ab: float) -> float:
    """Returns the cosine of two rows with these products; rows of zeros equal each other and no other row."""
    if aa <= 0 or bb <= 0:
        return float(aa <= 0 and bb <= 0)
    return float(np.clip(ab / np.sqrt(aa) / np.sqrt(bb), -1, 1))


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return MOST_DB
    if not signal or math.isinf(noise):
        return -MOST_DB
    return float(np.clip(10 * np.log10(signal / noise), -MOST_DB, MOST_DB))
