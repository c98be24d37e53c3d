"""Sends a file by adb's sync service, as `adb push` does: faster than a shell's standard input, but not resumable,
since the daemon deletes an incomplete file. See SYNC.TXT of AOSP's adb.

adbutils' own push sends small pieces that may be truncated, does not read the daemon's answer, and has no deadline.
"""

import socket
import struct
import time
from collections.abc import Callable, Iterable

from bundler.device.shell_stream import LinkBroken, Stalled

REGULAR_644 = 0o100644
LARGEST_PACKET = 64 << 10
JOINED = 16  # packets sent at once


class Refused(Exception):
    """The daemon refused the file; contains its message."""


def send_file(
    connection: socket.socket, path: str, pieces: Iterable[bytes], stall_s: float, check: Callable[[], None]
) -> None:
    """Writes a file on the phone; `check` is called between pieces and may raise.

    Raises:
        Refused: with the daemon's message; Stalled: nothing moved for `stall_s`; LinkBroken
    """
    connection.settimeout(stall_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        connection.sendall(_packet(b"SEND", f"{path},{REGULAR_644}".encode()))
        for piece in pieces:
            check()
            view = memoryview(piece)
            for start in range(0, len(view), LARGEST_PACKET * JOINED):
                joined = view[start : start + LARGEST_PACKET * JOINED]
                cuts = range(0, len(joined), LARGEST_PACKET)
                connection.sendall(b"".join(_packet(b"DATA", joined[cut : cut + LARGEST_PACKET]) for cut in cuts))
        connection.sendall(b"DONE" + struct.pack("<I", int(time.time())))
        answer, size = struct.unpack("<4sI", _exactly(connection, 8))
        if answer != b"OKAY":
            raise Refused(_exactly(connection, min(size, 4096)).decode(errors="replace"))
    except TimeoutError as error:
        raise Stalled from error
    except OSError as error:
        raise LinkBroken(str(error)) from error


def _packet(kind: bytes, content: bytes | memoryview) -> bytes:
    return b"".join((kind, struct.pack("<I", len(content)), content))


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise LinkBroken("the phone closed the session without an answer")
        data += more
    return data
