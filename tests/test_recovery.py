"""Tests each fault of the virtual phone: a deploy is completed, by a retry or by the same command again, with answers
identical to those without faults; or it ends with the documented exit code and message."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundler import layout
from bundler.bundle import Bundle
from bundler.device.limits import Patience
from bundler.device.phone import AdbServer
from bundler.device.server import private_adb_server
from bundler.errors import (
    BundlerError,
    OutputsInvalid,
    PhoneFull,
    PhoneNotReady,
    PhoneTooSlow,
    RunFailed,
)
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.pipeline.deploy import DeployRequest, deploy_bundle
from bundler.runs.record import Run
from bundler.soc import known_socs
from bundler.types import Question, QuestionSet
from bundler.virtual.phones import VirtualPhone, start_phone, stop_phone
from tests.deploying import quiet
from tests.test_deploy import logits_of

pytestmark = pytest.mark.slow

SOC = known_socs()["SM8650"]
HASTY = Patience(answer_s=5.0, command_s=10.0, stall_s=5.0, return_s=20.0)
TIMEOUT_S = 100.0
QUICK = "run-time:0"  # outputs made of the inputs, the same from run to run
QUESTIONS = tuple(
    Question(f"q{n}", f"When was bridge {n} built?", f"Bridge {n} was built in 18{n:02}.") for n in range(8)
)
CHUNK = 2


@pytest.fixture(scope="module")
def built(request_for: BuildRequest, tmp_path_factory: pytest.TempPathFactory) -> BuildRequest:
    return replace(request_for, questions=QuestionSet(QUESTIONS, may_be_unanswerable=False))


@pytest.fixture
def eight(built: BuildRequest, tmp_path: Path) -> Bundle:
    """Builds a bundle of eight questions, each with one window."""
    return build_bundle(built, tmp_path / "bundle", quiet)


@contextmanager
def phone_with(folder: Path, *faults: str, port: int = 0) -> Iterator[tuple[VirtualPhone, AdbServer]]:
    phone = start_phone(SOC, port, folder, faults=[QUICK, *faults])
    try:
        with private_adb_server() as server:
            yield phone, AdbServer(server.host, server.port, HASTY)
    finally:
        stop_phone(phone)


def deploy(bundle: Bundle, phone: VirtualPhone, server: AdbServer) -> Run:
    """Uses the engine whose log reports every inference."""
    request = DeployRequest(runtime="cpu", devices=[phone.serial], engine="snpe", chunk=CHUNK, timeout_s=TIMEOUT_S)
    return deploy_bundle(bundle.path, server, request, quiet)


@pytest.fixture(scope="module")
def faultless(built: BuildRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Returns the logits of a run without faults."""
    folder = tmp_path_factory.mktemp("faultless")
    bundle = build_bundle(built, folder / "bundle", quiet)
    with phone_with(folder / "phone") as (phone, server):
        return logits_of(bundle, deploy(bundle, phone, server))


def check_same(bundle: Bundle, run: Run, faultless: dict[str, np.ndarray]) -> None:
    assert run.finished
    logits = logits_of(bundle, run)
    assert all(np.array_equal(logits[name], faultless[name]) for name in faultless)


@pytest.mark.parametrize(
    "fault",
    [
        "cut-in:9000",  # while the bundle is pushed
        "cut-in:22000",
        "cut-out:1500",  # while the phone is looked at
        "cut-out:15000",  # while outputs are pulled
        "cut-run:3",
        "flip-in:12000",
        "flip-out:9000",
        "kill-run:3",
        "restart:3",
        "slow:200000:5",
        "run-short:3",
        "run-nan:3",
        "offline:2",
        "mute-shell:6",
        "lacks:tar-z",
        "lacks:gzip",
        "lacks:sha256sum-c",
        "lacks:setsid",
        "clock:-300000000",
    ],
)
def test_a_deploy_mends_it_itself(fault: str, eight: Bundle, tmp_path: Path, faultless: dict[str, np.ndarray]) -> None:
    with phone_with(tmp_path / "phone", fault) as (phone, server):
        check_same(eight, deploy(eight, phone, server), faultless)


