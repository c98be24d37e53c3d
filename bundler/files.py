"""Files: written whole or not at all, and what their checksums are."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundler.errors import HostStorageFailed


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A name beside `path` that becomes `path` when the block ends well.

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
    """Raises: OSError"""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
