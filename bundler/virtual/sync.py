"""The sync: service of adb: stat, list, push and pull, as plain blocking code over two file objects.

Independent of adb's packets and of processes. Every path goes through `Storage`; refusals have the genuine daemon's
messages.
"""

import contextlib
import errno
import os
import signal
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from bundler.virtual.storage import DEVICES, Storage

MAX_DATA = 64 * 1024
MAX_PATH = 1024
PIECE = MAX_DATA - 8
BUFFER = 1024 * 1024

_REQUEST = struct.Struct("<4sI")
_STAT_V1 = struct.Struct("<4sIII")
_STAT_V2 = struct.Struct("<4sIQQIIIIQqqq")
_ENTRY_V1 = struct.Struct("<4sIIII")
_ENTRY_V2 = struct.Struct("<4sIQQIIIIQqqqI")


class _ClientGone(Exception):
    """The client closed the stream before it had sent everything."""


class _Refused(Exception):
    """A request fails with this text and the session ends; with `drain`, first reads the rest of a pushed file."""

    def __init__(self, message: str, *, drain: bool = False) -> None:
        super().__init__(message)
        self.drain = drain

    @classmethod
    def by(cls, what: str, error: OSError, *, drain: bool = False) -> "_Refused":
        return cls(f"{what}: {os.strerror(_errno(error))}", drain=drain)


