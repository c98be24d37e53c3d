"""Writes the demo model's questions in SQuAD form, and a card with the figures measured on the ONNX file."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

from demo_corpus import RELATION_IDS, Example, NamePool, Shape, draw_passage, draw_question
from demo_model import SEQUENCE_LENGTH
from demo_wordings import BRIDGE, BUILDING, PERSON, SHIP
from export_demo_model import (
    MASK,
    MAX_ANSWER_TOKENS,
    OPSET,
    exact_matches,
    held_out_examples,
    largest_difference,
    largest_magnitudes,
)
from tokenizers import Tokenizer
from transformers import MobileBertForQuestionAnswering

Rows = list[tuple[str, int, float, float]]
Demo = list[list[Example]]

HELD_OUT_SEED = 20_000
LONG_SHAPE = Shape(long_chars=(1250, 1700))
LONG_TOKENS = (300, 384)
LIMITS = {"activation": 10_000.0, "logit": 100.0, "attention score": 60.0}
# Group of the (first) subject, number of subjects, fewest and most facts.
DEMO_SHAPES = (
    (BRIDGE, 1, (6, 6)),
    (PERSON, 1, (6, 6)),
    (SHIP, 1, (5, 5)),
    (BUILDING, 2, (7, 8)),
)


def demo_questions(names: NamePool, *, seed: int) -> Demo:
    """Returns four held-out passages with three questions each, drawn by seed only, independent of the model."""
    rng = random.Random(seed)
    drawn = []
    for index, (group, count, facts) in enumerate(DEMO_SHAPES):
        shape = Shape(facts=facts, hard=1.0, introduction=1.0, fillers=(1, 2), asks_hard_type=0.8)
        passage = draw_passage(rng, names, shape, group=group, count=count)
        wanted = [True, True, index % 2 == 0]
        asked: list[Example] = []
        while len(asked) < len(wanted):
            example = draw_question(rng, passage, shape, answerable=wanted[len(asked)])
            if all((example.relation, example.subject) != (e.relation, e.subject) for e in asked):
                asked.append(example)
        drawn.append(asked)
    return drawn


def squad_json(groups: Demo) -> bytes:
    """Returns the questions as a SQuAD v2.0 document."""
    data, number = [], 0
    for group in groups:
        asked = []
        for example in group:
            number += 1
            answers = [{"text": example.answer, "answer_start": example.answer_start}] if example.answerable else []
            asked.append(
                {
                    "id": f"demo-{number:02}",
                    "question": example.question,
                    "answers": answers,
                    "is_impossible": not answers,
                }
            )
        passage = group[0].passage
        data.append({"title": passage.title, "paragraphs": [{"context": passage.text, "qas": asked}]})
    return (json.dumps({"version": "v2.0", "data": data}, indent=2, ensure_ascii=False) + "\n").encode()


def rows_by_group(examples: Sequence[Example], right: Sequence[bool]) -> Rows:
    """Returns (group, questions, exact match, chance of a guess by type) for all and for each kind of question."""
    groups: dict[str, Callable[[Example], bool]] = {
        "all": lambda _: True,
        "answerable": lambda e: e.answerable,
        "not answerable": lambda e: not e.answerable,
        "one subject": lambda e: len(e.passage.subjects) == 1,
        "two subjects": lambda e: len(e.passage.subjects) == 2,
    }
    for count in sorted({len(e.passage.facts) for e in examples}):
        groups[f"{count} facts"] = lambda e, count=count: len(e.passage.facts) == count  # type: ignore[misc]
    for kind in sorted({e.relation.answer_type for e in examples}):
        groups[f"asks for: {kind}"] = lambda e, kind=kind: e.relation.answer_type == kind  # type: ignore[misc]
    rows = []
    for name, belongs in groups.items():
        chosen = [(r, e.guess_chance()) for e, r in zip(examples, right, strict=True) if belongs(e)]
        if chosen:
            matched, guessed = zip(*chosen, strict=True)
            rows.append((name, len(chosen), sum(matched) / len(chosen), sum(guessed) / len(chosen)))
    return rows


@dataclass(frozen=True)
class Training:
    """The card's facts about the training."""

    steps: int
    seconds: float
    seed: int
    batch: int
    command: str


@dataclass(frozen=True)
class Figures:
    """The measurements of an exported model; rows as from `rows_by_group`."""

    usual: Rows
    long: Rows
    demo: Sequence[bool]
    magnitudes: dict[str, float]
    difference: float
    probes: int


