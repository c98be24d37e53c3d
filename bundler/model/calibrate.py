"""Measures the range of each tensor on real windows. These ranges set the scales of a quantized model.

Ignores positions after the last token, so that padding does not widen a range.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import onnx

from bundler.errors import ModelInvalid
from bundler.model.graph import Feed, FitGraph, runner, tokens_of
from bundler.model.mask import LARGEST_SIZE, MARGIN, MASK
from bundler.model.onnx_graph import Array, Net, shaped

Method = Literal["min-max", "entropy", "percentile"]
METHODS: tuple[Method, ...] = get_args(Method)
OUTSIDE = 1e-5  # the share of a tensor's values that the percentile method cuts off at each end
BINS = 2048
LEVELS = 256  # of 8 bits
SHRINKS = np.linspace(1.0, 0.3, 29)  # the ranges that the entropy method compares, as parts of the whole
SAME = 1e-4  # of a tensor's largest value: smaller changes do not count as effects of padding
FLOOR = 16.0  # a score this far below the lowest row maximum weighs exp(-16): the range need not reach lower


@dataclass(frozen=True)
class Calibration:
    """Ranges (low, high) by float tensor: `full` holds all values seen, `ranges` is what the method keeps of it."""

    full: Mapping[str, tuple[float, float]]
    ranges: Mapping[str, tuple[float, float]]


def measure_mask(fit: FitGraph, feeds: Iterable[Feed]) -> float:
    """Returns the value that the mask must subtract from a score, given the attention scores of these windows."""
    if not fit.masked_scores:
        return LARGEST_SIZE
    session = runner(fit.model, fit.masked_scores)
    scores = [each for feed in feeds for each in session.run(list(fit.masked_scores), dict(feed))]
    return max(float(each.max()) - _least_best(each) for each in scores) + MARGIN


def calibrate(fit: FitGraph, feeds: Sequence[Feed], method: Method = "min-max") -> Calibration:
    """Runs the windows (int32 (1, length) each) through the float32 model, and again if the method needs histograms.

    The range of masked attention scores ends FLOOR below the lowest row maximum, since lower scores have no weight. It
    reaches that low even if no window has padding, because other windows will.

    Raises:
        ModelInvalid: a tensor is not finite.
    """
    ranges = full = _min_max(fit, feeds)
    if method != "min-max":
        cut = _percentile if method == "percentile" else _entropy
        counted = _histograms(watched(fit, feeds, list(full)), full)
        ranges = {name: cut(counts, *full[name]) for name, counts in counted.items()}
        ranges |= {name: (full[name][0], ranges[name][1]) for name in fit.masked_scores}
    return Calibration(full, ranges)


def token_axes(fit: FitGraph) -> dict[str, tuple[int, ...]]:
    """Returns the axes of each float tensor that run over the window's tokens. Omits tensors unaffected by padding.

    Finds them by experiment, without a rule for each operator: it computes one window with two kinds of padding. The
    axes are the smallest set at whose token positions nothing differs. The result is cached per graph.
    """
    if fit not in _AXES:
        _AXES[fit] = _tried_axes(fit)
    return _AXES[fit]


def keep_token_axes(fit: FitGraph, axes: dict[str, tuple[int, ...]]) -> None:
    """Makes `token_axes` return these axes, found earlier."""
    _AXES[fit] = axes


_AXES: WeakKeyDictionary[FitGraph, dict[str, tuple[int, ...]]] = WeakKeyDictionary()


def _tried_axes(fit: FitGraph) -> dict[str, tuple[int, ...]]:
    if MASK not in {spec.name for spec in fit.inputs}:
        return {}
    names, length = float_tensors(fit.model), fit.length
    session, real = runner(fit.model, names), np.arange(length) < length // 2
    first, second = (_trial(fit, real, padding) for padding in (0, 1))
    axes: dict[str, tuple[int, ...]] = {}
    for name, one, other in zip(names, session.run(names, first), session.run(names, second), strict=True):
        with np.errstate(all="ignore"):  # non-finite values count as different
            differs = ~(np.abs(one - other) <= SAME * np.abs(one).max(initial=0))
        if differs.any() and (found := _axes_of(differs, real)):
            axes[name] = found
    return axes


def _trial(fit: FitGraph, real: npt.NDArray[np.bool_], padding: int) -> dict[str, Array]:
    """Returns a window whose second half is padding of this kind: token ids and segments 0, or others.

    The first padding position is always 0, because MobileBERT's embedding also reads a token's neighbours.
    """
    kinds = np.where(real | np.roll(real, 1), 0, padding)
    values = {"input_ids": np.where(real, 2, kinds), MASK: real.astype(np.int64)}
    return {spec.name: values.get(spec.name, kinds)[None].astype(np.int32) for spec in fit.inputs}


def _axes_of(differs: npt.NDArray[np.bool_], real: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    """Returns the fewest token axes such that no real position differs; () if there are none."""
    able = [axis for axis, size in enumerate(differs.shape) if size == len(real)]
    for count in range(1, len(able) + 1):
        for axes in combinations(able, count):
            if not at_tokens(differs, axes, real).any():
                return axes
    return ()


def at_tokens(value: npt.NDArray[Any], axes: Sequence[int], real: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Returns the values at the positions where all these axes point to tokens."""
    count = int(real.sum())
    for axis in axes:
        if real[:count].all():  # a view costs nothing
            value = value[(slice(None),) * axis + (slice(count),)]
        else:
            value = np.compress(real, value, axis=axis)
    return value


