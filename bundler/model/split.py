"""Whether the weights of a quantized model get a scale for each channel.

LayerNorm models gain by it, since a few of their channels are much larger than the others (Bondarenko 2021). Some
runtimes besides the DSP's lack such weights, so a small gain is not worth it.
"""

from collections.abc import Sequence
from dataclasses import replace

from bundler.model.calibrate import Calibration
from bundler.model.graph import Feed, FitGraph
from bundler.model.mixed import Measure
from bundler.model.quantize import Scheme

WINDOWS = 4  # tell whether it is worth it
GAIN = 0.25  # the share of the logits' error that is left, at most


def splitting_pays(fit: FitGraph, calibration: Calibration, scheme: Scheme, feeds: Sequence[Feed]) -> bool:
    """Whether scales for each channel bring the logits of these windows much nearer.

    It is measured with activations of 16 bits, since the rounding of 8 would hide what weights cost.
    """
    if scheme.weight_bits > 8:
        return False
    measure, fine = Measure(fit, calibration, feeds[:WINDOWS]), replace(scheme, activation_bits=16)
    whole, split = (measure.noise(replace(fine, per_channel=each)) for each in (False, True))
    return split < GAIN * whole
