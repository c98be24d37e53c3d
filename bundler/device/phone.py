"""A phone over adb: commands with exit codes, streams and deadlines. The only module that talks to adbutils.

Commands go through adbutils' transport as shell_v2 streams, which carry standard input and output and the exit code;
see SHELL PROTOCOL in AOSP's shell_service.h. Everything foreign is turned into our own errors here.
"""

import io
import os
import selectors
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import adbutils

from bundler.errors import (
    NoAdb,
    NoPhone,
    PhoneLost,
    PhoneNotReady,
    PhoneRefused,
    PhoneTooSlow,
    SeveralPhones,
    UnknownPhone,
)

READY = "device"
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
CHUNK = 65536
CONNECT_S = 20.0
LOCAL_HOSTS = ("127.0.0.1", "localhost")
COMMAND_LIMIT = 60_000  # adb gives a command's length in four hex digits


@dataclass(frozen=True)
class Attached:
    """A phone that the adb server knows, in whatever state."""

    serial: str
    state: str


@dataclass(frozen=True)
class Completed:
    """How a command on the phone ended."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def message(self) -> str:
        """The last line that it said on stderr, or on stdout."""
        lines = (self.stderr or self.stdout).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.exit_code}"


def without_twins(phones: Sequence[Attached]) -> list[Attached]:
    """The phones, each once: adb lists a local phone on port 5555 as emulator-5554 too, where it found it by itself."""
    addresses = {phone.serial for phone in phones}

    def is_twin(serial: str) -> bool:
        port = serial.removeprefix("emulator-")
        return port.isdigit() and port != serial and f"127.0.0.1:{int(port) + 1}" in addresses

    return [phone for phone in phones if not is_twin(phone.serial)]


class AdbServer:
    """The adb server at host:port; started where nothing answers, as adb itself does."""

    def __init__(self, host: str | None = None, port: int | None = None) -> None:
        self.host = host or os.environ.get("ANDROID_ADB_SERVER_HOST", "127.0.0.1")
        self.port = port or int(os.environ.get("ANDROID_ADB_SERVER_PORT", "5037"))
        self._client = adbutils.AdbClient(self.host, self.port, socket_timeout=CONNECT_S)

    def attached(self) -> list[Attached]:
        """The phones that the server knows.

        Raises:
            NoAdb
        """
        with self._reaching():
            return without_twins([Attached(info.serial, info.state) for info in self._client.list()])

    def find(self, serial: str | None = None) -> "Phone":
        """The phone with this serial, or the only one. A network address not yet known is connected to.

        Raises:
            NoAdb, NoPhone, SeveralPhones, UnknownPhone, PhoneNotReady
        """
        states = {phone.serial: phone.state for phone in self.attached()}
        if serial is None:
            ready = [known for known, state in states.items() if state == READY]
            if len(states) > 1 and len(ready) != 1:
                raise SeveralPhones(sorted(states))
            if not states:
                raise NoPhone
            serial = ready[0] if ready else next(iter(states))
        if states.get(serial) != READY and ":" in serial:
            self._connect(serial, stale=serial in states)
            states = {phone.serial: phone.state for phone in self.attached()}
        if serial not in states:
            raise UnknownPhone(serial, sorted(states))
        if states[serial] != READY:
            raise PhoneNotReady(serial, states[serial])
        return Phone(self, serial)

    def _connect(self, address: str, *, stale: bool) -> None:
        """Tries; whether it worked, the list of phones says (`adb connect` reports success in many words)."""
        with self._reaching():
            try:
                if stale:
                    self._client.disconnect(address)
                self._client.connect(address, timeout=CONNECT_S)
            except adbutils.AdbTimeout:
                return

    def stop(self) -> None:
        """Ends the server."""
        with self._reaching():
            self._client.server_kill()

    def open(self, serial: str, service: str) -> socket.socket:
        """A connection to a service of the phone's daemon.

        Raises:
            NoAdb; PhoneLost: the phone is gone or refuses.
        """
        with self._reaching():
            connection = self._client.make_connection(timeout=CONNECT_S)
        try:
            connection.send_command(f"host:transport:{serial}")
            connection.check_okay()
            connection.send_command(service)
            connection.check_okay()
        except (adbutils.AdbError, EOFError, OSError) as error:
            connection.conn.close()
            raise PhoneLost(serial, "opening a session", str(error) or type(error).__name__) from error
        stream: socket.socket = connection.conn
        return stream

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        address = f"{self.host}:{self.port}"
        try:
            if not self._listens():
                self._start()
            yield
        except (adbutils.AdbError, EOFError, AssertionError, OSError, subprocess.SubprocessError) as error:
            raise NoAdb(address, str(error) or type(error).__name__) from error

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(CONNECT_S)
            return probe.connect_ex((self.host, self.port)) == 0

    def _start(self) -> None:
        """Starts the server on its own port; adbutils would start one on the default port."""
        if self.host not in LOCAL_HOSTS:
            raise ConnectionError("nothing listens there")
        command = [adbutils.adb_path(), "-P", str(self.port), "start-server"]
        started = subprocess.run(command, capture_output=True, text=True, timeout=CONNECT_S, check=False)
        if started.returncode != 0:
            raise ConnectionError((started.stderr.strip().splitlines() or ["adb start-server failed"])[-1])


class Phone:
    """One phone that is ready for commands."""

    def __init__(self, server: AdbServer, serial: str) -> None:
        self.server = server
        self.serial = serial

    def run(
        self,
        argv: Sequence[str],
        *,
        doing: str,
        timeout_s: float,
        stdin: Iterable[bytes] = (),
        on_stdout: Callable[[bytes], object] | None = None,
        check: bool = True,
    ) -> Completed:
        """Runs a command. `stdin` is streamed to it; stdout goes to `on_stdout` as it comes, else into the result.

        Raises:
            PhoneTooSlow: it has not ended after `timeout_s`; PhoneLost: the connection broke;
            PhoneRefused: it failed, where `check`.
        """
        command = shlex.join(argv)
        if len(command.encode()) > COMMAND_LIMIT:
            raise ValueError(f"command of {len(command)} characters: send a script on stdin instead")
        collected = io.BytesIO()
        connection = self.server.open(self.serial, f"shell,v2,raw:{command}")
        try:
            exit_code, stderr = _ShellStream(connection, stdin, on_stdout or collected.write).pump(timeout_s)
        except TimeoutError as error:
            raise PhoneTooSlow(self.serial, doing, timeout_s) from error
        except LinkBroken as error:
            raise PhoneLost(self.serial, doing, str(error)) from error
        finally:
            connection.close()
        done = Completed(exit_code, collected.getvalue(), stderr)
        if check and exit_code != 0:
            raise PhoneRefused(self.serial, doing, done.message)
        return done


class LinkBroken(Exception):
    """The connection to the phone failed; what a callback of the caller's raises is no such failure."""


