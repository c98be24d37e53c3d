"""Makes a MobileBERT of any size with random weights, as our exporter writes it, with a tokenizer and questions.

The operators are those of transformers' MobileBertForQuestionAnswering; weights have the same names as there (those of
Linear layers are transposed). Needs no torch or download. Shared by conversion.py and the tests.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUTS = ("start_logits", "end_logits")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "?")
MASK = -10000.0
BRANCH = 0.5  # how loud a layer's part of a residual sum is
SHRINK = 0.9  # NoNorm's factor after it: keeps the values of 24 layers about 1


@dataclass(frozen=True)
class Size:
    """Sizes as in MobileBertConfig; the defaults are its defaults, and those of csarron/mobilebert-uncased-squad-v2."""

    words: int = 30522
    layers: int = 24
    hidden: int = 512
    embedding: int = 128
    bottleneck: int = 128
    heads: int = 4
    inner: int = 512
    feed_forwards: int = 4
    positions: int = 512


def random_mobilebert(size: Size | None = None, *, length: int = 384, seed: int = 0) -> onnx.ModelProto:
    """Returns the model for windows of (1, length): int32 inputs, float32 start and end logits, values about 1."""
    writer = _Writer(size or Size(), length, seed)
    value = writer.embeddings()
    for number in range(writer.size.layers):
        value = writer.layer(value, f"mobilebert.encoder.layer.{number}")
    writer.logits(value)
    return writer.model()


def write_vocabulary(path: Path, words: int = Size.words) -> list[str]:
    """Writes a vocab.txt of this many synthetic words; returns the words for questions."""
    made = [f"word{number}" for number in range(words - len(SPECIAL))]
    path.write_text("\n".join((*SPECIAL, *made)) + "\n", encoding="utf-8")
    return made


def write_questions(path: Path, words: list[str], count: int, *, seed: int = 0) -> None:
    """Writes SQuAD v2.0 of `count` passages of 40 to 300 words, with one question each."""
    draw = random.Random(seed)
    paragraphs = []
    for number in range(count):
        context = " ".join(draw.choices(words, k=draw.randint(40, 300)))
        question = " ".join(draw.choices(words, k=10)) + "?"
        asked = {"id": f"q{number}", "question": question, "answers": [], "is_impossible": True}
        paragraphs.append({"context": context, "qas": [asked]})
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "random", "paragraphs": paragraphs}]}))


class _Writer:
    """Writes the graph node by node; its methods return the name of their result."""

    def __init__(self, size: Size, length: int, seed: int) -> None:
        self.size, self.length = size, length
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, Any] = {}
        self._random = np.random.default_rng(seed)

    def __call__(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, value: Any, dtype: Any) -> str:
        name = f"constant_{len(self._weights)}"
        self._weights[name] = np.asarray(value, dtype)
        return name

    def normal(self, name: str, *shape: int, spread: float = 1.0, around: float = 0.0) -> str:
        self._weights[name] = self._random.normal(around, spread, shape).astype(np.float32)
        return name

    def linear(self, value: str, name: str, wide: int, units: int, loud: float = 1.0) -> str:
        product = self("MatMul", value, self.normal(f"{name}.weight", wide, units, spread=loud * wide**-0.5))
        return self("Add", self.normal(f"{name}.bias", units, spread=0.1), product)

    def normed(self, value: str, name: str, units: int, around: float = 1.0) -> str:
        product = self("Mul", value, self.normal(f"{name}.LayerNorm.weight", units, spread=0.1, around=around))
        return self("Add", product, self.normal(f"{name}.LayerNorm.bias", units, spread=0.1))

    def added(self, value: str, residual: str, name: str, wide: int, units: int) -> str:
        """Adds a linear layer to the residual, without the common part of the value's elements: a Relu's elements are
        positive, which would add up over the layers."""
        branch = self.linear(value, f"{name}.dense", wide, units, BRANCH)
        self._weights[f"{name}.dense.weight"] -= self._weights[f"{name}.dense.weight"].mean(axis=0)
        return self.normed(self("Add", branch, residual), name, units, SHRINK)

    def embeddings(self) -> str:
        s, name = self.size, "mobilebert.embeddings"
        ints = np.int64
        words = self("Gather", self.normal(f"{name}.word_embeddings.weight", s.words, s.embedding), "input_ids")
        shifted = []
        for first, end, pads in ((1, 2**62, [0, 0, 0, 0, 1, 0]), (0, -1, [0, 1, 0, 0, 0, 0])):
            cut = self("Slice", words, *(self.constant([at], ints) for at in (first, end, 1)))
            shifted.append(self("Pad", cut, self.constant(pads, ints), self.constant(0, np.float32), mode="constant"))
        trigrams = self("Concat", shifted[0], words, shifted[1], axis=2)
        value = self.linear(trigrams, f"{name}.embedding_transformation", 3 * s.embedding, s.hidden)
        table = self.normal(f"{name}.position_embeddings.weight", s.positions, s.hidden)
        value = self("Add", value, self("Gather", table, self.constant(np.arange(self.length)[None], ints)))
        segments = self.normal(f"{name}.token_type_embeddings.weight", 2, s.hidden)
        value = self("Add", value, self("Gather", segments, "token_type_ids"))
        flags = self("Cast", self("Unsqueeze", "attention_mask", self.constant([1, 2], ints)), to=TensorProto.FLOAT)
        absent = self("Sub", self.constant(1, np.float32), flags)
        self._mask = self("Mul", absent, self.constant(MASK, np.float32))
        return self.normed(value, name, s.hidden, 0.6)

    def layer(self, value: str, name: str) -> str:
        s = self.size
        narrow, shared = (
            self.normed(self.linear(value, f"{part}.dense", s.hidden, s.bottleneck), part, s.bottleneck)
            for part in (f"{name}.bottleneck.input", f"{name}.bottleneck.attention")
        )
        context = self.attention(shared, value, f"{name}.attention.self")
        mixed = self.added(context, narrow, f"{name}.attention.output", s.bottleneck, s.bottleneck)
        for number in range(s.feed_forwards - 1):
            mixed = self.feed_forward(mixed, f"{name}.ffn.{number}")
        mixed = self.feed_forward(mixed, name)
        return self.added(mixed, value, f"{name}.output.bottleneck", s.bottleneck, s.hidden)

    def feed_forward(self, value: str, name: str) -> str:
        s = self.size
        inner = self("Relu", self.linear(value, f"{name}.intermediate.dense", s.bottleneck, s.inner))
        return self.added(inner, value, f"{name}.output", s.inner, s.bottleneck)

    def attention(self, shared: str, value: str, name: str) -> str:
        s = self.size
        each = s.bottleneck // s.heads
        shape = self.constant([1, self.length, s.heads, each], np.int64)
        query, key, values = (
            self("Reshape", self.linear(source, f"{name}.{part}", wide, s.bottleneck), shape)
            for source, part, wide in (
                (shared, "query", s.bottleneck), (shared, "key", s.bottleneck), (value, "value", s.hidden)
            )
        )  # fmt: skip
        query, values = (self("Transpose", part, perm=[0, 2, 1, 3]) for part in (query, values))
        scores = self("MatMul", query, self("Transpose", key, perm=[0, 2, 3, 1]))
        scaled = self("Mul", scores, self.constant(each**-0.5, np.float32))
        shares = self("Softmax", self("Add", scaled, self._mask), axis=-1)
        context = self("Transpose", self("MatMul", shares, values), perm=[0, 2, 1, 3])
        return self("Reshape", context, self.constant([1, self.length, s.bottleneck], np.int64))

    def logits(self, value: str) -> None:
        heads = self.linear(value, "qa_outputs", self.size.hidden, 2)
        halves = self.constant([1, 1], np.int64)
        self._nodes.append(helper.make_node("Split", [heads, halves], ["start", "end"], axis=-1))
        for part, output in zip(("start", "end"), OUTPUTS, strict=True):
            last = self.constant([-1], np.int64)
            self._nodes.append(helper.make_node("Squeeze", [part, last], [output], name=output))

    def model(self) -> onnx.ModelProto:
        shape = [1, self.length]
        graph = helper.make_graph(
            self._nodes,
            "mobilebert",
            [helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name in INPUTS],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in OUTPUTS],
            [numpy_helper.from_array(value, name) for name, value in self._weights.items()],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(made)
        return made
