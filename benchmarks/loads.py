"""What transfers.py carries: a bundle of so many questions, a tree of outputs, a model of random bytes.

The bundle's DLC is the demo's, and nobody runs it here; its windows are of real length with BERT's 30,522 words.
"""

import json
import random
from itertools import accumulate
from pathlib import Path

import numpy as np

from bundler import layout
from bundler.build import BuildRequest, build_bundle
from bundler.bundle import Bundle
from bundler.model.make import Recipe
from bundler.qa.questions import read_squad
from bundler.resources import DEMO_MODEL, DEMO_QUESTIONS, DEMO_TOKENIZER
from bundler.soc import DEFAULT, known_socs

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
XQUAD, XQUAD_WORDS = SHARED / "xquad.en.json", SHARED / "bert-base-uncased-vocab.txt"
QUESTIONS = 1190
ASKED_A_PASSAGE = 5  # as in XQuAD
PASSAGE_WORDS = (60, 200)
WORDS = 30_000
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "?")
SEED = 4


def quiet(stage: str, done: int, total: int | None, /) -> None:
    """Progress that nobody watches."""


def xquad_is_here() -> bool:
    return XQUAD.is_file() and XQUAD_WORDS.is_file()


def bundle_of(count: int, folder: Path) -> Bundle:
    """A bundle of `count` questions: XQuAD's English ones where there are as many and they are here, else made-up ones
    of the same length, their words as often as Zipf's law says."""
    questions, words = XQUAD, XQUAD_WORDS
    if count > QUESTIONS or not xquad_is_here():
        questions, words = folder / "questions.json", folder / "vocab.txt"
        _write_questions(questions, words, count)
    chip = known_socs()[DEFAULT]
    recipe = Recipe("fp16", converter="built-in")
    asked = BuildRequest(read_squad(DEMO_QUESTIONS, 1), DEMO_MODEL, DEMO_TOKENIZER, chip, recipe=recipe)
    small = build_bundle(asked, folder / "demo", quiet)
    asked = BuildRequest(read_squad(questions, count), small.path / layout.DEVICE / layout.MODEL, words, chip)
    return build_bundle(asked, folder / "bundle", quiet)


def _write_questions(path: Path, vocabulary: Path, count: int) -> None:
    draw = random.Random(SEED)
    words = [f"word{number}" for number in range(WORDS)]
    vocabulary.write_text("\n".join((*SPECIAL, *words)) + "\n", encoding="utf-8")
    often = list(accumulate(1 / (rank + 2) for rank in range(WORDS)))
    paragraphs = []
    for first in range(0, count, ASKED_A_PASSAGE):
        context = " ".join(draw.choices(words, cum_weights=often, k=draw.randint(*PASSAGE_WORDS)))
        asked = [
            {
                "id": f"q{number}",
                "question": " ".join(draw.choices(words, cum_weights=often, k=11)) + "?",
                "answers": [],
                "is_impossible": True,
            }
            for number in range(first, min(first + ASKED_A_PASSAGE, count))
        ]
        paragraphs.append({"context": context, "qas": asked})
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "made up", "paragraphs": paragraphs}]}))


def random_file(path: Path, size: int) -> Path:
    """A file that does not compress, as a model does not."""
    path.write_bytes(random.Random(SEED).randbytes(size))
    return path


def logits(count: int, length: int) -> bytes:
    """As many float32 values as a window's output has, for each of `count` windows: noise about a logit's size."""
    return np.random.default_rng(SEED).normal(-6, 3, (count, length)).astype("<f4").tobytes()