class _ShellStream:
    """Both directions of one shell_v2 stream: packets of a type byte, a little-endian length and data."""

    def __init__(self, connection: socket.socket, stdin: Iterable[bytes], on_stdout: Callable[[bytes], object]) -> None:
        self._connection, self._on_stdout = connection, on_stdout
        self._pieces = self._packets(stdin)
        self._outgoing = memoryview(b"")
        self._incoming = bytearray()
        self._stderr = bytearray()
        self._exit_code: int | None = None

    @staticmethod
    def _packets(stdin: Iterable[bytes]) -> Iterator[bytes]:
        for data in stdin:
            for start in range(0, len(data), CHUNK):
                piece = data[start : start + CHUNK]
                yield bytes((STDIN, *len(piece).to_bytes(4, "little"))) + piece
        yield bytes((CLOSE_STDIN, 0, 0, 0, 0))

    def pump(self, timeout_s: float) -> tuple[int, bytes]:
        """Carries data both ways until the command ends; returns its exit code and stderr.

        Raises:
            TimeoutError, LinkBroken
        """
        deadline = time.monotonic() + timeout_s
        self._connection.setblocking(False)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
            writing = True
            while self._exit_code is None:
                left = deadline - time.monotonic()
                ready = selector.select(left) if left > 0 else []
                if not ready:
                    raise TimeoutError
                events = ready[0][1]
                if events & selectors.EVENT_READ:
                    self._receive()
                elif events & selectors.EVENT_WRITE and not self._send():
                    writing = False
                if not writing:
                    selector.modify(self._connection, selectors.EVENT_READ)
        return self._exit_code, bytes(self._stderr)

    def _send(self) -> bool:
        """Sends what the connection takes; False when all of stdin has gone."""
        if not self._outgoing:
            self._outgoing = memoryview(next(self._pieces, b""))
            if not self._outgoing:
                return False
        try:
            self._outgoing = self._outgoing[self._connection.send(self._outgoing) :]
        except OSError as error:
            raise LinkBroken(str(error)) from error
        return True

    def _receive(self) -> None:
        try:
            data = self._connection.recv(1 << 20)
        except OSError as error:
            raise LinkBroken(str(error)) from error
        if not data:
            raise LinkBroken("the phone closed the session without an exit code")
        self._incoming += data
        view, at = memoryview(self._incoming), 0
        while len(view) - at >= 5:
            end = at + 5 + int.from_bytes(view[at + 1 : at + 5], "little")
            if end > len(view):
                break
            self._packet(view[at], bytes(view[at + 5 : end]))
            at = end
        view.release()
        del self._incoming[:at]

    def _packet(self, kind: int, data: bytes) -> None:
        if kind == STDOUT:
            self._on_stdout(data)
        elif kind == STDERR:
            self._stderr += data
        elif kind == EXIT:
            self._exit_code = data[0]
