"""Provides a virtual phone, and the genuine adb with a private server."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import adbutils
import pytest

from bundler.device.server import user_key
from bundler.soc import known_socs
from bundler.virtual.faults import State
from bundler.virtual.phones import VirtualPhone, start_phone, stop_phone

DEADLINE_S = 30
ADB = str(Path(adbutils.__file__).parent / "binaries/adb")
"""The adb that adbutils brings along (36.0.0), whichever the PATH has."""
T = TypeVar("T")


def wait_for(what: Callable[[], T], deadline_s: float = DEADLINE_S) -> T:
    """Returns the first true value of `what`."""
    end = time.monotonic() + deadline_s
    while True:
        if value := what():
            return value
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@dataclass(frozen=True)
class Daemon:
    """A running daemon under test."""

    phone: VirtualPhone

    @property
    def serial(self) -> str:
        return self.phone.serial

    @property
    def port(self) -> int:
        return self.phone.port

    @property
    def pid(self) -> int:
        return self.phone.pid

    @property
    def root(self) -> Path:
        return self.phone.state / "storage"

    @property
    def tmp(self) -> Path:
        return self.root / "data/local/tmp"

    @property
    def log(self) -> str:
        return (self.phone.state / "log.txt").read_text()

    def stop(self) -> None:
        stop_phone(self.phone)


StartDaemon = Callable[..., Daemon]


@contextlib.contextmanager
def daemons(folder: Path) -> Iterator[StartDaemon]:
    """Provides a function that starts daemons, which require no key; ends all of them."""
    running: list[VirtualPhone] = []

    def start(state: State = "device") -> Daemon:
        here = folder / f"phone{len(running)}"
        running.append(start_phone(known_socs()["SM8650"], 0, here, adb_state=state, open_to_all=True))
        return Daemon(running[-1])

    try:
        yield start
    finally:
        for phone in running:
            stop_phone(phone)


@dataclass(frozen=True)
class Adb:
    """The genuine adb client with a private server, connected to one phone."""

    port: int
    home: Path
    serial: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "HOME": str(self.home),
            "ANDROID_USER_HOME": str(self.home),
            "ANDROID_ADB_SERVER_PORT": str(self.port),
            "ANDROID_SERIAL": self.serial,
            "ADB_VENDOR_KEYS": str(user_key()),
            "ADB_USB": "0",  # a server that finds no USB takes 3 s over it
            "ADB_MDNS": "0",
            "ADB_EMU": "0",
        }

    def start(self, *arguments: str | Path, **options: object) -> "subprocess.Popen[bytes]":
        command = [ADB, *map(str, arguments)]
        return subprocess.Popen(command, env=self.environment, **options)  # type: ignore[call-overload,no-any-return]

    def run(self, *arguments: str | Path, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [ADB, *map(str, arguments)],
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def text(self, *arguments: str | Path) -> str:
        done = self.run(*arguments)
        return (done.stdout + done.stderr).decode()

    def of(self, daemon: Daemon) -> "Adb":
        return Adb(self.port, self.home, daemon.serial)

    def connect(self, daemon: Daemon) -> "Adb":
        assert "connected to" in self.text("connect", daemon.serial)
        return self.of(daemon)


@contextlib.contextmanager
def adb_servers(home: Path) -> Iterator[Adb]:
    """Provides a private adb server, and ends it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    adb = Adb(port, home)
    with (home / "server.log").open("wb") as log:
        server = adb.start("nodaemon", "server", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_for(lambda: _answers(port))
        yield adb
    finally:
        adb.run("kill-server")
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(5)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def any_adb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adb]:
    """Returns adb without a connected phone."""
    with adb_servers(tmp_path_factory.mktemp("adb")) as adb:
        yield adb


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[StartDaemon]:
    """Provides a function that starts daemons for this test."""
    with daemons(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Returns a daemon that a module's tests share."""
    with daemons(tmp_path_factory.mktemp("phone")) as start:
        yield start()


@pytest.fixture(scope="module")
def adb(any_adb: Adb, phone: Daemon) -> Adb:
    """Returns adb connected to `phone`."""
    return any_adb.connect(phone)
