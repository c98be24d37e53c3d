"""Compares inspect's report of a DLC with the ONNX file that it came from."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto

from bundler.dlc.inspect import inspect_dlc
from bundler.model.graph import fit_for_htp
from bundler.model.sources import load_onnx
from bundler.types import TensorSpec

LENGTH = 384
STORED = {  # how logits leave the network, by precision; "mixed" is --mixed
    "fp32": {"float32"},
    "fp16": {"float32"},
    "w16a16": {"uint16"},
    "w8a16": {"uint16"},
    "w8a8": {"uint16"},
    "w8a8 mixed": {"uint16"},
}


def check_inspect(dlc: Path, model: Path, precision: str) -> None:
    """Checks names, shapes and the number of parameters against the ONNX file, and dtypes against the precision."""
    report, told, shape = inspect_dlc(dlc), _told(model), (1, LENGTH)
    assert {t.spec for t in report.inputs} == {TensorSpec(name, "int32", shape) for name in told.inputs}
    assert {t.dtype for t in report.outputs} <= STORED[precision]
    assert {(t.name, t.shape) for t in report.outputs} == {(name, shape) for name in told.outputs}
    assert all((t.encoding is not None) == precision.startswith("w") for t in report.outputs)
    most = {"w8a8", "w8a16"} if precision == "w8a8 mixed" else {precision}  # half of its operators may have 16 bits
    assert report.precision in most
    assert report.parameters == told.fitted_parameters
    assert abs(report.parameters / told.parameters - 1) < 0.01  # factors are multiplied into weights
    assert sum(report.parameter_dtypes.values()) == report.parameters
    assert report.size_bytes == dlc.stat().st_size


class _Told(NamedTuple):
    """The facts of an ONNX file; `fitted_parameters` counts them after the graph was fitted for the HTP."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: int
    fitted_parameters: int


@cache
def _told(path: Path) -> _Told:
    made = load_onnx(path)
    names = (tuple(value.name for value in values) for values in (made.graph.input, made.graph.output))
    return _Told(*names, float_elements(made), float_elements(fit_for_htp(made, LENGTH).model))  # type: ignore[arg-type, call-arg]


def float_elements(made: onnx.ModelProto) -> int:
    """Counts the elements of the float initializers and Constant nodes used by operators, except a Pad's value."""
    pads = {node.input[2] for node in made.graph.node if node.op_type == "Pad" and len(node.input) > 2}
    tensors = {weight.name: weight for weight in made.graph.initializer}
    tensors |= {node.output[0]: node.attribute[0].t for node in made.graph.node if node.op_type == "Constant"}
    found = (t for name, t in tensors.items() if t.data_type == TensorProto.FLOAT and name not in pads)
    return sum(int(np.prod(t.dims)) for t in found)
