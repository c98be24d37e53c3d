"""The processes of a virtual phone: all descendants of its daemon, which adopts orphans."""

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

HOST = Path("/proc")
KILL_ROUNDS = 100
_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose own parent ends, however it detached itself."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(of: int) -> list[int]:
    """Returns the ids of the living descendants of a process."""
    children: dict[int, list[int]] = {}
    for pid, parent, _ in _running():
        children.setdefault(parent, []).append(pid)
    found = list(children.get(of, ()))
    for pid in found:  # grows during the iteration
        found += children.get(pid, ())
    return found


def end_descendants() -> None:
    """Kills all descendants of this process, including those started meanwhile."""
    for _ in range(KILL_ROUNDS):
        found = descendants(os.getpid())
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return


def kill_session() -> None:
    """Kills this process and its whole session."""
    session = os.getsid(0)
    for pid, _, its_session in _running():
        if its_session == session and pid != os.getpid():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _running() -> Iterator[tuple[int, int, int]]:
    """Yields the id, the parent's id and the session of each process that has not ended."""
    for folder in HOST.glob("[0-9]*"):
        with suppress(OSError):
            state, parent, _, session, *_ = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if state not in "ZX":
                yield int(folder.name), int(parent), int(session)
