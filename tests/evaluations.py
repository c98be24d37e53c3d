"""Makes evaluation documents for reports: a realistic one of any size, and one with hardly any known values."""

import math
import random
from typing import Any

from bundler.qa.metrics import exact_match, f1

RUNS = (
    ("cpu fp32", "fp32", "cpu", 1.0, 42.0),
    ("gpu fp16", "fp16", "gpu", 0.9999, 21.0),
    ("dsp fp16", "fp16", "dsp", 0.9997, 11.0),
    ("dsp w8a16", "w8a16", "dsp", 0.991, 6.8),
    ("dsp w8a8", "w8a8", "dsp", 0.88, 4.1),
)
"""Name, precision, runtime, how near to float32, and a window's time in ms."""

PLACES = "Viaduct Lighthouse Museum Observatory Library Harbour Orchard Foundry Theatre Aqueduct".split()
NAMES = "Thistleholm Northworth Caldmere Ostrava Brightwater Élan-sur-Mer 橋本 Ravensby Kirkfell Dunmarrow".split()
FILLERS = (
    "Thousands of people use it every week.",
    "Life in the region was simple for a long time.",
    "A guidebook of the period calls it “plain but honest”.",
    "The river beside it floods in most winters, and the road is closed then.",
    "Its keepers lived in the small house on the eastern side 🏠 until the roof fell in.",
    "School classes come by in May.",
)


