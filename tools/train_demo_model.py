"""Trains the demo model, a small MobileBERT for question answering, on the synthetic corpus and exports it.

    python tools/train_demo_model.py --out bundler/demo             everything, about an hour on two cores
    python tools/train_demo_model.py --out FOLDER --smoke           every stage with a tiny model, under a minute

Needs torch, transformers, tokenizers, onnx, onnxsim and onnxruntime. Does not use the package.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import demo_wordings as words
import torch
from demo_corpus import KIND_IDS, RELATION_IDS, Example, NamePool, Shape, draw_passage, draw_question, name_pools
from demo_model import IGNORED, PERSON_KIND, SEQUENCE_LENGTH, Helpers, ScoreLimit, build_model, build_tokenizer
from demo_model_card import Training, demo_questions, measure, model_card, squad_json
from export_demo_model import MASK, export_onnx, write_atomically
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import MobileBertForQuestionAnswering

Row = tuple[list[int], ...]
BATCH = 32
RATE = 8e-4
STEPS = 7_500
STOP_AT = 6_000
DEMO_SEED = 1680


@dataclass(frozen=True)
class Batch:
    """Integer tensors (B, S) and answer positions (B,); the last four are for the auxiliary losses."""

    ids: Tensor
    mask: Tensor
    types: Tensor
    start: Tensor
    end: Tensor
    relation: Tensor
    kind: Tensor
    asked: Tensor


def kind_label(example: Example, subject: int) -> int:
    """Returns a number for the subject's kind, from 1; all persons share one: a name does not reveal the trade."""
    one = example.passage.subjects[subject]
    return 1 + (PERSON_KIND if one.group == words.PERSON else KIND_IDS[one.kind])


def encode(tokenizer: Tokenizer, examples: Sequence[Example]) -> list[Row]:
    """Returns for each example the lists ids, types, relation, kind, asked (one number a token), [start, end]."""
    rows: list[Row] = []
    for example, encoding in zip(
        examples, tokenizer.encode_batch([(e.question, e.passage.text) for e in examples]), strict=True
    ):
        length = len(encoding.ids)
        first = encoding.type_ids.index(1)
        asked_relation = 1 + RELATION_IDS[example.relation.name]
        relation = [asked_relation] * first + [0] * (length - first)
        kind = [kind_label(example, example.subject)] * first + [0] * (length - first)
        asked = [IGNORED] * first + [0] * (length - first)
        span = [0, 0]
        offsets = encoding.offsets
        facts = iter(example.passage.facts)
        fact = next(facts, None)
        answer_end = example.answer_start + len(example.answer)
        for at in range(first, length - 1):
            begin, end = offsets[at]
            while fact and begin >= fact.end:
                fact = next(facts, None)
            if fact and begin >= fact.start:
                relation[at] = 1 + RELATION_IDS[fact.relation.name]
                kind[at] = kind_label(example, fact.subject)
                asked[at] = int(relation[at] == asked_relation and fact.subject == example.subject)
            if example.answerable and begin == example.answer_start:
                span[0] = at
            if example.answerable and end == answer_end:
                span[1] = at
        rows.append((encoding.ids, encoding.type_ids, relation, kind, asked, span))
    return rows


def collate(rows: Sequence[Row]) -> Batch:
    """Makes a batch as long as its longest row."""
    longest = max(len(row[0]) for row in rows)

    def padded(column: int, value: int) -> Tensor:
        return torch.tensor([row[column] + [value] * (longest - len(row[column])) for row in rows])

    span = torch.tensor([row[5] for row in rows])
    mask = torch.tensor([[1] * len(row[0]) + [0] * (longest - len(row[0])) for row in rows])
    return Batch(
        padded(0, 0),
        mask,
        padded(1, 0),
        span[:, 0],
        span[:, 1],
        padded(2, IGNORED),
        padded(3, IGNORED),
        padded(4, IGNORED),
    )


def shape_at(progress: float, rng: random.Random) -> Shape:
    """Returns the curriculum's shape of a passage after this share of the training."""
    if progress < 0.04:
        return Shape(
            facts=(3, 3),
            two_subjects=0.0,
            hard=1.0,
            joined=0.0,
            fillers=(0, 0),
            introduction=0.3,
            unanswerable=0.05,
            simple=True,
        )
    if progress < 0.12:
        return Shape(facts=(3, 5), two_subjects=0.2, joined=0.1, fillers=(0, 2), unanswerable=0.1)
    if rng.random() < 0.06:
        return Shape(long_chars=(500, 1600))
    return Shape(two_subjects=0.45, unanswerable=0.15)


