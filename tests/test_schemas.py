"""Tests JSON documents against their schemas, which docs/json.md describes."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

import bundler
from bundler import layout
from bundler.bundle import Bundle
from bundler.cli import main
from bundler.device.phone import Phone
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.types import QuestionSet
from tests import evaluations
from tests.conftest import QUESTIONS
from tests.deploying import deploy, fetch, quiet
from tests.phones import virtual_phone

SCHEMAS = Path(bundler.__file__).parent / "schemas"
NAMES = sorted(path.stem for path in SCHEMAS.glob("*.json"))
DOCS = Path(__file__).resolve().parents[1] / "docs" / "json.md"


def check(document: Any, name: str) -> None:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    Draft202012Validator(schema).validate(document)


@pytest.fixture(scope="module")
def evaluated(request_for: BuildRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Phone, Bundle]]:
    """Makes a bundle with truths of every kind, two runs and their evaluation."""
    folder = tmp_path_factory.mktemp("evaluated")
    asked = (
        replace(QUESTIONS[0], answers=("1808", "in 1808"), impossible=False),
        replace(QUESTIONS[1], impossible=True),
        QUESTIONS[2],
    )
    request = replace(request_for, questions=QuestionSet(asked, may_be_unanswerable=True))
    bundle = build_bundle(request, folder / "bundle", quiet)
    with virtual_phone(folder / "phone") as phone:
        for runtime, verify in (("cpu", True), ("gpu", False)):
            deploy(phone, bundle, runtime, chunk=3, verify=verify)  # type: ignore[arg-type]
        assert main(["evaluate", str(bundle.path), "--min-agreement", "0", "--max-p90-ms", "1e9"]) == 0
        yield phone, bundle


@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_sound(name: str) -> None:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"{name}.json"
    assert f"## {name}.json" in DOCS.read_text(encoding="utf-8")


@pytest.mark.slow
def test_evaluation(evaluated: tuple[Phone, Bundle]) -> None:
    runs = evaluated[1].path / layout.RUNS
    document = json.loads((runs / layout.EVALUATION).read_text())
    check(document, "evaluation")
    assert document["runs"][0]["scores"]["total"] == 2
    assert (runs / layout.REPORT).read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["cpu", "gpu"])
def test_answers_and_predictions(evaluated: tuple[Phone, Bundle], runtime: str) -> None:
    phone, bundle = evaluated
    folder = fetch(phone, bundle, runtime).path.parent  # type: ignore[arg-type]
    answers = json.loads((folder / layout.ANSWERS).read_text())
    check(answers, "answers")
    assert (answers["verified"] is None) == (runtime == "gpu")
    predictions = json.loads((folder / layout.PREDICTIONS).read_text())
    check(predictions, "predictions")
    assert predictions == {answer["id"]: answer["answer"] for answer in answers["answers"]}
    odds = json.loads((folder / layout.NULL_ODDS).read_text())
    check(odds, "null_odds")
    assert list(odds) == list(predictions)
    n_best = json.loads((folder / layout.N_BEST).read_text())
    check(n_best, "nbest_predictions")
    assert list(n_best) == list(predictions)
    for spans in n_best.values():
        assert sum(span["probability"] for span in spans) == pytest.approx(1, abs=1e-4)
        scores = [span["score"] for span in spans]
        assert scores == sorted(scores, reverse=True)


def test_what_the_report_is_tested_with() -> None:
    check(evaluations.document(12, layers=3), "evaluation")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), 2), (("runs",), []), (("runs", 0, "agreement", "fraction"), 1.5), (("runs", 0, "extra"), 1),
        (("runs", 0, "runtime"), "tpu"), (("questions", 0, "runs", 0, "f1"), 50), (("gates",), [{}]),
    ],
)  # fmt: skip
def test_what_is_no_evaluation(path: tuple[str | int, ...], value: object) -> None:
    document: Any = evaluations.document(3, layers=3)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ValidationError):
        check(document, "evaluation")