class SyncService:
    """A sync session: reads requests from `source` until QUIT, the end or a refusal; writes answers to `sink`."""

    def __init__(self, storage: Storage, source: BinaryIO, sink: BinaryIO) -> None:
        self._storage = storage
        self._source = source
        self._sink = sink
        self._commands: dict[bytes, Callable[[str], None]] = {
            b"STAT": self._stat_v1,
            b"STA2": lambda path: self._stat_v2(b"STA2", path, follow=True),
            b"LST2": lambda path: self._stat_v2(b"LST2", path, follow=False),
            b"LIST": self._list_v1,
            b"LIS2": self._list_v2,
            b"SEND": self._send_v1,
            b"SND2": self._send_v2,
            b"RECV": self._receive,
            b"RCV2": self._receive_v2,
        }

    def run(self) -> None:
        """Serves requests until the session ends."""
        with contextlib.suppress(_ClientGone, BrokenPipeError):
            try:
                while self._serve_request():
                    self._sink.flush()
            except _Refused as refusal:
                message = os.fsencode(str(refusal))
                self._sink.write(_REQUEST.pack(b"FAIL", len(message)) + message)
                self._sink.flush()
                if refusal.drain:
                    self._drain()
            self._sink.flush()

    def _serve_request(self) -> bool:
        command, length = self._read_header()
        if command == b"QUIT":
            return False
        if length > MAX_PATH:
            raise _Refused("path too long")
        path = _c_string(self._read(length))
        if command not in self._commands:
            raise _Refused(f"unknown command {int.from_bytes(command, 'little'):08x}")
        self._commands[command](path)
        return True

    def _read(self, size: int) -> bytes:
        data = self._source.read(size)
        if len(data) < size:
            raise _ClientGone
        return data

    def _read_header(self) -> tuple[bytes, int]:
        command, length = _REQUEST.unpack(self._read(_REQUEST.size))
        return command, length

    # stat and list

    def _lstat(self, path: str, *, follow: bool) -> os.stat_result:
        follow = follow or path.endswith(("/", "/."))
        return os.lstat(self._storage.host(path, follow=follow))

    def _stat_v1(self, path: str) -> None:
        try:
            found = self._lstat(path, follow=False)
        except (OSError, ValueError):
            self._sink.write(_STAT_V1.pack(b"STAT", 0, 0, 0))
        else:
            self._sink.write(_STAT_V1.pack(b"STAT", *_fields_v1(found)))

    def _stat_v2(self, command: bytes, path: str, *, follow: bool) -> None:
        try:
            found = self._lstat(path, follow=follow)
        except OSError as error:
            self._sink.write(_STAT_V2.pack(command, _errno(error), *[0] * 10))
        else:
            self._sink.write(_STAT_V2.pack(command, 0, *_fields_v2(found)))

    def _entries(self, path: str) -> list[tuple[bytes, os.stat_result | OSError]]:
        entries: list[tuple[bytes, os.stat_result | OSError]] = []
        try:
            folder = self._storage.resolve(path)
            host = self._storage.host(folder)
            names = [".", "..", *os.listdir(host)]  # noqa: PTH208  (names, not paths)
        except OSError:
            return entries  # like the genuine daemon: a folder that cannot be opened looks empty
        for name in names:
            there = self._storage.host("..", folder) if name == ".." else host / name
            try:
                entries.append((os.fsencode(name), os.lstat(DEVICES.get(f"{folder}/{name}", there))))
            except OSError as error:
                entries.append((os.fsencode(name), error))
        return entries

    def _list_v1(self, path: str) -> None:
        for name, found in self._entries(path):
            if isinstance(found, os.stat_result):
                self._sink.write(_ENTRY_V1.pack(b"DENT", *_fields_v1(found), len(name)) + name)
        self._sink.write(_ENTRY_V1.pack(b"DONE", 0, 0, 0, 0))

    def _list_v2(self, path: str) -> None:
        for name, found in self._entries(path):
            if isinstance(found, os.stat_result):
                self._sink.write(_ENTRY_V2.pack(b"DNT2", 0, *_fields_v2(found), len(name)) + name)
            else:
                self._sink.write(_ENTRY_V2.pack(b"DNT2", _errno(found), *[0] * 10, len(name)) + name)
        self._sink.write(_ENTRY_V2.pack(b"DONE", *[0] * 12))

    # push

    def _send_v1(self, spec: str) -> None:
        path, comma, digits = spec.rpartition(",")
        if not comma:
            raise _Refused("missing , in ID_SEND")
        try:
            mode = int(digits, 8 if digits.startswith("0") else 10) & 0o177777
        except ValueError:
            raise _Refused("bad mode") from None
        self._send(path, mode)

    def _send_v2(self, path: str) -> None:
        _, mode, flags = struct.unpack("<4sII", self._read(12))
        if flags:
            raise _Refused(f"unsupported flags {flags:#x}")
        self._send(path, mode)

    def _send(self, path: str, mode: int) -> None:
        if stat.S_ISLNK(mode):
            mtime = self._send_link(path)
        else:
            mode &= 0o777
            mode |= mode >> 3 & 0o070  # the owner's bits go to the group, and with them to all others
            mode |= mode >> 3 & 0o007
            mtime = self._send_file(path, mode)
        with contextlib.suppress(OSError):
            host = self._storage.host(path, follow=False, write=True)
            if not stat.S_ISCHR(os.lstat(host).st_mode):
                os.utime(host, (mtime, mtime), follow_symlinks=False)
        self._sink.write(_REQUEST.pack(b"OKAY", 0))

    def _send_file(self, path: str, mode: int) -> int:
        """Receives a file; returns its modification time, which follows the data. Removes the file on failure."""
        host, fd = self._create(path, mode)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.fchmod(fd, mode)
            return self._copy_data(fd)
        except (_Refused, _ClientGone):
            self._unlink_file(host)
            raise
        finally:
            os.close(fd)

    def _create(self, path: str, mode: int) -> tuple[Path, int]:
        self._make_parents(path, drain=True)
        try:
            host = self._storage.host(path, follow=False, write=True)
            self._unlink_file(host)
            return host, os.open(host, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        except OSError as error:
            raise _Refused.by("couldn't create file", error, drain=True) from None

    def _make_parents(self, path: str, *, drain: bool = False) -> None:
        folder = ""
        try:
            for part in self._storage.resolve(path.rpartition("/")[0] or "/").split("/")[1:]:
                folder += "/" + part
                if not self._storage.host(folder).exists():
                    self._storage.host(folder, write=True).mkdir(0o775)
        except OSError as error:
            raise _Refused.by("secure_mkdirs failed", error, drain=drain) from None

    @staticmethod
    def _unlink_file(host: Path) -> None:
        """Frees the name for a new file, without affecting running programs or other links of the old one."""
        with contextlib.suppress(OSError):
            mode = os.lstat(host).st_mode
            if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                host.unlink()

    def _copy_data(self, fd: int) -> int:
        while True:
            command, size = self._read_header()
            if command == b"DONE":
                return size
            if command != b"DATA":
                raise _Refused("invalid data message")
            if size > MAX_DATA:
                raise _Refused("oversize data message")
            data = memoryview(self._read(size))
            try:
                while data:
                    data = data[os.write(fd, data) :]
            except OSError as error:
                raise _Refused.by("write failed", error, drain=True) from None

    def _drain(self) -> None:
        """Reads the rest of a refused file, so that a client that only writes reaches the answer."""
        while True:
            command, size = self._read_header()
            if command != b"DATA" or size > MAX_DATA:
                return
            self._read(size)

    def _send_link(self, path: str) -> int:
        command, size = self._read_header()
        if command != b"DATA":
            raise _Refused("invalid data message: expected ID_DATA")
        if size > MAX_DATA:
            raise _Refused("oversize data message")
        target = _c_string(self._read(size))
        self._make_parents(path)
        try:
            host = self._storage.host(path, follow=False, write=True)
            self._unlink_file(host)
            host.symlink_to(target)
        except OSError as error:
            raise _Refused.by("symlink failed", error) from None
        command, mtime = self._read_header()
        if command != b"DONE":
            raise _Refused("invalid data message: expected ID_DONE")
        return mtime

    # pull

    def _receive(self, path: str) -> None:
        try:
            fd = os.open(self._storage.host(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _Refused.by("open failed", error) from None
        try:
            while data := self._read_piece(fd):
                self._sink.write(_REQUEST.pack(b"DATA", len(data)))
                self._sink.write(data)
        finally:
            os.close(fd)
        self._sink.write(_REQUEST.pack(b"DONE", 0))

    @staticmethod
    def _read_piece(fd: int) -> bytes:
        try:
            return os.read(fd, PIECE)
        except OSError as error:
            raise _Refused.by("read failed", error) from None

    def _receive_v2(self, path: str) -> None:
        _, flags = self._read_header()
        if flags:
            raise _Refused(f"unsupported flags {flags:#x}")
        self._receive(path)


def _c_string(data: bytes) -> str:
    return os.fsdecode(data.split(b"\0", 1)[0])


def _errno(error: OSError) -> int:
    return error.errno or errno.EIO


def _fields_v1(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime) & 0xFFFFFFFF


def _fields_v2(found: os.stat_result) -> tuple[int, ...]:
    return (
        found.st_dev & 0xFFFFFFFFFFFFFFFF,
        found.st_ino,
        found.st_mode,
        found.st_nlink & 0xFFFFFFFF,
        found.st_uid & 0xFFFFFFFF,
        found.st_gid & 0xFFFFFFFF,
        found.st_size,
        int(found.st_atime),
        int(found.st_mtime),
        int(found.st_ctime),
    )


def serve_sync(storage: Storage, source: int, sink: int) -> int:
    """Serves one sync session on two file descriptors; returns the process's exit code."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a disconnected client is an error to clean up after
    with (
        contextlib.suppress(BrokenPipeError),
        os.fdopen(source, "rb", buffering=BUFFER, closefd=False) as reader,
        os.fdopen(sink, "wb", buffering=BUFFER, closefd=False) as writer,
    ):
        SyncService(storage, reader, writer).run()
    return 0
