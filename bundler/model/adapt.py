"""Adapts a question-answering ONNX model to the names, dtypes and operators that this package expects.

Exporters choose tensor names freely, keep weights in float16, leave dropout in, or add a position_ids input. Adapting
does not change what the model computes. Each change is reported in one sentence.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bundler.errors import ModelInvalid, UsageError
from bundler.model.onnx_graph import opset_of, sizes
from bundler.types import OUTPUTS

KNOWN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
ALIASES = {
    "input_ids": ("input_word_ids", "ids"),
    "attention_mask": ("input_mask", "mask", "masks"),
    "token_type_ids": ("segment_ids", "segments", "input_type_ids", "token_types"),
    "start_logits": ("start", "start_logit", "start_scores", "output_start_logits"),
    "end_logits": ("end", "end_logit", "end_scores", "output_end_logits"),
}
"""Other names of the same tensors, as TensorFlow, Google's BERT and older exporters write them."""
NUMBERED = re.compile(r"(?:output|clone|squeeze|unstack|select|contiguous)?[_.:]?(\d*)")
"""Names that exporters make up for unnamed outputs. Their numbers follow the model's order: start, end."""
QUANTIZED = re.compile(r"QLinear|QGemm|QAttention|Quantize|Dequantize|DynamicQuantize|MatMulInteger|ConvInteger|NBits")
NEWEST_OPSET = 21
NEWER_OPERATORS = ("Attention", "RMSNormalization", "RotaryEmbedding", "TensorScatter", "Swish")
HALVES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
COUNTS = (onnx.TensorProto.INT32, INT64)
TAKEN = (FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.BOOL)


def adapt(path: Path, model: onnx.ModelProto, length: int, names: Mapping[str, str]) -> tuple[str, ...]:
    """Changes the model in place and returns one sentence about each change, for the user.

    names: the model's own names for tensors of KNOWN_INPUTS and OUTPUTS; they override recognized names.

    Raises:
        ModelInvalid: quantized already, or an unsupported opset; UsageError: it has no tensor given in `names`
    """
    _refuse_operators(path, model)
    notes = [*_in_float32(model), *_without_dropout(model.graph)]
    notes += _named_outputs(path, model.graph, names)
    notes += _named_inputs(path, model.graph, names)
    notes += _without_positions(model.graph, length)
    notes += _whole_numbers(model.graph)
    return tuple(notes)


def option_for(missing: Iterable[str], option: str) -> str:
    """Returns a hint that tells the user how to name the tensors that were not found."""
    return f"Name its tensors: {option} {','.join(f'{name}=NAME' for name in missing)}."


def _refuse_operators(path: Path, model: onnx.ModelProto) -> None:
    kinds = {each.op_type for each in _nodes(model)}
    quantized = sorted(kind for kind in kinds if QUANTIZED.match(kind) or "NBits" in kind)
    if quantized:
        hint = "Give the float32 model.onnx: build quantizes it itself, as with --precision w8a8."
        raise ModelInvalid(path, f"is quantized already ({', '.join(quantized)})", hint)
    newer = [kind for kind in NEWER_OPERATORS if kind in kinds]
    if opset_of(model) > NEWEST_OPSET and newer:
        what = f"opset {opset_of(model)} cannot be brought to {NEWEST_OPSET}: it holds {newer[0]}"
        raise ModelInvalid(path, what, f"Export it again with opset 14 to {NEWEST_OPSET}.")


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yields all nodes: of the graph, of its branches and of the model's functions."""
    stack = [*model.graph.node, *(each for function in model.functions for each in function.node)]
    while stack:
        each = stack.pop()
        yield each
        stack.extend(inner for found in each.attribute if found.HasField("g") for inner in found.g.node)


def _in_float32(model: onnx.ModelProto) -> list[str]:
    """Converts 16-bit weights and activations to float32, which represents all their values exactly."""
    changed = False
    tensors = list(model.graph.initializer)
    for each in _nodes(model):
        for found in each.attribute:
            if found.type == onnx.AttributeProto.TENSOR:
                tensors.append(found.t)
            elif found.name in ("to", "dtype") and found.i in HALVES:
                found.i, changed = FLOAT, True
    for tensor in tensors:
        if tensor.data_type in HALVES:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
            changed = True
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if value.type.tensor_type.elem_type in HALVES:
            value.type.tensor_type.elem_type, changed = FLOAT, True
    return ["the model is of 16-bit floats: it is taken as float32"] if changed else []


def _without_dropout(graph: onnx.GraphProto) -> list[str]:
    """Removes the training mode of Dropout operators, which would change answers at random."""
    known = {tensor.name: tensor for tensor in graph.initializer}
    known.update({each.output[0]: each.attribute[0].t for each in graph.node if each.op_type == "Constant"})
    trained = 0
    for each in graph.node:
        if each.op_type == "Dropout" and len(each.input) > 2:
            flag = known.get(each.input[2])
            trained += flag is None or bool(numpy_helper.to_array(flag).all())
            del each.input[1:]
    return [f"{trained} Dropout operators are in training mode: they are left out"] if trained else []


def _named_outputs(path: Path, graph: onnx.GraphProto, names: Mapping[str, str]) -> list[str]:
    present = [value.name for value in graph.output]
    found = _found(path, OUTPUTS, present, names, "--outputs")
    if not found and len(present) == 1 and sizes(graph.output[0])[-1:] == [2] and len(sizes(graph.output[0])) == 3:
        _split_logits(graph)
        return [f"output {present[0]} is taken as start_logits and end_logits, in this order"]
    rest = [name for name in present if name not in found.values()]
    if not found and len(rest) == 2 and _in_order(rest) and all(len(sizes(v)) == 2 for v in graph.output):
        found = dict(zip(OUTPUTS, rest, strict=True))
    return _rename(graph, found, "output")