def measure(
    model: MobileBertForQuestionAnswering, path: Path, tokenizer: Tokenizer, names: NamePool, *, count: int, demo: Demo
) -> Figures:
    """Measures the ONNX file at `path`, which was exported from `model`.

    Raises:
        RuntimeError: a value is too large for float16 or for the attention mask's constant.
    """
    usual = held_out_examples(tokenizer, names, Shape(), count=count, seed=HELD_OUT_SEED)
    long = held_out_examples(tokenizer, names, LONG_SHAPE, count=count // 3, seed=HELD_OUT_SEED + 1, tokens=LONG_TOKENS)
    probes = [*usual[:80], *long[:20]]
    magnitudes = largest_magnitudes(model, tokenizer, probes)
    too_large = {name: magnitudes[name] for name, limit in LIMITS.items() if magnitudes[name] >= limit}
    if too_large:
        raise RuntimeError(f"values too large: {too_large}")
    return Figures(
        rows_by_group(usual, exact_matches(path, tokenizer, usual)),
        rows_by_group(long, exact_matches(path, tokenizer, long))[:3],
        exact_matches(path, tokenizer, [example for group in demo for example in group]),
        magnitudes,
        largest_difference(model, path, tokenizer, probes),
        len(probes),
    )


def table(rows: Rows) -> str:
    """Returns a Markdown table of scores."""
    lines = ["| questions | number | exact match | guess by answer type |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {number:,} | {100 * em:.1f} % | {100 * guess:.1f} % |" for name, number, em, guess in rows]
    return "\n".join(lines)


def wrapped(markdown: str) -> str:
    """Rewraps the lines of Markdown paragraphs and list items; keeps headings and tables."""
    lines: list[str] = []
    for line in markdown.split("\n"):
        begins = not line or line.startswith(("#", "|", "- ")) or not lines or not lines[-1]
        if begins or lines[-1].startswith(("#", "|")):
            lines.append(line)
        else:
            lines[-1] += f" {line.strip()}"
    return "\n".join(
        fill(line, 118, subsequent_indent="  " * line.startswith("- "), break_on_hyphens=False, break_long_words=False)
        for line in lines
    )


def model_card(
    model: MobileBertForQuestionAnswering,
    figures: Figures,
    *,
    vocabulary_size: int,
    training: Training,
    demo_seed: int,
    unanswerable: int,
    nodes: int,
) -> str:
    """Returns the card as Markdown."""
    config = model.config
    _, total, matched, guessed = figures.usual[0]
    largest = ", ".join(f"{name} {value:.1f}" for name, value in figures.magnitudes.items())
    card = f"""# Model card: demo model

A small MobileBERT for extractive question answering, made for this package so that every step can be tried without
a download. It answers questions about the kind of passage that it was trained on (`questions.json` has twelve of
them) and says "no answer" where the passage does not tell. **It is no general question answering model**: for real
text use a real one.

This file is written by `tools/train_demo_model.py`. Every figure in it was measured by that run on the exported
`model.onnx` with ONNX Runtime (float32, CPU), inputs padded to {SEQUENCE_LENGTH} tokens.

## Result
Exact match with the gold text on {total:,} held-out questions: **{100 * matched:.1f} %**. Somebody who knows the
type of answer asked for and picks among the passage's facts of this type would reach **{100 * guessed:.1f} %**.

{table(figures.usual)}

The same with passages that are filled up to {LONG_TOKENS[0]} to {LONG_TOKENS[1]} tokens with sentences that answer
nothing:

{table(figures.long)}

An answer is the best span inside the passage (start not after end, at most {MAX_ANSWER_TOKENS} tokens), or none
where [CLS] scores at least as high. It is right if the text cut from the passage equals the gold text exactly. A
guess at a question that the passage does not answer counts as right only where the passage holds no fact of the
type asked for.

Held out are the names of people, towns and subjects (other combinations of the same pieces), and with them the
passages; relations and wordings are those of the training. The progress checks during training used other passages with
held-out names. Seeds of the two tables: {HELD_OUT_SEED} and
{HELD_OUT_SEED + 1}.

## Demo questions
`questions.json` holds four held-out passages and {len(figures.demo)} questions, {unanswerable} of them without an
answer, drawn with seed {demo_seed}. The seed was picked by reading the passages, for variety and good reading,
before the model was asked; the model was neither trained nor selected on them. It answers {sum(figures.demo)} of
{len(figures.demo)} right.

## Model
- `transformers.MobileBertForQuestionAnswering`: {config.num_hidden_layers} layers, hidden size
  {config.hidden_size}, bottleneck {config.intra_bottleneck_size}, {config.num_attention_heads} heads,
  {config.num_feedforward_networks} feed-forward networks a layer, trigram input, NoNorm,
  {sum(p.numel() for p in model.parameters()):,} parameters.
- ONNX opset {OPSET}, {nodes} nodes, static shapes: `input_ids`, `attention_mask`, `token_type_ids` int32 (1,
  {SEQUENCE_LENGTH}); `start_logits`, `end_logits` float32 (1, {SEQUENCE_LENGTH}). The graph makes its additive
  attention mask itself, with {-MASK:.0f}.
- Tokenizer: {vocabulary_size:,} word pieces, lower-casing, made from the corpus' words and their parts, name
  pieces, digit pairs and single characters.
- Largest magnitudes on {figures.probes} held-out inputs: {largest}.
- Largest difference between the logits of torch and of ONNX Runtime on them: {figures.difference:.1e}.

## Training
- Data: passages from `tools/demo_corpus.py`, made on the fly, about one or two subjects with three to eight facts
  from {len(RELATION_IDS)} relations. Most tell three to five facts of one answer type, which only the relation
  asked for tells apart. No text from elsewhere.
- {training.steps:,} steps of up to {training.batch} questions in {training.seconds / 60:.0f} minutes on two CPU
  cores, seed {training.seed}: `{training.command}`
- AdamW, a curriculum from short to long passages, auxiliary losses (which relation and which subject does a token
  belong to, is it the one asked for) whose heads are thrown away, a penalty on long queries and keys (without it the
  attention scores grow past 30,000, too much for float16 and for the mask), random position offsets, averaged weights.

## Licence
Made for this project from text that this project generates; it carries no weights or data of others. Same licence
as the package.
"""
    return wrapped(card)
