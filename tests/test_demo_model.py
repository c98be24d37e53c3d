"""Tests that the committed demo model answers the committed demo questions."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tokenizers import Tokenizer

DEMO = Path(__file__).parents[1] / "bundler" / "demo"
SEQUENCE_LENGTH = 384
MAX_ANSWER_TOKENS = 30
MEBIBYTE = 2**20


def demo_questions() -> Iterator[tuple[str, str, str]]:
    """Returns context, question and gold answer, which is empty if there is none."""
    for article in json.loads((DEMO / "questions.json").read_text())["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                golds = [paragraph["context"][a["answer_start"] :][: len(a["text"])] for a in question["answers"]]
                assert golds == [a["text"] for a in question["answers"]]
                assert question["is_impossible"] == (not golds)
                yield paragraph["context"], question["question"], golds[0] if golds else ""


def answer(session: onnxruntime.InferenceSession, tokenizer: Tokenizer, question: str, context: str) -> str:
    """Returns the best span of the context, or an empty text if [CLS] scores at least as high."""
    encoding = tokenizer.encode(question, context)
    inputs = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask, "token_type_ids": encoding.type_ids}
    feed = {
        name: np.array([[*row, *[0] * (SEQUENCE_LENGTH - len(row))]], dtype=np.int32) for name, row in inputs.items()
    }
    (start,), (end,) = session.run(["start_logits", "end_logits"], feed)
    inside = [i for i, sequence in enumerate(encoding.sequence_ids) if sequence == 1]
    spans = [(start[i] + end[j], i, j) for i in inside for j in inside if i <= j < i + MAX_ANSWER_TOKENS]
    best, first, last = max(spans)
    if start[0] + end[0] >= best:
        return ""
    return context[encoding.offsets[first][0] : encoding.offsets[last][1]]


@pytest.mark.slow
def test_answers_at_least_eleven_of_twelve() -> None:
    session = onnxruntime.InferenceSession(DEMO / "model.onnx", providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    questions = list(demo_questions())
    assert len(questions) == 12
    assert 1 <= sum(not gold for _, _, gold in questions) <= 2
    right = [answer(session, tokenizer, question, context) == gold for context, question, gold in questions]
    assert sum(right) >= 11, [question for (_, question, _), good in zip(questions, right, strict=True) if not good]


def test_tensors_are_static() -> None:
    session = onnxruntime.InferenceSession(DEMO / "model.onnx", providers=["CPUExecutionProvider"])
    shape = [1, SEQUENCE_LENGTH]
    inputs = {one.name: (one.type, one.shape) for one in session.get_inputs()}
    outputs = {one.name: (one.type, one.shape) for one in session.get_outputs()}
    assert inputs == dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), ("tensor(int32)", shape))
    assert outputs == dict.fromkeys(("start_logits", "end_logits"), ("tensor(float)", shape))


def test_ordinary_english_has_no_unknown_pieces() -> None:
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    text = "The quick brown fox (aged 7) jumps over 13 lazy dogs' café at 9:45 — for $12.50, isn't it? x_y #1 @ 5%!"
    assert "[UNK]" not in tokenizer.encode(text).tokens
    pair = tokenizer.encode("Who?", "Me.")
    assert pair.tokens[0] == "[CLS]"
    assert pair.tokens.count("[SEP]") == 2
    assert pair.type_ids == [0] * (pair.tokens.index("[SEP]") + 1) + [1] * (len(pair) - pair.tokens.index("[SEP]") - 1)


def test_small_enough_for_the_package() -> None:
    assert sum(path.stat().st_size for path in DEMO.iterdir() if path.is_file()) < 12 * MEBIBYTE
