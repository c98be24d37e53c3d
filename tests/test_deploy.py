"""Tests deploy and fetch-answers: virtual phone and phone of genuine parts keep the same contract."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from bundler import layout
from bundler.bundle import Bundle, seal
from bundler.device import outputs
from bundler.device.chunks import chunks_of
from bundler.device.phone import Phone
from bundler.engines import EngineName
from bundler.errors import (
    BundleInvalid,
    InputError,
    NoRun,
    OutputsInvalid,
    PhoneBusy,
    PhoneRefused,
    RunFailed,
    RuntimeUnsupported,
    TimeUp,
)
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.pipeline.stop import stop_runs
from bundler.runs.record import Run, newest_run
from bundler.types import Runtime
from tests.deploying import deploy, fetch, quiet, sh
from tests.phones import virtual_phone


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["cpu", "dsp"])
def test_answers_come_back(phone: Phone, bundle: Bundle, runtime: Runtime, request_for: BuildRequest) -> None:
    run = deploy(phone, bundle, runtime, chunk=3)
    (part,) = run.parts
    assert (run.finished, part.soc, part.windows, part.chunks) == (True, "SM8650", {runtime: 4}, 2)
    fetched = fetch(phone, bundle)
    contexts = {question.id: question.context for question in bundle.questions}
    assert [answer.question_id for answer in fetched.answers] == list(contexts)
    for answer in fetched.answers:
        assert answer.text
        assert answer.text == contexts[answer.question_id][answer.start : answer.end]
    document = json.loads(fetched.path.read_text(encoding="utf-8"))
    assert document["bundle"] == bundle.id
    assert document["runtime"] == runtime
    assert document["phones"] == [
        {"serial": phone.serial, "soc": "SM8650", "model": part.model, "windows": {runtime: 4}}
    ]
    assert [entry["answer"] for entry in document["answers"]] == [answer.text for answer in fetched.answers]
    check_logits(bundle, run, request_for.model)  # type: ignore[arg-type]


def logits_of(bundle: Bundle, run: Run) -> dict[str, np.ndarray]:
    """Returns tensor name -> (windows, length)."""
    specs = bundle.manifest.outputs
    chunks = chunks_of(len(bundle.manifest.windows), run.settings.chunk)
    loaded = [outputs.load(run.folder(bundle.path), chunk, specs) for chunk in chunks]
    return {spec.name: np.concatenate([each[spec.name] for each in loaded]).reshape(-1, 384) for spec in specs}


def check_logits(bundle: Bundle, run: Run, model: Path) -> None:
    """Checks the logits: on the CPU against ONNX Runtime and the ONNX file; on the DSP within float16 of it."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    logits = logits_of(bundle, run)
    for window in bundle.manifest.windows:
        feed = {
            name: np.fromfile(bundle.path / layout.DEVICE / path, "<f4").astype(np.int32)[None]
            for name, path in window.inputs.items()
        }
        for spec, expected in zip(session.get_outputs(), session.run(None, feed), strict=True):
            values = logits[spec.name][window.line]
            if run.settings.runtime == "cpu":
                assert np.abs(values - expected.ravel()).max() < 1e-4
            else:
                assert np.corrcoef(values, expected.ravel())[0, 1] > 0.9999


@pytest.mark.slow
def test_a_second_deploy_pushes_nothing_and_says_the_same(phone: Phone, bundle: Bundle) -> None:
    assert deploy(phone, bundle).parts[0].pushed_bytes >= 0
    first = fetch(phone, bundle).answers
    stages: list[str] = []
    again = deploy(phone, bundle, progress=lambda stage, *_: stages.append(stage))
    assert again.parts[0].pushed_bytes == 0
    assert "pushing the bundle" not in stages
    assert fetch(phone, bundle).answers == first


@pytest.mark.slow
def test_new_questions_push_only_themselves(phone: Phone, bundle: Bundle, request_for: BuildRequest) -> None:
    deploy(phone, bundle)
    asked = replace(request_for.questions, questions=request_for.questions.questions[:2])  # type: ignore[attr-defined, type-var]
    other = build_bundle(replace(request_for, questions=asked), bundle.path, quiet)
    model = other.device_files[layout.MODEL].size
    assert 0 < deploy(phone, other).parts[0].pushed_bytes < model / 4


def test_answers_that_were_fetched_once_need_no_phone(bundle: Bundle, tmp_path: Path) -> None:
    with virtual_phone(tmp_path / "phone") as phone:
        deploy(phone, bundle)
        assert sh(phone, f"find {layout.REMOTE_ROOT} -name '*.raw'") == ""  # one chunk at a time, and none is left
    assert len(fetch(phone, bundle).answers) == 3


