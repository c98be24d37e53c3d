"""Writes files atomically and computes their checksums."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundler.errors import HostStorageFailed


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Provides a temporary name beside `path`, and renames that file to `path` at the end of the block.

    Raises:
        HostStorageFailed
    """
    draft = path.with_name(f".{path.name}.draft-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.replace(path)
    except OSError as error:
        raise HostStorageFailed(path, error.strerror or str(error)) from error
    finally:
        draft.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 in hexadecimal. Raises: OSError"""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
