"""Tests commands on a phone: virtual phone and phone of genuine parts keep the same contract."""

import signal
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bundler.device.limits import Halted, Limit, Patience
from bundler.device.phone import AdbServer, Phone
from bundler.device.server import private_adb_server
from bundler.device.targets import choose_targets
from bundler.errors import NoAdb, NoPhone, PhoneLost, PhoneRefused, PhoneTooSlow, TimeUp, UnknownPhone, UsageError
from bundler.soc import known_socs
from bundler.virtual.phones import start_phone, stop_phone
from tests.deploying import sh


def test_a_command_has_streams_and_an_exit_code(phone: Phone) -> None:
    sent = bytes(range(256)) * 5000
    done = phone.run(["sh", "-c", "cat; echo wrong >&2; exit 7"], doing="x", timeout_s=30, stdin=[sent], check=False)
    assert (done.exit_code, done.stdout, done.stderr) == (7, sent, b"wrong\n")


def test_arguments_reach_the_phone_as_they_are(phone: Phone) -> None:
    hostile = ["a b", "$(id)", "`id`", "'", '"', "*", ";", "\\", "new\nline", "é👩‍🚀", "$HOME", ""]
    done = phone.run(["printf", r"%s\0", *hostile], doing="x", timeout_s=30)
    assert done.stdout.decode().split("\0")[:-1] == hostile