@pytest.mark.slow
def test_a_detached_run_is_waited_for(phone: Phone, bundle: Bundle) -> None:
    expected = (deploy(phone, bundle), fetch(phone, bundle).answers)[1]
    run = deploy(phone, bundle, detach=True, chunk=1, restart=True)
    assert not run.finished
    assert not (run.folder(bundle.path) / layout.ANSWERS).exists()
    assert fetch(phone, bundle).answers == expected
    finished = newest_run(bundle)
    assert finished is not None
    assert (finished.finished, finished.parts[0].chunks, finished.settings) == (True, 4, run.settings)


@pytest.mark.slow
def test_another_computer_with_the_bundle_finds_the_run(
    phone: Phone, bundle: Bundle, request_for: BuildRequest, tmp_path: Path
) -> None:
    copy = build_bundle(request_for, tmp_path / "copy", quiet)
    assert copy.id == bundle.id
    with pytest.raises(NoRun, match=r"has no run on the gpu on .*, neither here nor on a phone"):
        fetch(phone, copy, "gpu")
    deploy(phone, bundle, detach=True, chunk=2)
    answers = fetch(phone, copy).answers
    run = newest_run(copy)
    assert run is not None
    assert run.settings.chunk == 2
    with pytest.raises(NoRun):
        fetch(phone, copy, "gpu")
    assert fetch(phone, bundle).answers == answers  # what the other one took away is computed again


@pytest.mark.slow
def test_a_run_that_was_not_finished_goes_on(phone: Phone, bundle: Bundle) -> None:
    expected = (deploy(phone, bundle), fetch(phone, bundle).answers)[1]
    run = deploy(phone, bundle, detach=True, chunk=1, restart=True)
    outputs.keep(  # the first chunk, as if it had been fetched: it is not asked for again
        {spec.name: np.zeros((1, *spec.shape), np.float32) for spec in bundle.manifest.outputs},
        run.folder(bundle.path),
        chunks_of(4, 1)[0],
    )
    finished = deploy(phone, bundle, chunk=1)
    assert (finished.settings.id, finished.parts[0].chunks) == (run.settings.id, 3)
    assert fetch(phone, bundle).answers[1:] == expected[1:]
    assert fetch(phone, bundle).answers[0] != expected[0]
    assert deploy(phone, bundle, chunk=1).settings.id != run.settings.id
    assert fetch(phone, bundle).answers == expected


@pytest.mark.slow
def test_time_is_up_for_us_and_the_phone_goes_on(bundle: Bundle, tmp_path: Path) -> None:
    with virtual_phone(tmp_path / "phone", faults=["run-time:2000"]) as phone:
        with pytest.raises(TimeUp, match=r"4 s are over .*, while ") as caught:
            deploy(phone, bundle, timeout_s=4.0)
        assert "fetch-answers" in caught.value.hint
        run = newest_run(bundle)
        assert run is not None
        assert not run.finished
        assert len(fetch(phone, bundle).answers) == 3
        assert newest_run(bundle) != run


@pytest.mark.slow
def test_a_run_is_stopped_on_request_and_another_one_waits_for_that(bundle: Bundle, tmp_path: Path) -> None:
    with virtual_phone(tmp_path / "phone", faults=["run-time:2000"]) as phone:
        deploy(phone, bundle, detach=True)
        with pytest.raises(PhoneBusy, match="on the cpu"):
            deploy(phone, bundle, "gpu")
        assert stop_runs(bundle.path, [phone.serial], phone.server) == [(phone.serial, "cpu")]
        assert stop_runs(bundle.path, [phone.serial], phone.server) == []


def test_a_changed_bundle_is_refused(phone: Phone, bundle: Bundle) -> None:
    (bundle.path / layout.DEVICE / "run_snpe.sh").write_text("rm -rf /")
    with pytest.raises(BundleInvalid, match="run_snpe"):
        deploy(phone, bundle)


