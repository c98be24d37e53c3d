"""Converts a float32 graph to float16: half the size, and the HTP and the GPU compute in it anyway."""

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper

from bundler.errors import ModelInvalid
from bundler.model.calibrate import float_tensors
from bundler.model.graph import Feed, FitGraph, runner
from bundler.model.onnx_graph import Net, attribute, node

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
LARGEST = float(np.finfo(np.float16).max)
NEAR = LARGEST / 4  # other questions than the examined ones may give larger values


def check_range(fit: FitGraph, feeds: Iterable[Feed]) -> str:
    """Returns a sentence about the tensor that comes near float16's largest value on these windows, int32 (1, length)
    each; empty if none does.

    Raises:
        ModelInvalid: one exceeds it, or is not finite.
    """
    names = float_tensors(fit.model)
    session = runner(fit.model, names)
    largest = dict.fromkeys(names, 0.0)
    for feed in feeds:
        for name, value in zip(names, session.run(names, dict(feed)), strict=True):
            largest[name] = float(np.maximum(largest[name], np.abs(value).max(initial=0)))  # NaN stays NaN
    beyond = next((name for name in names if not largest[name] <= LARGEST), None)
    if beyond is not None:
        what = f"tensor {beyond} reaches {largest[beyond]:.3g} on the questions, and float16 ends at {LARGEST:,.0f}"
        raise ModelInvalid(fit.name, what, "Build with --precision w8a16, or with fp32 for the phone's CPU.")
    near = max(names, key=lambda name: largest[name], default=None)
    if near is None or largest[near] <= NEAR:
        return ""
    return f"tensor {near} reaches {largest[near]:,.0f} on the questions, and float16 ends at {LARGEST:,.0f}"


def in_float16(fit: FitGraph) -> onnx.ModelProto:
    """Returns the graph with weights and activations in float16; inputs stay int32, outputs float32.

    Raises:
        ModelInvalid: a weight is too large for float16.
    """
    net = Net(fit.model)
    for name, value in net.constants.items():
        if value.dtype == np.float32:
            if np.abs(value).max(initial=0) > LARGEST:
                raise ModelInvalid(fit.name, f"weight {name} does not fit float16", "Use --precision fp32.")
            net.constants[name] = value.astype(np.float16)
    for each in net.ordered():
        if each.op_type == "Cast" and attribute(each, "to") == FLOAT:
            del each.attribute[:]
            each.attribute.append(helper.make_attribute("to", HALF))
    for name in net.output_names:
        maker, half = net.maker(name), net.fresh(name)
        assert maker is not None  # an output is made by a node
        net.rename_output(maker, name, half)
        net.insert(node("Cast", [half], name, to=FLOAT))
    return net.to_model()
