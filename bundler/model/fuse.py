"""Folds arithmetic with constants into the weights: fewer operators on the phone, fewer roundings when quantized.

MobileBERT's NoNorm is a multiplication and an addition after every residual sum, and attention scores are divided by a
constant. Both are folded into the weights of the preceding layers. Float32 results change in their last bits only.
"""

from collections.abc import Callable

import numpy as np
import onnx

from bundler.model.onnx_graph import Array, Net, attribute, node

Change = Callable[[], None]
Combine = Callable[[Array, Array], Array]
VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Transpose")


def fuse_constants(net: Net) -> None:
    """Folds constant factors and summands into weights, wherever the preceding layer allows it."""
    for each in net.ordered():
        if each.op_type in ("Mul", "Div"):
            _absorb(net, each, np.multiply)
    for each in net.ordered():
        if each.op_type == "Add":
            _absorb(net, each, np.add)


def _absorb(net: Net, each: onnx.NodeProto, combine: Combine) -> None:
    """Removes `each`, an operation with one constant, if there is a plan for it."""
    computed, other = each.input
    if each.op_type != "Div" and computed in net.constants:
        computed, other = other, computed
    value = net.constants.get(other)
    if value is None or computed in net.constants or each.output[0] in net.output_names:
        return
    vector = _over_last_axis(value if each.op_type != "Div" else 1 / value)
    if vector is None:
        return
    changes = _plan(net, computed, vector, combine)
    if changes is not None:
        for change in changes:
            change()
        net.bypass(each, computed)


def _over_last_axis(value: Array) -> Array | None:
    """Returns a scalar as (), and a value that varies over the last axis only as (n,); None for anything else."""
    if value.size == 1:
        return value.reshape(())
    return value.reshape(-1) if value.shape[-1] == value.size else None


def _plan(net: Net, name: str, vector: Array, combine: Combine) -> list[Change] | None:
    """Returns changes that multiply tensor `name`, read once, by the vector or add it; None if weights cannot do so."""
    each = net.maker(name)
    if each is None or not net.read_once(name):
        return None
    if each.op_type in VIEWS:
        return _plan(net, each.input[0], vector, combine) if _keeps_last_axis(net, each, vector) else None
    if each.op_type == "Gather" and net.read_once(each.input[0]) and each.input[0] in net.constants:
        return _change_weights(net, each, vector, combine, [0])
    return _plan_factor(net, each, vector) if combine is np.multiply else _plan_summand(net, each, vector)


def _plan_factor(net: Net, each: onnx.NodeProto, factor: Array) -> list[Change] | None:
    if each.op_type in ("Gemm", "MatMul") and each.input[1] in net.constants:
        return _change_weights(net, each, factor, np.multiply, range(1, len(each.input)))
    if each.op_type == "MatMul" and factor.ndim == 0:
        return _plan(net, each.input[0], factor, np.multiply)
    return _plan_factor_of_sum(net, each, factor) if each.op_type == "Add" else None


def _plan_factor_of_sum(net: Net, each: onnx.NodeProto, factor: Array) -> list[Change] | None:
    """Multiplies both operands, and adds a new operator for one of them if necessary."""
    plans = [_plan_operand(net, each, position, factor, np.multiply) for position in (0, 1)]
    if all(plan is None for plan in plans):
        return None

    def multiply(position: int) -> Change:
        source = each.input[position]
        scaled = net.fresh(source)
        product = [source, net.add_constant(factor.astype(np.float32), f"{source}:factor")]
        return lambda: net.connect(each, position, net.insert(node("Mul", product, scaled)))

    return [change for position, plan in enumerate(plans) for change in (plan or [multiply(position)])]


def _plan_summand(net: Net, each: onnx.NodeProto, summand: Array) -> list[Change] | None:
    if each.op_type == "Gemm" and len(each.input) == 3 and each.input[2] in net.constants:
        return _change_weights(net, each, summand, np.add, [2])
    operands = (0, 1) if each.op_type == "Add" else ()
    plans = (_plan_operand(net, each, position, summand, np.add) for position in operands)
    return next((plan for plan in plans if plan is not None), None)


def _plan_operand(
    net: Net, each: onnx.NodeProto, position: int, vector: Array, combine: Combine
) -> list[Change] | None:
    name = each.input[position]
    if name not in net.constants:
        return _plan(net, name, vector, combine)
    return _change_weights(net, each, vector, combine, [position])


def _keeps_last_axis(net: Net, each: onnx.NodeProto, vector: Array) -> bool:
    """Returns whether a view keeps the axis of `vector` as its last one."""
    if vector.ndim == 0:
        return True
    shape = net.constants.get(each.input[1]) if each.op_type == "Reshape" else None
    return shape is not None and shape[-1] == len(vector)


def _change_weights(
    net: Net, each: onnx.NodeProto, vector: Array, combine: Combine, positions: "range | list[int]"
) -> list[Change] | None:
    """Combines the constants at these input positions with a vector over the operator's output units."""
    changes: list[Change] = []
    for position in positions:
        weights = net.constants.get(each.input[position])
        if weights is None or attribute(each, "alpha", 1.0) != 1 or attribute(each, "beta", 1.0) != 1:
            return None
        if each.op_type == "Gather" and attribute(each, "axis", 0) != 0:
            return None
        turned = bool(position == 1 and attribute(each, "transB", 0))
        units = weights.shape[0 if turned else -1] if weights.ndim else 1
        if vector.ndim and units not in (1, len(vector)):
            return None
        if vector.ndim and units == 1 and position == 1:
            return None
        column = vector[:, None] if turned and vector.ndim else vector
        changes.append(_replacing(net, each, position, combine(weights, column).astype(weights.dtype)))
    return changes


def _replacing(net: Net, each: onnx.NodeProto, position: int, value: Array) -> Change:
    name = each.input[position].partition(":fused")[0]
    return lambda: net.connect(each, position, net.add_constant(value, f"{name}:fused"))
