"""Which operators get 16 bits where all others have 8.

A few channels of BERT's residual sums are a hundred times as large as the others, and LayerNorm's result depends on all
of them. The sums, what is added and what LayerNorm makes of them need more than 8 bits (Bondarenko 2021). Of MobileBERT
all sums together do: what is lost in one goes through to the end, and adds up over the layers. Attention's
shares lie between 0 and 1, and most are less than a step of 8 bits. Gelu makes next to nothing of most that it reads,
and what is left is small beside the range. The largest logits make the answer, and those of other questions may be
larger than the calibrated ones: 16 bits leave room for them (quantize.HEADROOM).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import onnx

from bundler.model.calibrate import Calibration
from bundler.model.graph import Feed, FitGraph
from bundler.model.mixed import SHARE, Measure
from bundler.model.onnx_graph import Array, Net
from bundler.model.quantize import MOVES, Scheme
from bundler.types import Progress

RANKED = 2  # windows are enough to tell loud parts from others
RELEVANT = 0.02  # the share of the noise of all parts that one has to make
WINDOWS = 16  # tell whether it is worth it: of four, one would decide
HALF = 0.5  # of them, and more, must gain it: a share of the error of all would be that of the worst
GAIN = 0.4  # the share of the logits' error that is left, at most
MORE_GAIN = 0.9  # the same of attention and NoNorm's sums after them, and of the rest after both


def loud_operators(
    fit: FitGraph, calibration: Calibration, scheme: Scheme, feeds: Sequence[Feed], progress: Progress
) -> frozenset[str]:
    """The operators (by their first output) that make the logits, and those whose rounding to 8 bits makes most of the
    noise: of LayerNorm's, of attention's and of NoNorm's sums, and behind loud sums of the rest. None of these where 16
    bits for them do not bring the logits much nearer, or more than half of all would have them."""
    net, measure = Net(fit.model), Measure(fit, calibration, feeds[:WINDOWS])
    nothing, wide = frozenset[str](), logits_of(net)

    def lost(wide: frozenset[str]) -> Array:
        return measure.parts(replace(scheme, wide=wide))[:, 0]

    left = lost(wide)
    parts = parts_of(net)
    loud = _loudest(net, parts, Measure(fit, calibration, feeds[:RANKED]), scheme, progress) if parts else nothing
    rest = rest_of(net) if loud else loud
    inner = sums_of(net) | attention_of(net)
    most = SHARE * len(_operators(net))
    for more, gain, behind in ((loud, GAIN, nothing), (inner, MORE_GAIN, nothing), (rest, MORE_GAIN, loud)):
        if not more or not behind <= wide or len(wide | more) > most:
            continue
        if np.mean((after := lost(wide | more)) < gain * left) > HALF:
            wide, left = wide | more, after
    return wide


def _operators(net: Net) -> frozenset[str]:
    """All that compute something."""
    return frozenset(each.output[0] for each in net.ordered() if each.op_type not in MOVES)


def _loudest(
    net: Net, parts: Sequence[frozenset[str]], measure: Measure, scheme: Scheme, progress: Progress
) -> frozenset[str]:
    """Of LayerNorm's parts those that make most of the noise."""
    everything = _operators(net)
    base = measure.noise(replace(scheme, wide=everything))
    costs = []
    for number, part in enumerate(parts):
        progress("measuring LayerNorm's operators at 8 bits", number, len(parts))
        costs.append(max(measure.noise(replace(scheme, wide=everything - part)) - base, 0.0))
    loud = [part for part, cost in zip(parts, costs, strict=True) if cost > RELEVANT * sum(costs)]
    return frozenset().union(*loud)


def logits_of(net: Net) -> frozenset[str]:
    """The operators that make the outputs."""
    return frozenset(each.output[0] for name in net.output_names if (each := _source(net, name)) is not None)


def parts_of(net: Net) -> list[frozenset[str]]:
    """Operators that get 16 bits together: each LayerNorm's with what its sum is made of."""
    return [frozenset(_summed(net, each)) for each in net.ordered() if each.op_type == "LayerNormalization"]


def sums_of(net: Net) -> frozenset[str]:
    """Without LayerNorm: every sum of two activations but scores, and what factors and terms make of it (NoNorm)."""
    found, nodes = set[str](), net.ordered()
    for each in nodes if all(each.op_type != "LayerNormalization" for each in nodes) else ():
        read = [name for name in each.input if name not in net.constants]
        if each.op_type == "Add" and len(read) == 2:
            scores = any(reader.op_type == "Softmax" for reader in net.readers(each.output[0]))
            found.update(() if scores else each.output[:1])
        elif each.op_type in ("Add", "Mul") and (made := _source(net, read[0])) is not None:
            found.update(each.output[:1] if made.output[0] in found else ())
    return frozenset(found)


def attention_of(net: Net) -> frozenset[str]:
    """Attention's shares, and what they weigh."""
    shares = [each.output[0] for each in net.ordered() if each.op_type == "Softmax"]
    return frozenset(name for share in shares for name in (share, *(each.output[0] for each in net.readers(share))))


def rest_of(net: Net) -> frozenset[str]:
    """Every LayerNorm and the sum that it reads; every product that Gelu reads, and what is added to it."""
    found = set[str]()
    for each in net.ordered():
        if each.op_type == "LayerNormalization":
            total = _source(net, each.input[0])
            found |= {each.output[0], *(total.output if total is not None and total.op_type == "Add" else ())}
        elif each.op_type == "Gelu":
            found.update(_product(net, _source(net, each.input[0])))
    return frozenset(found)


def _summed(net: Net, norm: onnx.NodeProto) -> Iterator[str]:
    """LayerNorm, the sum, and what is added, from the activation on that its product reads."""
    yield norm.output[0]
    total = _source(net, norm.input[0])
    if total is None or total.op_type != "Add":
        return
    yield total.output[0]
    for name in total.input:
        yield from _product(net, _source(net, name))


def _product(net: Net, each: onnx.NodeProto | None) -> Iterator[str]:
    """A product with weights, its bias, and the function that it reads; nothing of anything else."""
    made = []
    if each is not None and each.op_type == "Add" and any(name in net.constants for name in each.input):
        made.append(each.output[0])
        each = next((found for name in each.input if (found := _source(net, name)) is not None), None)
    if each is None or each.op_type not in ("Gemm", "MatMul") or each.input[1] not in net.constants:
        return
    yield from (*made, each.output[0])
    read = _source(net, each.input[0])
    if read is not None and read.op_type == "Gelu":  # of the second product of a feed-forward part
        yield read.output[0]


def _source(net: Net, name: str) -> onnx.NodeProto | None:
    """What made the tensor, before it was moved."""
    each = net.maker(name)
    while each is not None and each.op_type in MOVES:
        each = net.maker(each.input[0])
    return each
