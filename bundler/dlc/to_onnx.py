"""Translates a DLC's graph to an ONNX model, which ONNX Runtime executes in place of SNPE's CPU and GPU runtimes.

Quantized tensors become float32. Weights are dequantized. Activations are not rounded, and are clamped only where an
encoding starts at zero, since a quantizer removed a ReLU there.
"""

import onnx
from onnx import helper

from bundler.dlc.graph import Graph, Tensor
from bundler.dlc.translations import TRANSLATIONS
from bundler.dlc.writer import UnsupportedOperator, Writer, element_type
from bundler.errors import DlcInvalid

OPSET = 17
IR_VERSION = 8


def _value_info(tensor: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, element_type(tensor), tensor.shape)


def to_onnx(graph: Graph, *, half: bool = False) -> onnx.ModelProto:
    """Returns an ONNX model of the DLC's graph, in float32; with `half`, each result is rounded to float16.

    Inputs and outputs keep the DLC's names; real-valued ones are float32.

    Raises:
        DlcInvalid: an operator has no translation.
    """
    model = Writer(graph, half=half)
    model.begin()
    for op in graph.operators:
        translate = TRANSLATIONS.get(op.type)
        if translate is None:
            raise DlcInvalid(graph.name, f"operator {op.type} ({op.name}) is not known to the CPU runtime")
        first = len(model.nodes)
        try:
            translate(model, op)
        except UnsupportedOperator as unsupported:
            raise DlcInvalid(graph.name, f"{unsupported} ({op.name}) is not known to the CPU runtime") from unsupported
        model.finish(op, first)
    onnx_graph = helper.make_graph(
        model.nodes,
        "dlc",
        [_value_info(graph.tensors[name]) for name in graph.inputs],
        [_value_info(graph.tensors[name]) for name in graph.outputs],
        model.initializers,
    )
    return helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
