"""Tests the detection of implausible logits: constant ones, those of the previous window, and unrelated ones."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bundler import layout
from bundler.bundle import Bundle
from bundler.cli import main
from bundler.device.chunks import Chunk
from bundler.device.job import Settings
from bundler.device.outputs import keep
from bundler.dlc.onnx_sessions import cpu_session
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.runs.plausibility import doubts
from bundler.runs.record import Part, Run, begin
from bundler.runs.reference import OnnxNetwork, window_inputs
from bundler.types import OUTPUTS, QuestionSet
from tests.conftest import QUESTIONS
from tests.deploying import quiet

SIZE = 3
Rows = dict[str, npt.NDArray[np.float32]]


def exact(bundle: Bundle) -> Rows:
    """Returns the model's own logits: (windows, 1, length) by output."""
    network = OnnxNetwork(cpu_session(bundle.path / layout.HOST / layout.REFERENCE))
    found = [network.execute(window_inputs(bundle, window)) for window in bundle.manifest.windows]
    return {name: np.stack([each[name] for each in found]) for name in OUTPUTS}


def finished(bundle: Bundle, rows: Rows) -> Run:
    """Makes a run with these logits, in chunks of SIZE."""
    run = begin(bundle, ["R5CT"], Settings("0123abcd", "dsp", chunk=SIZE))
    total = len(bundle.manifest.windows)
    for start in range(0, total, SIZE):
        chunk = Chunk(start, min(start + SIZE, total))
        keep({name: rows[name][chunk.start : chunk.stop] for name in OUTPUTS}, run.folder(bundle.path), chunk)
    run = run.ended([Part("R5CT", "SM8650", "A phone")], 1.0)
    run.save(bundle.path)
    return run


def told(bundle: Bundle, change: Callable[[Rows], Any]) -> tuple[str, ...]:
    rows = exact(bundle)
    change(rows)
    run = finished(bundle, rows)
    return doubts(bundle, run.folder(bundle.path), SIZE)


def set_all(value: float) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        for each in rows.values():
            each[:] = value

    return change


def repeat_first(rows: Rows) -> None:
    for each in rows.values():
        each[:] = each[:1]


def repeat_across_chunks(rows: Rows) -> None:
    for each in rows.values():
        each[SIZE] = each[SIZE - 1]


def of_something_else(rows: Rows) -> None:
    random = np.random.default_rng(1)
    for each in rows.values():
        each[:] = random.normal(size=each.shape)


def one_output_constant(rows: Rows) -> None:
    rows["end_logits"][1] = 0


def test_what_the_model_says_is_plausible(bundle: Bundle) -> None:
    assert told(bundle, lambda rows: None) == ()


def test_float16_is_plausible(bundle: Bundle) -> None:
    assert told(bundle, lambda rows: rows.update({k: v.astype(np.float16).astype("f4") for k, v in rows.items()})) == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_all(0.0), ("4 of 4 windows have the same logit at every token",)),
        (set_all(-7.5), ("4 of 4 windows have the same logit at every token",)),
        (one_output_constant, ("1 of 4 windows have the same logit at every token",)),
        (repeat_across_chunks, ("1 of 4 windows have the logits of the window before",)),
    ],
    ids=["zeros", "a number", "one output", "the last one again"],
)
def test_without_information(change: Callable[[Rows], None], said: tuple[str, ...], bundle: Bundle) -> None:
    assert told(bundle, change)[: len(said)] == said


def test_the_same_logits_for_every_window(bundle: Bundle) -> None:
    assert told(bundle, repeat_first)[0] == "3 of 4 windows have the logits of the window before"


def test_logits_of_something_else(bundle: Bundle) -> None:
    (said,) = told(bundle, of_something_else)
    assert said.startswith("the correlation with float32's logits over 4 windows is ")


def test_a_question_that_is_asked_twice(request_for: BuildRequest, tmp_path: Path) -> None:
    twice = (QUESTIONS[0], replace(QUESTIONS[0], id="again"), QUESTIONS[1])
    request = replace(request_for, questions=QuestionSet(twice, may_be_unanswerable=False))
    assert told(build_bundle(request, tmp_path / "twice", quiet), lambda rows: None) == ()


@pytest.mark.usefixtures("isolated")
def test_fetch_answers_says_so(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    rows = exact(bundle)
    run = finished(bundle, rows)
    answers = run.folder(bundle.path) / layout.ANSWERS
    assert main(["fetch-answers", str(bundle.path), "--adb-port", "1"]) == 0
    assert "not plausible" not in capsys.readouterr().err
    assert json.loads(answers.read_text())["not_plausible"] == []
    set_all(0.0)(rows)
    finished(bundle, rows)
    assert main(["fetch-answers", str(bundle.path), "--adb-port", "1"]) == 0
    what = "4 of 4 windows have the same logit at every token"
    assert f"warning: not plausible: {what}" in capsys.readouterr().err
    assert json.loads(answers.read_text())["not_plausible"] == [what]
