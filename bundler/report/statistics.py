"""The formulas behind the plots."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Answers of similar confidence."""

    count: int
    confidence: float
    """Their mean."""
    right: float
    """The share of them that is exactly right."""


def interval(hits: int, total: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of a share."""
    z = 1.959964
    share = hits / total
    scale = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    width = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - width), min(1.0, centre + width)


def reliability(answers: Sequence[tuple[float, bool]]) -> list[Bin]:
    """Sorts answers (confidence, exactly right) into ten bins of equal width; omits empty bins."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for confidence, right in answers:
        bins[min(BINS - 1, max(0, int(confidence * BINS)))].append((confidence, right))
    return [
        Bin(len(each), math.fsum(sure for sure, _ in each) / len(each), sum(right for _, right in each) / len(each))
        for each in bins
        if each
    ]


def gap(bins: Sequence[Bin]) -> float:
    """Returns the expected calibration error: mean |confidence - correctness|, weighted by the bins' sizes."""
    total = sum(each.count for each in bins)
    return math.fsum(each.count / total * abs(each.confidence - each.right) for each in bins)
