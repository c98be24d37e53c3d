"""Makes small question-answering models in the styles of common exporters, without torch.

They have two layers of two heads with all parts of MobileBERT's graph (trigram embeddings, NoNorm, Linear as MatMul +
Add or as Gemm, 4-D attention scores), or BERT's LayerNorm and Gelu instead. MASKS are the ways to mark padding.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LENGTH = 48
WORDS = 40
HIDDEN, HEADS = 24, 2  # with 16, the HTP simulator's 16-bit Gather gives wrong numbers
LEAST = float(np.finfo(np.float32).min)
INT32, INT64, FLOAT, BOOL = TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUTS = ("start_logits", "end_logits")

Norm = Literal["none", "layer", "layer_tanh"]
Masking = Callable[[str], str]  # attention scores -> shares


class Writer:
    """Writes a graph node by node; every method returns the name of its result."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Any] = {}
        self._random = np.random.default_rng(seed)

    def __call__(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"constant_{len(self.weights)}"
        self.weights[name] = np.asarray(value, dtype)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def random(self, *shape: int, spread: float = 1.0, around: float = 0.0) -> str:
        return self.constant(self._random.normal(around, spread, shape))

    def linear(self, value: str, size: int, units: int) -> str:
        weights = self.random(size, units, spread=size**-0.5)
        return self("Add", self("MatMul", value, weights), self.random(units, spread=0.3))

    def gemm(self, value: str, size: int, units: int) -> str:
        """Writes a Linear layer like the newest exporters: flattened to two axes and back."""
        flat = self("Reshape", value, self.ints(-1, size))
        weights = self.random(units, size, spread=size**-0.5)
        product = self("Gemm", flat, weights, self.random(units, spread=0.3), transB=1)
        return self("Reshape", product, self.ints(1, -1, units))


def _ours(w: Writer) -> Masking:
    return _added(w, _flipped(w), -10000.0)


def _optimum(w: Writer) -> Masking:
    return _added(w, _flipped(w), LEAST)


def _soft(w: Writer) -> Masking:
    return _added(w, _flipped(w), -10.0)


def _scaled_sub(w: Writer) -> Masking:
    mask = w("Mul", _flipped(w), w.constant(10000))
    return lambda scores: w("Softmax", w("Sub", scores, mask), axis=-1)


def _added(w: Writer, absent: str, size: float) -> Masking:
    mask = w("Mul", absent, w.constant(size))
    return lambda scores: w("Softmax", w("Add", scores, mask), axis=-1)


def _flipped(w: Writer) -> str:
    """Returns 1 - mask as (1, 1, 1, length)."""
    wide = w("Unsqueeze", w("Unsqueeze", "attention_mask", w.ints(1)), w.ints(2))
    return w("Sub", w.constant(1), w("Cast", wide, to=FLOAT))


def _where_inf(w: Writer) -> Masking:
    """Writes SDPA like the old exporter: a Where in every layer, and a guard against rows of padding only."""
    kept = _square(w, w("Cast", "attention_mask", to=BOOL))

    def shares(scores: str) -> str:
        mask = w("Where", kept, w.constant([0]), w.constant([-np.inf]))
        found = w("Softmax", w("Add", scores, mask), axis=-1)
        return w("Where", w("IsNaN", found), w.constant([0]), found)

    return shares


def _gathered(w: Writer) -> Masking:
    """Writes the newest exporter's mask: boolean GatherND, And, Where."""
    indices = np.stack([np.zeros(LENGTH, np.int64), np.arange(LENGTH)], axis=-1)[None, None, None]
    found = w("GatherND", w("Cast", "attention_mask", to=BOOL), w.constant(indices, np.int64))
    kept = w("And", w.constant(np.ones((1, 1, LENGTH, 1)), bool), found)
    mask = w("Where", kept, w.constant(0), w.constant(LEAST))
    return lambda scores: w("Softmax", w("Add", mask, scores), axis=-1)


def _where_scores(w: Writer) -> Masking:
    """Writes the mask of old DistilBERT: no addition, the Where takes the scores themselves."""

    def shares(scores: str) -> str:
        absent = w("Equal", "attention_mask", w.constant(0, np.int64))
        wide = w("Expand", w("Reshape", absent, w.ints(1, 1, 1, -1)), w("Shape", scores))
        return w("Softmax", w("Where", w("Cast", wide, to=BOOL), w.constant(LEAST), scores), axis=-1)

    return shares


def _where_flipped(w: Writer) -> Masking:
    """Writes the mask of BERT by optimum: 1 - mask as float and as bool."""
    absent = w("Sub", w.constant(1), w("Cast", _square(w, "attention_mask"), to=FLOAT))
    mask = w("Where", w("Cast", absent, to=BOOL), w.constant(LEAST), absent)
    return lambda scores: w("Softmax", w("Add", scores, mask), axis=-1)


def _square(w: Writer, mask: str) -> str:
    """Expands (1, length) to (1, 1, length, length)."""
    size = w("Gather", w("Shape", "input_ids"), w.ints(1))
    wide = w("Unsqueeze", w("Unsqueeze", mask, w.ints(1)), w.ints(2))
    return w("Expand", wide, w("Concat", w.ints(1, 1), size, size, axis=0))


def _no_mask(w: Writer) -> Masking:
    return lambda scores: w("Softmax", scores, axis=-1)


def _multiplied(w: Writer) -> Masking:
    """Writes a mask that no additive mask can express."""
    mask = w("Cast", w("Unsqueeze", "attention_mask", w.ints(1, 2)), to=FLOAT)
    return lambda scores: w("Mul", w("Softmax", scores, axis=-1), mask)


def _causal(w: Writer) -> Masking:
    earlier = w.constant(np.tri(LENGTH), bool)
    kept = w("And", _square(w, w("Cast", "attention_mask", to=BOOL)), earlier)
    mask = w("Where", kept, w.constant(0), w.constant(LEAST))
    return lambda scores: w("Softmax", w("Add", scores, mask), axis=-1)


def _per_token(w: Writer) -> Masking:
    """Writes a penalty that grows with the position."""
    mask = w("Mul", _flipped(w), w.constant(-1000.0 - np.arange(LENGTH)))
    return lambda scores: w("Softmax", w("Add", scores, mask), axis=-1)


MASKS = {
    "ours": _ours, "optimum": _optimum, "soft": _soft, "sub": _scaled_sub, "where_inf": _where_inf,
    "gathered": _gathered, "where_scores": _where_scores, "where_flipped": _where_flipped, "none": _no_mask,
}  # fmt: skip
REFUSED = {"multiplied": _multiplied, "causal": _causal, "per_token": _per_token}
STATIC = ("ours", "gathered", "causal", "per_token")  # the others have int64 inputs and dynamic axes


def styled(
    mask: str = "ours", *, norm: Norm = "none", segments: bool = True, length: int = LENGTH, seed: int = 0
) -> onnx.ModelProto:
    """Returns a model with this mask; `norm`: MobileBERT's NoNorm + Relu, BERT's LayerNorm + Gelu, ALBERT's tanh."""
    w = Writer(seed)
    names = tuple(
        n for n in INPUTS if (segments or n != "token_type_ids") and (mask != "none" or n != "attention_mask")
    )
    value = _embeddings(w, segments=segments, length=length)
    value = _normalized(w, value, norm)
    shares_of = {**MASKS, **REFUSED}[mask](w)
    for _ in range(2):
        value = _normalized(w, w("Add", _attention(w, value, shares_of), value), norm)
        value = _normalized(w, w("Add", _feed_forward(w, value, norm), value), norm)
    logits = w.linear(value, HIDDEN, 2)
    w.nodes.append(helper.make_node("Split", [logits, w.ints(1, 1)], ["start", "end"], axis=-1))
    for part, output in zip(("start", "end"), OUTPUTS, strict=True):
        w.nodes.append(helper.make_node("Squeeze", [part, w.ints(-1)], [output], name=output))
    static = mask in STATIC
    kind, shape = (INT32 if mask == "ours" else INT64), [1, length] if static else ["batch", "sequence"]
    return written(w, dict.fromkeys(names, (kind, shape)), dict.fromkeys(OUTPUTS, (FLOAT, shape)))


def written(
    w: Writer, inputs: dict[str, tuple[int, Any]], outputs: dict[str, tuple[int, Any]], opset: int = 17
) -> onnx.ModelProto:
    graph = helper.make_graph(
        w.nodes,
        "styled",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in w.weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def feed(tokens: int = LENGTH, *, length: int = LENGTH, seed: int = 0) -> dict[str, Any]:
    """Returns int32 (1, length) arrays, the last `length - tokens` of them padding; two segments."""
    random = np.random.default_rng(seed + tokens)
    mask = (np.arange(length) < tokens).astype(np.int32)[None]
    types = (np.arange(length) >= tokens // 4).astype(np.int32)[None] * mask
    ids = random.integers(1, WORDS, (1, length)).astype(np.int32) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def feeds_for(made: onnx.ModelProto, *tokens: int) -> list[dict[str, Any]]:
    """Returns inputs for the model: windows with these numbers of tokens."""
    names = [value.name for value in made.graph.input]
    return [{name: value for name, value in feed(count).items() if name in names} for count in tokens]


def logits(made: onnx.ModelProto, given: dict[str, Any]) -> tuple[Any, Any]:
    """Returns start and end logits (1, length) by unchanged ONNX Runtime; casts inputs to the model's types."""
    import onnxruntime

    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    kinds = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}
    cast = {value.name: given[value.name].astype(kinds[value.type]) for value in session.get_inputs()}
    start, end = session.run(list(OUTPUTS), cast)
    return start, end


def _embeddings(w: Writer, *, segments: bool, length: int) -> str:
    """Embeds word, its neighbours to both sides, position and segment: (1, length, HIDDEN)."""
    words = w("Gather", w.random(WORDS, 8), "input_ids")
    after = w("Pad", w("Slice", words, w.ints(1), w.ints(2**62), w.ints(1)), w.ints(0, 0, 0, 0, 1, 0))
    before = w("Pad", w("Slice", words, w.ints(0), w.ints(-1), w.ints(1)), w.ints(0, 1, 0, 0, 0, 0))
    value = w.linear(w("Concat", after, words, before, axis=2), 24, HIDDEN)
    used = w("Gather", w("Shape", "input_ids"), w.ints(1))
    value = w("Add", value, w("Slice", w.random(1, length, HIDDEN), w.ints(0), used, w.ints(1)))
    return w("Add", value, w("Gather", w.random(2, HIDDEN), "token_type_ids")) if segments else value


def _normalized(w: Writer, value: str, norm: Norm) -> str:
    factor, summand = w.random(HIDDEN, spread=0.2, around=0.8), w.random(HIDDEN, spread=0.2)
    if norm == "none":
        return w("Add", w("Mul", value, factor), summand)
    return w("LayerNormalization", value, factor, summand, axis=-1, epsilon=1e-6)


def _attention(w: Writer, value: str, shares_of: Masking) -> str:
    def heads(of: str, *order: int) -> str:
        return w("Transpose", w("Reshape", of, w.ints(0, -1, HEADS, HIDDEN // HEADS)), perm=order)

    query = heads(w.linear(value, HIDDEN, HIDDEN), 0, 2, 1, 3)
    key = heads(w.linear(value, HIDDEN, HIDDEN), 0, 2, 3, 1)
    mixed = heads(w.gemm(value, HIDDEN, HIDDEN), 0, 2, 1, 3)
    scores = w("Div", w("MatMul", query, key), w.constant((HIDDEN // HEADS) ** 0.5))
    context = w("Transpose", w("MatMul", shares_of(scores), mixed), perm=[0, 2, 1, 3])
    return w.linear(w("Reshape", context, w.ints(0, -1, HIDDEN)), HIDDEN, HIDDEN)


def _feed_forward(w: Writer, value: str, norm: Norm) -> str:
    inner = w.linear(value, HIDDEN, 2 * HIDDEN)
    if norm == "none":
        return w.linear(w("Relu", inner), 2 * HIDDEN, HIDDEN)
    if norm == "layer_tanh":  # Gelu as ALBERT approximates it
        cubed = w("Mul", w("Pow", inner, w.constant(3)), w.constant(0.044715))
        bent = w("Tanh", w("Mul", w("Add", inner, cubed), w.constant((2 / np.pi) ** 0.5)))
        half = w("Mul", inner, w.constant(0.5))
        return w.linear(w("Mul", half, w("Add", bent, w.constant(1))), 2 * HIDDEN, HIDDEN)
    error = w("Add", w("Erf", w("Div", inner, w.constant(2**0.5))), w.constant(1))
    return w.linear(w("Mul", w("Mul", inner, error), w.constant(0.5)), 2 * HIDDEN, HIDDEN)
