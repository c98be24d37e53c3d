"""Implements a shell_v2 stream: a phone command's standard streams and exit code, over a socket.

See SHELL PROTOCOL in AOSP's shell_service.h: packets of a type byte, a little-endian length and data. Independent of
adb servers and serials. adbutils reads such a stream as a whole and does not support standard input for it.
"""

import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from bundler.platforms import send_pieces

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
LARGEST_PACKET = 1 << 20
LARGEST_INCOMING = 16 << 20  # the daemon's packets have a megabyte at most
LARGEST_STDERR = 1 << 20  # bytes that are kept
LARGEST_READ = 1 << 18
WAKE_S = 0.25  # how often a waiting stream checks whether it must give up


class LinkBroken(Exception):
    """The connection to the phone failed. Errors of the caller's callbacks are not wrapped in it."""


class Stalled(Exception):
    """Nothing has moved for as long as the caller allows."""


class ShellStream:
    """Both directions of one stream."""

    def __init__(self, connection: socket.socket, stdin: Iterable[bytes], on_stdout: Callable[[bytes], object]) -> None:
        self._connection, self._on_stdout = connection, on_stdout
        self._pieces = self._packets(stdin)
        self._outgoing: list[memoryview] = []  # the rest of the current packet
        self._incoming = bytearray()
        self._stderr = bytearray()
        self._exit_code: int | None = None

    @staticmethod
    def _packets(stdin: Iterable[bytes]) -> Iterator[list[memoryview]]:
        """Yields head and data, not joined: that would copy every byte once more."""
        for data in stdin:
            for start in range(0, len(data), LARGEST_PACKET):
                piece = memoryview(data)[start : start + LARGEST_PACKET]
                yield [memoryview(bytes((STDIN,)) + len(piece).to_bytes(4, "little")), piece]
        yield [memoryview(bytes((CLOSE_STDIN, 0, 0, 0, 0)))]

    def pump(self, timeout_s: float, stall_s: float, halt: threading.Event) -> tuple[int, bytes]:
        """Transfers data both ways until the command ends; returns its exit code and stderr.

        Raises:
            TimeoutError: after `timeout_s`; Stalled: nothing moved for `stall_s`; InterruptedError: `halt` was set;
            LinkBroken
        """
        deadline, moved = time.monotonic() + timeout_s, time.monotonic()
        self._connection.setblocking(False)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
            writing = True
            while self._exit_code is None:
                ready = selector.select(WAKE_S)
                now = time.monotonic()
                if halt.is_set():
                    raise InterruptedError
                if now > deadline:
                    raise TimeoutError
                if not ready and now > moved + stall_s:
                    raise Stalled
                if not ready:
                    continue
                moved = now
                if ready[0][1] & selectors.EVENT_READ:
                    self._receive()
                elif not self._send():
                    writing = False
                if not writing:
                    selector.modify(self._connection, selectors.EVENT_READ)
        return self._exit_code, bytes(self._stderr)

    def _send(self) -> bool:
        """Sends as much as the connection accepts; returns False after all of stdin was sent."""
        if not self._outgoing:
            self._outgoing = next(self._pieces, [])
            if not self._outgoing:
                return False
        try:
            sent = send_pieces(self._connection, self._outgoing)
        except OSError as error:
            raise LinkBroken(str(error)) from error
        while self._outgoing and sent >= len(self._outgoing[0]):
            sent -= len(self._outgoing.pop(0))
        if sent:
            self._outgoing[0] = self._outgoing[0][sent:]
        return True

    def _receive(self) -> None:
        try:
            data = self._connection.recv(LARGEST_READ)
        except OSError as error:
            raise LinkBroken(str(error)) from error
        if not data:
            raise LinkBroken("the phone closed the session without an exit code")
        self._incoming += data
        view, at = memoryview(self._incoming), 0
        try:
            while len(view) - at >= 5:
                end = at + 5 + int.from_bytes(view[at + 1 : at + 5], "little")
                if end - at > LARGEST_INCOMING:
                    raise LinkBroken("what arrived is not the output of a command")
                if end > len(view):
                    break
                self._packet(view[at], bytes(view[at + 5 : end]))
                at = end
        finally:
            view.release()
        del self._incoming[:at]

    def _packet(self, kind: int, data: bytes) -> None:
        if kind == STDOUT:
            self._on_stdout(data)
        elif kind == STDERR:
            self._stderr += data[: max(0, LARGEST_STDERR - len(self._stderr))]
        elif kind == EXIT:
            self._exit_code = data[0] if data else 255
