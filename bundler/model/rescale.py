"""Scales the channels of a float32 graph by powers of two, without changing its logits."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from bundler.model.channels import Channels, Use, channels_of
from bundler.model.graph import FitGraph
from bundler.model.onnx_graph import Array, Net, shaped, sizes


def channels_in(fit: FitGraph) -> Channels:
    """Returns the channels of a fitted graph; the same graph always gets the same classes."""
    graph = shaped(fit.model)
    shapes = {
        value.name: [size or 1 for size in sizes(value)] for value in (*graph.input, *graph.value_info, *graph.output)
    }
    return channels_of(Net(fit.model), shapes)


def rescaled(fit: FitGraph, exponents: Sequence[int], channels: Channels | None = None) -> FitGraph:
    """Returns the graph with the channels of class n (from 1) multiplied by 2 ** exponents[n - 1].

    Raises:
        ValueError: the exponents belong to another graph, or a constant would overflow float32.
    """
    channels = channels or channels_in(fit)
    if len(exponents) != channels.count - 1:
        raise ValueError(f"{len(exponents)} exponents for {channels.count - 1} classes of channels")
    by_label = np.array([0, *exponents])[channels.classes] * channels.signs
    net = Net(fit.model)
    made: dict[tuple[str, bytes], str] = {}
    for use in channels.uses:
        _scale(net, use, by_label[use.outward] - by_label[use.inward], made)
    return replace(fit, model=onnx.shape_inference.infer_shapes(net.to_model()))


def _scale(net: Net, use: Use, exponents: Array, made: dict[tuple[str, bytes], str]) -> None:
    """Replaces one node's constant by a copy times 2 ** exponents; nodes with equal needs share the copy."""
    if not exponents.any():
        return
    each = net.maker(use.node)
    assert each is not None  # the graph is the one that was traced
    name = each.input[use.position]
    key = (name, np.array([*exponents.shape, *exponents.ravel()]).tobytes())
    if key not in made:
        own = net.constants[name]
        with np.errstate(over="ignore"):
            value = np.ldexp(own, exponents.astype(np.int32))
        value = value.reshape(own.shape) if value.size == own.size else value  # a bias of two axes is not quantized
        if not np.isfinite(value).all():
            raise ValueError(f"constant {name} would leave float32")
        made[key] = net.add_constant(value.astype(np.float32), f"{name}:equalized")
    net.connect(each, use.position, made[key])
