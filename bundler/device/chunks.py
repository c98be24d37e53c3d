"""Divides the input list into chunks, which a phone does one by one, and makes an archive of each chunk's inputs."""

import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler import layout
from bundler.bundle import Bundle
from bundler.device import tarball
from bundler.device.blobs import Blob
from bundler.errors import BundleInvalid
from bundler.platforms import BINARY

COMPRESSION = 3  # a quarter more bytes than at 6, in half the time
GZIP = 16 + zlib.MAX_WBITS
PIECE = 1 << 20
CHUNK_NAME = re.compile(r"\d{7,12}-\d{7,12}", re.ASCII)


@dataclass(frozen=True, order=True)
class Chunk:
    """Lines [start, stop) of the input list, counted from 0."""

    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"{self.start:07d}-{self.stop:07d}"

    @classmethod
    def named(cls, name: str) -> "Chunk":
        """Parses a chunk's name. Raises: ValueError"""
        if CHUNK_NAME.fullmatch(name):
            chunk = cls(*map(int, name.split("-")))
            if chunk.name == name and chunk.start < chunk.stop:
                return chunk
        raise ValueError(f"{name!r} is not a chunk's name")

    def __len__(self) -> int:
        return self.stop - self.start


def chunks_of(windows: int, size: int) -> tuple[Chunk, ...]:
    """Divides all lines into chunks of `size`."""
    return tuple(Chunk(start, min(start + size, windows)) for start in range(0, windows, size))


class Archiver:
    """Makes the archives of a bundle's chunks in a folder: input list and raw inputs as ustar. The same chunk always
    gives the same bytes."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self._bundle, self._folder = bundle, folder
        path = bundle.path / layout.DEVICE / layout.INPUT_LIST
        self._outputs_line, *self._lines = path.read_bytes().splitlines(keepends=True) or [b""]
        if len(self._lines) != len(bundle.manifest.windows):
            what = f"lists {len(self._lines)} inferences, and the bundle has {len(bundle.manifest.windows)} windows"
            raise BundleInvalid(path, what)
        self._checked = bundle.checked_inputs()

    def archive(self, chunk: Chunk, *, compressed: bool) -> tuple[str, Blob]:
        """Makes the chunk's archive, gzipped if `compressed`; returns its name in the phone's bundle folder, and it.

        Raises:
            BundleInvalid; OSError
        """
        name = layout.chunk_file(chunk.name, compressed=compressed)
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            parts = self._entries(chunk)
            path.write_bytes(b"".join(_gzipped(parts) if compressed else parts))
        return name, Blob.of(path)

    def _entries(self, chunk: Chunk) -> Iterator[bytes]:
        """Yields the uncompressed parts of the archive."""
        lines = [self._outputs_line, *self._lines[chunk.start : chunk.stop]]
        yield from _entry(layout.INPUT_LIST, b"".join(lines))
        folder = os.fspath(self._bundle.path / layout.DEVICE)
        windows = self._bundle.manifest.windows[chunk.start : chunk.stop]
        for number, (line, window) in enumerate(zip(lines[1:], windows, strict=True), chunk.start):
            files = {entry.rpartition(b":=")[2].decode(errors="replace") for entry in line.split()}
            if not files <= set(window.inputs.values()):
                what = f"has in line {number + 2} other files than its window"
                raise BundleInvalid(self._bundle.path / layout.DEVICE / layout.INPUT_LIST, what)
        for name in dict.fromkeys(name for window in windows for name in window.inputs.values()):  # some share files
            if name not in self._checked:
                raise BundleInvalid(self._bundle.path / layout.HOST / layout.SUMS, f"has no checksum of {name}")
            yield from _entry(name, _read(f"{folder}/{name}"))
        yield tarball.END


def _entry(name: str, content: bytes) -> tuple[bytes, bytes, bytes]:
    return tarball.header(name, len(content)), content, tarball.padding(len(content))


def _read(path: str) -> bytes:
    """Reads a small file. With ten thousand files, opening them the usual way takes most of the time."""
    descriptor = os.open(path, os.O_RDONLY | BINARY)
    try:
        return os.read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _gzipped(parts: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(COMPRESSION, wbits=GZIP)  # writes no time
    for piece in _joined(parts):
        yield packer.compress(piece)
    yield packer.flush()


def _joined(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the same bytes in pieces of about PIECE."""
    waiting, size = [], 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)