def _named_inputs(path: Path, graph: onnx.GraphProto, names: Mapping[str, str]) -> list[str]:
    weights = {tensor.name for tensor in graph.initializer}
    present = [value.name for value in graph.input if value.name not in weights]
    notes = _rename(graph, _found(path, KNOWN_INPUTS, present, names, "--inputs"), "input")
    present = [value.name for value in graph.input if value.name not in weights]
    odd = [name for name in present if name not in (*KNOWN_INPUTS, "position_ids")]
    if odd and "input_ids" in present and set(OUTPUTS) <= {value.name for value in graph.output}:
        idle = [name for name in odd if name not in _needed(graph)]
        for value in [value for value in graph.input if value.name in idle]:
            graph.input.remove(value)
        notes += [f"input {name} does not reach the logits: it is left out" for name in idle]
    return notes


def _found(
    path: Path, wanted: tuple[str, ...], present: list[str], names: Mapping[str, str], option: str
) -> dict[str, str]:
    """Returns the model's own name for each wanted tensor that is present."""
    found = {}
    plain = {re.sub(r"(?:___\d+)?(?::0)?$", "", name).removeprefix("serving_default_"): name for name in present}
    for name in wanted:
        if name in names:
            if names[name] not in present:
                raise UsageError(
                    f"{option} {name}={names[name]}: {path} has no such tensor",
                    f"It has {', '.join(present) or 'none'}.",
                )
            found[name] = names[name]
        elif name in present:
            found[name] = name
        elif known := next((plain[alias] for alias in (name, *ALIASES[name]) if alias in plain), None):
            found[name] = known
    return found


def _in_order(names: list[str]) -> bool:
    """Returns whether the names are numbered by an exporter, with the smaller number first."""
    matches = [NUMBERED.fullmatch(name) for name in names]
    numbers = [int(match[1] or -1) if match else None for match in matches]
    first, second = numbers
    return first is not None and second is not None and first < second


def _rename(graph: onnx.GraphProto, found: Mapping[str, str], side: str) -> list[str]:
    """Gives tensors their usual names. Renames an inner tensor that already has such a name."""
    new = {theirs: ours for ours, theirs in found.items() if ours != theirs}
    notes = [f"{side} {theirs} is taken as {ours}" for theirs, ours in new.items()]
    if not new:
        return []
    new.update({ours: f"{ours}:inside" for ours in list(new.values()) if ours not in new})
    for each in graph.node:
        for names in (each.input, each.output):
            names[:] = [new.get(name, name) for name in names]
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = new.get(value.name, value.name)
    return notes


def _split_logits(graph: onnx.GraphProto) -> None:
    """Splits logits (1, length, 2) into start_logits and end_logits, (1, length) each."""
    whole = graph.output[0]
    _rename(graph, {name: name for name in OUTPUTS}, "output")
    for index, name in enumerate(OUTPUTS):
        place = f"{name}:place"
        graph.initializer.append(numpy_helper.from_array(np.array(index, np.int64), place))
        graph.node.append(helper.make_node("Gather", [whole.name, place], [name], name=name, axis=2))
        dims = [dim.dim_value or dim.dim_param or None for dim in whole.type.tensor_type.shape.dim][:2]
        graph.output.append(helper.make_tensor_value_info(name, FLOAT, dims))
    graph.output.remove(whole)


def _needed(graph: onnx.GraphProto) -> set[str]:
    """Returns the tensors that the logits depend on, and removes all other nodes and outputs."""
    makers = {name: each for each in graph.node for name in each.output}
    needed, stack = set[str](), list(OUTPUTS)
    while stack:
        name = stack.pop()
        if name not in needed:
            needed.add(name)
            stack.extend(makers[name].input if name in makers else ())
    for each in [each for each in graph.node if not needed.intersection(each.output)]:
        graph.node.remove(each)
    for value in [value for value in graph.output if value.name not in OUTPUTS]:
        graph.output.remove(value)
    return needed


def _without_positions(graph: onnx.GraphProto, length: int) -> list[str]:
    """Replaces a position_ids input, which always holds 0, 1, 2, ..., by a constant (1, length)."""
    value = next((value for value in graph.input if value.name == "position_ids"), None)
    if value is None or len(sizes(value)) != 2 or value.type.tensor_type.elem_type not in COUNTS:
        return []
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    graph.input.remove(value)
    graph.initializer.append(numpy_helper.from_array(np.arange(length, dtype=dtype)[None], "position_ids"))
    return [f"position_ids are 0 to {length - 1} for every window"]


def _whole_numbers(graph: onnx.GraphProto) -> list[str]:
    """Makes a float or bool mask and token types int64 inputs with a cast. Leaves input_ids as they are."""
    notes = []
    for value in graph.input:
        kind = value.type.tensor_type.elem_type
        if value.name in KNOWN_INPUTS[1:] and kind in TAKEN:
            cast = f"{value.name}:cast"
            for each in graph.node:
                each.input[:] = [cast if name == value.name else name for name in each.input]
            graph.node.insert(0, helper.make_node("Cast", [value.name], [cast], name=cast, to=kind))
            value.type.tensor_type.elem_type = INT64
            notes.append(f"input {value.name} is given as int32, and cast to what the model takes")
    return notes
