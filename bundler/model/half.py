"""A float32 graph in float16: half the size, and what the HTP and the GPU compute with anyway."""

import numpy as np
import onnx
from onnx import helper

from bundler.errors import ModelInvalid
from bundler.model.graph import FitGraph
from bundler.model.onnx_graph import Net, attribute, node

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
LARGEST = float(np.finfo(np.float16).max)


def in_float16(fit: FitGraph) -> onnx.ModelProto:
    """The graph with weights and activations in float16; inputs stay int32, outputs float32.

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
        _cast_output(net, name)
    return net.to_model()


def _cast_output(net: Net, name: str) -> None:
    maker = net.maker(name)
    assert maker is not None  # an output is made by a node
    half = net.fresh(name)
    net.rename_output(maker, name, half)
    net.insert(node("Cast", [half], name, to=FLOAT))
