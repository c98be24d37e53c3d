"""Tests `evaluate`: comparison of runs, refusals, scores and agreement, passed and failed gates."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundler import layout
from bundler.bundle import Bundle
from bundler.cli import main
from bundler.device.chunks import chunks_of
from bundler.device.outputs import keep, load
from bundler.device.phone import Phone
from bundler.errors import NoRun, RunsDiffer
from bundler.evaluation.entrants import choose_entrants
from bundler.evaluation.gates import Gates, checked
from bundler.evaluation.layers import layers_of
from bundler.model.make import Recipe
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.pipeline.evaluate import EvaluateRequest, evaluate_bundles
from bundler.resources import DEMO_MODEL, DEMO_QUESTIONS, DEMO_TOKENIZER
from bundler.runs.record import Run, newest_run
from bundler.runs.reference import CHUNK, reference_logits
from bundler.soc import DEFAULT, known_socs
from bundler.types import Question, QuestionSet
from tests.conftest import QUESTIONS
from tests.deploying import deploy, quiet
from tests.phones import virtual_phone


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    """Returns a phone that computes nothing: answers have another source in these tests."""
    with virtual_phone(tmp_path_factory.mktemp("phone"), faults=["run-time:0"]) as made:
        yield made


@pytest.fixture(scope="module")
def finished(request_for: BuildRequest, phone: Phone, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Returns a bundle with float32's logits in a run on the CPU, and nonsensical ones in a run on the GPU."""
    bundle = build_bundle(request_for, tmp_path_factory.mktemp("finished") / "bundle", quiet)
    exact = reference_logits(bundle, quiet)
    for runtime in ("gpu", "cpu"):
        run = deploy(phone, bundle, runtime)  # type: ignore[arg-type]
    copy_logits(bundle, exact, run)
    return bundle


@pytest.fixture
def own(finished: Bundle, tmp_path: Path) -> Bundle:
    """Returns a copy that a test may change."""
    shutil.copytree(finished.path, tmp_path / "own")
    return replace(finished, path=tmp_path / "own")


def copy_logits(bundle: Bundle, source: Path, run: Run) -> None:
    for chunk in chunks_of(len(bundle.manifest.windows), CHUNK):  # one chunk in both
        keep(load(source, chunk, bundle.manifest.outputs), run.folder(bundle.path), chunk)


def document_of(*bundles: Bundle, **options: object) -> dict:  # type: ignore[type-arg]
    return evaluate_bundles(EvaluateRequest(bundles=[bundle.path for bundle in bundles], **options), quiet).document  # type: ignore[arg-type]


def test_runs_side_by_side(finished: Bundle) -> None:
    document = document_of(finished)
    cpu, gpu = document["runs"]
    assert (cpu["name"], gpu["name"]) == ("cpu fp32", "gpu fp32")
    assert cpu["agreement"] == {"questions": 3, "equal": 3, "fraction": 1.0}
    assert cpu["logits"]["cosine"] == cpu["logits"]["smallest_cosine"] == cpu["logits"]["correlation"] == 1
    assert (cpu["logits"]["sqnr_db"], cpu["logits"]["largest_difference"]) == (200, 0)
    assert gpu["logits"]["smallest_cosine"] < 0.9
    assert gpu["logits"]["sqnr_db"] < 20
    assert [phone["soc"] for phone in cpu["phones"]] == ["SM8650"]
    assert (document["questions_count"], document["windows"], document["model"]) == (3, 4, "model.onnx")
    assert [document["contexts"][row["context"]] for row in document["questions"]] == [q.context for q in QUESTIONS]
    for row in document["questions"]:
        assert row["runs"][0]["agrees"]
        assert {key: row["runs"][0][key] for key in row["reference"]} == row["reference"]
        assert 1 <= len(row["runs"][0]["n_best"]) <= 5


def test_without_known_answers_there_are_no_scores(finished: Bundle) -> None:
    document = document_of(finished)
    assert document["reference"]["scores"] is None
    assert all(run["scores"] is None for run in document["runs"])
    assert document["questions"][0]["runs"][0]["exact"] is None


