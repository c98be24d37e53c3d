"""Balances a graph's channels before rounding, if measurements show that this brings the logits nearer.

Some models have channels a hundred times as large as their neighbours. In fixed point these use up the range of a
tensor; in float16 they may overflow. Scaling channels by powers of two (rescale.py) does not change what the float32
graph computes, and costs nothing on the phone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bundler.errors import ModelInvalid
from bundler.model.balance import LIMIT, Problem, balanced, levelled
from bundler.model.calibrate import calibrate
from bundler.model.channels import Channels
from bundler.model.graph import Feed, FitGraph, largest_difference, logits_of
from bundler.model.half import LARGEST, in_float16
from bundler.model.mixed import Measure, ratio_of, window_errors
from bundler.model.onnx_graph import Array, Net
from bundler.model.quantize import Scheme
from bundler.model.rescale import channels_in, rescaled
from bundler.model.rounding import Spans, measure_spans, problem_of
from bundler.types import Progress

RANGE_WINDOWS = 8  # of the calibration windows are enough to tell large channels from small ones
WINDOWS = 4  # on which candidates are compared
GAIN = 0.5  # a candidate's largest allowed share of the error without it: four windows cannot show smaller gains
BETTER = 0.7  # its largest allowed share of the error of the candidate before it, which changes fewer channels
CHECKED = 2  # windows on which the logits must stay the same
TOLERANCE = 1e-4  # of a logit, relative to the largest where that exceeds 1
TAMED = 1.25  # octaves: channels that would move by more are outliers
NEAR = 4.0  # float16's largest number divided by this counts as near its limit
SMALL = 2.0**-10  # a channel whose largest value is smaller loses bits in float16


@dataclass(frozen=True)
class Equalized:
    """The graph to round, and the exponents of its classes of channels (rescale.py); none if it is unchanged."""

    fit: FitGraph
    exponents: tuple[int, ...] = ()


@np.errstate(all="ignore")  # non-finite noise counts as infinite, and non-finite exponents as 0
def equalize(fit: FitGraph, feeds: Sequence[Feed], scheme: Scheme | None, progress: Progress) -> Equalized:
    """Returns the graph with balanced channels, or unchanged if that is not measured to be better.

    feeds: calibration windows, int32 (1, length) each; scheme: the bits to round to, None for float16.
    """
    channels = channels_in(fit)
    if channels.count == 1 or not feeds:
        return Equalized(fit)
    progress("measuring the model's channels", 0, None)
    spans = measure_spans(fit, channels, feeds[:RANGE_WINDOWS])
    if scheme is None and not leaves_float16(fit, channels, spans):
        return Equalized(fit)
    compared = feeds[:WINDOWS]
    best, most = Equalized(fit), GAIN * noise(fit, compared, scheme)
    for exponents in _proposals(problem_of(fit, channels, spans), scheme):
        progress("comparing scales of the model's channels", 0, None)
        candidate = _candidate(fit, channels, exponents, compared)
        if candidate.exponents and (found := noise(candidate.fit, compared, scheme)) < most:
            best, most = candidate, BETTER * found
    return best


def noise(fit: FitGraph, feeds: Sequence[Feed], scheme: Scheme | None) -> float:
    """Returns the logits' squared rounding error over their power on these windows; infinite if rounding fails."""
    try:
        if scheme is not None:
            ratio = Measure(fit, calibrate(fit, feeds), feeds).noise(scheme)
        else:
            ratio = ratio_of(window_errors(feeds, logits_of(in_float16(fit), feeds), logits_of(fit.model, feeds)))
    except ModelInvalid:
        return np.inf
    return ratio if np.isfinite(ratio) else np.inf


def leaves_float16(fit: FitGraph, channels: Channels, spans: Spans) -> bool:
    """Returns whether a weight or value comes near float16's largest number, or a free channel is very small."""
    largest = [np.abs(v).max(initial=0) for v in Net(fit.model).constants.values() if v.dtype == np.float32]
    for name, span in spans.items():
        largest.append(span.sizes.max(initial=0))
        free = channels.classes[channels.labels[name]] > 0
        small = free & (span.sizes > 0) & (span.sizes < SMALL)
        if small.any():
            return True
    return bool(max(largest, default=0) > LARGEST / NEAR)


def _proposals(problem: Problem, scheme: Scheme | None) -> Iterable[tuple[int, ...]]:
    """Yields exponents to compare, without class 0: first those of outliers only, then those of all channels."""
    if not problem.streams:
        return
    if scheme is None:
        yield _whole(levelled(problem))
        return
    bits = (scheme.activation_bits, scheme.weight_bits)
    exponents = balanced(problem, *bits)
    outliers = np.where(np.abs(exponents) > TAMED, exponents, 0.0)
    if outliers.any():
        yield _whole(balanced(problem, *bits, outliers))
    yield _whole(exponents)


def _whole(exponents: Array) -> tuple[int, ...]:
    """Rounds the exponents to integers; NaN, from extreme weights, becomes 0."""
    return tuple(np.round(np.clip(np.nan_to_num(exponents), -LIMIT, LIMIT)).astype(int).tolist()[1:])


def _candidate(fit: FitGraph, channels: Channels, exponents: tuple[int, ...], feeds: Sequence[Feed]) -> Equalized:
    """Returns the scaled graph, or the graph unchanged if there is nothing to scale or the logits would change."""
    if not any(exponents):
        return Equalized(fit)
    try:
        scaled = rescaled(fit, exponents, channels)
    except ValueError:
        return Equalized(fit)
    difference, largest = largest_difference(fit.model, scaled, feeds[:CHECKED])
    return Equalized(scaled, exponents) if difference <= TOLERANCE * max(1.0, largest) else Equalized(fit)
