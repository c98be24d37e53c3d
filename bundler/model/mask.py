"""Rewrites the attention mask of any exporter to one finite additive mask.

Exporters mask padding in many ways: (1 - mask) * -3.4e38, Where(mask, 0, -inf), a chain of boolean gathers, Where(mask
== 0, -3.4e38, scores). In float16 such constants are infinite, and in a quantized model they take the whole range. The
*meaning* of a tensor that depends on the mask alone is found by computing it for one mask. Every place where it meets
the attention scores becomes Add(scores, (mask - 1) * size).
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from bundler.dlc.onnx_sessions import cpu_session
from bundler.model.onnx_graph import Array, Net, node

MASK = "attention_mask"
SIZE = "mask:size"
LARGEST_SIZE = 10000.0  # what exporters use; applies until the range of the scores is known
MARGIN = 20.0  # a masked position may weigh at most exp(-20) of the best score


class NoAdditiveMeaning(Exception):
    """The mask is used in a way that no additive mask can express; the message says where."""


@dataclass(frozen=True)
class Meaning:
    """The values of a tensor that depends on the mask alone: at tokens (`kept`) and at padding (`dropped`)."""

    kept: float
    dropped: float
    rank: int


def rewrite_mask(net: Net, length: int) -> list[str]:
    """Gives the graph one additive mask of at most LARGEST_SIZE; returns the names of the masked attention scores.

    Raises:
        NoAdditiveMeaning
    """
    if MASK not in net.input_names:
        return []
    made = _made_of_mask(net)
    meetings = [
        (each, position)
        for each in net.ordered()
        for position, name in enumerate(each.input)
        if name in made and not set(each.output) & made
    ]
    meanings = _meanings(net, sorted({each.input[position] for each, position in meetings}), length)
    masked = [_add_mask(net, each, meanings[each.input[position]], position) for each, position in meetings]
    _drop_nan_guards(net)
    return masked


def set_mask_size(model: onnx.ModelProto, size: float) -> None:
    """Sets the amount that the mask subtracts from a padded position's score, at most that of the exporter's mask."""
    for tensor in model.graph.initializer:
        if tensor.name == SIZE:
            least = min(np.float32(size), onnx.numpy_helper.to_array(tensor))
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(least, np.float32), SIZE))


def _made_of_mask(net: Net) -> set[str]:
    """Returns the tensors that depend on the mask and on constants only."""
    made = {MASK}
    for each in net.ordered():
        inputs = [name for name in each.input if name and name not in net.constants]
        if inputs and all(name in made for name in inputs):
            made |= set(each.output)
    return made


def _meanings(net: Net, names: list[str], length: int) -> dict[str, Meaning]:
    """Computes the tensors for a mask whose last third is padding."""
    kept = np.arange(length) < length * 2 // 3
    part = net.to_model()
    del part.graph.output[:], part.graph.input[:]
    value = next(value for value in net.inputs if value.name == MASK)
    part.graph.input.append(value)
    part.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    pruned = Net(part).to_model()
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    try:
        session = cpu_session(pruned.SerializeToString())
        values = session.run(names, {MASK: kept[None].astype(dtype)})
    except Exception as refused:  # ONNX Runtime's errors have no common base
        raise NoAdditiveMeaning(f"it cannot be computed: {refused}".splitlines()[0]) from refused
    return {name: _meaning(name, np.asarray(value), kept) for name, value in zip(names, values, strict=True)}


def _meaning(name: str, value: Array, kept: Array) -> Meaning:
    rows = value.reshape(-1, value.shape[-1]).astype(np.float64) if value.ndim else np.empty((0, 0))
    if rows.shape[-1] != len(kept) or (rows != rows[0]).any():
        raise NoAdditiveMeaning(f"tensor {name} is not a mask over keys")
    inside, outside = rows[0][kept], rows[0][~kept]
    if (inside != inside[0]).any() or (outside != outside[0]).any():
        raise NoAdditiveMeaning(f"tensor {name} differs between tokens")
    return Meaning(float(inside[0]), float(outside[0]), value.ndim)


def _add_mask(net: Net, each: onnx.NodeProto, meaning: Meaning, position: int) -> str:
    """Replaces `each`, where mask and scores meet, by an addition; returns the name of its result."""
    found = _scores(net, each, meaning, position)
    if found is None:
        raise NoAdditiveMeaning(f"operator {each.op_type} ({each.name}) uses it")
    scores, penalty = found
    size = np.float32(min(penalty, LARGEST_SIZE))
    if net.constants.get(SIZE, size) != size:
        raise NoAdditiveMeaning(f"operator {each.op_type} ({each.name}) takes another penalty than those before it")
    mask = _additive_mask(net, max(meaning.rank, 2), size)
    net.remove(each)
    return net.insert(node("Add", [scores, mask], each.output[0]))


def _scores(net: Net, each: onnx.NodeProto, meaning: Meaning, position: int) -> tuple[str, float] | None:
    """Returns the scores that an operator masks (unchanged at tokens) and the penalty of padding; None if unknown."""
    penalty = meaning.kept - meaning.dropped
    if each.op_type == "Add" and meaning.kept == 0 and penalty > 0:
        return each.input[1 - position], penalty
    if each.op_type == "Sub" and position == 1 and meaning.kept == 0 and penalty < 0:
        return each.input[0], -penalty
    if each.op_type == "Where" and position == 0 and {meaning.kept, meaning.dropped} == {0.0, 1.0}:
        kept, dropped = (each.input[1], each.input[2]) if meaning.kept else (each.input[2], each.input[1])
        constant = net.constants.get(dropped)
        if constant is not None and kept not in net.constants and (constant <= -LARGEST_SIZE).all():
            return kept, LARGEST_SIZE
    return None


def _additive_mask(net: Net, rank: int, size: np.float32) -> str:
    """Returns the name of a float32 mask (1, ..., 1, length): 0 at tokens, -size at padding."""
    name = f"mask:rank{rank}"
    if net.maker(name) is None:
        if SIZE not in net.constants:
            net.constants[SIZE] = np.asarray(size)
            net.constants["mask:one"] = np.asarray(1, np.float32)
            net.insert(node("Cast", [MASK], "mask:float", to=onnx.TensorProto.FLOAT))
            net.insert(node("Sub", ["mask:float", "mask:one"], "mask:absent"))
            net.insert(node("Mul", ["mask:absent", SIZE], "mask:flat"))
        shape = net.add_constant(np.array([1] * (rank - 1) + [-1], np.int64), "mask:shape")
        net.insert(node("Reshape", ["mask:flat", shape], name))
    return name


def _drop_nan_guards(net: Net) -> None:
    """Replaces Where(IsNaN(x), 0, x) by x: with a finite mask no softmax row is undefined."""
    for each in [each for each in net.ordered() if each.op_type == "IsNaN"]:
        for reader in list(net.readers(each.output[0])):
            if reader.op_type == "Where" and reader.input[2] == each.input[0]:
                net.bypass(reader, each.input[0])
