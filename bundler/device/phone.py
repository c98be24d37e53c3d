"""Talks to phones over adb: commands with exit codes, streams and deadlines. The only module that uses adbutils.

Commands go through adbutils' transport as shell_v2 streams (shell_stream.py). Foreign errors become our own here.
"""

import io
import os
import re
import select
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from bundler.device.limits import Halted, Limit, Patience
from bundler.device.shell_stream import LinkBroken, ShellStream, Stalled
from bundler.device.sync_stream import Refused, send_file
from bundler.errors import (
    NoAdb,
    NoPhone,
    PhoneLost,
    PhoneNotReady,
    PhoneRefused,
    PhoneTooSlow,
    SeveralPhones,
    UnknownPhone,
    UsageError,
)

PORT_VARIABLE = "ANDROID_ADB_SERVER_PORT"


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536


class _Later(ModuleType):
    """A module that is imported at the first use of an attribute."""

    def __getattr__(self, name: str) -> object:
        return getattr(import_module(self.__name__), name)


@contextmanager
def _importing_adbutils() -> Iterator[None]:
    """Imports adbutils without two of its side effects: it reads a port from the environment and fails on an invalid
    one, which AdbServer.at refuses; and it imports requests, which takes as long as everything else."""
    port = os.environ.get(PORT_VARIABLE)
    if port is not None and not _is_port(port):
        del os.environ[PORT_VARIABLE]
    later = sys.modules.setdefault("requests", _Later("requests"))
    try:
        yield
    finally:
        if isinstance(later, _Later):
            del sys.modules["requests"]
        if port is not None:
            os.environ[PORT_VARIABLE] = port


with _importing_adbutils():
    import adbutils

READY = "device"
COMING = ("offline", "connecting", "authorizing")  # states of a connection that is being made
COMING_S, LOOK_S = 1.0, 0.05
SILENCE_S = 1.0  # a server that is silent for this long is tested for HTTP
CONNECT_FAILED = re.compile(r"(?:failed to connect|cannot connect|unable to connect)[^:]*(?::\d+)?'?: (.+)")
DEFAULT_PORT = 5037
LOCAL_HOSTS = ("127.0.0.1", "localhost")
HOST_VARIABLES = ("ANDROID_ADB_SERVER_ADDRESS", "ANDROID_ADB_SERVER_HOST")  # adb's name, adbutils' name
FOREIGN = (adbutils.AdbError, EOFError, AssertionError, ValueError, OSError)  # what adbutils raises
LARGEST_OUTPUT = 64 << 20  # bytes of a command's output that are collected
COMMAND_LIMIT = 60_000  # adb gives a command's length in four hex digits


@dataclass(frozen=True)
class Attached:
    """A phone that the adb server knows, in any state."""

    serial: str
    state: str


