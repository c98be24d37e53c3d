"""Simulates a cable between an adb server and a phone's adb daemon: slow, and with counters of bytes. Loopback only.

It is a separate process, so that neither side waits for it longer than for the cable.
"""

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

PIECE = 16 * 1024
BACKLOG_S = 0.05  # of data that may wait for the narrow place; more is not taken from the sender
START_S, STOP_S = 20.0, 5.0


@dataclass(frozen=True)
class Cable:
    """The properties of the cable: one-way delay, and bytes a second each way (None: unlimited)."""

    delay_s: float = 0.0
    bytes_per_s: float | None = None


SLOW = Cable(0.004, 20e6)
COUNTING = Cable()


@dataclass(frozen=True)
class Laid:
    """A cable in use: the address for adb, and its counters of bytes."""

    serial: str
    _counts: Any

    @property
    def crossed(self) -> tuple[int, int]:
        """Returns the bytes to the phone and from it, including adb's packets."""
        to_phone, from_phone = self._counts
        return to_phone, from_phone


@contextmanager
def laid(cable: Cable, address: str) -> Iterator[Laid]:
    """Provides the cable to a daemon at HOST:PORT, until the block ends."""
    spawn = multiprocessing.get_context("spawn")
    counts = spawn.Array("Q", 2, lock=False)
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_main, args=(cable, address, counts, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(START_S):
            raise TimeoutError("the link does not start")
        yield Laid(f"127.0.0.1:{ours.recv()}", counts)
    finally:
        process.terminate()
        process.join(STOP_S)


def _main(cable: Cable, address: str, counts: Any, told: Connection) -> None:
    asyncio.run(_serve(cable, address, counts, told))


async def _serve(cable: Cable, address: str, counts: Any, told: Connection) -> None:
    host, _, port = address.rpartition(":")
    ways = [_Way(cable, counts, index) for index in range(2)]

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(ways[0].carry(reader, far_writer), ways[1].carry(far_reader, writer))

    server = await asyncio.start_server(join, "127.0.0.1", 0)
    told.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


class _Way:
    """One direction, shared by all connections."""

    def __init__(self, cable: Cable, counts: Any, index: int) -> None:
        self._cable, self._counts, self._index = cable, counts, index
        self._free_at = 0.0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop, narrow = asyncio.get_running_loop(), self._cable.bytes_per_s
        try:
            while data := await reader.read(PIECE):
                self._counts[self._index] += len(data)
                if narrow is None:
                    writer.write(data)
                else:
                    now = loop.time()
                    self._free_at = max(self._free_at, now) + len(data) / narrow
                    loop.call_at(self._free_at + self._cable.delay_s, writer.write, data)
                    await asyncio.sleep(max(0.0, self._free_at - now - BACKLOG_S))
                await writer.drain()
        except OSError:
            pass  # an end is gone: the other one learns it as from a cable that was pulled
        loop.call_at(max(loop.time(), self._free_at) + self._cable.delay_s, writer.close)
