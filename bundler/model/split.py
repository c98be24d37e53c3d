"""Decides whether the weights of a quantized model get a scale for each channel.

LayerNorm models benefit, since a few of their channels are much larger than the others (Bondarenko 2021). Some runtimes
besides the DSP's lack such weights, so a small gain is not worth it.
"""

from collections.abc import Sequence
from dataclasses import replace

from bundler.model.calibrate import Calibration
from bundler.model.graph import Feed, FitGraph
from bundler.model.mixed import Measure
from bundler.model.quantize import Scheme

WINDOWS = 4  # windows to decide whether it is worth it
GAIN = 0.25  # the largest allowed share of the logits' error that remains


def splitting_pays(fit: FitGraph, calibration: Calibration, scheme: Scheme, feeds: Sequence[Feed]) -> bool:
    """Returns whether scales for each channel bring the logits of these windows much nearer.

    Measures with 16-bit activations, since 8-bit rounding would hide the error of the weights.
    """
    if scheme.weight_bits > 8:
        return False
    measure, fine = Measure(fit, calibration, feeds[:WINDOWS]), replace(scheme, activation_bits=16)
    whole, split = (measure.noise(replace(fine, per_channel=each)) for each in (False, True))
    return split < GAIN * whole