def batches(
    tokenizer: Tokenizer, names: NamePool, *, seed: int, size: int, progress: Sequence[float]
) -> Iterator[Batch]:
    """Yields batches of about equal lengths; `progress[0]` is read during the training."""
    rng = random.Random(seed)
    while True:
        examples = []
        for _ in range(size * 24):
            shape = shape_at(progress[0], rng)
            examples.append(draw_question(rng, draw_passage(rng, names, shape), shape))
        rows = [row for row in encode(tokenizer, examples) if len(row[0]) <= SEQUENCE_LENGTH]
        rows.sort(key=lambda row: len(row[0]) + rng.random() * 8)
        groups: list[list[Row]] = []
        group: list[Row] = []
        for row in rows:
            if group and (len(group) >= size or len(group) * len(row[0]) > size * 150):
                groups.append(group)
                group = []
            group.append(row)
        rng.shuffle(groups)
        yield from map(collate, groups)


def additive_mask(mask: Tensor) -> Tensor:
    """Converts (B, S) of ones and zeros to (B, 1, 1, S) of zeros and -MASK."""
    return (1.0 - mask.to(torch.float32))[:, None, None, :] * -MASK


def span_loss(start_logits: Tensor, end_logits: Tensor, batch: Batch) -> Tensor:
    """Returns the cross entropy of both ends over the tokens that are not padding; logits are (B, S)."""
    hidden = batch.mask == 0
    start = nn.functional.cross_entropy(start_logits.masked_fill(hidden, -1e4), batch.start)
    return start + nn.functional.cross_entropy(end_logits.masked_fill(hidden, -1e4), batch.end)


def quick_score(model: nn.Module, checks: Sequence[Batch]) -> float:
    """Returns the share of examples whose two ends are both the best ones; a cheap estimate of exact match."""
    right = total = 0
    for batch in checks:
        with torch.no_grad():
            out = model(input_ids=batch.ids, attention_mask=additive_mask(batch.mask), token_type_ids=batch.types)
        hidden = batch.mask == 0
        start = out.start_logits.masked_fill(hidden, -1e4).argmax(1) == batch.start
        end = out.end_logits.masked_fill(hidden, -1e4).argmax(1) == batch.end
        right += int((start & end).sum())
        total += len(start)
    return right / total


@dataclass
class Progress:
    """The state to continue the training, and the facts for the model card."""

    step: int = 0
    seconds: float = 0.0


def train(
    tokenizer: Tokenizer,
    *,
    steps: int,
    stop_at: int,
    seed: int,
    minutes: float,
    tiny: bool,
    checkpoint: Path | None,
) -> tuple[MobileBertForQuestionAnswering, Progress]:
    """Returns the model with its averaged weights after this many steps or minutes."""
    torch.manual_seed(seed)
    rng = random.Random(seed + 1)
    train_names, held_out = name_pools()
    model = build_model(tokenizer.get_vocab_size(), tiny=tiny)
    helpers = Helpers(model.config.hidden_size)
    limit = ScoreLimit(model)
    weights = [*model.parameters(), *helpers.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.01, betas=(0.9, 0.98))
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    fraction = [0.0]
    source = batches(tokenizer, train_names, seed=seed + 2, size=BATCH, progress=fraction)
    full = batches(tokenizer, held_out, seed=seed + 3, size=BATCH, progress=[1.0])
    checks = [next(full) for _ in range(2 if tiny else 8)]
    begun, progress = time.monotonic(), Progress()
    for step in range(min(steps, stop_at)):
        fraction[0] = max(step / steps, (time.monotonic() - begun) / 60 / minutes)
        if fraction[0] >= 1.0:
            break
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, step / 200 + 0.01) * min(1.0, 1.25 * (1.0 - fraction[0]) + 0.005)
        batch = next(source)
        shift = rng.randint(0, SEQUENCE_LENGTH - batch.ids.shape[1]) if rng.random() < 0.4 else 0
        positions = torch.arange(shift, shift + batch.ids.shape[1])[None]
        out = model(
            input_ids=batch.ids, attention_mask=additive_mask(batch.mask), token_type_ids=batch.types,
            position_ids=positions, output_hidden_states=True,
        )  # fmt: skip
        answer = span_loss(out.start_logits, out.end_logits, batch)
        helped = helpers(out.hidden_states, batch.relation, batch.kind, batch.asked)
        optimizer.zero_grad(set_to_none=True)
        limited = limit.loss()
        (answer + helped + limited).backward()
        norm = nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        decay = min(0.998, step / (step + 20))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - decay) if value.is_floating_point() else average[name].copy_(value)
        progress = Progress(step + 1, time.monotonic() - begun)
        if (step + 1) % 100 == 0:
            score = f"{quick_score(model, checks):.3f}" if (step + 1) % 500 == 0 else "-"
            print(
                f"step {step + 1} answer {answer.item():.3f} helpers {helped.item():.3f} "
                f"scores {limited.item():.3f} norm {float(norm):.1f} "
                f"held-out {score} length {batch.ids.shape[1]} {(step + 1) / progress.seconds:.2f} steps/s",
                flush=True,
            )
        if checkpoint and (step + 1) % 500 == 0:
            torch.save({"model": average, "progress": vars(progress)}, checkpoint)
    model.load_state_dict(average)
    return model.eval(), progress