def test_a_choice_of_runs(finished: Bundle) -> None:
    assert [run["runtime"] for run in document_of(finished, runtimes=["gpu"])["runs"]] == ["gpu"]
    assert len(document_of(finished, devices=newest_run(finished).phones)["runs"]) == 2  # type: ignore[union-attr]
    with pytest.raises(NoRun, match="dsp"):
        document_of(finished, runtimes=["dsp"])
    with pytest.raises(NoRun, match="nobody"):
        document_of(finished, devices=["nobody"])


@pytest.mark.slow
def test_scores_are_those_of_the_answers(request_for: BuildRequest, phone: Phone, tmp_path: Path) -> None:
    """The truths of the second bundle are the reference's answers of the first one, one of them slightly longer."""
    first = build_bundle(request_for, tmp_path / "first", quiet)
    deploy(phone, first)
    said = [row["reference"]["answer"] for row in document_of(first)["questions"]]
    asked = [replace(question, answers=(text,)) for question, text in zip(QUESTIONS, said, strict=True)]
    asked[1] = replace(asked[1], answers=(f"{said[1]} xyzzy",))
    asked.append(Question("nobody knows", "Who?", "The bridge was built in 1808."))
    request = replace(request_for, questions=QuestionSet(tuple(asked), may_be_unanswerable=False))
    bundle = build_bundle(request, tmp_path / "second", quiet)
    run = deploy(phone, bundle)
    copy_logits(bundle, reference_logits(bundle, quiet), run)
    document = document_of(bundle)
    scores, rows = document["runs"][0]["scores"], document["questions"]
    assert scores == document["reference"]["scores"]
    assert (scores["total"], scores["exact_match"]) == (3, pytest.approx(200 / 3, abs=1e-4))
    assert 66 < scores["f1"] < 100
    assert scores["has_answer"] is None
    assert [row["runs"][0]["exact"] for row in rows] == [True, False, True, None]
    assert 0 < rows[1]["runs"][0]["f1"] < 1
    predictions = json.loads((run.folder(bundle.path) / layout.PREDICTIONS).read_text())
    assert predictions == {row["id"]: row["runs"][0]["answer"] for row in rows}
    assert not (run.folder(bundle.path) / layout.NULL_ODDS).exists()


def test_no_answer_counts_by_the_rules_of_version_2(request_for: BuildRequest, phone: Phone, tmp_path: Path) -> None:
    asked = (replace(QUESTIONS[0], impossible=True), replace(QUESTIONS[1], answers=("橋",), impossible=False))
    request = replace(request_for, questions=QuestionSet(asked, may_be_unanswerable=True))
    bundle = build_bundle(request, tmp_path / "bundle", quiet)
    run = deploy(phone, bundle)
    logits = load(reference_logits(bundle, quiet), *[(chunks_of(2, CHUNK)[0]), bundle.manifest.outputs])  # type: ignore[arg-type]
    for values in logits.values():
        values[:, 0, 0] = [50, -50]  # no answer to the first question, one to the second
    keep(logits, run.folder(bundle.path), chunks_of(2, CHUNK)[0])
    document = document_of(bundle)
    (scored,) = document["runs"]
    assert document["questions"][0]["runs"][0]["answer"] == ""
    assert document["questions"][0]["runs"][0]["exact"] is True
    assert scored["scores"]["no_answer"] == {"exact_match": 100, "f1": 100, "total": 1}
    assert scored["scores"]["has_answer"]["total"] == 1
    assert scored["scores"]["best_exact_match"] >= scored["scores"]["exact_match"]
    odds = json.loads((run.folder(bundle.path) / layout.NULL_ODDS).read_text())
    assert odds["when-built"] > 0 > odds["who"]


def test_several_precisions_are_named_apart(finished: Bundle, own: Bundle) -> None:
    names = [entrant.name for entrant in choose_entrants([finished.path, own.path], ["cpu"]).entrants]
    serial = newest_run(finished).phones[0]  # type: ignore[union-attr]
    assert names == [f"cpu fp32 {serial} {finished.path.name}", f"cpu fp32 {serial} own"]
    assert len(choose_entrants([own.path, own.path], ["cpu"]).entrants) == 1


CHANGES = {
    "other questions": {"questions": QuestionSet((replace(QUESTIONS[0], text="Who?"), *QUESTIONS[1:]), False)},
    "other windows": {"overlap": 8},
    "another rule": {"questions": QuestionSet(QUESTIONS, may_be_unanswerable=True)},
}


