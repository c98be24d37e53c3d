"""Chooses the operators that get 16 bits where all others have 8.

A few channels of BERT's residual sums are a hundred times as large as the others, and LayerNorm's result depends on all
of them. The sums, their operands and LayerNorm's results need more than 8 bits (Bondarenko 2021). In MobileBERT all
sums need them together: the error of each sum reaches the output, and the errors add up over the layers. Attention
weights lie between 0 and 1, and most are smaller than an 8-bit step. Gelu maps most of its inputs to nearly zero; its
other outputs are small compared to the range. The largest logits determine the answer, and other questions may exceed
the calibrated range: 16 bits leave room for that (quantize.HEADROOM).
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

RANKED = 2  # windows; enough to tell loud parts from others
RELEVANT = 0.02  # the smallest share of the total noise that makes a part loud
WINDOWS = 16  # windows to decide whether it is worth it; among four, a single one could decide
HALF = 0.5  # more than this share of the windows must improve; a share of the summed error would follow the worst one
GAIN = 0.4  # the largest allowed share of the logits' error that remains
MORE_GAIN = 0.9  # the same for attention with NoNorm's sums after them, and for the rest after both


def loud_operators(
    fit: FitGraph, calibration: Calibration, scheme: Scheme, feeds: Sequence[Feed], progress: Progress
) -> frozenset[str]:
    """Returns the operators (by their first output) that get 16 bits: those of the logits and, in order, LayerNorm's
    noisiest at 8 bits, attention with NoNorm's sums and, if LayerNorm's are included, the rest. Skips a group that
    brings the logits little nearer, or that takes the result above half of all operators."""
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
    """Returns all operators that compute something."""
    return frozenset(each.output[0] for each in net.ordered() if each.op_type not in MOVES)


def _loudest(
    net: Net, parts: Sequence[frozenset[str]], measure: Measure, scheme: Scheme, progress: Progress
) -> frozenset[str]:
    """Returns those of LayerNorm's parts that cause most of the noise."""
    everything = _operators(net)
    base = measure.noise(replace(scheme, wide=everything))
    costs = []
    for number, part in enumerate(parts):
        progress("measuring LayerNorm's operators at 8 bits", number, len(parts))
        costs.append(max(measure.noise(replace(scheme, wide=everything - part)) - base, 0.0))
    loud = [part for part, cost in zip(parts, costs, strict=True) if cost > RELEVANT * sum(costs)]
    return frozenset().union(*loud)


def logits_of(net: Net) -> frozenset[str]:
    """Returns the operators that produce the outputs."""
    return frozenset(each.output[0] for name in net.output_names if (each := _source(net, name)) is not None)


def parts_of(net: Net) -> list[frozenset[str]]:
    """Returns groups of operators that get 16 bits together: each LayerNorm with the operands of its sum."""
    return [frozenset(_summed(net, each)) for each in net.ordered() if each.op_type == "LayerNormalization"]


def sums_of(net: Net) -> frozenset[str]:
    """Returns, for models without LayerNorm, all sums of two activations except scores, with NoNorm's steps on them."""
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
    """Returns the Softmax operators of attention, and the products with their results."""
    shares = [each.output[0] for each in net.ordered() if each.op_type == "Softmax"]
    return frozenset(name for share in shares for name in (share, *(each.output[0] for each in net.readers(share))))


def rest_of(net: Net) -> frozenset[str]:
    """Returns each LayerNorm and the sum that it reads, and each product that Gelu reads, with its bias."""
    found = set[str]()
    for each in net.ordered():
        if each.op_type == "LayerNormalization":
            total = _source(net, each.input[0])
            found |= {each.output[0], *(total.output if total is not None and total.op_type == "Add" else ())}
        elif each.op_type == "Gelu":
            found.update(_product(net, _source(net, each.input[0])))
    return frozenset(found)


def _summed(net: Net, norm: onnx.NodeProto) -> Iterator[str]:
    """Yields the LayerNorm, its sum, and the sum's operands, back to the activation that their product reads."""
    yield norm.output[0]
    total = _source(net, norm.input[0])
    if total is None or total.op_type != "Add":
        return
    yield total.output[0]
    for name in total.input:
        yield from _product(net, _source(net, name))


def _product(net: Net, each: onnx.NodeProto | None) -> Iterator[str]:
    """Yields a product with weights, its bias, and the Gelu that it reads; nothing for other operators."""
    made = []
    if each is not None and each.op_type == "Add" and any(name in net.constants for name in each.input):
        made.append(each.output[0])
        each = next((found for name in each.input if (found := _source(net, name)) is not None), None)
    if each is None or each.op_type not in ("Gemm", "MatMul") or each.input[1] not in net.constants:
        return
    yield from (*made, each.output[0])
    read = _source(net, each.input[0])
    if read is not None and read.op_type == "Gelu":  # in the second product of a feed-forward part
        yield read.output[0]


def _source(net: Net, name: str) -> onnx.NodeProto | None:
    """Returns the node that computed the tensor, skipping operators that only move values."""
    each = net.maker(name)
    while each is not None and each.op_type in MOVES:
        each = net.maker(each.input[0])
    return each
