"""Evaluation documents to draw: a believable one of any size, and one whose every text tries to break out."""

import math
import random
from typing import Any

RUNS = (
    ("cpu fp32", "fp32", "cpu", 1.0, 42.0),
    ("gpu fp16", "fp16", "gpu", 0.9999, 21.0),
    ("dsp fp16", "fp16", "dsp", 0.9997, 11.0),
    ("dsp w8a16", "w8a16", "dsp", 0.991, 6.8),
    ("dsp w8a8", "w8a8", "dsp", 0.88, 4.1),
)
"""Name, precision, runtime, how near to float32, and a window's time in ms."""

HOSTILE = (
    "<script>hacked()</script>",
    "</script><script>hacked()</script>",
    "<!-- <script>",
    "-->]]><img src=x onerror=hacked()>",
    "\u2028hacked()\u2029",
    "\"' onload=hacked() x='\"",
    "\u202eright to left\u202c \u0627\u0644\u062c\u0633\u0631 \u200f",
    "{{ 7 * 7 }} {% raw %} ${hacked()} `$x^2$`",
    "&lt;b&gt; &amp;amp; \x00\x1b[31m\ud800",
    "javascript:hacked()",
)

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
    """A believable evaluation: five runs, from float32 on the CPU to 8 bits on the DSP."""
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
        "reference": {"name": "ONNX Runtime, float32", "scores": _scores(rows, None)},
        "runs": [_run(rng, rows, place, layers) for place in range(len(RUNS))],
        "questions": rows,
        "gates": [
            {"name": "min-f1", "limit": 80.0, "run": "dsp w8a16", "value": 91.2, "passed": True},
            {"name": "min-agreement", "limit": 95.0, "run": "dsp w8a8", "value": 87.5, "passed": False},
            {"name": "max-p90-ms", "limit": 10.0, "run": "dsp w8a16", "value": 7.46, "passed": True},
        ],
    }


def bare() -> dict[str, Any]:
    """The least there can be: nothing known but answers."""
    made = document(3)
    made["reference"]["scores"] = None
    made["gates"] = []
    for run in made["runs"]:
        run.update(verified=None, scores=None, latency=None, memory_mb=None, layers=None)
    for row in made["questions"]:
        row.update(golds=[], impossible=None)
        for answer in row["runs"]:
            answer.update(exact=None, f1=None)
    return made


def hostile() -> dict[str, Any]:
    """Every text that comes from outside tries to be more than text."""
    made = document(3 * len(HOSTILE), layers=len(HOSTILE))
    made["contexts"] = [f"{text} {context} {text}" for text, context in zip(HOSTILE, made["contexts"], strict=True)]
    made["model"] = "".join(HOSTILE)
    made["made_by"] = HOSTILE[1]
    made["reference"]["name"] = HOSTILE[0]
    for number, run in enumerate(made["runs"]):
        run["name"] = f"{HOSTILE[number]} {HOSTILE[-1 - number]}"
        run["precision"] = HOSTILE[number + 1]
        run["runtime"] = HOSTILE[number + 2]
        run["phones"] = [{"name": text, "soc": text, "model": text, "windows": {text: 1}} for text in HOSTILE]
        for text, layer in zip(HOSTILE, run["layers"] or (), strict=False):
            layer.update(name=text, type=text)
        if run["latency"]:
            run["latency"]["source"] = HOSTILE[1]
    for number, row in enumerate(made["questions"]):
        text = HOSTILE[number % len(HOSTILE)]
        row.update(id=f"{text} {number}", question=f"{text} Who?", title=text, golds=[text, HOSTILE[1]])
        for answer in row["runs"]:
            answer.update(answer=text, start=0, end=len(text))
            answer["n_best"] = [{"text": text, "start": 0, "end": len(text), "confidence": 0.5}]
    for gate in made["gates"]:
        gate.update(name=HOSTILE[1], run=HOSTILE[0])
    return made


def _context(rng: random.Random) -> tuple[str, list[tuple[str, str]]]:
    """A text, and what can be asked of it with its answer; one question has none."""
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
    """Some words of the context, whole."""
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
    others = _others(rng, context, 5)
    chosen = gold if rng.random() < 0.9 else others[0]
    runs = []
    for _, _, _, near, _ in RUNS:
        span = chosen if rng.random() < 0.5 + near / 2 else others[1]
        right = span == gold
        confidence = min(0.999, max(0.02, rng.gauss(0.86 if right else 0.5, 0.16)))
        best = [span, *others] if span != (0, 0) else others
        runs.append(
            {
                **_answer(context, span, confidence),
                "exact": right,
                "f1": 1.0 if right else rng.choice((0.0, 0.4, 0.5, 0.667)) if truth and span != (0, 0) else 0.0,
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
        "golds": [truth, *([f"about {truth}"] if truth.isdigit() else [])] if truth else [],
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


def _scores(rows: list[dict[str, Any]], run: int | None) -> dict[str, Any]:
    def part(chosen: list[dict[str, Any]]) -> dict[str, Any] | None:
        if not chosen:
            return None
        marks = [row["runs"][run or 0] for row in chosen]
        return {
            "exact_match": 100.0 * sum(mark["exact"] for mark in marks) / len(marks),
            "f1": 100.0 * sum(mark["f1"] for mark in marks) / len(marks),
            "total": len(marks),
        }

    whole = part(rows) or {}
    best = {"best_exact_match": whole["exact_match"], "best_f1": whole["f1"]}
    return {
        **whole,
        "has_answer": part([row for row in rows if not row["impossible"]]),
        "no_answer": part([row for row in rows if row["impossible"]]),
        **best,
        "best_exact_threshold": 0.12,
        "best_f1_threshold": 0.1,
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
        "run_id": f"{rng.getrandbits(32):08x}",
        "phones": [
            {"name": "127.0.0.1:5555", "soc": "SM8650", "model": "Snapdragon 8 Gen 3", "windows": {runtime: 40}},
            *([{"name": "R58M", "soc": "SM8550", "model": "Galaxy", "windows": {runtime: 25}}] if place == 3 else []),
        ],
        "verified": {"smallest_cosine": near, "threshold": 0.99, "windows": 8, "passed": near >= 0.99},
        "scores": _scores(rows, place),
        "agreement": {"questions": len(rows), "equal": equal, "fraction": equal / len(rows)},
        "logits": {
            "cosine": near,
            "smallest_cosine": near - (1 - near),
            "sqnr_db": None if near == 1 else -10 * math.log10(1 - near),
            "largest_difference": (1 - near) * 30,
            "correlation": near,
        },
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
    """Error that builds up from layer to layer, with a few that are worse than their neighbours."""
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
