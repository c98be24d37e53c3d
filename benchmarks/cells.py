"""Compares a DLC on one runtime with its float32 ONNX: logits, and answers to held-out questions of the demo's corpus.

Shared by accuracy.py and tests/test_precisions.py. Contains no tables and thresholds.
"""

import os
import random
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before ONNX Runtime is first imported

from bundler import layout, resources
from bundler.dlc.execute import CpuNetwork, GpuNetwork
from bundler.model.make import Recipe
from bundler.model.simulate import run_on_simulator
from bundler.pipeline.build import BuildRequest, CalibrationRequest, build_bundle
from bundler.qa.features import Windower, load_tokenizer
from bundler.qa.spans import MAX_ANSWER_TOKENS, WindowLogits, decode_all
from bundler.soc import DEFAULT, known_socs
from bundler.types import Feature, Question, QuestionSet, Runtime

TOOLS = Path(__file__).resolve().parents[1] / "tools"
if str(TOOLS) not in sys.path:
    sys.path.append(str(TOOLS))

from demo_corpus import Shape, draw_examples, name_pools  # type: ignore[import-not-found]  # noqa: E402

SOC = known_socs()[DEFAULT]
LENGTH = 384
OVERLAP = 128
SEED = 20010  # of the questions asked; the model card's are 20000 and 20001, the demo questions' 1680
CALIBRATION_SEED = 20011  # of the questions calibrated on; their names are the training pool's
CALIBRATION_WINDOWS = 32
OUTPUTS = ("start_logits", "end_logits")

Logits = Mapping[str, npt.NDArray[Any]]


def quiet(stage: str, done: int, total: int | None, /) -> None:
    """Ignores the progress."""


def draw_questions(count: int, *, seed: int, held_out: bool) -> QuestionSet:
    """Draws questions of the demo's corpus, one for each passage, with names of the held-out or the training pool."""
    names = name_pools()[1 if held_out else 0]
    examples = islice(draw_examples(random.Random(seed), names, Shape()), count)
    questions = (
        Question(f"{seed}-{number}", e.question, e.passage.text, e.passage.title, (e.answer,) if e.answer else ())
        for number, e in enumerate(examples)
    )
    return QuestionSet(tuple(questions), may_be_unanswerable=True)


@dataclass(frozen=True)
class Exam:
    """Questions, their windows, and the logits of the float32 ONNX for them."""

    questions: QuestionSet
    features: tuple[Feature, ...]
    exact: tuple[Logits, ...]

    @classmethod
    def of(cls, model: Path, questions: QuestionSet, tokenizer: Path = resources.DEMO_TOKENIZER) -> "Exam":
        """Returns the exam of the ONNX file `model`, run without changes."""
        features = tuple(Windower(load_tokenizer(tokenizer), LENGTH, OVERLAP).windows(questions.questions))
        return cls(questions, features, tuple(onnx_logits(model, features)))

    def first(self, count: int) -> "Exam":
        """Returns the exam restricted to the first questions."""
        kept = QuestionSet(self.questions.questions[:count], self.questions.may_be_unanswerable)
        ids = {question.id for question in kept.questions}
        pairs = [(f, e) for f, e in zip(self.features, self.exact, strict=True) if f.question_id in ids]
        return Exam(kept, tuple(f for f, _ in pairs), tuple(e for _, e in pairs))


@dataclass(frozen=True)
class Grade:
    """The likeness of logits to float32's on real tokens, and the number of questions whose answers equal float32's and
    the truth."""

    questions: int
    correlation: float
    sqnr_db: float
    equal: int
    right: int
    right_in_float32: int


