"""Adapts any exporter's question-answering graph to the HTP: fixed shapes, int32 inputs, a finite additive mask.

The graph computes the same in float32; `largest_difference` measures this.
"""

import tempfile
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from bundler.dlc.onnx_sessions import cpu_session
from bundler.errors import ModelInvalid
from bundler.model.fuse import fuse_constants
from bundler.model.mask import MASK, NoAdditiveMeaning, rewrite_mask
from bundler.model.onnx_graph import Array, Net, attribute, opset_of, sizes
from bundler.model.sources import NEEDED, first_line
from bundler.types import OUTPUTS, TensorSpec

OPSET = 21  # the first version whose QuantizeLinear supports 16 bits
OLDEST_OPSET = 9
INT32, INT64, FLOAT = onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.FLOAT

Feed = Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class FitGraph:
    """A float32 model that the HTP takes: int32 inputs (1, length), float32 outputs (1, length). Compared by identity.

    `masked_scores` names the attention scores after the mask was added, (1, heads, length, length) each; `name` is the
    model's, for messages.
    """

    name: str
    model: onnx.ModelProto
    masked_scores: tuple[str, ...]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(value.name, "int32", (1, self.length)) for value in self.model.graph.input)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(value.name, "float32", (1, self.length)) for value in self.model.graph.output)

    @property
    def length(self) -> int:
        """Returns the number of tokens of a window."""
        return int(self.model.graph.input[0].type.tensor_type.shape.dim[1].dim_value)


def fit_for_htp(model: onnx.ModelProto, length: int, name: str = "model") -> FitGraph:
    """Returns the model with inputs of (1, length), rewritten for the HTP.

    Raises:
        ModelInvalid: its opset is too old, its shapes do not follow from `length`, or its mask has no additive meaning.
    """
    fixed = _at_opset(_plain(model), name)
    _fix_shapes(fixed, length)
    folded = simplified(fixed, length, name)
    _refuse_branches(folded, name)
    net = Net(folded)
    try:
        masked = rewrite_mask(net, length)
    except NoAdditiveMeaning as refused:
        what = f"attention_mask is used in a way that has no additive equivalent: {refused}"
        raise ModelInvalid(name, what, "Export the model with eager attention.") from refused
    _take_int32(net)
    _merge_views(net)
    fuse_constants(net)
    return FitGraph(name, _inferred(net.to_model(), length, name), tuple(masked))


def simplified(model: onnx.ModelProto, length: int, name: str = "model") -> onnx.ModelProto:
    """Applies ONNX Runtime's basic optimizations: folds constants, recognizes LayerNorm, Gelu and Gemm.

    Raises:
        ModelInvalid
    """
    with tempfile.TemporaryDirectory(prefix="mbqa-") as folder:
        path = Path(folder) / "simplified.onnx"
        try:
            cpu_session(model.SerializeToString(), optimize="basic", optimized=path)
        except Exception as refused:  # ONNX Runtime's errors have no common base
            hint = "Give the number of tokens that it takes with --seq-len, or export it again."
            what = f"ONNX Runtime refuses it with {length} tokens: {first_line(refused)}"
            raise ModelInvalid(name, what, hint) from refused
        return onnx.load(path)


def runner(model: onnx.ModelProto, outputs: Iterable[str] = ()) -> Any:
    """Returns a CPU session that runs the model unoptimized and also returns the tensors `outputs`."""
    probed = deepcopy(model)
    present = {value.name for value in probed.graph.output}
    probed.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in outputs if name not in present
    )
    return cpu_session(probed.SerializeToString(), optimize="nothing")


def logits_of(model: onnx.ModelProto, feeds: Iterable[Feed]) -> list[dict[str, Array]]:
    """Returns the model's outputs (1, length) by name, for each feed."""
    session, names = runner(model), [value.name for value in model.graph.output]
    return [dict(zip(names, session.run(names, dict(feed)), strict=True)) for feed in feeds]


def tokens_of(feed: Feed, length: int) -> npt.NDArray[np.bool_]:
    """Returns a mask (length,) of a window's positions: True at tokens, False at padding."""
    return feed[MASK][0] == 1 if MASK in feed else np.ones(length, np.bool_)


def largest_difference(original: onnx.ModelProto, fit: FitGraph, feeds: Iterable[Feed]) -> tuple[float, float]:
    """Returns the largest |difference| of real tokens' logits, and the largest |logit|; feeds are int32 (1, length).

    Both are NaN if a logit is.
    """
    names = [spec.name for spec in fit.outputs]
    first, second = runner(original), runner(fit.model)
    dtypes = {value.name: value.type.tensor_type.elem_type for value in original.graph.input}
    differences, sizes = [0.0], [0.0]
    for feed in feeds:
        real = tokens_of(feed, fit.length)
        taken = {name: kind for name, kind in dtypes.items() if name in feed}
        given = {name: feed[name].astype(onnx.helper.tensor_dtype_to_np_dtype(kind)) for name, kind in taken.items()}
        for a, b in zip(first.run(names, given), second.run(names, dict(feed)), strict=True):
            differences.append(float(np.abs(a - b)[0][real].max(initial=0)))
            sizes.append(float(np.abs(a)[0][real].max(initial=0)))
    return float(np.max(differences)), float(np.max(sizes))