def float_tensors(model: onnx.ModelProto) -> list[str]:
    """Returns the names of the float32 tensors that nodes produce, in order."""
    inferred = shaped(model)
    floats = {
        value.name
        for value in (*inferred.value_info, *inferred.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    return [name for each in Net(model).ordered() for name in each.output if name in floats]


def watched(
    fit: FitGraph, feeds: Iterable[Feed], names: Sequence[str], axes: Mapping[str, Sequence[int]] | None = None
) -> Iterator[dict[str, Array]]:
    """Yields the tensors' values at tokens, window by window; `axes`: the token axes, by default `token_axes`."""
    axes = token_axes(fit) if axes is None else axes
    session = runner(fit.model, names)
    for feed in feeds:
        real = tokens_of(feed, fit.length)
        values = zip(names, session.run(names, dict(feed)), strict=True)
        yield {name: at_tokens(value, axes.get(name, ()), real) for name, value in values}


def _least_best(scores: Array) -> float:
    """Returns the smallest of the rows' maxima."""
    return float(scores.max(axis=-1).min())


def _min_max(fit: FitGraph, feeds: Iterable[Feed]) -> dict[str, tuple[float, float]]:
    """Returns each float tensor's range; `calibrate` describes that of masked scores."""
    ranges: dict[str, tuple[float, float]] = {}
    best = dict.fromkeys(fit.masked_scores, np.inf)
    for values in watched(fit, feeds, float_tensors(fit.model)):
        for name, value in values.items():
            low, high = float(value.min()), float(value.max())
            if not np.isfinite([low, high]).all():
                what = f"tensor {name} is not finite on the windows to calibrate on"
                raise ModelInvalid(fit.name, what, "Take an undamaged model, or calibrate on other questions.")
            before = ranges.get(name, (low, high))
            ranges[name] = (min(low, before[0]), max(high, before[1]))
        best = {name: min(least, _least_best(values[name])) for name, least in best.items()}
    return ranges | {name: (least - FLOOR, ranges[name][1]) for name, least in best.items()}


def _histograms(
    windows: Iterable[dict[str, Array]], full: Mapping[str, tuple[float, float]]
) -> dict[str, npt.NDArray[np.int64]]:
    """Counts each tensor's values in BINS equal steps over its full range. Lower values count in the first step."""
    counts = {name: np.zeros(BINS, np.int64) for name in full}
    for values in windows:
        for name, value in values.items():
            low, high = full[name]
            step = BINS / (high - low) if high > low else 0.0
            bins = np.clip((value.ravel() - low) * step, 0, BINS - 1).astype(np.int32)
            counts[name] += np.bincount(bins, minlength=BINS)
    return counts


def _percentile(counts: npt.NDArray[np.int64], low: float, high: float) -> tuple[float, float]:
    """Returns the range without the outermost OUTSIDE of the values at each end."""
    shares = np.cumsum(counts) / counts.sum()
    first = int(np.searchsorted(shares, OUTSIDE))
    last = int(np.searchsorted(shares, 1 - OUTSIDE))
    step = (high - low) / BINS
    return low + first * step, low + (last + 1) * step


def _entropy(counts: npt.NDArray[np.int64], low: float, high: float) -> tuple[float, float]:
    """Returns the subrange whose 256 levels preserve the distribution best (least Kullback-Leibler divergence)."""
    edges = low + (np.arange(BINS) + 0.5) * (high - low) / BINS
    losses = [_divergence(counts, np.flatnonzero((edges >= low * part) & (edges <= high * part))) for part in SHRINKS]
    best = float(SHRINKS[int(np.argmin(losses))])
    return low * best, high * best


def _divergence(counts: npt.NDArray[np.int64], kept: npt.NDArray[np.int64]) -> float:
    """Returns the divergence of the histogram, clipped to the bins `kept`, from its version at LEVELS levels."""
    if len(kept) < LEVELS:
        return float("inf")
    inside = counts[kept].astype(np.float64)
    target = inside.copy()
    target[0] += counts[: kept[0]].sum()
    target[-1] += counts[kept[-1] + 1 :].sum()
    level = np.arange(len(kept)) * LEVELS // len(kept)
    sums = np.bincount(level, inside, LEVELS)
    filled = np.bincount(level, inside > 0, LEVELS)
    flat = np.where(inside > 0, (sums / np.maximum(filled, 1))[level], 0)
    p, q = target / target.sum(), flat / max(flat.sum(), 1)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))).sum())
