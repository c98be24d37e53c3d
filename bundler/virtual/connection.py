"""One adb connection of a virtual phone: adb's packets, the handshake and streams with their flow control.

The sessions interpret the streams; the daemon holds the state that connections share.
"""

import asyncio
import contextlib
import logging
import os
import socket
import struct
from typing import TYPE_CHECKING

from bundler.virtual.keys import TOKEN_BYTES
from bundler.virtual.link import SLICE, Data, Way
from bundler.virtual.sessions import Service, Session
from bundler.virtual.stream import MAX_PAYLOAD, ClientStream, ProtocolError

if TYPE_CHECKING:
    from bundler.virtual.adbd import Daemon

VERSION = 0x01000001
VERSION_WITHOUT_CHECKSUM = 0x01000001
AUTH_TOKEN, AUTH_SIGNATURE = 1, 2

Packet = tuple[str, int, int, bytearray]
"""A packet's command, its two arguments and its payload."""

_HEADER = struct.Struct("<6I")
_COMMANDS = {
    int.from_bytes(name, "little"): name.decode() for name in (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"WRTE", b"CLSE")
}
_NUMBERS = {name: number for number, name in _COMMANDS.items()}

log = logging.getLogger(__name__)


class Connection:
    """The TCP connection of one adb server (or other client), with its open streams."""

    def __init__(self, sock: socket.socket, daemon: "Daemon") -> None:
        self.max_payload = MAX_PAYLOAD
        self._sock = sock
        self._daemon = daemon
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._version = VERSION
        self._online = False
        self._authorized = False
        self._token = b""
        self._hello: tuple[int, int] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ahead: asyncio.Queue[tuple[float, Packet | Exception]] = asyncio.Queue()
        self._streams: dict[int, ClientStream] = {}
        self._last_id = 0

    async def run(self) -> None:
        """Serves the connection until the client closes it or violates the protocol."""
        try:
            while True:
                await self._handle(*await self._next())
        except ProtocolError as error:
            log.warning("connection closed: %s", error)
        except (OSError, EOFError):
            pass
        finally:
            if self._reading:
                self._reading.cancel()
            self._close_streams()
            self._sock.close()

    async def send(self, command: str, arg0: int, arg1: int, *parts: Data) -> None:
        """Sends a packet; does nothing on a broken connection, which `run` then detects."""
        number = _NUMBERS[command]
        length = sum(len(part) for part in parts)
        check = 0 if self._version >= VERSION_WITHOUT_CHECKSUM else sum(sum(part) for part in parts) & 0xFFFFFFFF
        header = _HEADER.pack(number, arg0, arg1, length, check, number ^ 0xFFFFFFFF)
        if self._daemon.link.outward.slow:  # its sender may be cancelled meanwhile, but the packet must arrive
            self._daemon.spawn(self._send_packet(header, *parts))
        else:
            await self._send_packet(header, *parts)

    async def _send_packet(self, *parts: Data) -> None:
        await self._daemon.link.outward.lag(self._loop.time())
        async with self._sending:
            try:
                await self._send_all(*parts)
            except OSError:
                self.abandon()
            except asyncio.CancelledError:
                self.abandon()  # half a packet may have left
                raise

    async def _send_all(self, *parts: Data) -> None:
        if self._daemon.link.outward.slow:
            await self._send_slowly(b"".join(parts), self._daemon.link.outward)
            return
        try:
            sent = self._sock.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        for part in parts:
            if sent < len(part):
                await self._loop.sock_sendall(self._sock, memoryview(part)[sent:])
            sent = max(0, sent - len(part))

    async def _send_slowly(self, packet: bytes, way: Way) -> None:
        for start in range(0, len(packet), SLICE):
            piece = packet[start : start + SLICE]
            await way.take_time(len(piece))
            await self._loop.sock_sendall(self._sock, piece)

    def abandon(self) -> None:
        """Breaks the connection immediately."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    async def _next(self) -> Packet:
        """Returns the next packet, when the link delivers it."""
        way = self._daemon.link.inward
        if not way.delay_s:
            return await self._receive()
        if self._reading is None:
            self._reading = self._daemon.spawn(self._read_ahead())
        sent_at, packet = await self._ahead.get()
        await way.lag(sent_at)
        if isinstance(packet, Exception):
            raise packet
        return packet

    async def _read_ahead(self) -> None:
        try:
            while True:
                packet = await self._receive()
                self._ahead.put_nowait((self._loop.time(), packet))
        except (ProtocolError, OSError, EOFError) as error:
            self._ahead.put_nowait((self._loop.time(), error))

    async def _receive(self) -> Packet:
        number, arg0, arg1, length, check, magic = _HEADER.unpack(await self._receive_exactly(_HEADER.size))
        if magic != number ^ 0xFFFFFFFF:
            raise ProtocolError(f"bad magic {magic:#010x} for command {number:#010x}")
        if number not in _COMMANDS:
            raise ProtocolError(f"unknown command {number:#010x}")
        if length > MAX_PAYLOAD:
            raise ProtocolError(f"{length} bytes in a packet")
        payload = await self._receive_exactly(length)
        command = _COMMANDS[number]
        version = min(VERSION, arg0) if command == "CNXN" else self._version
        if version < VERSION_WITHOUT_CHECKSUM and check != sum(payload) & 0xFFFFFFFF:
            raise ProtocolError(f"wrong checksum in {command}")
        return command, arg0, arg1, payload

    async def _receive_exactly(self, size: int) -> bytearray:
        data = bytearray(size)
        left = memoryview(data)
        way = self._daemon.link.inward
        while left:
            got = await self._loop.sock_recv_into(self._sock, left[:SLICE] if way.slow else left)
            await way.take_time(got)
            if not got:
                raise EOFError
            left = left[got:]
        return data

    async def _handle(self, command: str, arg0: int, arg1: int, payload: bytearray) -> None:
        if command == "CNXN":
            self._hello = arg0, arg1
            self._online = self._authorized = False
            self._token = b""
            self._close_streams()
            await self.greet()
        elif self._daemon.state == "offline":
            return
        elif command == "AUTH":
            if arg0 == AUTH_SIGNATURE and not self._online:
                # a client with several keys continues with the next one until the phone's owner allows it
                self._authorized = self._authorized or self._daemon.trusts(self._token, bytes(payload))
                await self.greet()  # a client whose key is not trusted tries its next one, then offers one
        elif not self._online or not arg0:
            return
        elif command == "OPEN":
            if not arg1:
                await self._open(arg0, os.fsdecode(bytes(payload).rstrip(b"\0")))
        else:
            await self._pass_to_stream(command, arg0, arg1, payload)

    async def greet_again(self) -> None:
        """Greets a client when the phone becomes usable. Does not ask for its keys again if none is trusted."""
        if self._authorized or self._daemon.open or not self._token:
            await self.greet()

    async def greet(self) -> None:
        """Answers a client's introduction according to the phone's state, and again after a change of state."""
        if self._hello is None or self._online or self._daemon.state == "offline":
            return
        if self._daemon.state == "unauthorized" or not (self._authorized or self._daemon.open):
            self._version = min(self._hello[0], VERSION)
            self._token = os.urandom(TOKEN_BYTES)
            await self.send("AUTH", AUTH_TOKEN, 0, self._token)
            return
        version, max_payload = self._hello
        self.max_payload = max(64, min(max_payload, MAX_PAYLOAD))
        self._version = min(version, VERSION)
        self._online = True
        await self.send("CNXN", VERSION, MAX_PAYLOAD, self._daemon.banner())

    async def _open(self, remote: int, name: str) -> None:
        service = Service.parse(name)
        if service is None:
            await self.send("CLSE", 0, remote)
            return
        self._last_id += 1
        stream = ClientStream(self.send, self.max_payload, self._last_id, remote)
        try:
            session = self._daemon.start(service, stream)
        except OSError as error:
            log.warning("cannot start %s: %s", service.kind, error)
            await self.send("CLSE", 0, remote)
            return
        self._streams[self._last_id] = stream
        await self.send("OKAY", self._last_id, remote)
        self._daemon.spawn(self._serve(session, self._last_id, stream))

    async def _serve(self, session: Session, local: int, stream: ClientStream) -> None:
        try:
            await session.run()
        finally:
            if self._streams.pop(local, None):
                stream.on_closed()
                await self.send("CLSE", local, stream.remote)

    async def _pass_to_stream(self, command: str, remote: int, local: int, payload: bytearray) -> None:
        stream = self._streams.get(local)
        if stream is None or stream.remote != remote:
            if command == "OKAY":
                await self.send("CLSE", local, remote)
        elif command == "WRTE":
            stream.on_data(payload)
        elif command == "OKAY":
            stream.on_taken()
        else:
            del self._streams[local]
            stream.on_closed()
            await self.send("CLSE", local, remote)

    def _close_streams(self) -> None:
        for stream in self._streams.values():
            stream.on_closed()
        self._streams.clear()
