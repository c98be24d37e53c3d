"""Fuzzes adb's messages: the virtual daemon's reader and services, and our reader of a daemon's messages."""

import asyncio
import contextlib
import io
import os
import socket
import struct
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any, cast

import adbutils

from bundler.device.phone import AdbServer
from bundler.device.shell_stream import LinkBroken, ShellStream, Stalled
from bundler.device.sync_stream import Refused, send_file
from bundler.virtual.connection import Connection
from bundler.virtual.faults import Faults
from bundler.virtual.keys import TOKEN_BYTES, PublicKey
from bundler.virtual.link import Link
from bundler.virtual.sessions import FrameReader, Service
from bundler.virtual.storage import Storage
from bundler.virtual.stream import ClientStream
from bundler.virtual.sync import SyncService
from tests.fuzz import work

COMMANDS = (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"WRTE", b"CLSE", b"SYNC")
HELLO = struct.pack("<4s5I", b"CNXN", 0x01000001, 1 << 20, 0, 0, int.from_bytes(b"CNXN", "little") ^ 0xFFFFFFFF)
MOST_BYTES = 1 << 20
LARGEST = 64 << 10
STALL_S = 5.0


# The virtual phone's daemon


class _EchoSession:
    """Parses what it receives, and acknowledges it."""

    def __init__(self, stream: ClientStream) -> None:
        self._stream = stream

    async def run(self) -> None:
        frames = FrameReader()
        while (payload := await self._stream.read()) is not None:
            with contextlib.suppress(ValueError):
                for _ in frames.feed(payload):
                    pass
            await self._stream.acknowledge()


class _Daemon:
    """Replaces the daemon, without processes."""

    state = "device"
    open = False

    def __init__(self) -> None:
        self.link = Link(Faults(), lambda: None)
        self.tasks: list[asyncio.Task[None]] = []

    def banner(self) -> bytes:
        return b"device::"

    def trusts(self, token: bytes, signature: bytes) -> bool:
        return signature[:1] == b"y"

    def start(self, service: Service, stream: ClientStream) -> _EchoSession:
        assert service.grace_s >= 0
        return _EchoSession(stream)

    def spawn(self, work: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]


def packets(data: bytes) -> bytes:
    """Converts messages (a byte for the command, two for the arguments, two for the payload's length, and the payload)
    into packets. After a command of 0xff the rest is copied unchanged."""
    made, at = [], 0  # type: ignore[var-annotated]
    while at + 5 <= len(data):
        kind, first, second, size = struct.unpack_from("<BBBH", data, at)
        if kind == 0xFF:
            return b"".join([*made, data[at + 1 :]])
        payload = data[at + 5 : at + 5 + size]
        number = int.from_bytes(COMMANDS[kind % len(COMMANDS)], "little")
        arguments = (0x01000000 + first, 1 << 20) if kind == 0 else (first, second)
        made.append(struct.pack("<6I", number, *arguments, len(payload), sum(payload), number ^ 0xFFFFFFFF) + payload)
        at += 5 + size
    return b"".join(made)


def adbd(data: bytes) -> None:
    """Reads a client's messages to the daemon."""
    asyncio.run(_serve(HELLO + packets(data)[:MOST_BYTES]))


async def _serve(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    daemon = _Daemon()
    serving = asyncio.create_task(Connection(theirs, cast(Any, daemon)).run())
    draining = asyncio.create_task(_drain(ours))
    loop = asyncio.get_running_loop()
    with ours, contextlib.suppress(OSError):
        await loop.sock_sendall(ours, sent)
        ours.shutdown(socket.SHUT_WR)
        await serving
        await draining
    await serving
    await asyncio.gather(*daemon.tasks)


async def _drain(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while await loop.sock_recv(sock, 1 << 16):
            pass


def frames(data: bytes) -> None:
    """Reads the shell protocol's packets, divided by the size in the first byte."""
    reader, cut = FrameReader(), 1 + (data[0] if data else 0)
    size = 0
    with contextlib.suppress(ValueError):
        for start in range(1, len(data), cut):
            for _, content in reader.feed(bytearray(data[start : start + cut])):
                size += len(content)
    assert size <= len(data)
    Service.parse(os.fsdecode(data))


class _Sink(io.BytesIO):
    """A client that disconnects after a number of bytes."""

    def write(self, data: Any, /) -> int:
        if self.tell() > MOST_BYTES:
            raise BrokenPipeError
        return super().write(data)


@cache
def _storage(_: int) -> Storage:
    storage = Storage(work.folder("phone"))
    storage.create()
    return storage


def phone_storage() -> Storage:
    """Returns a virtual phone's storage with a file, a folder and a link."""
    storage = _storage(os.getpid())
    here = storage.root / "data/local/tmp"
    (here / "folder").mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        if not (here / "file").is_file() or (here / "file").read_bytes() != b"content":
            (here / "file").write_bytes(b"content")
        (here / "link").symlink_to("file")
    return storage


def sync_service(data: bytes) -> None:
    """Reads the requests of adb's sync service."""
    SyncService(phone_storage(), io.BytesIO(data), _Sink()).run()


def adb_key(data: bytes) -> None:
    """Reads a public key's file, and after a null byte a signature."""
    text, _, signature = data.partition(b"\0")
    with contextlib.suppress(ValueError):
        PublicKey.parse(text).signed(bytes(TOKEN_BYTES), signature)


# Our own side


class _Tcp(socket.socket):
    """A socket of a pair that ignores TCP's options."""

    def setsockopt(self, *_: Any) -> None:
        pass


def daemon_says(data: bytes) -> socket.socket:
    """Returns our end of a connection whose daemon sent this and disconnected; it still accepts data."""
    ours, theirs = socket.socketpair()
    theirs.sendall(data[:LARGEST])
    theirs.shutdown(socket.SHUT_WR)
    threading.Thread(target=_swallow, args=(theirs,), daemon=True).start()
    return _Tcp(fileno=ours.detach())


def _swallow(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        while connection.recv(1 << 16):
            pass


def shell_stream(data: bytes) -> None:
    """Reads a daemon's packets with a command's output."""
    came, halt = io.BytesIO(), threading.Event()
    with daemon_says(data) as connection, contextlib.suppress(LinkBroken, Stalled):
        exit_code, said = ShellStream(connection, [b"some", b"input"], came.write).pump(STALL_S, STALL_S, halt)
        assert 0 <= exit_code <= 255
        assert len(said) + came.tell() <= len(data)


def sync_stream(data: bytes) -> None:
    """Reads a daemon's answer to a pushed file."""
    with daemon_says(data) as connection, contextlib.suppress(LinkBroken, Stalled, Refused):
        send_file(connection, "/data/local/tmp/x", [b"some", b"bytes"], STALL_S, lambda: None)


class _Adb(adbutils.AdbConnection):  # type: ignore[misc]
    """adbutils' connection to an already running server."""

    def __init__(self, connection: socket.socket) -> None:
        self._AdbConnection__conn = connection

    def close(self) -> None:
        self.conn.close()


class _Server(AdbServer):
    """An adb server that answers each connection with the same bytes."""

    def __init__(self, said: bytes) -> None:
        super().__init__("127.0.0.1", 1)
        self._client.make_connection = lambda timeout=None: _Adb(daemon_says(said))

    def _listens(self) -> bool:
        return True


def adb_server(data: bytes) -> None:
    """Reads an adb server's answers."""
    server = _Server(data)
    for phone in server.attached():
        server.open(phone.serial, "shell,v2,raw:true").close()
    server.find()
