"""Tests faults on a phone of genuine parts: a pulled cable, a broken link, a full disk, a killed job, a daemon without
root. The results must equal those of the virtual phone (test_recovery.py)."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundler import layout
from bundler.bundle import Bundle
from bundler.device import store as store_module
from bundler.device.blobs import Blob
from bundler.device.limits import Patience
from bundler.device.phone import AdbServer, Phone
from bundler.device.store import Store
from bundler.errors import PhoneError, PhoneFull, PhoneLost, PhoneTooSlow
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.pipeline.deploy import DeployRequest, deploy_bundle
from bundler.runs.record import Run
from bundler.types import Progress
from tests.deploying import quiet, sh
from tests.phones import SLOW_LINK, TIMED_NET_RUN, cable, genuine_phone, why_no_genuine_phone
from tests.test_crew import questions
from tests.test_deploy import logits_of

pytestmark = [pytest.mark.genuine, pytest.mark.slow]
HASTY = Patience(answer_s=4.0, command_s=4.0, stall_s=2.0, return_s=30.0)
IMPATIENT = replace(HASTY, return_s=1.0)
TIMEOUT_S = 120.0
COUNT = 40


@pytest.fixture(autouse=True)
def _genuine() -> None:
    if reason := why_no_genuine_phone():
        pytest.skip(reason)


@pytest.fixture(scope="module")
def phone() -> Iterator[Phone]:
    if reason := why_no_genuine_phone():
        pytest.skip(reason)
    with genuine_phone(net_run=TIMED_NET_RUN) as made:
        yield made


@pytest.fixture(scope="module")
def forty(request_for: BuildRequest) -> BuildRequest:
    return replace(request_for, questions=questions(COUNT))


@pytest.fixture
def bundle(forty: BuildRequest, tmp_path: Path) -> Bundle:
    return build_bundle(forty, tmp_path / "bundle", quiet)


def deploy(
    bundle: Bundle, phone: Phone, progress: Progress = quiet, patience: Patience = HASTY, serial: str = ""
) -> Run:
    server = AdbServer(phone.server.host, phone.server.port, patience)
    request = DeployRequest(runtime="cpu", devices=[serial or phone.serial], chunk=10, timeout_s=TIMEOUT_S)
    return deploy_bundle(bundle.path, server, request, progress)


@pytest.fixture(scope="module")
def faultless(forty: BuildRequest, phone: Phone, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    bundle = build_bundle(forty, tmp_path_factory.mktemp("faultless") / "bundle", quiet)
    return logits_of(bundle, deploy(bundle, phone))


def check_same(bundle: Bundle, run: Run, faultless: dict[str, np.ndarray]) -> None:
    assert run.finished
    logits = logits_of(bundle, run)
    assert all(np.array_equal(logits[name], faultless[name]) for name in faultless)


class Once:
    """Runs an action once, when the progress of a stage reaches a limit."""

    def __init__(self, stage: str, least: float, action: Callable[[], object]) -> None:
        self._stage, self._least, self._action = stage, least, action
        self.done = False

    def __call__(self, stage: str, done: int, total: int | None, /) -> None:
        if not self.done and stage.startswith(self._stage) and done >= self._least * (total or 0):
            self.done = True
            self._action()


@contextmanager
def mended() -> Iterator[None]:
    """Plugs the cable in at the end."""
    try:
        yield
    finally:
        cable("mend")


def cut_for(seconds: float) -> None:
    cable("cut")
    threading.Timer(seconds, cable, ["mend"]).start()


def test_a_cable_pulled_during_the_run(phone: Phone, bundle: Bundle, faultless: dict[str, np.ndarray]) -> None:
    pull = Once("running", 0.25, lambda: cut_for(4.0))
    with mended():
        check_same(bundle, deploy(bundle, phone, pull), faultless)
    assert pull.done


def test_a_cable_that_stays_out_is_told_and_the_same_command_goes_on(
    phone: Phone, bundle: Bundle, faultless: dict[str, np.ndarray]
) -> None:
    pull = Once("running", 0.25, lambda: cable("cut"))
    with mended():
        with pytest.raises((PhoneLost, PhoneTooSlow)) as caught:
            deploy(bundle, phone, pull, IMPATIENT)
        assert caught.value.exit_code == 5
    phone.server.reconnect(phone.serial)
    check_same(bundle, deploy(bundle, phone), faultless)


def test_a_cable_pulled_while_a_large_blob_is_on_its_way(phone: Phone, tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(np.random.default_rng(0).bytes(200_000_000))
    blob = Blob.of(path)
    server = AdbServer(phone.server.host, phone.server.port, HASTY)
    with mended():
        pull = Once("pushing", 0.3, lambda: cable("cut"))
        with pytest.raises(PhoneLost):
            Store(server.find(phone.serial), pull).push([blob], None)
    server.reconnect(phone.serial)
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        again = Store(server.find(phone.serial), quiet)
        try:
            again.push([blob], None)
            break
        except PhoneError:  # the old session may still write what was under way
            assert time.monotonic() < deadline
    assert sh(phone, f"cd {layout.REMOTE_ROOT}/store && sha256sum {blob.sha256}").split()[0] == blob.sha256
    sh(phone, f"rm {layout.REMOTE_ROOT}/store/{blob.sha256}")


def test_a_killed_job(phone: Phone, bundle: Bundle, faultless: dict[str, np.ndarray]) -> None:
    lock = f"{layout.remote_bundle(bundle.id)}/lock"
    script = f'owner=$(readlink {lock}) && kill -9 "${{owner%%:*}}"'
    kill = Once("running", 0.25, lambda: sh(phone, script))
    check_same(bundle, deploy(bundle, phone, kill), faultless)
    assert kill.done


@contextmanager
def slow_link(port: int, to: str, *options: str) -> Iterator[None]:
    command = [sys.executable, str(SLOW_LINK), str(port), to, "--delay-ms", "2", *options]
    link = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield
    finally:
        link.kill()
        link.wait()


@pytest.mark.parametrize("after", [6_000, 30_000, 60_000])
def test_a_link_that_breaks(after: int, phone: Phone, bundle: Bundle, faultless: dict[str, np.ndarray]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serial = f"127.0.0.1:{port}"
    sh(phone, f"rm -rf {layout.REMOTE_ROOT}")
    with slow_link(port, phone.serial, "--cut-after", str(after)), pytest.raises(PhoneError) as caught:
        deploy(bundle, phone, patience=IMPATIENT, serial=serial)
    assert caught.value.exit_code == 5
    with slow_link(port, phone.serial):
        check_same(bundle, deploy(bundle, phone, serial=serial), faultless)


def test_a_disk_that_is_full_and_a_larger_one(
    forty: BuildRequest, bundle: Bundle, faultless: dict[str, np.ndarray]
) -> None:
    with genuine_phone(net_run=TIMED_NET_RUN, SIZE="150k") as small, pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "SPARE_BYTES", -10_000_000)  # it is to find out by itself
        with pytest.raises(PhoneFull) as caught:
            deploy(bundle, small)
        assert caught.value.exit_code == 5
    with genuine_phone(net_run=TIMED_NET_RUN, SIZE="8m") as large:
        check_same(bundle, deploy(bundle, large), faultless)


def test_a_daemon_without_root(bundle: Bundle, faultless: dict[str, np.ndarray]) -> None:
    with genuine_phone(net_run=TIMED_NET_RUN, AS_SHELL="1") as plain:
        check_same(bundle, deploy(bundle, plain), faultless)
