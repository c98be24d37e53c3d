"""A virtual phone's daemon in a process of its own, and the genuine adb with a server of its own to talk to it.

Run as a program, this file is that process: `conftest.py ROOT PORT_FILE SHELL [FAULT...]`.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import adbutils
import pytest

from bundler.device.server import user_key
from bundler.virtual import adbd
from bundler.virtual import shell as shell_module
from bundler.virtual.faults import parse_faults
from bundler.virtual.machine import Machine
from bundler.virtual.processes import adopt_orphans
from bundler.virtual.storage import Storage

DEADLINE_S = 30
ADB = str(Path(adbutils.__file__).parent / "binaries/adb")
"""The adb that adbutils brings along (36.0.0), whichever the PATH has."""
T = TypeVar("T")
PROPERTIES = {
    "ro.product.name": "virtual",
    "ro.product.model": "Virtual SM8650",
    "ro.product.device": "pineapple",
    "ro.soc.model": "SM8650",
}


def host_shell(command: str | None, machine: Machine, env: Mapping[str, str]) -> NoReturn:
    """The host's own shell in the phone's /data/local/tmp: these tests shall fail for the daemon's reasons only."""
    os.chdir(machine.storage.host("/data/local/tmp"))
    environment = {**env, "PATH": os.environ["PATH"]}
    os.execve("/bin/sh", ["sh", "-c", command] if command else ["sh"], environment)


def broken_shell(command: str | None, machine: Machine, env: Mapping[str, str]) -> NoReturn:
    """A shell with a defect."""
    raise RuntimeError("broken on purpose")


SHELLS = {"host": host_shell, "broken": broken_shell, "own": None}


async def _serve(root: Path, port_file: Path, shell: str, faults: Sequence[str]) -> None:
    def ready(port: int) -> None:
        draft = port_file.with_suffix(".draft")
        draft.write_text(str(port))
        draft.rename(port_file)

    storage = Storage(root)
    machine = Machine(storage, PROPERTIES, faults=parse_faults(faults))
    storage.create()
    shell_module.install(machine)
    adopt_orphans()
    serving = adbd.serve(machine, 0, ready=ready, run_shell=SHELLS[shell], open_to_all=True)
    task = asyncio.ensure_future(serving)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def wait_for(what: Callable[[], T], deadline_s: float = DEADLINE_S) -> T:
    """The first true value of `what`."""
    end = time.monotonic() + deadline_s
    while True:
        if value := what():
            return value
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@dataclass(frozen=True)
class Daemon:
    """A running daemon under test."""

    root: Path
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def tmp(self) -> Path:
        return self.root / "data/local/tmp"

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


StartDaemon = Callable[..., Daemon]


@contextlib.contextmanager
def daemons(folder: Path) -> Iterator[StartDaemon]:
    """Starts daemons on request; all of them have ended at the end."""
    running: list[Daemon] = []

    def start(*faults: str, shell: str = "host") -> Daemon:
        here = folder / f"phone{len(running)}"
        here.mkdir()
        port_file, log = here / "port", here / "log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, __file__, str(here / "root"), str(port_file), shell, *faults],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )
        wait_for(lambda: port_file.exists() or process.poll() is not None)
        assert port_file.exists(), log.read_text()
        daemon = Daemon(here / "root", int(port_file.read_text()), process, log)
        running.append(daemon)
        return daemon

    try:
        yield start
    finally:
        for daemon in running:
            daemon.stop()


@dataclass(frozen=True)
class Adb:
    """The genuine adb client with a private server, talking to one phone."""

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
    """A private adb server, which has ended at the end."""
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
    """adb that is connected to no phone yet."""
    with adb_servers(tmp_path_factory.mktemp("adb")) as adb:
        yield adb


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[StartDaemon]:
    """Starts a daemon of this test's own."""
    with daemons(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that a module's tests share; its shell is the host's."""
    with daemons(tmp_path_factory.mktemp("phone")) as start:
        yield start()


@pytest.fixture(scope="module")
def adb(any_adb: Adb, phone: Daemon) -> Adb:
    """adb connected to `phone`."""
    return any_adb.connect(phone)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(_serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:]))