@pytest.mark.slow
def test_a_connection_that_is_being_made_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several clients of one adb server meet a phone that one of them has just begun to connect to."""
    monkeypatch.setattr("bundler.device.phone.COMING_S", 30.0)
    phone = start_phone(known_socs()["SM8650"], 0, tmp_path / "phone", faults=["offline:4"])
    try:
        with private_adb_server() as server:
            assert server.find(phone.serial).run(["echo", "x"], doing="x").stdout == b"x\n"
    finally:
        stop_phone(phone)


def test_a_failing_command_is_said_with_its_last_line(phone: Phone) -> None:
    with pytest.raises(PhoneRefused, match=r"looking.*No such file"):
        phone.run(["cat", "/data/local/tmp/nowhere"], doing="looking", timeout_s=30)


def test_a_wait_has_a_limit(phone: Phone) -> None:
    with pytest.raises(PhoneTooSlow, match="sleeping"):
        phone.run(["sleep", "60"], doing="sleeping", timeout_s=0.5)


def test_a_stream_that_stalls_is_a_lost_phone(phone: Phone) -> None:
    with pytest.raises(PhoneLost, match=r"while pulling: no data for 0\.5 s"):
        phone.run(["sh", "-c", "echo begin; sleep 60"], doing="pulling", timeout_s=60, stall_s=0.5)


def test_everything_together_has_a_limit(phone: Phone) -> None:
    limited = Phone(phone.server, phone.serial, Limit(0.5))
    with pytest.raises(TimeUp, match=r"0\.5 s are over .*while sleeping"):
        limited.run(["sleep", "60"], doing="sleeping", timeout_s=60)
    with pytest.raises(TimeUp):
        limited.run(["true"], doing="x", timeout_s=60)
    with pytest.raises(TimeUp):
        limited.limit.pause(60, "waiting")


def test_waiting_ends_when_somebody_wishes_it(phone: Phone) -> None:
    limited = Phone(phone.server, phone.serial, Limit())
    wish = threading.Timer(0.3, limited.limit.halt.set)
    wish.start()
    with pytest.raises(Halted):
        limited.run(["sleep", "60"], doing="sleeping", timeout_s=60)
    wish.join()
    with pytest.raises(Halted):
        limited.limit.pause(60, "waiting")


def test_a_failure_of_our_own_is_not_blamed_on_the_phone(phone: Phone) -> None:
    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        phone.run(["echo", "hello"], doing="x", timeout_s=30, on_stdout=full)


def test_a_crash_is_an_exit_code_and_the_phone_lives_on(phone: Phone) -> None:
    done = phone.run(["sh", "-c", "kill -SEGV $$"], doing="x", timeout_s=30, check=False)
    assert done.exit_code == 128 + signal.SIGSEGV
    assert sh(phone, "echo alive") == "alive\n"


def test_a_phone_that_goes_away_is_lost_not_waited_for(tmp_path: Path) -> None:
    started = start_phone(known_socs()["SM8650"], 0, tmp_path / "phone")
    with private_adb_server() as server:
        phone = server.find(started.serial)
        ending = threading.Timer(0.5, stop_phone, [started])
        ending.start()
        with pytest.raises(PhoneLost, match="connection lost while sleeping"):
            phone.run(["sleep", "60"], doing="sleeping", timeout_s=30)
        ending.join()


def test_a_phone_whose_shell_never_answers_is_not_waited_for(tmp_path: Path) -> None:
    started = start_phone(known_socs()["SM8650"], 0, tmp_path / "phone", faults=["mute-shell"])
    try:
        with private_adb_server() as server:
            begun = time.monotonic()
            with pytest.raises(PhoneTooSlow):
                server.find(started.serial).run(["true"], doing="x", timeout_s=0.5)
            assert time.monotonic() - begun < 30
    finally:
        stop_phone(started)


def test_a_virtual_phone_listens_on_loopback_only_and_takes_its_jobs_with_it(tmp_path: Path) -> None:
    started = start_phone(known_socs()["SM8650"], 0, tmp_path / "phone")
    bystander = subprocess.Popen(["sleep", "60"], cwd=started.state / "storage")
    try:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        listening = [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{started.port:04X}")]
        assert listening == [f"0100007F:{started.port:04X}"]
        with private_adb_server() as server:
            phone = server.find(started.serial)
            sh(phone, "setsid sh -c 'echo $$ >/data/local/tmp/pid; sleep 60' </dev/null >/dev/null 2>&1 &")
            pid = int(sh(phone, "until [ -s /data/local/tmp/pid ]; do sleep 0.1; done; cat /data/local/tmp/pid"))
            assert Path(f"/proc/{pid}/cwd").exists()
            stop_phone(started)
        assert not Path(f"/proc/{pid}/cwd").exists()
        assert bystander.poll() is None  # a host's process that merely stands in the phone's storage
    finally:
        bystander.kill()
        bystander.wait()
        stop_phone(started)


@pytest.mark.parametrize(
    ("variables", "host", "port"),
    [
        ({}, "127.0.0.1", 5037),
        ({"ANDROID_ADB_SERVER_PORT": "5099"}, "127.0.0.1", 5099),
        ({"ANDROID_ADB_SERVER_ADDRESS": "lab", "ANDROID_ADB_SERVER_PORT": "5099"}, "lab", 5099),
        ({"ANDROID_ADB_SERVER_HOST": "lab"}, "lab", 5037),
        ({"ADB_SERVER_SOCKET": "tcp:lab:5098", "ANDROID_ADB_SERVER_PORT": "5099"}, "lab", 5098),
        ({"ADB_SERVER_SOCKET": "tcp:5098"}, "127.0.0.1", 5098),
    ],
)
def test_the_adb_server_is_the_one_that_adb_takes(
    variables: dict[str, str], host: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "ANDROID_ADB_SERVER_ADDRESS",
        "ANDROID_ADB_SERVER_HOST",
        "ANDROID_ADB_SERVER_PORT",
        "ADB_SERVER_SOCKET",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (AdbServer.at().host, AdbServer.at().port) == (host, port)
    assert (AdbServer.at("here", 1).host, AdbServer.at("here", 1).port) == ("here", 1)


def test_a_port_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "many")
    with pytest.raises(UsageError, match="'many' is not a port"):
        AdbServer.at()


def test_a_connection_that_is_refused_is_said_so(phone: Phone) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UnknownPhone, match=rf"no phone answers at {address}: Connection refused \(attached: "):
            phone.server.find(address)


def test_a_web_server_in_place_of_adb_is_told_soon() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        since = time.monotonic()
        try:
            with pytest.raises(NoAdb, match="an HTTP server listens there, not adb"):
                AdbServer("127.0.0.1", web.server_port, Patience(answer_s=60)).attached()
        finally:
            web.shutdown()
            thread.join()
        assert time.monotonic() - since < 30


def test_patience_is_the_servers(phone: Phone) -> None:
    hasty = AdbServer(phone.server.host, phone.server.port, Patience(answer_s=5.0, stall_s=0.2))
    assert hasty.find(phone.serial).server.patience.stall_s == 0.2


def test_phones_that_cannot_be_meant() -> None:
    with private_adb_server() as server:
        with pytest.raises(NoPhone):
            choose_targets([], server, everything=True)
        with pytest.raises(UsageError, match="--device: the same phone is given twice"):
            choose_targets(["a", "b", "a"], server)
        with pytest.raises(UsageError, match="65536 is not a port"):
            choose_targets(["host:65536/a"], server)
