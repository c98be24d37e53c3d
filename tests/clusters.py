"""Starts a Dask cluster of processes on loopback, with simulators or with hosts of phones."""

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import pytest

from bundler import layout
from bundler.device.phone import AdbServer

IS_OLD = "import bundler\nbundler.__version__ = '0.0.1'\n"
WAIT_S = 60.0

Popen: TypeAlias = "subprocess.Popen[bytes]"


def free_port() -> int:
    """Returns a port outside the system's ephemeral range, so that it is still free when the scheduler starts."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
            return int(probe.getsockname()[1])


class DaskCluster:
    """A scheduler and its workers, as processes on loopback; each worker has a separate cache."""

    def __init__(self, folder: Path, scheme: str = "tcp") -> None:
        self.address = f"{scheme}://127.0.0.1:{free_port()}"
        self.workers: list[Popen] = []
        self.hosts: list[Popen] = []
        self._folder = folder
        self._homes: list[Path] = []
        self._all: list[Popen] = []
        self.start()

    def start(self) -> None:
        host, port = self.address.split("://")[1].split(":")
        protocol = ["--protocol", "tls"] if self.address.startswith("tls") else []
        self.scheduler = self._process("scheduler", ["--host", host, "--port", port, "--no-dashboard", *protocol], {})

    def add(self, customize: str = "") -> Popen:
        """Adds a worker; `customize` runs in it, and in its children."""
        environment = self._home(customize)
        home = environment["XDG_CACHE_HOME"]
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", home]
        worker = self._process("worker", [self.address, *options], environment)
        self.workers.append(worker)
        return worker

    def _home(self, customize: str) -> dict[str, str]:
        home = self._folder / f"worker{len(self._all)}"
        home.mkdir()
        self._homes.append(home)
        (home / "sitecustomize.py").write_text(customize)
        path = f"{home}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        return {"XDG_CACHE_HOME": str(home), "PYTHONPATH": path, "COLUMNS": "250", "TMPDIR": str(home)}

    def add_host(self, name: str, server: AdbServer, devices: Sequence[str] = (), customize: str = "") -> Popen:
        """Adds a host with these phones, or all of the server's."""
        options = [option for device in devices for option in ("--device", device)]
        command = ["host", self.address, "--name", name, "--adb-port", str(server.port), *options]
        self.hosts.append(self._started(name, ["-m", "bundler.cli", *command], self._home(customize)))
        return self.hosts[-1]

    def add_module(self, module: str, *arguments: str) -> Popen:
        """Starts a process that runs a module."""
        return self._started(module, ["-m", module, *arguments], self._home(""))

    def log(self, name: str) -> str:
        """Returns a process's last output."""
        return max(self._folder.glob(f"{name}-*.log"), key=lambda path: path.stat().st_mtime).read_text()

    def lease(self, serial: str) -> Path:
        """Returns the file that the last process locks while it uses a phone."""
        return self._homes[-1] / "mbqa-bundle" / "phones" / layout.file_safe(serial)

    def caches(self) -> list[Path]:
        return sorted(path for home in self._homes for path in home.glob("mbqa-bundle/dlc/*.dlc"))

    def _process(self, kind: str, arguments: list[str], environment: dict[str, str]) -> Popen:
        return self._started(kind, ["-m", "dask", kind, *arguments], environment)

    def _started(self, name: str, arguments: list[str], environment: dict[str, str]) -> Popen:
        with (self._folder / f"{name}-{len(self._all)}.log").open("wb") as log:
            made = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )
        self._all.append(made)
        return made

    def renew(self) -> None:
        """Prepares for the next test: ends all processes but the scheduler, and restarts that if it has ended."""
        for each in (self.workers, self.hosts, self._homes):
            each.clear()
        self._end([process for process in self._all if process is not self.scheduler])
        if self.scheduler.poll() is not None:
            self.start()

    def stop(self) -> None:
        self._end(self._all)

    def _end(self, processes: Sequence[Popen]) -> None:
        for process in processes:
            process.kill()
            process.wait(WAIT_S)


def tls_settings(folder: Path) -> dict[str, str]:
    """Returns environment variables for Dask's TLS, as in docs/many-machines.md, with newly made certificates."""
    made = pytest.importorskip("distributed").Security.temporary()
    for name, text in (("ca.pem", made.tls_ca_file), ("me.pem", made.tls_client_cert), ("me.key", made.tls_client_key)):
        (folder / name).write_text(text)
    settings = {"REQUIRE_ENCRYPTION": "True", "TLS__CA_FILE": str(folder / "ca.pem")}
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        settings[f"TLS__{role}__CERT"] = str(folder / "me.pem")
        settings[f"TLS__{role}__KEY"] = str(folder / "me.key")
    return {f"DASK_DISTRIBUTED__COMM__{name}": value for name, value in settings.items()}


def eventually(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)
