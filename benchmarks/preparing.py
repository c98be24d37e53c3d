"""What preparation.py races: our way from a file of questions to raw inputs, the seed's way, and their peers."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tokenizers

from benchmarks.loads import XQUAD, XQUAD_WORDS, xquad_is_here
from bundler import layout
from bundler.inputs import kept_questions, write_windows
from bundler.qa.features import Windower, load_tokenizer
from bundler.qa.questions import open_questions
from bundler.qa.spans import WindowLogits, decode
from bundler.types import Question

COUNT = 1190
LENGTH, OVERLAP = 384, 128
NAMES = ("input_ids", "attention_mask", "token_type_ids")
ASKED_A_PASSAGE = 5  # as in XQuAD
WORDS = 2_000  # the demo model knows no more
SEED = 5
MAX_TOKENS, N_BEST = 30, 20


def questions(folder: Path) -> tuple[Path, Path]:
    """A file of 1,190 questions and a vocabulary: XQuAD's English ones where they are here, else made-up ones."""
    return (XQUAD, XQUAD_WORDS) if xquad_is_here() else made_up(COUNT, folder)


def made_up(count: int, folder: Path) -> tuple[Path, Path]:
    """A file of so many questions, of XQuAD's length, and a vocabulary."""
    draw, words = random.Random(SEED), [f"word{number}" for number in range(WORDS)]
    vocabulary, path = folder / "vocab.txt", folder / f"{count}.jsonl"
    vocabulary.write_text("\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words)) + "\n")
    with path.open("w") as file:
        for number in range(count):
            if number % ASKED_A_PASSAGE == 0:
                context = " ".join(draw.choices(words, k=draw.randint(60, 250)))
            line = {"id": f"q{number}", "question": " ".join(draw.choices(words, k=11)), "context": context}
            file.write(json.dumps(line) + "\n")
    return path, vocabulary


def ours(asked: Path, tokenizer: tokenizers.Tokenizer, folder: Path) -> None:
    """What `build` does: read, check, cut into windows, write down; checksums of all files are made too."""
    for each in (layout.DEVICE, layout.HOST):
        (folder / each).mkdir()
    windower = Windower(tokenizer, LENGTH, OVERLAP)
    kept = kept_questions(open_questions(asked), folder / layout.HOST)
    write_windows(windower.windows(kept), NAMES, folder)


def seeds_way(asked: Path, tokenizer: tokenizers.Tokenizer, folder: Path) -> None:
    """The seed's steps, written anew: each question tokenized by itself, cut and padded to one window, three files."""
    tokenizer.enable_truncation(LENGTH, strategy="longest_first")
    tokenizer.enable_padding(length=LENGTH, pad_id=tokenizer.token_to_id("[PAD]"), pad_token="[PAD]")
    for name in NAMES:
        (folder / name).mkdir()
    lines = []
    for number, question in enumerate(_all(asked)):
        encoding = tokenizer.encode(question.text, question.context)
        values = (encoding.ids, encoding.attention_mask, encoding.type_ids)
        paths = [f"{name}/{number}.raw" for name in NAMES]
        for path, numbers in zip(paths, values, strict=True):
            np.array(numbers, np.float32).tofile(folder / path)
        lines.append(" ".join(f"{name}:={path}" for name, path in zip(NAMES, paths, strict=True)))
    (folder / "tf_raw_list.txt").write_text("\n".join(lines) + "\n")


def pairs_of(asked: Path) -> list[tuple[str, str]]:
    return [(question.text, question.context) for question in _all(asked)]


def bare_tokenizer(vocabulary: Path) -> tokenizers.Tokenizer:
    tokenizer = load_tokenizer(vocabulary)
    tokenizer.enable_truncation(LENGTH, stride=OVERLAP, strategy="only_second")
    tokenizer.enable_padding(length=LENGTH, pad_id=tokenizer.token_to_id("[PAD]"), pad_token="[PAD]")
    return tokenizer


def _all(path: Path) -> Iterator[Question]:
    """The questions as a plain script reads them."""
    if path.suffix != ".json":
        for line in path.open(encoding="utf-8"):
            fields = json.loads(line)
            yield Question(fields["id"], fields["question"], fields["context"])
        return
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                yield Question(qa["id"], qa["question"], paragraph["context"])


def random_windows(path: Path, vocabulary: Path, count: int) -> list[tuple[Question, WindowLogits]]:
    """So many windows of these questions, over and over, with random logits; each counts as a question of its own."""
    asked = {question.id: question for question in open_questions(path)}
    features = list(Windower(load_tokenizer(vocabulary), LENGTH, OVERLAP).windows(asked.values()))
    noise, found = np.random.default_rng(SEED), []
    for number in range(count):
        feature = features[number % len(features)]
        start, end = noise.normal(-6, 3, (2, LENGTH)).astype(np.float32)
        found.append((asked[feature.question_id], WindowLogits(feature.key, feature.offsets, start, end)))
    return found


def full_windows(count: int) -> list[tuple[Question, WindowLogits]]:
    """So many windows that their context fills."""
    offsets, noise = np.full((LENGTH, 2), -1, np.int32), np.random.default_rng(SEED)
    offsets[12 : LENGTH - 1] = [(5 * token, 5 * token + 4) for token in range(LENGTH - 13)]
    question = Question("q", "?", "word " * LENGTH)
    logits = noise.normal(-6, 3, (count, 2, LENGTH)).astype(np.float32)
    return [(question, WindowLogits("q#0", offsets, start, end)) for start, end in logits]


def decode_all(windows: Sequence[tuple[Question, WindowLogits]]) -> None:
    for question, window in windows:
        decode(question, [window], max_tokens=MAX_TOKENS, may_be_unanswerable=True, n_best=N_BEST)


def decode_in_a_loop(windows: Sequence[tuple[Question, WindowLogits]]) -> None:
    """Every start with every end that is near enough; the best of them, cut from the text, and their softmax."""
    for question, window in windows:
        start, end, offsets = window.start.tolist(), window.end.tolist(), window.offsets.tolist()
        spans = []
        for i in range(len(start)):
            if offsets[i][0] < 0:
                continue
            for j in range(i, min(len(end), i + MAX_TOKENS)):
                if offsets[j][0] < 0:
                    continue
                spans.append((start[i] + end[j], offsets[i][0], offsets[j][1]))
        spans.sort(key=lambda span: -span[0])
        best = spans[:N_BEST]
        shares = np.exp(np.array([score for score, _, _ in best]) - best[0][0])
        shares /= shares.sum()
        [(question.context[i:j], share) for (_, i, j), share in zip(best, shares, strict=True)]
