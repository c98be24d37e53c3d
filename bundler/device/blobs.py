"""Defines blobs: local files named by their SHA-256, to be pushed to a phone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.device import tarball
from bundler.files import sha256_of

PIECE = 1 << 18


@dataclass(frozen=True)
class Blob:
    """A local file as the phone will know it; `mode` is the argument of `chmod` there."""

    path: Path
    sha256: str
    size: int
    mode: str = "644"

    @classmethod
    def of(cls, path: Path, mode: str = "644") -> "Blob":
        return cls(path, sha256_of(path), path.stat().st_size, mode)

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """Yields its bytes from `start` on.

        Raises:
            OSError
        """
        with self.path.open("rb") as file:
            file.seek(start)
            while piece := file.read(PIECE):
                yield piece


def tar_of(blobs: Iterable[Blob]) -> Iterator[bytes]:
    """Yields the blobs as a tar archive (ustar) in pieces, each blob named by its checksum."""
    for blob in blobs:
        yield tarball.header(blob.sha256, blob.size)
        yield from blob.pieces()
        yield tarball.padding(blob.size)
    yield tarball.END
