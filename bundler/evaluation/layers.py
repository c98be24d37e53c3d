"""Locates a DLC's error: compares each operator's result with the float32 model's, on a few windows.

Computed here, not on the phone, since snpe-net-run writes the outputs only. ONNX Runtime runs the DLC's graph like the
runtime: in float32 on the CPU; with each result rounded to float16 on the GPU, and on the DSP to the fixed point of its
encoding, or to float16 if it has none. Results are matched by name: converters keep the names of the ONNX file.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from bundler import layout
from bundler.bundle import Bundle
from bundler.dlc.encoding import Encoding
from bundler.dlc.graph import Graph, Operator, Tensor, read_graph
from bundler.dlc.to_onnx import to_onnx
from bundler.dlc.writer import MOVEMENT
from bundler.model.calibrate import at_tokens
from bundler.model.graph import FitGraph, fit_for_htp, runner
from bundler.model.rescale import rescaled
from bundler.model.sources import load_onnx
from bundler.runs.comparison import Comparison, known
from bundler.runs.reference import OnnxNetwork, real_tokens, verify_logits, window_inputs
from bundler.types import Runtime

WINDOWS = 2
OF_FIXED_POINT = re.compile(r"_fixed\d+$")  # the suffix that the converter adds to fixed-point names

Json = dict[str, Any]


def layers_of(bundle: Bundle, runtime: Runtime) -> list[Json] | None:
    """Returns the document's `layers`: every computing operator whose result the float32 model has too, in graph order;
    None if there are none, or if nothing could differ.

    Raises:
        DlcInvalid: the graph has no translation; BundleInvalid: the bundle is of an older release
    """
    graph = read_graph(bundle.path / layout.DEVICE / layout.MODEL)
    exact, names = _reference(bundle, graph)
    if exact is None and runtime == "cpu":
        return None
    operators = [op for op in graph.operators if op.type not in MOVEMENT and op.outputs[0] in names]
    if not operators:
        return None
    wanted = [op.outputs[0] for op in operators]
    inside = [names[name] for name in wanted]
    one = OnnxNetwork(runner(exact or to_onnx(graph), inside), inside)
    other = OnnxNetwork(runner(_as_on(runtime, graph), wanted), wanted)
    comparisons = [Comparison() for _ in operators]
    for line in verify_logits(bundle)[0][:WINDOWS].tolist():
        window = bundle.manifest.windows[line]
        feed, real = window_inputs(bundle, window), real_tokens(bundle, [window])[0]
        expected, found = one.execute(feed), other.execute(feed)
        for op, comparison in zip(operators, comparisons, strict=True):
            a, b = expected[names[op.outputs[0]]], found[op.outputs[0]]
            if a.size == b.size:
                like = _clamped(a.reshape(b.shape), graph.tensors[op.outputs[0]])
                rows = [_of_real_tokens(values, real) for values in (like, b)]
                comparison.add(rows[0], rows[1], np.ones(rows[0].shape, np.bool_))
    return [_layer(op, comparison) for op, comparison in zip(operators, comparisons, strict=True) if comparison.rows]


def _reference(bundle: Bundle, graph: Graph) -> tuple[onnx.ModelProto | None, dict[str, str]]:
    """Returns the float32 model, rewritten for the HTP (which folds factors and so changes named values) and with the
    DLC's channel scales, and its names for the graph's results. Returns no model if the bundle has none, or if this
    release does not find the scaled channels."""
    path = bundle.path / layout.HOST / layout.REFERENCE
    results = [name for op in graph.operators for name in op.outputs]
    if not path.exists():
        return None, {name: name for name in results}
    length = bundle.manifest.inputs[0].shape[1]
    try:
        model = _scaled(bundle, fit_for_htp(load_onnx(path), length, bundle.manifest.model.name)).model
    except ValueError:
        return None, {name: name for name in results}
    known = {_plain(name): name for node in model.graph.node for name in node.output}
    return model, {name: known[_plain(name)] for name in results if _plain(name) in known}


def _scaled(bundle: Bundle, fit: FitGraph) -> FitGraph:
    """Scales the graph's channels as build did before rounding.

    Raises:
        ValueError: the file holds no exponents, or another graph's
    """
    if bundle.manifest.model.equalized is None:
        return fit
    path = bundle.path / layout.HOST / layout.EXPONENTS
    exponents = np.load(path, allow_pickle=False) if path.is_file() else np.zeros(0, np.int8)
    if not isinstance(exponents, np.ndarray) or exponents.dtype != np.int8 or exponents.ndim != 1:
        raise ValueError(f"{path} holds no exponents")
    return rescaled(fit, exponents.tolist())


def _plain(name: str) -> str:
    """Returns a tensor's name as the converter writes it, without its fixed-point suffix."""
    return OF_FIXED_POINT.sub("", re.sub(r"\W", "_", name))


def _as_on(runtime: Runtime, graph: Graph) -> onnx.ModelProto:
    """Returns the graph with the rounding of a runtime."""
    fixed = any(graph.tensors[name].encoding for op in graph.operators for name in op.outputs)
    if runtime == "dsp" and fixed:
        return _rounded(to_onnx(graph), graph)
    return to_onnx(graph, half=runtime != "cpu")


def _rounded(model: onnx.ModelProto, graph: Graph) -> onnx.ModelProto:
    """Returns the model with each result rounded to its tensor's fixed point."""
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        for place, name in enumerate(node.output):
            tensor = graph.tensors.get(name)
            if tensor is not None and tensor.encoding is not None and tensor.encoding.axis is None:
                node.output[place] = f"{name}:wide"
                nodes += _rounding(name, tensor.encoding, tensor.encoding.limits(tensor.dtype), model)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _rounding(
    name: str, encoding: Encoding, limits: tuple[int, int], model: onnx.ModelProto
) -> Sequence[onnx.NodeProto]:
    """Returns nodes from NAME:wide to NAME that round to the nearest multiple of the scale within the range."""
    low, high = (limit + encoding.offsets[0] for limit in limits)
    for role, value in (("scale", encoding.scales[0]), ("low", low), ("high", high)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), f"{name}:{role}"))
    return [
        helper.make_node("Div", [f"{name}:wide", f"{name}:scale"], [f"{name}:steps"]),
        helper.make_node("Round", [f"{name}:steps"], [f"{name}:whole"]),
        helper.make_node("Clip", [f"{name}:whole", f"{name}:low", f"{name}:high"], [f"{name}:kept"]),
        helper.make_node("Mul", [f"{name}:kept", f"{name}:scale"], [name]),
    ]


def _clamped(values: npt.NDArray[Any], tensor: Tensor) -> npt.NDArray[Any]:
    """Clamps the values if the tensor's range begins at zero: quantizers replace a following ReLU by such a range."""
    never_negative = tensor.encoding is not None and tensor.encoding.is_never_negative(tensor.dtype)
    return np.maximum(values, 0) if never_negative else values


def _of_real_tokens(values: npt.NDArray[Any], real: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Returns the values, (1, n), of real tokens only, along every axis as long as the window."""
    axes = [axis for axis, size in enumerate(values.shape) if size == len(real)]
    return at_tokens(values, axes, real).astype(np.float64).reshape(1, -1)


def _layer(op: Operator, comparison: Comparison) -> Json:
    likeness = comparison.likeness()
    return {
        "name": _plain(op.outputs[0]).strip("_"),
        "type": op.type,
        "cosine": known(likeness.cosine, 7),
        "sqnr_db": known(likeness.sqnr_db, 3),
        "largest_difference": known(likeness.largest_difference, 7),
    }
