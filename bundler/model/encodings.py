"""Reads and writes encoding files in AIMET's format, which Qualcomm's converters take (`--quantization_overrides`).

Sources: AIMET's encoding format specification (versions up to 0.6.1: lists of encodings by tensor; 1.0.0: a list of
tensors) and Qualcomm's QAIRT quantization specification (80-63442-10). In all of them real = scale * (stored + offset)
with `stored` from 0 to 2^bits - 1: an int8 weight has the offset -128. The output was not tested with a real SDK.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundler.errors import EncodingsInvalid, FileUnreadable
from bundler.model.fixed_point import ACTIVATIONS, WEIGHTS, Encoding, Encodings, weight_axis
from bundler.model.graph import FitGraph
from bundler.model.onnx_graph import Net

WRITTEN = "1.0.0"
OURS = "mbqa_bundle"  # the key of our additional data
LISTS = {"0.4", "0.5", "0.6"}
BITS = (8, 16)


@dataclass(frozen=True)
class Given:
    """An encodings file. `exponents`: the channel scales (rescale.py) of the graph that it describes."""

    path: Path
    encodings: Encodings
    exponents: tuple[int, ...] = ()


def read_encodings(path: Path) -> Given:
    """Reads a file's encodings of activations and weights.

    Raises:
        FileUnreadable, EncodingsInvalid: no encodings file, an unknown version, or invalid values.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise EncodingsInvalid(path, "is not JSON") from error
    try:
        version = told.get("version", "0.4.0")
        if version != WRITTEN and str(version)[:3] not in LISTS:
            raise EncodingsInvalid(path, f"has version {version!r}", "Export it as version 0.6.1 or 1.0.0.")
        activations, weights = (dict(_entries(told[f"{kind}_encodings"])) for kind in ("activation", "param"))
        exponents = tuple(int(each) for each in told.get(OURS, {}).get("exponents", ()))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = "is not a file of encodings: activation_encodings and param_encodings are not as they should be"
        raise EncodingsInvalid(path, what) from error
    return Given(
        path,
        Encodings(
            {name: _read(path, name, told, signed=False) for name, told in activations.items()},
            {name: _read(path, name, told, signed=True) for name, told in weights.items()},
        ),
        exponents,
    )


def encodings_text(encodings: Encodings, exponents: Sequence[int] = ()) -> str:
    """Returns the encodings as a file of version 1.0.0; the same encodings always give the same text."""
    told: dict[str, Any] = {
        "version": WRITTEN,
        "activation_encodings": [_told(name, each) for name, each in encodings.activations.items()],
        "param_encodings": [_told(name, each) for name, each in encodings.weights.items()],
    }
    if exponents:
        told[OURS] = {"exponents": list(exponents)}
    return json.dumps(told, indent=1) + "\n"


def encodings_for(fit: FitGraph, given: Given, original: Net) -> Encodings:
    """Returns the file's encodings that apply to tensors of the fitted graph.

    Omits tensors that only the original model has, and constants that are not factors: the other encodings, and their
    values, determine how these are rounded.

    Raises:
        EncodingsInvalid: it names unknown tensors or no usable ones, or a weight has the wrong number of scales.
    """
    net = Net(fit.model)
    made = _made(net)
    known = {*made, *net.constants, *original.input_names, *original.constants, *_made(original)}
    told = given.encodings
    strange = [name for name in (*told.activations, *told.weights) if name not in known]
    if strange:
        more = f" and {len(strange) - 1} others" if len(strange) > 1 else ""
        raise EncodingsInvalid(given.path, f"is of tensors that {fit.name} has not: {strange[0]}{more}")
    activations = {name: each for name, each in told.activations.items() if name in made}
    weights = {}
    for each in net.ordered():
        name = each.input[1] if each.op_type in ("Gemm", "MatMul") else ""
        if name in told.weights and name in net.constants:
            value, encoding = net.constants[name], told.weights[name]
            _check_weight(given.path, name, encoding, value.shape[weight_axis(each, value)])
            weights[name] = encoding
    if not activations and not weights:
        raise EncodingsInvalid(given.path, f"says nothing of how {fit.name} is rounded")
    return Encodings(activations, weights)