def make_dlc(model: Path, recipe: Recipe, out: Path, tokenizer: Path = resources.DEMO_TOKENIZER) -> Path:
    """Makes the DLC as `mbqa-bundle build` does; calibrated on questions that are in no exam."""
    calibration = draw_questions(CALIBRATION_WINDOWS, seed=CALIBRATION_SEED, held_out=False)
    asked = QuestionSet(calibration.questions[:1], may_be_unanswerable=True)
    sample = CalibrationRequest(
        questions=calibration, name=f"demo corpus, seed {CALIBRATION_SEED}", windows=CALIBRATION_WINDOWS
    )
    build_bundle(
        BuildRequest(questions=asked, model=model, tokenizer=tokenizer, soc=SOC, recipe=recipe, calibration=sample),
        out,
        quiet,
    )
    return out / layout.DEVICE / layout.MODEL


def onnx_logits(model: Path, features: Sequence[Feature]) -> list[Logits]:
    """Computes the logits of an ONNX file of any exporter by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    kinds = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}
    dtypes = {value.name: kinds[value.type] for value in session.get_inputs()}
    return [
        dict(zip(OUTPUTS, session.run(list(OUTPUTS), feed), strict=True))
        for feature in features
        for feed in ({name: feature.inputs[name][None].astype(dtype) for name, dtype in dtypes.items()},)
    ]


def dlc_logits(dlc: Path, runtime: Runtime, features: Sequence[Feature]) -> list[Logits]:
    """Computes the logits of a DLC on a runtime; the DSP is Qualcomm's simulator, in a child process."""
    feeds = [{name: values[None] for name, values in feature.inputs.items()} for feature in features]
    if runtime == "dsp":
        return list(run_on_simulator(dlc, SOC, feeds, quiet))
    network = (GpuNetwork if runtime == "gpu" else CpuNetwork)(dlc)
    return [network.execute({spec.name: feed[spec.name] for spec in network.inputs}) for feed in feeds]


def grade(exam: Exam, computed: Sequence[Logits]) -> Grade:
    """Compares a runtime's logits with the exam's float32 ones."""
    exact, other = (_real_values(exam.features, logits) for logits in (exam.exact, computed))
    noise = float(np.square(exact - other).sum())
    sqnr = 10 * np.log10(float(np.square(exact).sum()) / noise) if noise else np.inf
    mine, reference = _answers(exam, computed), _answers(exam, exam.exact)
    gold = [question.answers[0] if question.answers else "" for question in exam.questions.questions]
    return Grade(
        questions=len(gold),
        correlation=float(np.corrcoef(exact, other)[0, 1]),
        sqnr_db=float(min(sqnr, 200.0)),
        equal=sum(a[1:] == b[1:] for a, b in zip(mine, reference, strict=True)),
        right=sum(answer[0] == truth for answer, truth in zip(mine, gold, strict=True)),
        right_in_float32=sum(answer[0] == truth for answer, truth in zip(reference, gold, strict=True)),
    )


def _real_values(features: Sequence[Feature], computed: Sequence[Logits]) -> npt.NDArray[np.float64]:
    """Returns the logits of real tokens, in one row."""
    rows = [
        logits[name].ravel()[feature.inputs["attention_mask"] == 1]
        for feature, logits in zip(features, computed, strict=True)
        for name in OUTPUTS
    ]
    return np.concatenate(rows).astype(np.float64)


def _answers(exam: Exam, computed: Sequence[Logits]) -> list[tuple[str, int, int]]:
    """Returns (text, start, end) of each question's answer, decoded as `fetch-answers` does."""
    windows: defaultdict[str, list[WindowLogits]] = defaultdict(list)
    for feature, logits in zip(exam.features, computed, strict=True):
        start, end = (logits[name].ravel().astype(np.float32) for name in OUTPUTS)
        windows[feature.question_id].append(WindowLogits(feature.key, feature.offsets, start, end))
    unanswerable = exam.questions.may_be_unanswerable
    asked = [(question, windows[question.id]) for question in exam.questions.questions]
    decoded = decode_all(asked, max_tokens=MAX_ANSWER_TOKENS, may_be_unanswerable=unanswerable)
    return [(answer.text, answer.start, answer.end) for answer in decoded]
