"""Writes a bundle's folder atomically: under another name until it is complete."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundler import layout
from bundler.errors import HostStorageFailed, UsageError


@contextmanager
def drafting(out: Path) -> Iterator[Path]:
    """Provides a folder beside `out`, which replaces `out` at the end of the block, or is removed after an error.

    An existing bundle is replaced, and its runs are kept. If that fails or is interrupted, the old bundle is restored.
    If the old bundle cannot be removed, it stays beside the new one as `.NAME.old-PID`.

    Raises:
        UsageError: `out` exists and is not a bundle; HostStorageFailed
    """
    if out.exists() and not (out / layout.MANIFEST).exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: already exists and is not a bundle", "Choose another folder with --out.")
    draft = out.parent / f".{out.name}.draft-{os.getpid()}"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        yield draft
        _replace(out, draft)
    except OSError as error:
        raise HostStorageFailed(error.filename or out, error.strerror or str(error)) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _replace(out: Path, draft: Path) -> None:
    """Renames the draft to `out`, moves the runs of the old bundle into it, and removes the old bundle."""
    old = out.parent / f".{out.name}.old-{os.getpid()}"
    try:
        if out.exists():
            out.rename(old)
        draft.rename(out)
        if (old / layout.RUNS).exists():
            (old / layout.RUNS).rename(out / layout.RUNS)
    except BaseException:
        if old.exists():
            if (out / layout.RUNS).exists():
                (out / layout.RUNS).rename(old / layout.RUNS)
            if out.exists():
                out.rename(draft)
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
