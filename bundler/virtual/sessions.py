"""Runs the phone's services (shell, exec, sync) in forked children, and bridges each to a stream of the daemon.

Independent of adb's packets: a `ClientStream` delivers the client's data and takes the child's. Reads data from either
side only when the other side has room, so that nothing accumulates in between.
"""

import asyncio
import contextlib
import os
import signal
import struct
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from fcntl import ioctl
from typing import NoReturn

from bundler.virtual.children import Child, Reaper, fork_child
from bundler.virtual.link import Link, LinkCut
from bundler.virtual.machine import Machine
from bundler.virtual.shell import confine, run
from bundler.virtual.stream import ClientStream
from bundler.virtual.sync import serve_sync

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN, WINDOW_SIZE = range(6)
MAX_FRAME = 4 * 1024 * 1024
_FRAME = struct.Struct("<BI")


@dataclass(frozen=True)
class Service:
    """A client's request: `shell,v2,TERM=xterm,raw:COMMAND`, `exec:COMMAND` or `sync:`."""

    kind: str
    command: str
    framed: bool = False
    terminal: bool = False
    term: str = "dumb"

    @classmethod
    def parse(cls, name: str) -> "Service | None":
        """Parses the service of that name; returns None for one that this phone lacks."""
        head, colon, command = name.partition(":")
        kind, *options = head.split(",")
        if not colon or kind not in ("shell", "exec", "sync") or (options and kind != "shell"):
            return None
        terminal = kind == "shell" and not command
        term = "dumb"
        for option in options:
            if option in ("raw", "pty"):
                terminal = option == "pty"
            elif option.startswith("TERM="):
                term = option.removeprefix("TERM=")
        return cls(kind, command, framed="v2" in options, terminal=terminal, term=term)

    @property
    def grace_s(self) -> float:
        """Returns how long a process may continue with received data after its client has left."""
        return {"shell": 0.0, "exec": 2.0, "sync": 10.0}[self.kind]


def start(service: Service, machine: Machine, reaper: Reaper, *, mute: bool) -> Child:
    """Forks the service's process; a `mute` one does nothing and never ends.

    Raises:
        OSError: no process or file descriptor is available.
    """
    if service.kind == "sync":
        return fork_child(lambda: _sync(machine), reaper, errors="keep")
    if mute:
        return fork_child(_sleep, reaper, errors="keep")
    environment = {
        "HOSTNAME": machine.properties.get("ro.product.device", "localhost"),
        "LOGNAME": "shell",
        "SHELL": "/bin/sh",
        "TERM": service.term,
        "USER": "shell",
    }
    return fork_child(
        lambda: run(service.command or None, machine, environment),
        reaper,
        errors="separate" if service.framed else "merge",
        terminal=service.terminal,
    )


def _sync(machine: Machine) -> int:
    confine(machine)
    return serve_sync(machine.storage, 0, 1)


def _sleep() -> int:
    while True:
        signal.pause()


class FrameReader:
    """Parses the shell protocol's packets, however they were split on the way."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytearray) -> Iterator[tuple[int, bytes]]:
        """Yields the complete packets, in order.

        Raises:
            ValueError: one is longer than any that a client sends
        """
        self._data += data
        start = 0
        while len(self._data) - start >= _FRAME.size:
            kind, size = _FRAME.unpack_from(self._data, start)
            if size > MAX_FRAME:
                raise ValueError(f"a packet of {size} bytes in the shell protocol")
            end = start + _FRAME.size + size
            if len(self._data) < end:
                break
            yield kind, bytes(self._data[start + _FRAME.size : end])
            start = end
        del self._data[:start]


class Session:
    """Carries data between a client's stream and a child until the child has ended or the client has gone."""

    def __init__(self, service: Service, stream: ClientStream, child: Child, link: Link) -> None:
        self._service = service
        self._stream = stream
        self._child = child
        self._link = link
        self._frames = FrameReader()
        self._was_sent = False

    async def run(self) -> None:
        """Runs until the child ends, and sends its exit code; or until the client leaves, and hangs up the child."""
        carry = asyncio.create_task(self._carry_output())
        feed = asyncio.create_task(self._feed_input())
        gone = asyncio.create_task(self._stream.wait_closed())
        try:
            await asyncio.wait({carry, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not carry.done():
                await _cancel(carry)
                self._child.close_output()
                if self._was_sent and self._service.grace_s:
                    await asyncio.wait({self._child.exited}, timeout=self._service.grace_s)
        except asyncio.CancelledError:
            self._child.hang_up()
            raise
        finally:
            if not self._child.exited.done():
                self._child.hang_up()
            await _cancel(carry, feed, gone)
            self._child.close()

    async def _carry_output(self) -> None:
        async with asyncio.TaskGroup() as pumps:  # if one ends because of a broken link, all end
            pumps.create_task(self._pump(self._child.stdout, STDOUT))
            if self._child.stderr >= 0:
                pumps.create_task(self._pump(self._child.stderr, STDERR))
        code = await self._child.exited
        if self._service.framed:
            await self._stream.write(_FRAME.pack(EXIT, 1), bytes([code]))

    async def _pump(self, fd: int, kind: int) -> None:
        room = memoryview(bytearray(self._stream.max_payload - _FRAME.size))
        while True:
            try:
                size = os.readv(fd, [room])
            except BlockingIOError:
                await _ready(fd)
                continue
            except OSError:  # a terminal whose processes have all ended answers EIO
                return
            if not size:
                return
            data, broken = self._link.outward.carry(room[:size])
            if self._service.framed:
                await self._stream.write(_FRAME.pack(kind, len(data)), data)
            else:
                await self._stream.write(data)
            if broken:
                self._break_link()

    def _break_link(self) -> NoReturn:
        self._link.cut()
        raise LinkCut

    async def _feed_input(self) -> None:
        while (payload := await self._stream.read()) is not None:
            self._was_sent = True
            if not self._service.framed:
                await self._write_stdin(payload)
            else:
                try:
                    for kind, data in self._frames.feed(payload):
                        await self._take_frame(kind, data)
                except ValueError:
                    self._break_link()
            await self._stream.acknowledge()
        self._child.close_stdin()

    async def _take_frame(self, kind: int, data: bytes) -> None:
        if kind == STDIN:
            await self._write_stdin(data)
        elif kind == CLOSE_STDIN and not self._child.terminal:
            self._child.close_stdin()
        elif kind == WINDOW_SIZE and self._child.terminal:
            with contextlib.suppress(ValueError, struct.error, OSError):
                size = [int(number) for number in data.rstrip(b"\0").replace(b",", b"x").split(b"x")]
                ioctl(self._child.stdout, termios.TIOCSWINSZ, struct.pack("4H", *size))

    async def _write_stdin(self, data: bytes | bytearray) -> None:
        """Writes all data to the child; discards it if the child has closed its standard input."""
        arrived, broken = self._link.inward.carry(data)
        left = memoryview(arrived)
        while left and self._child.stdin >= 0:
            try:
                left = left[os.write(self._child.stdin, left) :]
            except BlockingIOError:
                await _ready(self._child.stdin, write=True)
            except OSError:
                self._child.close_stdin()
        if broken:
            self._break_link()


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _ready(fd: int, *, write: bool = False) -> None:
    loop = asyncio.get_running_loop()
    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    ready = asyncio.Event()
    add(fd, ready.set)
    try:
        await ready.wait()
    finally:
        remove(fd)