def document(questions: int = 60, seed: int = 5, layers: int = 96) -> dict[str, Any]:
    """Returns a realistic evaluation: five runs, from float32 on the CPU to 8 bits on the DSP."""
    rng = random.Random(seed)
    texts = [_context(rng) for _ in range((questions + 2) // 3)]
    rows = [_question(rng, number, number // 3, texts[number // 3]) for number in range(questions)]
    return {
        "schema": 1,
        "made_by": "mbqa-bundle 0.1.0",
        "model": "mobilebert-uncased-squad-v2.onnx",
        "questions_count": questions,
        "windows": questions + questions // 12,
        "may_be_unanswerable": True,
        "contexts": [context for context, _ in texts],
        "reference": {"name": "ONNX Runtime, float32", "scores": _scores(rows, 0)},
        "runs": [_run(rng, rows, place, layers) for place in range(len(RUNS))],
        "questions": rows,
        "gates": [
            {"name": "min-f1", "limit": 80.0, "run": "dsp w8a16", "value": 91.2, "passed": True},
            {"name": "min-agreement", "limit": 0.95, "run": "dsp w8a8", "value": 0.875, "passed": False},
            {"name": "max-p90-ms", "limit": 10.0, "run": "dsp w8a16", "value": 7.46, "passed": True},
        ],
    }


def bare() -> dict[str, Any]:
    """Returns the smallest possible evaluation, which has only answers."""
    made = document(3)
    made["reference"]["scores"] = None
    made["gates"] = []
    for run in made["runs"]:
        run.update(verified=None, scores=None, latency=None, latency_groups=[], memory_mb=None, layers=None)
    for row in made["questions"]:
        row.update(golds=[], impossible=None)
        for answer in row["runs"]:
            answer.update(exact=None, f1=None)
    return made


def _context(rng: random.Random) -> tuple[str, list[tuple[str, str]]]:
    """Returns a text with its questions and answers; one question has no answer."""
    title = f"{rng.choice(NAMES)} {rng.choice(PLACES)}"
    mayor, year, people = rng.choice(NAMES), rng.randint(1700, 1850), rng.randint(3, 90)
    facts = [
        f"Construction of the {title} began in {year}.",
        f"It was opened to the public by the mayor of {mayor} in {year + 9}.",
        f"In its best years {people} people were employed there.",
        f"A fire in {year + 150} destroyed the northern wing.",
    ]
    asked = [
        (f"When did construction of the {title} begin?", f"{year}"),
        ("Who opened it to the public?", f"the mayor of {mayor}"),
        ("How many people were employed there?", f"{people}"),
        ("Which part was lost in the fire?", "the northern wing"),
        ("Who designed the western gate?", ""),
    ]
    sentences = facts + rng.sample(FILLERS, rng.randint(2, len(FILLERS)))
    rng.shuffle(sentences)
    return " ".join(sentences), rng.sample(asked, len(asked))


def _others(rng: random.Random, context: str, count: int) -> list[tuple[int, int]]:
    """Returns the spans of some whole words of the context."""
    words = context.split(" ")
    starts = [0]
    for word in words:
        starts.append(starts[-1] + len(word) + 1)
    firsts = [rng.randrange(len(words) - 2) for _ in range(count)]
    return [(starts[first], starts[first + rng.randint(1, 2)] - 1) for first in firsts]


def _question(rng: random.Random, number: int, place: int, text: tuple[str, list[tuple[str, str]]]) -> dict[str, Any]:
    context, asked = text
    question, truth = asked[number % 3]
    gold = (context.index(truth), context.index(truth) + len(truth)) if truth else (0, 0)
    golds = [truth, *([f"about {truth}"] if truth.isdigit() else [])] if truth else []
    others = _others(rng, context, 5)
    if truth:
        others[1] = (gold[0], f"{context} ".index(" ", gold[1] + 1))
    chosen = gold if rng.random() < 0.9 else others[0]
    runs = []
    for _, _, _, near, _ in RUNS:
        span = chosen if rng.random() < 0.5 + near / 2 else others[1]
        right = any(exact_match(context[slice(*span)], gold) == 1 for gold in golds or [""])
        confidence = min(0.999, max(0.02, rng.gauss(0.86 if right else 0.5, 0.16)))
        best = [span, *others] if span != (0, 0) else others
        runs.append(
            {
                **_answer(context, span, confidence),
                "exact": right,
                "f1": max(f1(context[slice(*span)], gold) for gold in golds or [""]),
                "agrees": span == chosen,
                "n_best": [
                    {"text": context[a:b], "start": a, "end": b, "confidence": round(confidence * 0.4**rank, 4)}
                    for rank, (a, b) in enumerate(best)
                ],
            }
        )
    return {
        "id": f"{rng.getrandbits(96):024x}",
        "question": question,
        "title": f"Chapter {place + 1}",
        "context": place,
        "golds": golds,
        "impossible": not truth,
        "reference": _answer(context, chosen, 0.8),
        "runs": runs,
    }


def _answer(context: str, span: tuple[int, int], confidence: float) -> dict[str, Any]:
    return {
        "answer": context[slice(*span)],
        "start": span[0],
        "end": span[1],
        "confidence": confidence,
        "null_score": round(0.5 - confidence, 4),
    }


def _scores(rows: list[dict[str, Any]], run: int) -> dict[str, Any] | None:
    if not rows:
        return None
    whole = _part(rows, run)
    return {
        **whole,
        "has_answer": _part([row for row in rows if not row["impossible"]], run),
        "no_answer": _part([row for row in rows if row["impossible"]], run),
        "best_exact_match": whole["exact_match"],
        "best_exact_threshold": 0.12,
        "best_f1": whole["f1"],
        "best_f1_threshold": 0.1,
    }


def _part(rows: list[dict[str, Any]], run: int) -> dict[str, Any]:
    marks = [row["runs"][run] for row in rows]
    total = max(1, len(marks))
    return {
        "exact_match": 100.0 * sum(mark["exact"] for mark in marks) / total,
        "f1": 100.0 * sum(mark["f1"] for mark in marks) / total,
        "total": len(marks),
    }


def _run(rng: random.Random, rows: list[dict[str, Any]], place: int, layers: int) -> dict[str, Any]:
    name, precision, runtime, near, base = RUNS[place]
    times = sorted(base * (1 + rng.expovariate(12)) + (base if rng.random() < 0.01 else 0) for _ in range(400))
    equal = sum(row["runs"][place]["agrees"] for row in rows)
    return {
        "name": name,
        "bundle": f"{rng.getrandbits(64):016x}",
        "precision": precision,
        "runtime": runtime,
        "engine": "qnn",
        "run_id": f"{rng.getrandbits(32):08x}",
        "phones": [
            {"name": "127.0.0.1:5555", "soc": "SM8650", "model": "Snapdragon 8 Gen 3", "windows": {runtime: 40}},
            *([{"name": "R58M", "soc": "SM8550", "model": "Galaxy", "windows": {runtime: 25}}] if place == 3 else []),
        ],
        "verified": {
            "smallest_cosine": near,
            "threshold": 0.99,
            "windows": 8,
            "passed": near >= 0.99,
            "equal_answers": 8,
        },
        "scores": _scores(rows, place),
        "agreement": {"questions": len(rows), "equal": equal, "fraction": equal / max(1, len(rows))},
        "logits": {
            "cosine": near,
            "smallest_cosine": near - (1 - near),
            "sqnr_db": None if near == 1 else -10 * math.log10(1 - near),
            "largest_difference": (1 - near) * 30,
            "correlation": near,
        },
        "latency_groups": [
            {"model": f"Phone_{host}", "host": host, "phones": 2, "count": 100, "p50": 41.5, "p90": 44.25}
            for host in ("lab-1", "lab-2")
            if place == 0
        ],
        "latency": {
            "init_ms": 180.0 + 40 * place,
            "inference_ms": {
                "count": len(times),
                "mean": sum(times) / len(times),
                "p50": times[199],
                "p90": times[359],
                "p99": times[395],
                "values": times,
            },
            "source": "times of the output files",
        },
        "memory_mb": 96.5 / (1 + place),
        "layers": _layers(rng, near, layers) if precision.startswith("w") else None,
    }


def _layers(rng: random.Random, near: float, count: int) -> list[dict[str, Any]]:
    """Returns errors that increase from layer to layer, with a few that are worse than their neighbours."""
    made = []
    for number in range(count):
        error = (1 - near) * (0.05 + number / count) * rng.uniform(0.5, 1.5) * (6 if rng.random() < 0.05 else 1)
        kind = ("FullyConnected", "Eltwise_Binary", "MatMul", "Softmax", "LayerNorm")[number % 5]
        made.append(
            {
                "name": f"/encoder/layer.{number // 5}/{kind}_{number}",
                "type": kind,
                "cosine": 1 - error,
                "sqnr_db": -10 * math.log10(error),
                "largest_difference": error * 20,
            }
        )
    return made
