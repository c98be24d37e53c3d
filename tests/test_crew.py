"""Tests several phones in one run: distributed chunks, lost phones, other adb servers, and interruptions."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundler import layout
from bundler.bundle import Bundle
from bundler.device.job import PhoneJob
from bundler.device.limits import Limit, Patience
from bundler.device.phone import AdbServer
from bundler.device.server import private_adb_server
from bundler.device.targets import choose_targets
from bundler.errors import NoPhone, PhoneNotReady, RunFailed, UnknownPhone, UsageError
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.pipeline.deploy import DeployRequest, deploy_bundle
from bundler.pipeline.fetch import FetchRequest, fetch_answers
from bundler.runs.record import Run, newest_run
from bundler.soc import known_socs
from bundler.types import Question, QuestionSet
from bundler.virtual.phones import VirtualPhone, start_phone, stop_phone
from tests.deploying import quiet
from tests.test_deploy import logits_of
from tests.virtual.conftest import wait_for

pytestmark = pytest.mark.slow

SOC = known_socs()["SM8650"]
HASTY = Patience(answer_s=5.0, command_s=20.0, stall_s=5.0, return_s=3.0)
TIMEOUT_S = 200.0


def questions(count: int) -> QuestionSet:
    asked = (
        Question(f"q{n}", f"When was it built, {n}?", f"Bridge {n} was built in {n + 1000}.") for n in range(count)
    )
    return QuestionSet(tuple(asked), may_be_unanswerable=False)


@pytest.fixture(scope="module")
def forty(request_for: BuildRequest, tmp_path_factory: pytest.TempPathFactory) -> BuildRequest:
    return replace(request_for, questions=questions(40))


@pytest.fixture
def bundle(forty: BuildRequest, tmp_path: Path) -> Bundle:
    return build_bundle(forty, tmp_path / "bundle", quiet)


@contextmanager
def phones(folder: Path, *faults: list[str]) -> Iterator[tuple[list[VirtualPhone], AdbServer]]:
    """Provides phones at one adb server, each with its faults."""
    with ExitStack() as stack:
        started = []
        for number, wanted in enumerate(faults):
            started.append(start_phone(SOC, 0, folder / str(number), faults=wanted))
            stack.callback(stop_phone, started[-1])
        server = stack.enter_context(private_adb_server())
        yield started, AdbServer(server.host, server.port, HASTY)


def deploy(bundle: Bundle, server: AdbServer, devices: list[str], **options: object) -> Run:
    request = DeployRequest(runtime="cpu", devices=devices, timeout_s=TIMEOUT_S, **options)  # type: ignore[arg-type]
    return deploy_bundle(bundle.path, server, request, quiet)


@pytest.fixture(scope="module")
def alone(forty: BuildRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Returns the logits of one phone."""
    folder = tmp_path_factory.mktemp("alone")
    bundle = build_bundle(forty, folder / "bundle", quiet)
    with phones(folder, ["run-time:0"]) as (started, server):
        return logits_of(bundle, deploy(bundle, server, [started[0].serial]))


def same(bundle: Bundle, run: Run, alone: dict[str, np.ndarray]) -> bool:
    logits = logits_of(bundle, run)
    return run.finished and all(np.array_equal(logits[name], alone[name]) for name in alone)


def test_phones_share_the_work_and_answers_are_in_order(
    bundle: Bundle, tmp_path: Path, alone: dict[str, np.ndarray]
) -> None:
    with phones(tmp_path, ["run-time:20"], ["run-time:60"]) as (started, server):
        run = deploy(bundle, server, [phone.serial for phone in started])
        assert same(bundle, run, alone)
        assert sum(part.windows["cpu"] for part in run.parts) >= 40
        assert all(part.chunks >= 1 for part in run.parts)
        fetched = fetch_answers(bundle.path, server, FetchRequest(), quiet)
        assert [question.id for question, _ in fetched.answered()] == [f"q{n}" for n in range(40)]
        assert fetched.run.phones == tuple(phone.serial for phone in started)


@pytest.mark.parametrize("fault", ["restart:6:600", "run-fail:6:always", "cut-run:6", "kill-run:6"])
def test_a_phone_that_is_lost_loses_nothing(
    fault: str, bundle: Bundle, tmp_path: Path, alone: dict[str, np.ndarray]
) -> None:
    with phones(tmp_path, ["run-time:30"], ["run-time:30", fault]) as (started, server):
        run = deploy(bundle, server, [phone.serial for phone in started], chunk=4)
        assert same(bundle, run, alone)
        assert run.parts[0].trouble == ""
        assert bool(run.parts[1].trouble) == fault.startswith(("restart", "run-fail"))