@dataclass(frozen=True)
class Completed:
    """The result of a command on the phone."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def message(self) -> str:
        """Returns the last line of stderr, or of stdout."""
        lines = (self.stderr or self.stdout).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.exit_code}"


def adb_program() -> str:
    """Returns the path of the adb program.

    Raises:
        FileNotFoundError: there is none.
    """
    try:
        return str(adbutils.adb_path())
    except adbutils.AdbError as error:
        raise FileNotFoundError(str(error)) from error


def without_twins(phones: Sequence[Attached]) -> list[Attached]:
    """Removes duplicates: adb may list a local phone on port 5555 as emulator-5554 too, if it found that by itself."""
    addresses = {phone.serial for phone in phones}

    def is_twin(serial: str) -> bool:
        port = serial.removeprefix("emulator-")
        return port.isdigit() and port != serial and f"127.0.0.1:{int(port) + 1}" in addresses

    return [phone for phone in phones if not is_twin(phone.serial)]


class AdbServer:
    """The adb server at host:port; started if nothing answers, as adb itself does."""

    def __init__(self, host: str, port: int, patience: Patience | None = None) -> None:
        self.host, self.port = host, port
        self.patience = patience or Patience()
        self._client = adbutils.AdbClient(self.host, self.port, socket_timeout=self.patience.answer_s)

    @classmethod
    def at(cls, host: str | None = None, port: int | None = None) -> "AdbServer":
        """Returns the server that adb itself would use: the given one, the environment's, or the default one.

        Raises:
            UsageError: a variable has no valid port.
        """
        socket_spec = os.environ.get("ADB_SERVER_SOCKET", "").removeprefix("tcp:")
        given_host, _, given_port = socket_spec.rpartition(":")
        host = host or given_host or next((os.environ[name] for name in HOST_VARIABLES if os.environ.get(name)), "")
        text = given_port or os.environ.get(PORT_VARIABLE) or str(DEFAULT_PORT)
        if port is None and not _is_port(text):
            raise UsageError(f"{PORT_VARIABLE} or ADB_SERVER_SOCKET: {text!r} is not a port", "Give a port number.")
        return cls(host or LOCAL_HOSTS[0], port or int(text))

    def attached(self) -> list[Attached]:
        """Lists the phones that the server knows, with adb's words for their states (adbutils splits them at spaces).

        Raises:
            NoAdb
        """
        with self._reaching(), self._client.make_connection(timeout=self.patience.answer_s) as connection:
            connection.send_command("host:devices")
            self._check_that_it_is_adb(connection.conn)
            connection.check_okay()
            rows = (line.partition("\t") for line in connection.read_string_block().splitlines())
            return without_twins([Attached(serial, state) for serial, tab, state in rows if tab])

    def find(self, serial: str | None = None, limit: Limit | None = None) -> "Phone":
        """Returns the phone with this serial, or the only one. Connects to an unknown network address.

        `limit` applies to everything that is done with the phone.

        Raises:
            NoAdb, NoPhone, SeveralPhones, UnknownPhone, PhoneNotReady
        """
        states, said = self._states(), ""
        if serial is None:
            ready = [known for known, state in states.items() if state == READY]
            if len(states) > 1 and len(ready) != 1:
                raise SeveralPhones(sorted(states))
            if not states:
                raise NoPhone
            serial = ready[0] if ready else next(iter(states))
        if states.get(serial) in COMING and ":" in serial:
            states = self._states_when_come(serial)
        if states.get(serial) != READY and ":" in serial:
            said = self._connect(serial, stale=serial in states)
            states = self._states_when_come(serial)
        if serial not in states:
            raise UnknownPhone(serial, sorted(states), reason=said)
        if states[serial] != READY:
            raise PhoneNotReady(serial, states[serial])
        return Phone(self, serial, limit or Limit())

    def _states(self) -> dict[str, str]:
        return {phone.serial: phone.state for phone in self.attached()}

    def _states_when_come(self, serial: str) -> dict[str, str]:
        """Returns the states after another client's pending connection to the phone is made, or after a while."""
        deadline = time.monotonic() + COMING_S
        while (states := self._states()).get(serial) in COMING and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        return states

    def _connect(self, address: str, *, stale: bool) -> str:
        """Connects to the address; returns adb's reason for a failure, if it gives one.

        The list of phones tells whether it worked: `adb connect` reports success in many words.
        """
        with self._reaching():
            try:
                if stale:
                    self._client.disconnect(address)
                said = self._client.connect(address, timeout=self.patience.answer_s)
            except adbutils.AdbTimeout:
                return f"no answer within {self.patience.answer_s:g} s"
        failed = CONNECT_FAILED.search(said)
        return failed[1].strip() if failed else ""

    def reconnect(self, serial: str) -> None:
        """Connects again if the serial is a network address: adb may not have noticed that the phone was away."""
        if ":" in serial:
            self._connect(serial, stale=True)

    def open(self, serial: str, service: str) -> socket.socket:
        """Opens a connection to a service of the phone's daemon.

        Raises:
            NoAdb; PhoneLost: the phone is gone or refuses.
        """
        with self._reaching():
            connection = self._client.make_connection(timeout=self.patience.answer_s)
        try:
            connection.send_command(f"host:transport:{serial}")
            connection.check_okay()
            connection.send_command(service)
            connection.check_okay()
        except FOREIGN as error:
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
        except (*FOREIGN, subprocess.SubprocessError) as error:
            raise NoAdb(address, str(error) or type(error).__name__) from error

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(self.patience.answer_s)
            try:
                return probe.connect_ex((self.host, self.port)) == 0
            except (UnicodeError, TypeError) as error:  # Python's errors for impossible names of computers
                raise ConnectionError(f"{self.host!r} is not a computer's name") from error

    def _check_that_it_is_adb(self, asked: socket.socket) -> None:
        """Asks a server that does not answer in HTTP. A busy adb server does not answer that either.

        Raises:
            ConnectionError: it is an HTTP server.
        """
        if select.select([asked], [], [], SILENCE_S)[0]:
            return
        with socket.create_connection((self.host, self.port), timeout=SILENCE_S) as probe:
            probe.settimeout(SILENCE_S)
            probe.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with suppress(TimeoutError):
                if probe.recv(5) == b"HTTP/":
                    raise ConnectionError("an HTTP server listens there, not adb")

    def _start(self) -> None:
        """Starts the server on its own port; adbutils would start one on the default port."""
        if self.host not in LOCAL_HOSTS:
            raise ConnectionError("nothing listens there")
        command = [adbutils.adb_path(), "-P", str(self.port), "start-server"]
        started = subprocess.run(command, capture_output=True, text=True, timeout=self.patience.answer_s, check=False)
        if started.returncode != 0:
            raise ConnectionError((started.stderr.strip().splitlines() or ["adb start-server failed"])[-1])


