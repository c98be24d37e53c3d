"""Tests `deploy --verify`: the phone's logits against the reference's, the recorded verdict, and the exit code."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np
import pytest

from bundler import layout
from bundler.bundle import Bundle
from bundler.cli import main
from bundler.device.chunks import Chunk
from bundler.device.outputs import keep, load
from bundler.device.phone import Phone
from bundler.errors import NotVerified, UsageError
from bundler.evaluation.check import compare_logits
from bundler.runs.comparison import Comparison, known
from bundler.runs.record import Run, Verified, newest_run
from bundler.runs.verify import _is_as_good, default_threshold, verify_run
from bundler.types import Answer, Candidate, Feature
from tests.deploying import deploy, fetch
from tests.phones import virtual_phone


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    with virtual_phone(tmp_path_factory.mktemp("phone")) as made:
        yield made


@pytest.fixture(scope="module")
def silly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    """Provides a phone whose snpe-net-run computes nothing."""
    with virtual_phone(tmp_path_factory.mktemp("silly"), faults=["run-time:0"]) as made:
        yield made


def command(phone: Phone, bundle: Bundle, *more: str) -> list[str]:
    port = str(phone.server.port)
    return [
        "deploy", "--bundle", str(bundle.path), "--device", phone.serial, "--adb-host", phone.server.host,
        "--adb-port", port, *more,
    ]  # fmt: skip


def test_a_phone_that_computes_right_is_verified(phone: Phone, bundle: Bundle) -> None:
    run = deploy(phone, bundle, chunk=3, verify=True)
    assert run.verified is not None
    assert run.verified.passed
    assert run.verified.smallest_cosine == pytest.approx(1, abs=1e-5)
    assert (run.verified.windows, run.verified.threshold) == (4, 0.999)
    assert newest_run(bundle) == run
    answers = json.loads(fetch(phone, bundle).path.read_text())
    assert answers["verified"] == vars(run.verified)


def test_nobody_asked(phone: Phone, bundle: Bundle) -> None:
    assert deploy(phone, bundle).verified is None
    assert json.loads(fetch(phone, bundle).path.read_text())["verified"] is None


def test_a_phone_that_computes_wrong_ends_with_code_8_and_keeps_its_outputs(
    silly: Phone, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(silly, bundle, "--verify")) == 8
    said = capsys.readouterr()
    assert "not verified: the smallest cosine with float32" in said.out
    error, hint = said.err.strip().splitlines()[-2:]
    assert error.startswith(f"error: {bundle.path}: not verified: ")
    assert "below 0.999" in error
    assert "--verify-threshold" in hint
    run = newest_run(bundle)
    assert run is not None
    assert run.finished
    assert run.verified is not None
    assert not run.verified.passed
    assert fetch(silly, bundle).answers


def test_answers_decide_too(phone: Phone, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """The smallest cosine stays above the threshold while the answers change, as with w8a16 and some models."""
    run = deploy(phone, bundle, chunk=3)
    folder, chunk = run.folder(bundle.path), Chunk(0, 3)
    logits = load(folder, chunk, bundle.manifest.outputs)
    for name in logits:
        rows = logits[name][:, 0]
        for row in rows:
            best, other = np.argsort(row)[[-1, -3]]
            row[best], row[other] = row[other], row[best]
    keep(logits, folder, chunk)
    found = verify_run(bundle, run, -1).verified
    assert found is not None
    assert found.passed  # the user asked for a cosine only
    assert found.equal_answers is not None
    assert found.equal_answers < found.windows
    cosine = found.smallest_cosine
    model = replace(bundle.manifest.model, precision="w8a16")
    changed = replace(bundle, manifest=replace(bundle.manifest, model=model))
    found = verify_run(changed, run).verified
    assert found is not None
    assert not found.passed
    error = NotVerified(bundle.path, cosine, cosine - 0.1, found.windows, found.equal_answers)
    assert f"not verified: {found.equal_answers} of {found.windows} windows have float32's answer" in str(error)


def test_an_answer_that_float32_likes_as_well_is_no_other() -> None:
    def answer(start: int, score: float, *others: tuple[int, float]) -> Answer:
        listed = tuple(Candidate("x", at, at + 1, value, 0.1, "w") for at, value in ((start, score), *others))
        return Answer("q", "x", start, start + 1, 0.5, score, (start, start + 1), 0.0, "w", n_best=listed)

    exact = answer(3, 9.0, (5, 8.95), (7, 8.0))
    assert _is_as_good(exact, answer(3, 1.0))
    assert _is_as_good(exact, answer(5, 1.0))
    assert not _is_as_good(exact, answer(7, 1.0))
    assert not _is_as_good(exact, answer(9, 1.0))


@pytest.mark.parametrize(
    ("equal", "windows", "low", "high"), [(32, 32, 0.89, 1.0), (0, 4, 0.0, 0.49), (1, 1, 0.21, 1.0)]
)
def test_how_sure_it_is(equal: int, windows: int, low: float, high: float) -> None:
    found = Verified(1.0, 0.9, windows, True, equal).share
    assert found == pytest.approx((low, high), abs=0.006)
    assert Verified(1.0, 0.9, windows, True).share == (0.0, 1.0)


def test_the_threshold_is_the_users(silly: Phone, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(silly, bundle, "--verify-threshold", "-1", "--json")) == 0
    verified = json.loads(capsys.readouterr().out)["verified"]
    assert verified["passed"]
    assert verified["threshold"] == -1


def test_one_wrong_window_is_enough(phone: Phone, bundle: Bundle) -> None:
    run = deploy(phone, bundle, chunk=3)
    folder, chunk = run.folder(bundle.path), Chunk(3, 4)
    logits = load(folder, chunk, bundle.manifest.outputs)
    logits["end_logits"] = -logits["end_logits"]
    keep(logits, folder, chunk)
    verified = verify_run(bundle, run).verified
    assert verified is not None
    assert verified.smallest_cosine == pytest.approx(-1, abs=1e-5)
    assert not verified.passed


@pytest.mark.slow
def test_what_padding_holds_does_not_count(phone: Phone, bundle: Bundle) -> None:
    run = deploy(phone, bundle, chunk=1)
    folder, chunk = run.folder(bundle.path), Chunk(0, 1)
    logits = load(folder, chunk, bundle.manifest.outputs)
    mask = np.fromfile(bundle.path / layout.DEVICE / bundle.manifest.windows[0].inputs["attention_mask"], "<f4")
    assert 0 in mask
    logits["start_logits"][..., mask == 0] = 1e6
    keep(logits, folder, chunk)
    verified = verify_run(bundle, run).verified
    assert verified is not None
    assert verified.passed


def test_a_record_without_verdict_is_read(phone: Phone, bundle: Bundle) -> None:
    run = deploy(phone, bundle)
    record = run.folder(bundle.path) / layout.RUN
    fields = json.loads(record.read_text())
    del fields["verified"]
    record.write_text(json.dumps(fields))
    assert Run.read(record) == replace(run, verified=None)


def test_verify_waits(phone: Phone, bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="--detach"):
        deploy(phone, bundle, verify=True, detach=True)


def test_thresholds() -> None:
    assert [default_threshold(name) for name in ("fp32", "fp16", "w8a16", "w8a8", "")] == [
        0.999, 0.999, 0.99, 0.99, 0.99,
    ]  # fmt: skip


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan, np.inf, 3e38])
def test_logits_without_information_give_no_number_and_no_warning(value: float) -> None:
    rows = np.full((2, 8), value, np.float32)
    comparison = Comparison()
    comparison.add(np.arange(16, dtype=np.float32).reshape(2, 8), rows, np.ones((2, 8), bool))
    told = [known(each, 7) for each in asdict(comparison.likeness()).values()]
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    feature = Feature("w", "q", {"attention_mask": np.ones(8, np.int32)}, np.zeros((8, 2), np.int32))
    exact = {"start_logits": np.arange(8, dtype=np.float32)[None]}
    correlation, ratio = compare_logits([feature], [exact], [{"start_logits": rows[:1]}])
    assert correlation is None
    assert (ratio is None) is not bool(np.isfinite(value))
