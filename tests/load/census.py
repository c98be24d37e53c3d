"""Counts processes, sockets, descriptors, threads, temporary files, and files on a phone. Linux only."""

import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

MARK = "MBQA_LOAD_MARK"
SETTLE_S, LOOK_S = 15.0, 0.1


@dataclass(frozen=True)
class Census:
    """Counts. `processes` are descendants of this one; `sockets` are all that they and this process have; `descriptors`
    and `threads` are this process's; `phone_descriptors` its virtual phone's daemon's."""

    processes: int
    adb_servers: int
    sockets: int
    descriptors: int
    threads: int
    phone_descriptors: int
    adb_descriptors: int
    temporary_files: int
    phone_files: int
    phone_blobs: int
    phone_log_lines: int

    def grown(self, since: "Census") -> dict[str, tuple[int, int]]:
        """Returns the counts that increased, before and after."""
        before, now = asdict(since), asdict(self)
        return {name: (before[name], now[name]) for name in now if now[name] > before[name]}


@contextmanager
def marked(folder: Path) -> Iterator[str]:
    """Sets a mark in the environment, which identifies all processes started inside the block, and a folder for their
    temporary files and ours. Provides the mark."""
    mark, before = secrets.token_hex(8), (os.environ.get(MARK), os.environ.get("TMPDIR"), tempfile.tempdir)
    folder.mkdir(parents=True)
    os.environ |= {MARK: mark, "TMPDIR": str(folder)}
    tempfile.tempdir = str(folder)
    try:
        yield mark
    finally:
        for name, value in zip((MARK, "TMPDIR"), before[:2], strict=True):
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        tempfile.tempdir = before[2]


def take(mark: str, temporary: Path, phone_pid: int, phone_state: Path) -> Census:
    """Returns the census of the processes with this mark."""
    marked_ones = processes_of(mark)
    adb = [pid for pid in marked_ones if _command_line(pid)[:1] == ["adb"]]
    files = phone_files(phone_state)
    return Census(
        processes=len(marked_ones),
        adb_servers=len(adb),
        sockets=sum(_sockets(pid) for pid in [os.getpid(), *marked_ones]),
        descriptors=len(_descriptors(os.getpid())),
        threads=threading.active_count(),
        phone_descriptors=len(_descriptors(phone_pid)),
        adb_descriptors=sum(len(_descriptors(pid)) for pid in adb),
        temporary_files=sum(1 for _ in temporary.rglob("*")),
        phone_files=len(files),
        phone_blobs=sum("/mbqa/store/" in path for path in files),
        phone_log_lines=len((phone_state / "log.txt").read_bytes().splitlines()),
    )


def phone_files(state: Path) -> set[str]:
    """Lists the files and folders on the phone."""
    root = state / "storage"
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


def settled(look: Callable[[], Census], since: Census | None = None) -> Census:
    """Returns the census after pending processes have ended: when it is at most `since`, or when time is up; without
    `since` when it no longer changes."""
    deadline, last = time.monotonic() + SETTLE_S, look()
    while time.monotonic() < deadline:
        time.sleep(LOOK_S if since else 1.0)
        last, before = look(), last
        if (since is not None and not last.grown(since)) or (since is None and last == before):
            break
    return last


def processes_of(mark: str) -> list[int]:
    """Returns the living processes with the mark in their environment, except this one."""
    told = f"{MARK}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if told in environment and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return sorted(found)


def _command_line(pid: int) -> list[str]:
    """Returns its arguments; the first without its folder."""
    try:
        first, *others = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
    return [Path(first).name, *others]


def _descriptors(pid: int) -> list[str]:
    """Returns the target of each file descriptor."""
    found = []
    try:
        for path in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found.append(os.readlink(path))  # noqa: PTH115  (sockets are no paths)
            except OSError:
                continue
    except OSError:
        return found
    return found


def _sockets(pid: int) -> int:
    return sum(target.startswith("socket:") for target in _descriptors(pid))
