"""Chunks: stretches of the input list that a phone works through one after the other, each an archive of its inputs."""

import gzip
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bundler import layout
from bundler.bundle import Bundle
from bundler.device.blobs import Blob

COMPRESSION = 6


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
        """Raises: ValueError where it is no chunk's name."""
        start, stop = name.split("-")
        chunk = cls(int(start), int(stop))
        if chunk.name != name or not 0 <= chunk.start < chunk.stop:
            raise ValueError(f"{name!r} is no chunk's name")
        return chunk

    def __len__(self) -> int:
        return self.stop - self.start


def chunks_of(windows: int, size: int) -> tuple[Chunk, ...]:
    """All lines in chunks of `size`."""
    return tuple(Chunk(start, min(start + size, windows)) for start in range(0, windows, size))


class Archiver:
    """Makes the archives of a bundle's chunks in a folder: input list and raw inputs as ustar, gzipped where the phone
    can unpack that. The same chunk gives the same bytes."""

    def __init__(self, bundle: Bundle, folder: Path, *, compressed: bool) -> None:
        self._bundle, self._folder, self._compressed = bundle, folder, compressed
        text = (bundle.path / layout.DEVICE / layout.INPUT_LIST).read_text(encoding="utf-8")
        self._outputs_line, *self._lines = text.splitlines(keepends=True)

    def archive(self, chunk: Chunk) -> tuple[str, Blob]:
        """The chunk's archive, and its name in the bundle's folder on the phone.

        Raises:
            OSError
        """
        name = layout.chunk_file(chunk.name, compressed=self._compressed)
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with path.open("wb") as file:
                self._write(chunk, file)
        return name, Blob.of(path)

    def _write(self, chunk: Chunk, file: BinaryIO) -> None:
        packed = gzip.GzipFile("", "wb", COMPRESSION, file, mtime=0) if self._compressed else file
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            lines = [self._outputs_line, *self._lines[chunk.start : chunk.stop]]
            _add(archive, layout.INPUT_LIST, "".join(lines).encode())
            for window in self._bundle.manifest.windows[chunk.start : chunk.stop]:
                for name in window.inputs.values():
                    _add(archive, name, (self._bundle.path / layout.DEVICE / name).read_bytes())
        if self._compressed:
            packed.close()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    archive.addfile(info, io.BytesIO(content))
