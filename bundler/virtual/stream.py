"""One stream of an adb connection, with its flow control: at most one packet each way is unacknowledged."""

import asyncio
from collections.abc import Awaitable, Callable

from bundler.virtual.link import Data

MAX_PAYLOAD = 1024 * 1024
MAX_UNREAD = 4 * MAX_PAYLOAD


class ProtocolError(Exception):
    """The received data is not an adb packet, or one that no sane client sends."""


class ClientStream:
    """One stream of a connection, with client data that the session has not read yet."""

    def __init__(self, send: Callable[..., Awaitable[None]], max_payload: int, local: int, remote: int) -> None:
        self.max_payload, self.remote = max_payload, remote
        self._send = send
        self._local = local
        self._inbox: asyncio.Queue[bytearray | None] = asyncio.Queue()
        self._unread = 0
        self._taken = asyncio.Event()
        self._closed = asyncio.Event()
        self._turn = asyncio.Lock()

    async def read(self) -> bytearray | None:
        """Returns the client's next data; None once it has closed the stream and everything was read."""
        payload = await self._inbox.get()
        self._unread -= len(payload or b"")
        return payload

    async def acknowledge(self) -> None:
        """Lets the client write its next packet."""
        if not self._closed.is_set():
            await self._send("OKAY", self._local, self.remote)

    async def write(self, *parts: Data) -> None:
        """Sends one packet and waits until the client has taken it; does nothing on a closed stream."""
        async with self._turn:
            if self._closed.is_set():
                return
            self._taken.clear()
            await self._send("WRTE", self._local, self.remote, *parts)
            await self._taken.wait()

    async def wait_closed(self) -> None:
        """Returns once the client has closed the stream, or its connection has ended."""
        await self._closed.wait()

    def on_data(self, payload: bytearray) -> None:
        """Takes a packet of the client for the session to read."""
        self._unread += len(payload)
        if self._unread > MAX_UNREAD:
            raise ProtocolError("data without waiting for acknowledgement")
        self._inbox.put_nowait(payload)

    def on_taken(self) -> None:
        """Must be called when the client has taken our last packet."""
        self._taken.set()

    def on_closed(self) -> None:
        """Must be called when the client has closed the stream."""
        self._closed.set()
        self._taken.set()
        self._inbox.put_nowait(None)