@pytest.mark.parametrize("name", ["a b", "$(id)", "'", '"', "new\nline", "é", "*"])
def test_a_bundle_with_odd_file_names_is_refused(name: str, phone: Phone, bundle: Bundle) -> None:
    (bundle.path / layout.DEVICE / "lib").mkdir()
    (bundle.path / layout.DEVICE / "lib" / name).write_text("x")
    manifest = bundle.path / layout.MANIFEST
    fields = json.loads(manifest.read_text())
    fields["files"][f"device/lib/{name}"] = {"size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    manifest.write_text(json.dumps(fields))
    seal(bundle.path)
    with pytest.raises(BundleInvalid, match="has a name that cannot go to a phone"):
        deploy(phone, bundle)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a b", "$(id) 'x\"", "new\nline", "é👩‍🚀"])
def test_a_bundle_may_lie_in_a_folder_of_any_name(
    name: str, phone: Phone, request_for: BuildRequest, tmp_path: Path
) -> None:
    bundle = build_bundle(request_for, tmp_path / name, quiet)
    deploy(phone, bundle)
    assert len(fetch(phone, bundle).answers) == 3


def test_a_folder_that_is_a_file_is_said(phone: Phone, bundle: Bundle) -> None:
    sh(phone, f"rm -rf {layout.REMOTE_ROOT} && touch {layout.REMOTE_ROOT}")
    try:
        with pytest.raises(PhoneRefused, match=r"making .* failed: a file lies in its place"):
            deploy(phone, bundle)
    finally:
        sh(phone, f"rm -f {layout.REMOTE_ROOT}")


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "line"), [("snpe", "error_code=402"), ("qnn", "Graph Execution failure")])
def test_a_failing_run_shows_the_tools_own_line_and_leaves_no_answers(
    engine: EngineName, line: str, bundle: Bundle, tmp_path: Path
) -> None:
    with virtual_phone(tmp_path / "phone", faults=["run-fail:5"]) as phone:
        deploy(phone, bundle, engine=engine)
        answers = fetch(phone, bundle).path
        with pytest.raises(RunFailed, match=f"{engine}-net-run ended with exit code 1: {line}") as caught:
            deploy(phone, bundle, chunk=1, engine=engine)
        assert "The whole log is in" in caught.value.hint
        assert not answers.exists()
        run = newest_run(bundle)
        assert run is not None
        assert line in (run.folder(bundle.path) / layout.log_of(phone.serial)).read_text()
        assert len(outputs.kept_chunks(run.folder(bundle.path))) == 1
        finished = deploy(phone, bundle, chunk=1)  # goes on with it, and so with its engine
        assert (finished.settings.id, finished.parts[0].chunks) == (run.settings.id, 4)
        assert finished.settings.engine == engine
        begun = sh(phone, f"grep -c -e Processing -e '^Executing' {layout.remote_bundle(bundle.id)}/jobs/cpu/log.txt")
        assert int(begun) == 1 + 1 + 3  # the first one was here, the second one failed


def test_a_failure_while_nobody_looked_is_told_by_fetch(bundle: Bundle, tmp_path: Path) -> None:
    with virtual_phone(tmp_path / "phone", faults=["run-fail:0"]) as phone:
        deploy(phone, bundle, detach=True)
        with pytest.raises(RunFailed, match="Graph Execution failure"):
            fetch(phone, bundle)


def test_kept_outputs_that_were_damaged_are_said(phone: Phone, bundle: Bundle) -> None:
    run = deploy(phone, bundle)
    (kept,) = (run.folder(bundle.path) / layout.LOGITS).iterdir()
    kept.write_bytes(b"x")
    with pytest.raises(OutputsInvalid, match=kept.name):
        fetch(phone, bundle)


def test_a_rebuilt_bundle_has_no_run(phone: Phone, bundle: Bundle, request_for: BuildRequest) -> None:
    deploy(phone, bundle)
    rebuilt = build_bundle(replace(request_for, overlap=64), bundle.path, quiet)
    with pytest.raises(NoRun, match="this bundle has no run"):
        fetch(phone, rebuilt)


def test_a_record_that_is_none_is_said(phone: Phone, bundle: Bundle) -> None:
    run = deploy(phone, bundle)
    (run.folder(bundle.path) / layout.RUN).write_text('{"bundle_id": 3}')
    with pytest.raises(InputError, match="is not a record of a run"):
        fetch(phone, bundle)


@pytest.mark.slow
@pytest.mark.parametrize(("soc", "said"), [("SM8350", "does not compute float16"), ("SM8250", "has no HTP")])
def test_a_chip_that_cannot_is_refused_before_anything_is_pushed(
    soc: str, said: str, bundle: Bundle, tmp_path: Path
) -> None:
    with virtual_phone(tmp_path / "phone", soc) as phone:
        with pytest.raises(RuntimeUnsupported, match=said):
            deploy(phone, bundle, "dsp")
        assert sh(phone, f"ls {layout.REMOTE_ROOT}") == ""
        with pytest.raises(NoRun):
            fetch(phone, bundle)
        run = deploy(phone, bundle, "dsp", fallback="cpu")
        assert (run.settings.runtime, run.parts[0].windows) == ("dsp", {"cpu": 4})
        assert len(fetch(phone, bundle).answers) == 3


@pytest.mark.slow
def test_a_second_deploy_asks_the_phone_seldom(phone: Phone, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request is a round trip, which takes most of the time over a slow cable."""
    deploy(phone, bundle, "cpu")
    asked: list[str] = []
    run = Phone.run

    def counted(self: Phone, argv: Any, *, doing: str, **more: Any) -> Any:
        asked.append(doing)
        return run(self, argv, doing=doing, **more)

    monkeypatch.setattr(Phone, "run", counted)
    deploy(phone, bundle, "cpu", restart=True)
    waiting = "asking how the run is going"
    assert [doing for doing in asked if doing != waiting] == [
        "looking at the phone",
        "making checksums",
        "linking the bundle",
        "starting the run",
        "pulling the outputs",
        "removing what was pulled",
    ]
    assert asked[1] == waiting  # whether a run is going on there already
    assert asked.count(waiting) >= 2