@pytest.mark.parametrize("what", [*CHANGES, "another model"])
def test_bundles_that_do_not_belong_together(
    what: str, finished: Bundle, request_for: BuildRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = replace(request_for, **CHANGES.get(what, {}))  # type: ignore[arg-type]
    if what == "another model":
        shutil.copyfile(finished.path / layout.DEVICE / layout.MODEL, tmp_path / "given.dlc")
        changed = replace(changed, model=tmp_path / "given.dlc", recipe=Recipe())
    other = build_bundle(changed, tmp_path / "other", quiet)
    shutil.copytree(finished.path / layout.RUNS, other.path / layout.RUNS, dirs_exist_ok=True)
    with pytest.raises(RunsDiffer, match=what):
        document_of(finished, other)
    assert main(["evaluate", str(finished.path), str(other.path)]) == 3
    assert what in capsys.readouterr().err


def test_a_run_of_an_earlier_build_is_passed_over_and_told(own: Bundle) -> None:
    stranger = own.path / layout.RUNS / "dsp-elsewhere"
    shutil.copytree(newest_run(own).folder(own.path), stranger)  # type: ignore[union-attr]
    record = json.loads((stranger / layout.RUN).read_text())
    (stranger / layout.RUN).write_text(json.dumps({**record, "bundle_id": "f" * 16}))
    chosen = choose_entrants([own.path])
    assert len(chosen.entrants) == 2
    assert chosen.passed_over == (f"{stranger}: a run of an earlier build",)


def test_a_run_that_is_not_finished_is_no_entrant(own: Bundle) -> None:
    run = newest_run(own, "cpu")
    assert run is not None
    replace(run, finished=False).save(own.path)
    chosen = choose_entrants([own.path])
    assert [entrant.run.settings.runtime for entrant in chosen.entrants] == ["gpu"]
    assert "not finished" in chosen.passed_over[0]
    with pytest.raises(NoRun):
        choose_entrants([own.path], ["cpu"])


@pytest.mark.slow
def test_gates_both_ways(own: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", str(own.path), "--min-agreement", "1"]
    assert main([*command, "--runtime", "cpu"]) == 0
    capsys.readouterr()
    assert main([*command, "--json"]) == 8
    said = capsys.readouterr()
    written = json.loads((own.path / layout.RUNS / layout.EVALUATION).read_text())
    assert written["gates"] == [
        {"name": "min-agreement", "limit": 1, "run": "cpu fp32", "value": 1, "passed": True},
        {"name": "min-agreement", "limit": 1, "run": "gpu fp32", "value": 0, "passed": False},
    ]
    assert json.loads(said.out) == written
    assert said.err.strip().splitlines()[-2] == "error: gpu fp32: 0 does not pass --min-agreement 1"


def test_what_is_not_known_does_not_pass(own: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", str(own.path), "--runtime", "cpu", "--out", str(tmp_path / "e.json"), "--min-f1", "0"]
    assert main(command) == 8
    assert "cpu fp32: what is not known does not pass --min-f1 0" in capsys.readouterr().err
    assert json.loads((tmp_path / "e.json").read_text())["gates"][0]["value"] is None


def test_each_gate_has_its_direction() -> None:
    run = {
        "name": "x", "scores": {"f1": 80.0}, "agreement": {"fraction": 0.9}, "latency": {"inference_ms": {"p90": 12.0}}
    }  # fmt: skip
    for gates, passed in [
        (Gates(min_f1=80.0), True), (Gates(min_f1=80.1), False), (Gates(min_agreement=0.9), True),
        (Gates(min_agreement=0.91), False), (Gates(max_p90_ms=12.0), True), (Gates(max_p90_ms=11.9), False),
    ]:  # fmt: skip
        assert [gate.passed for gate in checked(gates, [run])] == [passed]
    assert checked(Gates(), [run]) == []


def test_a_run_with_other_logits_everywhere_is_measured_by_its_own(own: Bundle) -> None:
    run = newest_run(own, "cpu")
    assert run is not None
    (chunk,) = chunks_of(4, CHUNK)
    logits = load(run.folder(own.path), chunk, own.manifest.outputs)
    noisy = {name: (values + np.float32(0.5)).astype(np.float32) for name, values in logits.items()}
    keep(noisy, run.folder(own.path), chunk)
    (measured,) = document_of(own, runtimes=["cpu"])["runs"]
    assert measured["logits"]["largest_difference"] == pytest.approx(0.5, abs=1e-5)
    assert measured["logits"]["correlation"] == pytest.approx(1, abs=1e-4)
    assert measured["agreement"]["fraction"] == 1


@pytest.mark.slow
def test_layers_tell_where_the_error_comes_from(finished: Bundle, request_for: BuildRequest, tmp_path: Path) -> None:
    run_by_name = {run["name"]: run["layers"] for run in document_of(finished, layers=True)["runs"]}
    cpu, gpu = run_by_name["cpu fp32"], run_by_name["gpu fp32"]
    assert [layer["name"] for layer in cpu] == [layer["name"] for layer in gpu]
    assert {"MatMul", "Softmax"} <= {layer["type"] for layer in cpu}
    assert min(layer["sqnr_db"] for layer in cpu) > 100
    assert 40 < min(layer["sqnr_db"] for layer in gpu) < 90
    request = replace(request_for, recipe=Recipe("w8a8", converter="built-in"))
    fixed = build_bundle(request, tmp_path / "fixed", quiet)
    weights, everything = layers_of(fixed, "cpu"), layers_of(fixed, "dsp")
    assert weights is not None
    assert everything is not None
    assert 5 < min(layer["sqnr_db"] for layer in everything) < min(layer["sqnr_db"] for layer in weights)


def test_a_dlc_alone_is_compared_with_itself(finished: Bundle, request_for: BuildRequest, tmp_path: Path) -> None:
    shutil.copyfile(finished.path / layout.DEVICE / layout.MODEL, tmp_path / "given.dlc")
    taken = build_bundle(replace(request_for, model=tmp_path / "given.dlc", recipe=Recipe()), tmp_path / "t", quiet)
    assert layers_of(taken, "cpu") is None
    half = layers_of(taken, "gpu")
    assert half is not None
    assert all(layer["sqnr_db"] > 40 for layer in half)


@pytest.mark.slow
def test_the_demo_on_three_runtimes_at_three_precisions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bundler.qa.questions import read_squad

    bundles = []
    with virtual_phone(tmp_path / "phone") as phone:
        for precision in ("fp16", "w8a16", "w8a8"):
            request = BuildRequest(
                questions=read_squad(DEMO_QUESTIONS, 4),
                model=DEMO_MODEL, tokenizer=DEMO_TOKENIZER, soc=known_socs()[DEFAULT],
                recipe=Recipe(precision, converter="built-in"),  # type: ignore[arg-type]
            )  # fmt: skip
            bundles.append(build_bundle(request, tmp_path / precision, quiet))
            for runtime in ("cpu", "gpu", "dsp"):
                run = deploy(phone, bundles[-1], runtime, verify=True, timeout_s=600.0)  # type: ignore[arg-type]
                assert run.verified is not None
                assert run.verified.passed
    command = ["evaluate", *(str(bundle.path) for bundle in bundles)]
    assert main([*command, "--min-f1", "80", "--min-agreement", "0.7", "--layers"]) == 0
    document = json.loads((bundles[0].path / layout.RUNS / layout.EVALUATION).read_text())
    runs = {run["name"]: run for run in document["runs"]}
    assert list(runs) == [f"{runtime} {p}" for p in ("fp16", "w8a16", "w8a8") for runtime in ("cpu", "gpu", "dsp")]
    assert runs["dsp fp16"]["agreement"]["fraction"] == 1
    assert runs["dsp fp16"]["logits"]["sqnr_db"] > runs["dsp w8a16"]["logits"]["sqnr_db"]
    assert runs["dsp w8a16"]["logits"]["sqnr_db"] > runs["dsp w8a8"]["logits"]["sqnr_db"] > 15
    for name in ("cpu fp16", "dsp w8a8"):
        layers = runs[name]["layers"]
        assert len(layers) > 80
        assert min(layer["sqnr_db"] for layer in layers) > (60 if name == "cpu fp16" else 10)
    assert main([*command, "--min-f1", "80", "--max-p90-ms", "0"]) == 8
    assert "dsp w8a8: " in capsys.readouterr().err
    gates = json.loads((bundles[0].path / layout.RUNS / layout.EVALUATION).read_text())["gates"]
    assert [gate["passed"] for gate in gates] == 9 * [True] + 9 * [False]
