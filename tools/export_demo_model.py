"""Exports a trained demo model to ONNX and measures the file with ONNX Runtime, at its full static length."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from demo_corpus import Example, NamePool, Shape, draw_passage, draw_question
from demo_model import SEQUENCE_LENGTH
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before ONNX Runtime is first imported

MASK = 100.0
MAX_ANSWER_TOKENS = 30
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUTS = ("start_logits", "end_logits")
OPSET = 17

Logits = tuple[NDArray[np.float32], NDArray[np.float32]]


class WithAdditiveMask(nn.Module):  # type: ignore[misc]
    """Computes the additive mask itself, so that no boolean operator is in the graph."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Returns start and end logits (B, S) from three int32 tensors (B, S)."""
        mask = (1.0 - attention_mask.to(torch.float32))[:, None, None, :] * -MASK
        out = self.model(input_ids=input_ids, attention_mask=mask, token_type_ids=token_type_ids)
        return out.start_logits, out.end_logits


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside the final name, then renames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def features(tokenizer: Tokenizer, example: Example) -> dict[str, NDArray[np.int32]]:
    """Returns the three inputs (1, 384), padded with zeros."""
    encoding = tokenizer.encode(example.question, example.passage.text)
    rows = (encoding.ids, encoding.attention_mask, encoding.type_ids)
    padded = [np.array([row + [0] * (SEQUENCE_LENGTH - len(row))], dtype=np.int32) for row in rows]
    return dict(zip(INPUTS, padded, strict=True))


def export_onnx(model: nn.Module, path: Path) -> int:
    """Writes the simplified static graph and returns its number of nodes."""
    empty = torch.zeros(1, SEQUENCE_LENGTH, dtype=torch.int32)
    buffer = io.BytesIO()
    arguments = (empty, torch.ones_like(empty), empty)
    torch.onnx.export(
        WithAdditiveMask(model), arguments, buffer, input_names=list(INPUTS), output_names=list(OUTPUTS),
        dynamo=False, opset_version=OPSET,
    )  # fmt: skip
    import onnxsim  # which imports ONNX Runtime

    graph, same = onnxsim.simplify(onnx.load_from_string(buffer.getvalue()))
    if not same:
        raise RuntimeError("onnxsim changed the outputs")
    onnx.checker.check_model(graph, full_check=True)
    write_atomically(path, graph.SerializeToString())
    return len(graph.graph.node)


def runner(path: Path) -> Callable[[dict[str, NDArray[np.int32]]], Logits]:
    """Returns a function from inputs (1, 384) to the start and end logits (384,) of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, NDArray[np.int32]]) -> Logits:
        start, end = session.run(list(OUTPUTS), inputs)
        return start[0], end[0]

    return run


def decode(tokenizer: Tokenizer, question: str, context: str, logits: Logits) -> str:
    """Returns the best span of the context, or an empty text if [CLS] scores at least as high."""
    encoding = tokenizer.encode(question, context)
    first, last = encoding.type_ids.index(1), len(encoding.ids) - 1
    start, end = (values[first:last] for values in logits)
    scores = start[:, None] + end[None, :]
    scores = np.where(
        np.triu(np.ones_like(scores)) - np.triu(np.ones_like(scores), MAX_ANSWER_TOKENS) > 0, scores, -np.inf
    )
    begin, stop = np.unravel_index(int(scores.argmax()), scores.shape)
    if logits[0][0] + logits[1][0] >= scores[begin, stop]:
        return ""
    return context[encoding.offsets[first + begin][0] : encoding.offsets[first + stop][1]]


def held_out_examples(
    tokenizer: Tokenizer,
    names: NamePool,
    shape: Shape,
    *,
    count: int,
    seed: int,
    tokens: tuple[int, int] = (0, SEQUENCE_LENGTH),
) -> list[Example]:
    """Returns examples of this shape whose question and passage have a total of this many tokens."""
    rng = random.Random(seed)
    found: list[Example] = []
    while len(found) < count:
        example = draw_question(rng, draw_passage(rng, names, shape), shape)
        if tokens[0] <= len(tokenizer.encode(example.question, example.passage.text).ids) <= tokens[1]:
            found.append(example)
    return found


def exact_matches(path: Path, tokenizer: Tokenizer, examples: Sequence[Example]) -> list[bool]:
    """Returns for each example whether the decoded answer equals the gold text."""
    run = runner(path)
    return [decode(tokenizer, e.question, e.passage.text, run(features(tokenizer, e))) == e.answer for e in examples]


def largest_magnitudes(model: nn.Module, tokenizer: Tokenizer, examples: Sequence[Example]) -> dict[str, float]:
    """Returns largest |values| of activations, attention scores (before the mask), logits, weights on real tokens."""
    seen = {"activation": 0.0, "attention score": 0.0, "logit": 0.0}
    seen["weight"] = max(float(p.abs().max()) for p in model.parameters())
    wrapped = WithAdditiveMask(model)
    projected: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                seen["activation"] = max(seen["activation"], float(output.abs().max()))
                projected[name] = output

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules()]
    heads = model.config.num_attention_heads
    with torch.no_grad():
        for example in examples:
            inputs = features(tokenizer, example)
            length = int(inputs["attention_mask"].sum())
            logits = wrapped(*(torch.from_numpy(inputs[name][:, :length]) for name in INPUTS))
            seen["logit"] = max(seen["logit"], *(float(one.abs().max()) for one in logits))
            for name, query in projected.items():
                if name.endswith("self.query"):
                    key = projected[name.removesuffix("query") + "key"]
                    split = [t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key)]
                    scores = split[0] @ split[1].transpose(2, 3) * split[0].shape[-1] ** -0.5
                    seen["attention score"] = max(seen["attention score"], float(scores.abs().max()))
    for handle in handles:
        handle.remove()
    return seen


def largest_difference(model: nn.Module, path: Path, tokenizer: Tokenizer, examples: Sequence[Example]) -> float:
    """Returns the largest |logit difference| between torch and ONNX Runtime over all 384 positions."""
    run, wrapped, worst = runner(path), WithAdditiveMask(model), 0.0
    with torch.no_grad():
        for example in examples:
            inputs = features(tokenizer, example)
            expected = wrapped(*(torch.from_numpy(inputs[name]) for name in INPUTS))
            for mine, theirs in zip(run(inputs), expected, strict=True):
                worst = max(worst, float(np.abs(mine - theirs[0].numpy()).max()))
    return worst
