"""/proc of the virtual phone: which processes are its own, what they run, and the kernel's few files that scripts read.

A process of the host is the phone's if its working folder is the phone's storage (each session is started there and
nothing on the phone can change it) and it was forked from this program. Processes write down what they run below
/proc of the storage; what is there is brought up to date whenever somebody looks, so that a killed process is gone.
"""

import contextlib
import os
import shutil
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HOST = Path("/proc")
BOOT_ID = "sys/kernel/random/boot_id"
KILL_ROUNDS = 100
SHELL = ("/system/bin/sh",)


@dataclass(frozen=True)
class Running:
    """A process of the phone."""

    pid: int
    parent: int
    group: int
    session: int
    state: str
    memory_kb: int


def running(root: Path) -> Iterator[Running]:
    """The processes of the phone whose storage is at `root`, ended ones left out."""
    for folder in sorted(HOST.glob("[0-9]*"), key=lambda f: int(f.name)):
        if belongs(int(folder.name), root) and (process := _process(int(folder.name))):
            yield process


def _process(pid: int) -> Running | None:
    try:
        fields = (HOST / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    state, parent, group, session, *_ = fields
    memory_kb = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") // 1024
    return Running(pid, int(parent), int(group), int(session), state, memory_kb) if state != "Z" else None


def belongs(pid: int, root: Path) -> bool:
    """Whether the process is one of the phone's whose storage is at `root`: forked from this program, and living there.

    The place alone would not do: a person's own shell may stand in that folder.
    """
    try:
        if (HOST / str(pid) / "cwd").readlink() != root:
            return False
        return (HOST / str(pid) / "cmdline").read_bytes() == (HOST / "self/cmdline").read_bytes()
    except OSError:
        return False


def end_all(root: Path) -> None:
    """Kills all processes of the phone, also those that are born meanwhile."""
    for _ in range(KILL_ROUNDS):
        found = list(running(root))
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        if not found:
            return


def boot(root: Path) -> None:
    """A /proc without processes, with a new boot id."""
    shutil.rmtree(root / "proc", ignore_errors=True)
    place = root / "proc" / BOOT_ID
    place.parent.mkdir(parents=True)
    place.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
    (root / "proc/uptime").touch()


def note(root: Path, argv: Sequence[str]) -> None:
    """Writes down what this process runs from now on."""
    _write(root, os.getpid(), argv)


def forget(root: Path) -> None:
    """Removes what this process wrote down, at its end."""
    shutil.rmtree(root / "proc" / str(os.getpid()), ignore_errors=True)


def sweep(root: Path) -> None:
    """Removes what processes wrote down that were killed, which nobody may ever look at."""
    for folder in (root / "proc").glob("[0-9]*"):
        if not _lives(root, int(folder.name)):
            shutil.rmtree(folder, ignore_errors=True)


def command_line(root: Path, pid: int) -> tuple[str, ...]:
    """What a process of the phone runs: as it wrote down, or as its parent did, whose copy it then is."""
    for _ in range(8):
        with contextlib.suppress(OSError):
            text = (root / "proc" / str(pid) / "cmdline").read_bytes()
            return tuple(os.fsdecode(word) for word in text.split(b"\0")[:-1])
        process = _process(pid)
        if process is None or not belongs(process.parent, root):
            break
        pid = process.parent
    return SHELL


def up_to_date(root: Path, path: str) -> str:
    """The path in the phone's /proc where what `path` (canonical, below /proc) asks for is, now."""
    first, *rest = path.split("/")[2:] or [""]
    if first == "self":
        first = str(os.getpid())
    if first.isascii() and first.isdigit() and len(first) < 10:
        _look_at(root, int(first))
    elif first == "uptime":
        with contextlib.suppress(OSError):
            up = time.time() - (root / "proc" / BOOT_ID).stat().st_mtime
            (root / "proc/uptime").write_text(f"{up:.2f} {up:.2f}\n", encoding="ascii")
    elif not first and (root / "proc").is_dir():
        pids = {process.pid for process in running(root)}
        for folder in (root / "proc").glob("[0-9]*"):
            pids.add(int(folder.name))
        for pid in pids:
            _look_at(root, pid)
    return "/".join(["/proc", *([first] if first else []), *rest])


def _lives(root: Path, pid: int) -> bool:
    """Whether it is a process of the phone that has not ended."""
    return belongs(pid, root) and _process(pid) is not None


def _look_at(root: Path, pid: int) -> None:
    place = root / "proc" / str(pid)
    if not _lives(root, pid):
        shutil.rmtree(place, ignore_errors=True)
    elif not place.exists():
        _write(root, pid, command_line(root, pid))


def _write(root: Path, pid: int, argv: Sequence[str]) -> None:
    place = root / "proc" / str(pid)
    with contextlib.suppress(OSError):
        place.mkdir(exist_ok=True)
        (place / "cmdline").write_bytes(b"".join(os.fsencode(word) + b"\0" for word in argv))
        (place / "comm").write_bytes(os.fsencode(argv[0].rpartition("/")[2][:15]) + b"\n")
