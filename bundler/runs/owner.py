"""Locks a run's folder on this machine, so that only one command at a time writes into it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from bundler.device.limits import Limit
from bundler.errors import HostStorageFailed, RunInUse
from bundler.types import Progress, silent

LOOK_S = 0.2


@contextmanager
def owning(folder: Path, command: str, limit: Limit | None = None, progress: Progress = silent) -> Iterator[None]:
    """Locks the run's folder for `command` until the block ends; the system unlocks it if the process dies.

    limit: how long to wait for another owner; None does not wait.

    Raises:
        RunInUse: another process has it; TimeUp: it had it for too long; HostStorageFailed
    """
    lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"))
    told = folder.with_name(f".{folder.name}.owner")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        while not _taken(lock):
            owner = _text(told)
            if limit is None:
                raise RunInUse(folder, owner)
            progress(f"waiting for {owner}", 0, None)
            limit.pause(LOOK_S, f"waiting for {owner}")
        told.write_text(f"`mbqa-bundle {command}` (process {os.getpid()})", encoding="utf-8", newline="\n")
    except OSError as error:
        lock.release()
        raise HostStorageFailed(error.filename or folder, error.strerror or str(error)) from error
    try:
        yield
    finally:
        lock.release()


def _taken(lock: filelock.BaseFileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    return True


def _text(told: Path) -> str:
    try:
        return told.read_text(encoding="utf-8") or "another process"
    except OSError:  # it holds the lock, but has not written its name yet
        return "another process"