class Phone:
    """One phone that is ready for commands, all of them within one limit."""

    def __init__(self, server: AdbServer, serial: str, limit: Limit) -> None:
        self.server = server
        self.serial = serial
        self.limit = limit

    def run(
        self,
        argv: Sequence[str],
        *,
        doing: str,
        timeout_s: float | None = None,
        stall_s: float = float("inf"),
        stdin: Iterable[bytes] = (),
        on_stdout: Callable[[bytes], object] | None = None,
        check: bool = True,
    ) -> Completed:
        """Runs a command. `stdin` is streamed to it; stdout goes to `on_stdout` as it arrives, or else into the result.
        The default of `timeout_s` is the server's patience for a command.

        Raises:
            PhoneTooSlow: it has not ended after `timeout_s`; PhoneLost: the connection broke, or nothing has moved for
            `stall_s`; PhoneRefused: it failed, if `check`; TimeUp, Halted: the phone's limit.
        """
        command = shlex.join(argv)
        if len(command.encode()) > COMMAND_LIMIT:
            raise ValueError(f"command of {len(command)} characters: send a script on stdin instead")
        if "\0" in command:
            raise ValueError("a null byte in a command: what follows it would be lost")
        self.limit.check(doing)
        timeout_s = timeout_s or self.server.patience.command_s
        collected = io.BytesIO()

        def collect(data: bytes) -> None:
            collected.write(data)
            if collected.tell() > LARGEST_OUTPUT:
                raise PhoneRefused(self.serial, doing, f"its output is larger than {LARGEST_OUTPUT >> 20} MB")

        connection = self.server.open(self.serial, f"shell,v2,raw:{command}")
        stream = ShellStream(connection, stdin, on_stdout or collect)
        try:
            exit_code, stderr = stream.pump(min(timeout_s, self.limit.left_s), stall_s, self.limit.halt)
        except TimeoutError as error:
            self.limit.check(doing)
            raise PhoneTooSlow(self.serial, doing, timeout_s) from error
        except Stalled as error:
            raise PhoneLost(self.serial, doing, f"no data for {stall_s:g} s") from error
        except InterruptedError as error:
            raise Halted from error
        except LinkBroken as error:
            raise PhoneLost(self.serial, doing, str(error)) from error
        finally:
            connection.close()
        done = Completed(exit_code, collected.getvalue(), stderr)
        if check and exit_code != 0:
            raise PhoneRefused(self.serial, doing, done.message)
        return done

    def send(self, path: str, pieces: Iterable[bytes], *, doing: str, stall_s: float) -> None:
        """Writes a file, atomically.

        Raises:
            PhoneLost: the connection broke, or nothing has moved for `stall_s`; PhoneRefused: with the phone's words;
            TimeUp, Halted: the phone's limit.
        """
        connection = self.server.open(self.serial, "sync:")
        try:
            send_file(connection, path, pieces, stall_s, lambda: self.limit.check(doing))
        except Stalled as error:
            raise PhoneLost(self.serial, doing, f"no data for {stall_s:g} s") from error
        except LinkBroken as error:
            raise PhoneLost(self.serial, doing, str(error)) from error
        except Refused as error:
            raise PhoneRefused(self.serial, doing, str(error)) from error
        finally:
            connection.close()
