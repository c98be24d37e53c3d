"""Chooses the operators of a quantized model that get 16 bits: those whose rounding is measured to cost most."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx

from bundler.model.calibrate import Calibration
from bundler.model.fixed_point import FixedWeights
from bundler.model.graph import Feed, FitGraph, logits_of, tokens_of
from bundler.model.onnx_graph import Array, Net
from bundler.model.quantize import MOVES, Scheme, quantize
from bundler.types import Progress

SHARE = 0.5  # of the operators may get 16 bits
PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of SHARE: the part that brings the logits nearest is used
BLOCKS = 24  # the number of measurements, independent of the model's size
WINDOWS = 2  # of the calibration windows; enough to tell blocks apart
Error = Callable[[Feed, Array, Array], tuple[float, float]]
CANDIDATES = 20  # tokens that answers begin and end at, as many as decoding considers


def choose_wide(
    fit: FitGraph, calibration: Calibration, scheme: Scheme, feeds: Sequence[Feed], progress: Progress
) -> frozenset[str]:
    """Returns the operators (by their first output) to keep at 16 bits, at most SHARE of all.

    Measures blocks of neighbouring operators, since every border between 8 and 16 bits also rounds. A block's cost is
    the error of the margins between answers when it alone has `scheme`'s bits and all else has 16. Operators that
    `scheme` gives 16 bits keep them.
    """
    candidates = [each.output[0] for each in _candidates(fit.model, scheme)]
    blocks = [frozenset(part.tolist()) for part in np.array_split(np.array(candidates, object), BLOCKS) if len(part)]
    everything = frozenset(candidates)
    measure = Measure(fit, calibration, feeds[:WINDOWS], margin_noise)
    costs = []
    for number, block in enumerate(blocks):
        progress("measuring operators at fewer bits", number, len(blocks))
        costs.append(measure.noise(replace(scheme, wide=everything - block)) / len(block))
    order = [blocks[index] for index in np.argsort(costs)[::-1]]
    choices = [_first(order, int(SHARE * part * len(everything)), scheme.wide) for part in PARTS]
    return min(choices, key=lambda wide: measure.noise(replace(scheme, wide=wide)))


def _first(blocks: Sequence[frozenset[str]], room: int, wide: frozenset[str]) -> frozenset[str]:
    """Returns the operators `wide` and the first blocks that fit into `room` operators together with them."""
    for block in blocks:
        if len(wide | block) <= room:
            wide |= block
    return wide


def real_noise(feed: Feed, rounded: Array, exact: Array) -> tuple[float, float]:
    """Returns the squared error of one window's logits (1, length), and their power, on real tokens."""
    one, other = _at_tokens(feed, rounded, exact)
    return float(np.square(one - other).sum()), float(np.square(other).sum())


def margin_noise(feed: Feed, rounded: Array, exact: Array) -> tuple[float, float]:
    """Returns the same for the CANDIDATES tokens with the largest logits, without their common offset: the margin
    between two answers is a difference of such logits."""
    one, other = _at_tokens(feed, rounded, exact)
    first = np.argsort(-other)[:CANDIDATES]
    error, value = (one - other)[first], other[first]
    return float(np.square(error - error.mean()).sum()), float(np.square(value - value.mean()).sum())


def _at_tokens(feed: Feed, rounded: Array, exact: Array) -> tuple[Array, Array]:
    real = tokens_of(feed, exact.shape[-1])
    return rounded.astype(np.float64)[0, real], exact.astype(np.float64)[0, real]


def window_errors(
    feeds: Sequence[Feed],
    rounded: Sequence[Mapping[str, Array]],
    exact: Sequence[Mapping[str, Array]],
    error: Error = real_noise,
) -> Array:
    """Returns the squared error and the power of each window's logits, float64 (windows, 2)."""
    windows = zip(feeds, rounded, exact, strict=True)
    return np.array(
        [np.sum([error(feed, one[name], other[name]) for name in other], 0) for feed, one, other in windows]
    )


def ratio_of(windows: Array) -> float:
    """Returns the squared error over the power, for all windows of `window_errors`."""
    error, power = windows.sum(0)
    return float(error / power) if power else 0.0


class Measure:
    """Compares quantized forms of a model with its float32 form, on the CPU, on given windows, by an error function
    such as `real_noise`."""

    def __init__(
        self,
        fit: FitGraph,
        calibration: Calibration,
        feeds: Sequence[Feed],
        error: Error = real_noise,
    ) -> None:
        self._fit, self._calibration, self._feeds, self._error = fit, calibration, feeds, error
        self._exact = logits_of(fit.model, feeds)

    def noise(self, scheme: Scheme, fixed: FixedWeights | None = None) -> float:
        """Returns the squared error over the power, for all windows."""
        return ratio_of(self.parts(scheme, fixed))

    def parts(self, scheme: Scheme, fixed: FixedWeights | None = None) -> Array:
        """Returns the squared error and the power of each window, float64 (windows, 2)."""
        rounded = quantize(self._fit, self._calibration, scheme, fixed).logits(self._feeds)
        return window_errors(self._feeds, rounded, self._exact, self._error)


def _candidates(model: onnx.ModelProto, scheme: Scheme) -> list[onnx.NodeProto]:
    """Returns the operators that more bits can improve: with 16-bit activations only those with weights."""
    nodes = [each for each in Net(model).ordered() if each.op_type not in MOVES]
    return nodes if scheme.activation_bits == 8 else [each for each in nodes if each.op_type in ("Gemm", "MatMul")]