@pytest.mark.parametrize(
    ("fault", "error", "code", "said"),
    [
        ("run-fail:3", RunFailed, 6, r"snpe-net-run ended with exit code 1: error_code=402"),
        ("run-crash:3", RunFailed, 6, r"snpe-net-run ended with exit code 139"),
        ("unauthorized:3", PhoneNotReady, 5, r"is unauthorized"),
    ],
)
def test_the_same_command_again_goes_on(
    fault: str,
    error: type[BundlerError],
    code: int,
    said: str,
    eight: Bundle,
    tmp_path: Path,
    faultless: dict[str, np.ndarray],
) -> None:
    with phone_with(tmp_path / "phone", fault) as (phone, server):
        with pytest.raises(error, match=said) as caught:
            deploy(eight, phone, server)
        assert caught.value.exit_code == code
        run = None
        while run is None:
            try:
                run = deploy(eight, phone, server)
            except PhoneNotReady:
                assert fault.startswith("unauthorized")
        check_same(eight, run, faultless)
        if error is RunFailed:
            (log,) = (tmp_path / "phone/storage").rglob("jobs/cpu/log.txt")
            assert log.read_text().count("Processing DNN input") == 2 + 2 + 6  # the first chunk was here already
            assert run.parts[0].windows == {"cpu": 8}


@pytest.mark.parametrize(
    ("fault", "error", "code", "said"),
    [
        ("run-fail:3:always", RunFailed, 6, r"error_code=402"),
        ("run-crash:3:always", RunFailed, 6, r"exit code 139"),
        ("run-short:3:always", OutputsInvalid, 7, r"output \w+_logits of line [23] has 768 bytes, not 1536"),
        ("run-nan:3:always", OutputsInvalid, 7, r"output \w+_logits of line [23]: value 0 is nan, not a finite number"),
        ("mute-shell", PhoneTooSlow, 5, r"no end of looking at the phone within 3 s"),
        ("unauthorized", PhoneNotReady, 5, r"is unauthorized"),
        ("offline", PhoneNotReady, 5, r"is offline"),
    ],
)
def test_what_stays_is_told(
    fault: str, error: type[BundlerError], code: int, said: str, eight: Bundle, tmp_path: Path
) -> None:
    with phone_with(tmp_path / "phone", fault) as (phone, server):
        hasty = AdbServer(server.host, server.port, replace(HASTY, command_s=3.0)) if "mute" in fault else server
        for _ in range(2):
            with pytest.raises(error, match=said) as caught:
                deploy(eight, phone, hasty)
            assert caught.value.exit_code == code
            assert caught.value.hint


@pytest.mark.parametrize("room", [10_000, 25_000, 45_000])
def test_a_full_disk_is_told_and_room_mends_it(
    room: int, eight: Bundle, tmp_path: Path, faultless: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is full while the bundle is pushed, inputs are unpacked, or outputs are written."""
    monkeypatch.setattr("bundler.device.store.SPARE_BYTES", -10_000_000)
    with phone_with(tmp_path / "phone", f"disk:{room}") as (phone, server):
        with pytest.raises(PhoneFull, match=r"no room for the bundle in /data/local/tmp") as caught:
            deploy(eight, phone, server)
        assert caught.value.exit_code == 5
    with phone_with(tmp_path / "phone") as (phone, server):
        check_same(eight, deploy(eight, phone, server), faultless)


def test_a_phone_that_stays_away_is_told_and_comes_back(
    eight: Bundle, tmp_path: Path, faultless: dict[str, np.ndarray]
) -> None:
    folder = tmp_path / "phone"
    with phone_with(folder, "restart:3:600") as (phone, server):
        impatient = AdbServer(server.host, server.port, replace(HASTY, return_s=2.0))
        with pytest.raises(BundlerError, match="connection lost") as caught:
            deploy(eight, phone, impatient)
        assert caught.value.exit_code == 5
        port = phone.port
    with phone_with(folder, port=port) as (phone, server):
        run = deploy(eight, phone, server)
        check_same(eight, run, faultless)
    logs = list((tmp_path / "phone/storage").rglob("jobs/cpu/log.txt"))
    assert [log.read_text().count("Processing DNN input") for log in logs] == [8]  # what was whole is not done again


def test_what_a_stopped_deploy_left_does_not_grow(eight: Bundle, tmp_path: Path) -> None:
    with phone_with(tmp_path / "phone", "run-fail:3:always") as (phone, server):
        for _ in range(3):
            with pytest.raises(RunFailed):
                deploy(eight, phone, server)
        remote = tmp_path / "phone/storage" / str(layout.remote_bundle(eight.id))[1:]
        assert sorted(path.name for path in (remote / "jobs/cpu").iterdir()) == [
            "done",
            "log.txt",
            "queue",
            "settings",
            "state",
        ]
