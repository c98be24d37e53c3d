"""Tests every precision of a full-size MobileBERT, with 24 layers and 30,522 words, and random weights.

Uses few windows and one inference on the DSP's simulator: benchmarks/conversion.py measures times and memory.
"""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.cells import OUTPUTS, SOC, Exam, dlc_logits, grade
from benchmarks.mobilebert import random_mobilebert, write_questions, write_vocabulary
from bundler import layout
from bundler.model.graph import FitGraph
from bundler.model.make import PRECISIONS, Job, Precision, Recipe, fit_checked, round_graph, write_dlc
from bundler.model.sources import open_model
from bundler.pipeline.build import BuildRequest, CalibrationRequest, build_bundle
from bundler.qa.questions import read_squad
from tests.conftest import quiet
from tests.inspection import check_inspect, float_elements

PARAMETERS = 24_582_914  # of MobileBertForQuestionAnswering with its default config
CONSTANTS = 26  # of the mask two, and what each layer's scores are multiplied by
LEAST_LIKE = {"fp32": 0.9999999, "fp16": 0.9999, "w16a16": 0.9999, "w8a16": 0.999, "w8a8": 0.999}  # on the CPU
WINDOWS = 2


class Bench:
    """The model, its tokenizer and questions, and its DLC at each precision, made once: fp16 by `build`, the others
    from one fitted graph."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.model, self.tokenizer = folder / "model.onnx", folder / "vocab.txt"
        onnx.save(random_mobilebert(), self.model)
        write_questions(folder / "questions.json", write_vocabulary(self.tokenizer), WINDOWS)
        self.questions = read_squad(folder / "questions.json")
        self.exam = Exam.of(self.model, self.questions, self.tokenizer)

    def dlc(self, precision: Precision) -> Path:
        out = self._folder / precision
        if not out.exists():
            if precision == "fp16":
                self._build(out)
            else:
                self._write(precision, out)
        return out / layout.DEVICE / layout.MODEL

    def _build(self, out: Path) -> None:
        request = BuildRequest(
            questions=self.questions, model=self.model, tokenizer=self.tokenizer, soc=SOC,
            recipe=Recipe("fp16", equalize=False), calibration=CalibrationRequest(windows=WINDOWS),
        )  # fmt: skip
        build_bundle(request, out, quiet)

    def _write(self, precision: Precision, out: Path) -> None:
        (out / layout.DEVICE).mkdir(parents=True)
        # w8a8 shows that equalization takes the size; with random weights there is nothing to choose
        recipe = Recipe(precision, equalize=precision == "w8a8", per_channel=True)
        job = replace(self._job, recipe=recipe)
        write_dlc(job, self._fit, round_graph(job, self._fit, quiet), out / layout.DEVICE / layout.MODEL, quiet)

    @cached_property
    def _job(self) -> Job:
        work = self._folder / "work"
        work.mkdir()
        source = open_model(self.model, self.tokenizer, None, work, quiet, {})
        feeds = [{name: values[None] for name, values in each.inputs.items()} for each in self.exam.features]
        return Job(source, Recipe("w8a8"), SOC, None, feeds[:WINDOWS], work, work / "log")

    @cached_property
    def _fit(self) -> FitGraph:
        return fit_checked(self._job, quiet)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("full"))


@pytest.mark.slow
def test_the_model_is_of_full_size_and_tells_tokens_apart(bench: Bench) -> None:
    """Otherwise a correlation would be meaningless."""
    assert float_elements(onnx.load(bench.model)) == PARAMETERS + CONSTANTS
    for logits in bench.exam.exact:
        for name in OUTPUTS:
            assert 0.1 < np.std(logits[name]) < 10


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision(bench: Bench, precision: Precision) -> None:
    """The DLC contains the model; the CPU, which computes a fixed-point DLC in float, gives its logits."""
    check_inspect(bench.dlc(precision), bench.model, precision)
    exam = bench.exam.first(1)
    assert grade(exam, dlc_logits(bench.dlc(precision), "cpu", exam.features)).correlation > LEAST_LIKE[precision]


@pytest.mark.slow
def test_float16_on_the_dsp_is_like_float32(bench: Bench) -> None:
    exam = bench.exam.first(1)
    assert grade(exam, dlc_logits(bench.dlc("fp16"), "dsp", exam.features)).correlation > 0.999


@pytest.mark.slow
def test_eight_bits_take_thirty_percent_of_the_room_at_most(bench: Bench) -> None:
    assert bench.dlc("w8a8").stat().st_size <= 0.3 * bench.dlc("fp32").stat().st_size
