"""Where a DLC's error comes from: each operator's result against the float32 model's, on a few windows.

Computed here, not on the phone: snpe-net-run writes the outputs only. ONNX Runtime runs the DLC's graph as a runtime
does: in float32 on the CPU; each result rounded to float16 on the GPU, and on the DSP to the fixed point of its
encoding, or to float16 where it has none. Results are found by name: converters keep the names of the ONNX file.
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
OF_FIXED_POINT = re.compile(r"_fixed\d+$")  # how the converter's names end then

Json = dict[str, Any]


def layers_of(bundle: Bundle, runtime: Runtime) -> list[Json] | None:
    """The document's `layers`: every operator that computes and whose result the float32 model has too, in the order of
    the graph; None where there is none, or nothing that could differ.

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
    """The float32 model as it is rewritten for the HTP, which folds factors, so that names stand for other values,
    and with channels scaled as the DLC's are; and the names there of the graph's results. No model where the bundle
    has none, or where this release does not find the channels that were scaled."""
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
    """The graph with channels scaled as build did before it rounded them.

    Raises:
        ValueError: the exponents are no such file, or of another graph
    """
    if bundle.manifest.model.equalized is None:
        return fit
    path = bundle.path / layout.HOST / layout.EXPONENTS
    exponents = np.load(path, allow_pickle=False) if path.is_file() else np.zeros(0, np.int8)
    if not isinstance(exponents, np.ndarray) or exponents.dtype != np.int8 or exponents.ndim != 1:
        raise ValueError(f"{path} holds no exponents")
    return rescaled(fit, exponents.tolist())


def _plain(name: str) -> str:
    """A tensor's name as the converter writes it, without what it adds for fixed point."""
    return OF_FIXED_POINT.sub("", re.sub(r"\W", "_", name))


def _as_on(runtime: Runtime, graph: Graph) -> onnx.ModelProto:
    """The graph with the rounding of a runtime."""
    fixed = any(graph.tensors[name].encoding for op in graph.operators for name in op.outputs)
    if runtime == "dsp" and fixed:
        return _rounded(to_onnx(graph), graph)
    return to_onnx(graph, half=runtime != "cpu")


def _rounded(model: onnx.ModelProto, graph: Graph) -> onnx.ModelProto:
    """The model with each result at the fixed point that its tensor has."""
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
    """Nodes from NAME:wide to NAME: to the nearest multiple of the scale within the encoding's range."""
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
    """The values within a tensor's range, where that begins at zero: quantizers leave the ReLU that follows to it."""
    never_negative = tensor.encoding is not None and tensor.encoding.is_never_negative(tensor.dtype)
    return np.maximum(values, 0) if never_negative else values


def _of_real_tokens(values: npt.NDArray[Any], real: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The values, (1, n), without padding: of every axis as long as the window, the real tokens only."""
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