def publish(
    model: MobileBertForQuestionAnswering,
    tokenizer: Tokenizer,
    out: Path,
    *,
    training: Training,
    count: int,
    demo_seed: int,
) -> None:
    """Writes model, tokenizer, questions and card into the folder, each atomically."""
    _, held_out = name_pools()
    nodes = export_onnx(model, out / "model.onnx")
    write_atomically(out / "tokenizer.json", (tokenizer.to_str(pretty=True) + "\n").encode())
    demo = demo_questions(held_out, seed=demo_seed)
    write_atomically(out / "questions.json", squad_json(demo))
    figures = measure(model, out / "model.onnx", tokenizer, held_out, count=count, demo=demo)
    card = model_card(
        model,
        figures,
        vocabulary_size=tokenizer.get_vocab_size(),
        training=training,
        demo_seed=demo_seed,
        unanswerable=sum(not example.answerable for group in demo for example in group),
        nodes=nodes,
    )
    write_atomically(out / "MODEL_CARD.md", card.encode())
    print(card, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tasks of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the four files")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--stop-at", type=int, default=STOP_AT, help="end the schedule of --steps early, after this one"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=120.0, help="the schedule is shortened to end by then")
    parser.add_argument("--checkpoint", type=Path, help="file to save the averaged weights to, every 500 steps")
    parser.add_argument("--export-only", action="store_true", help="export the checkpoint instead of training")
    parser.add_argument("--demo-questions", action="store_true", help="write only questions.json")
    parser.add_argument("--demo-seed", type=int, default=DEMO_SEED)
    parser.add_argument("--held-out", type=int, default=1500, help="number of held-out questions to measure")
    parser.add_argument("--smoke", action="store_true", help="a tiny model and few questions, to try every stage")
    arguments = parser.parse_args(argv)
    if arguments.demo_questions:
        groups = demo_questions(name_pools()[1], seed=arguments.demo_seed)
        write_atomically(arguments.out / "questions.json", squad_json(groups))
        return 0
    torch.set_num_threads(2)
    tokenizer = build_tokenizer()
    steps, count = (20, 30) if arguments.smoke else (arguments.steps, arguments.held_out)
    if arguments.export_only:
        saved = torch.load(arguments.checkpoint, weights_only=True)
        model = build_model(tokenizer.get_vocab_size(), tiny=arguments.smoke).eval()
        model.load_state_dict(saved["model"])
        progress = Progress(**saved["progress"])
    else:
        model, progress = train(
            tokenizer,
            steps=steps,
            stop_at=arguments.stop_at,
            seed=arguments.seed,
            minutes=arguments.minutes,
            tiny=arguments.smoke,
            checkpoint=arguments.checkpoint,
        )
    schedule = f"--steps {steps} --stop-at {progress.step} --seed {arguments.seed}"
    command = f"python tools/train_demo_model.py --out bundler/demo {schedule}"
    training = Training(progress.step, progress.seconds, arguments.seed, BATCH, command)
    publish(model, tokenizer, arguments.out, training=training, count=count, demo_seed=arguments.demo_seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