def test_a_phone_that_waits_for_another_one_is_in_no_trouble(
    bundle: Bundle, tmp_path: Path, alone: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its job has ended and must not start again, since no chunks are left for it."""
    monkeypatch.setattr("bundler.scheduler.worker.ATTEMPTS", 2)
    with phones(tmp_path, ["run-time:0"], ["run-time:1000"]) as (started, server):
        run = deploy(bundle, server, [phone.serial for phone in started], chunk=4)
        assert same(bundle, run, alone)
        assert [part.trouble for part in run.parts] == ["", ""]


def test_where_all_fail_the_failure_is_told_and_what_was_done_is_kept(bundle: Bundle, tmp_path: Path) -> None:
    faults = ["run-time:0", "run-fail:8:always"]
    with (
        phones(tmp_path, faults, faults) as (started, server),
        pytest.raises(RunFailed, match="Graph Execution failure"),
    ):
        deploy(bundle, server, [phone.serial for phone in started], chunk=4)
    run = newest_run(bundle)
    assert run is not None
    assert not run.finished
    assert len(list((run.folder(bundle.path) / layout.LOGITS).glob("*.npz"))) == 4


def test_a_detached_run_of_several_phones_comes_together(
    bundle: Bundle, tmp_path: Path, alone: dict[str, np.ndarray]
) -> None:
    with phones(tmp_path, ["run-time:5"], ["run-time:5", "slow:20000000:60"]) as (started, server):
        serials = [phone.serial for phone in started]
        deploy(bundle, server, serials, detach=True, chunk=7)
        for serial in serials:
            job = PhoneJob(server.find(serial), bundle.id, "cpu")
            wait_for(lambda job=job: job.status().state == "finished")  # type: ignore[misc]
        run = fetch_answers(bundle.path, server, FetchRequest(), quiet).run
        assert same(bundle, run, alone)
        assert all(part.chunks == 3 for part in run.parts)
        assert [part.windows["cpu"] for part in run.parts] == [21, 19], "nothing is computed twice"


def test_phones_may_be_at_several_adb_servers(bundle: Bundle, tmp_path: Path, alone: dict[str, np.ndarray]) -> None:
    with (
        phones(tmp_path / "here", ["run-time:10"]) as ((first,), here),
        phones(tmp_path / "there", ["run-time:10"]) as ((second,), there),
    ):
        elsewhere = f"{there.host}:{there.port}/{second.serial}"
        run = deploy(bundle, here, [first.serial, elsewhere], chunk=5)
        assert same(bundle, run, alone)
        assert run.phones == (first.serial, elsewhere)
        assert all(part.chunks for part in run.parts)


def test_two_phones_share_evenly(request_for: BuildRequest, tmp_path: Path) -> None:
    """Uses the phones' clocks, whose runs sleep; benchmarks/phones.py measures the user's waiting time."""
    bundle = build_bundle(replace(request_for, questions=questions(200)), tmp_path / "bundle", quiet)
    with phones(tmp_path, ["run-time:50"], ["run-time:50"]) as (started, server):
        serials = [phone.serial for phone in started]
        (alone,) = deploy(bundle, server, serials[:1], chunk=20).parts
        shared = deploy(bundle, server, serials, chunk=20).parts
    assert max(part.seconds for part in shared) <= 0.65 * alone.seconds


def test_which_phones_are_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    with phones(tmp_path, [], ["unauthorized"]) as (started, server):
        serial, refused = (phone.serial for phone in started)
        with pytest.raises(UnknownPhone):
            server.find("no such phone")
        assert server.find(serial).serial == serial
        with pytest.raises(PhoneNotReady):
            server.find(refused)
        assert [target.name for target in choose_targets([], server)] == [serial]
        assert [target.name for target in choose_targets([], server, everything=True)] == [serial]
        monkeypatch.setenv("ANDROID_SERIAL", "192.0.2.7")
        (wrong,) = choose_targets([], server)
        with pytest.raises(UnknownPhone, match=r"192\.0\.2\.7") as told:
            wrong.find(Limit())
        assert "The variable ANDROID_SERIAL names it: unset it, or give --device." in told.value.hint
        assert "192.0.2.7:5555" in told.value.hint
        (wrong,) = choose_targets(["gone"], server)
        with pytest.raises(UnknownPhone, match="'gone'") as told:
            wrong.find(Limit())
        assert "ANDROID_SERIAL" not in told.value.hint
        assert "5555" not in told.value.hint
        monkeypatch.setenv("ANDROID_SERIAL", refused)
        assert [target.name for target in choose_targets([], server)] == [refused]
        assert [target.name for target in choose_targets([serial], server)] == [serial]
        (far,) = choose_targets([f"lab.example:5038/{serial}"], server)
        assert (far.server.host, far.server.port, far.serial) == ("lab.example", 5038, serial)
        with pytest.raises(UsageError, match="given twice"):
            choose_targets([serial, serial], server)
        with pytest.raises(UsageError, match="99999 is not a port"):
            choose_targets(["lab:99999/x"], server)
    with phones(tmp_path / "none") as (_, server), pytest.raises(NoPhone):
        choose_targets([], server, everything=True)


@pytest.mark.parametrize("name", ["a b", "$(reboot)", "x;y", "'", "é👩‍🚀", "-s", "a\nb"])
def test_an_odd_serial_is_a_serial(name: str, tmp_path: Path) -> None:
    with phones(tmp_path, []) as (_, server), pytest.raises(UnknownPhone, match="no phone with serial"):
        choose_targets([name], server)[0].server.find(name)


@pytest.mark.parametrize("what", ["leave", "stop"])
def test_an_interrupted_deploy_says_how_to_come_back(what: str, bundle: Bundle, tmp_path: Path) -> None:
    with phones(tmp_path, ["run-time:100"]) as ((phone,), server):
        command = [
            sys.executable, "-m", "bundler.cli", "deploy", "--bundle", str(bundle.path), "--device", phone.serial,
            "--adb-port", str(server.port), "--chunk", "5", "--on-interrupt", what,
        ]  # fmt: skip
        deploying = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "500"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
        )  # fmt: skip
        deadline = threading.Timer(60, deploying.kill)
        deadline.start()
        assert deploying.stderr is not None
        with deploying.stderr as said:
            assert any("running on the CPU (" in line for line in said)
            deploying.send_signal(signal.SIGINT)
            rest = said.read()
        deadline.cancel()
        assert deploying.wait(10) == 130
        assert f"the run {'was stopped' if what == 'stop' else 'goes on'} on {phone.serial}" in rest
        assert ("fetch-answers" in rest) == (what == "leave")
        run = fetch_answers(bundle.path, server, FetchRequest(timeout_s=TIMEOUT_S), quiet).run
        assert run.finished