def _made(net: Net) -> set[str]:
    """Returns the names of the tensors that a graph's nodes produce."""
    return {name for each in net.ordered() for name in each.output}


def _check_weight(path: Path, name: str, encoding: Encoding, units: int) -> None:
    if encoding.scale.ndim and len(encoding.scale) != units:
        raise EncodingsInvalid(path, f"{name} has {len(encoding.scale)} scales for {units} channels")
    if encoding.zero_point.any():
        raise EncodingsInvalid(path, f"{name} is a weight with an offset, and weights are symmetric here")


def _entries(told: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields each tensor's name and its encoding in the form of version 1.0.0; converts older versions."""
    if isinstance(told, list):
        for each in told:
            yield str(each["name"]), each
        return
    for name, each in told.items():
        bits, kinds = {one["bitwidth"] for one in each}, {str(one.get("dtype", "int")).upper() for one in each}
        steps = [_steps(one) for one in each]
        yield (
            name,
            {
                "bw": bits.pop() if len(bits) == 1 else None,
                "dtype": kinds.pop() if len(kinds) == 1 else None,
                "scale": [scale for scale, _ in steps],
                "offset": [offset for _, offset in steps],
            },
        )


def _steps(one: Mapping[str, Any]) -> tuple[Any, Any]:
    """Returns (scale, offset), computed from the range if they are not given."""
    if one.get("scale") is not None or "min" not in one:
        return one.get("scale"), one.get("offset")
    scale = (float(one["max"]) - float(one["min"])) / (2 ** int(one["bitwidth"]) - 1)
    return scale, round(float(one["min"]) / scale) if scale else 0


def _read(path: Path, name: str, told: Mapping[str, Any], *, signed: bool) -> Encoding:
    """Parses one tensor's encoding. Raises: EncodingsInvalid"""
    bits, kind = told.get("bw"), str(told.get("dtype", "INT")).upper()
    if kind != "INT" or bits not in BITS:
        raise EncodingsInvalid(path, f"{name} has {kind.lower()} of {bits} bits, and int of 8 and 16 bits are taken")
    try:
        scale = np.array(told["scale"], np.float32)
        offset = np.array(told["offset"], np.float64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise EncodingsInvalid(path, f"{name} has no scale and offset") from error
    good = scale.ndim == 1 and scale.shape == offset.shape and scale.size > 0
    if not good or not (np.isfinite(scale) & (scale > 0)).all():
        raise EncodingsInvalid(path, f"{name} has a scale that is not a positive number, or not as many offsets")
    if not ((offset <= 0) & (offset > -(2**bits)) & (offset == np.round(offset))).all():
        raise EncodingsInvalid(path, f"{name} has an offset that is not a whole number from {1 - 2**bits} to 0")
    if scale.size > 1 and not signed:
        raise EncodingsInvalid(path, f"{name} is an activation with {scale.size} scales, and one is taken")
    zero = -offset - 2 ** (bits - 1) if signed else -offset
    shape = scale.shape if scale.size > 1 or told.get("enc_type") == "PER_CHANNEL" else ()
    dtype = (WEIGHTS if signed else ACTIVATIONS)[bits]
    return Encoding(scale.reshape(shape), zero.reshape(shape).astype(dtype))


def _told(name: str, encoding: Encoding) -> dict[str, Any]:
    signed = encoding.zero_point.dtype.kind == "i"
    offset = -encoding.zero_point.astype(int) - (2 ** (encoding.bits - 1) if signed else 0)
    return {
        "name": name,
        "dtype": "INT",
        "bw": encoding.bits,
        "enc_type": "PER_CHANNEL" if encoding.scale.ndim else "PER_TENSOR",
        "is_sym": signed,
        "scale": encoding.scale.reshape(-1).tolist(),
        "offset": offset.reshape(-1).tolist(),
    }