def _at_opset(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Converts the model to OPSET."""
    from onnx import version_converter

    opset = opset_of(model)
    if opset < OLDEST_OPSET:
        raise ModelInvalid(name, f"its opset {opset} is too old", "Export it again with opset 14 or newer.")
    foreign = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx"})
    if foreign:
        raise ModelInvalid(name, f"holds operators of {foreign[0]}", "Export it without optimization (no -O1 to -O4).")
    if opset == OPSET:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as refused:  # the converter's errors have no common base
        hint = "Export it again with opset 14 to 21."
        raise ModelInvalid(
            name, f"opset {opset} cannot be brought to {OPSET}: {first_line(refused)}", hint
        ) from refused


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy with inlined functions, no inputs except those to be fed, and no outputs except the logits."""
    plain = deepcopy(model)
    if plain.functions:
        plain = onnx.inliner.inline_local_functions(plain)
    plain.ir_version = max(plain.ir_version, 4)  # before version 4, weights had to be among the inputs
    weights = {tensor.name for tensor in plain.graph.initializer}
    for value in [value for value in plain.graph.input if value.name in weights]:
        plain.graph.input.remove(value)
    for value in [value for value in plain.graph.output if value.name not in OUTPUTS]:
        plain.graph.output.remove(value)
    return plain


def _fix_shapes(model: onnx.ModelProto, length: int) -> None:
    """Sets the inputs' shapes to (1, length); clears all other shapes, to be inferred again."""
    del model.graph.value_info[:]
    for value in model.graph.input:
        del value.type.tensor_type.shape.dim[:]
        for size in (1, length):
            value.type.tensor_type.shape.dim.add().dim_value = size
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def _refuse_branches(model: onnx.ModelProto, name: str) -> None:
    for node in model.graph.node:
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise ModelInvalid(name, f"holds control flow ({node.op_type})", "Export it without branches and loops.")


def _inferred(model: onnx.ModelProto, length: int, name: str) -> onnx.ModelProto:
    """Returns the model with the shape of every tensor."""
    try:
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        onnx.checker.check_model(model)
    except Exception as refused:  # the libraries' errors have no common base
        raise ModelInvalid(name, f"its shapes contradict each other: {first_line(refused)}") from refused
    shapes = {value.name: sizes(value) for value in (*model.graph.value_info, *model.graph.output)}
    for node in model.graph.node:
        for output in filter(None, node.output):
            if None in shapes.get(output, [None]):
                what = f"the shape of {output} ({node.op_type}) does not follow from a length of {length} tokens"
                raise ModelInvalid(name, what, "Export the model with fixed shapes.")
    for value in model.graph.output:
        if shapes[value.name] != [1, length]:
            what = f"output {value.name} has shape {shapes[value.name]} for {length} tokens, not {[1, length]}"
            raise ModelInvalid(name, what, NEEDED)
    return model


def _take_int32(net: Net) -> None:
    """Makes inputs int32, with a cast for operators that need 64 bits."""
    for value in net.inputs:
        if value.type.tensor_type.elem_type == INT32:
            continue
        value.type.tensor_type.elem_type = INT32
        others = [each for each in net.readers(value.name) if each.op_type not in ("Gather", "Cast")]
        if others:
            wide = net.fresh(value.name)
            net.redirect(value.name, wide, among=others)
            net.insert(onnx.helper.make_node("Cast", [value.name], [wide], name=wide, to=INT64))


def _merge_views(net: Net) -> None:
    """Merges a Reshape of a Reshape into one, and equal operators on equal inputs into one."""
    seen: dict[tuple[Any, ...], str] = {}
    for each in net.ordered():
        source = net.maker(each.input[0]) if each.op_type == "Reshape" else None
        if source is not None and source.op_type == "Reshape" and _without_zeros(net, each):
            net.connect(each, 0, source.input[0])
        key = (each.op_type, tuple(_identity(net, name) for name in each.input), _attributes(each))
        if each.output[0] in net.output_names or len(each.output) > 1:
            continue
        if key in seen:
            net.bypass(each, seen[key])
        else:
            seen[key] = each.output[0]


def _without_zeros(net: Net, each: onnx.NodeProto) -> bool:
    """Returns whether a Reshape's target is independent of its input's own shape."""
    target = net.constants.get(each.input[1])
    return target is not None and bool((target != 0).all()) and not attribute(each, "allowzero", 0)


def _identity(net: Net, name: str) -> Any:
    """Returns the name, or the value of a small constant."""
    value = net.constants.get(name)
    return name if value is None or value.size > 64 else (value.dtype.str, value.shape, value.tobytes())


def _attributes(each: onnx.NodeProto) -> tuple[bytes, ...]:
    return tuple(sorted(a.SerializeToString(deterministic=True) for a in each.attribute))
