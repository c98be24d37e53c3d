"""Runs a command and measures it: its output, its duration, and its memory."""

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

OURS = (sys.executable, "-c", "import sys; from bundler.cli import main; sys.exit(main())")
LOOK_S = 0.02
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Ran:
    """A command's stdout; wall-clock and processor seconds; the peak of the total resident memory of its processes.
    Shared pages count several times."""

    said: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Ran:
    """Runs a command and samples its memory meanwhile.

    Raises:
        RuntimeError: it fails
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        cpu, begun, peak = _cpu_of_children(), time.perf_counter(), 0
        child = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=out, stderr=errors
        )
        while child.poll() is None:
            peak = max(peak, peak_bytes(child.pid), sum(map(_resident_bytes, _family(child.pid))))
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(LOOK_S)
        seconds = time.perf_counter() - begun
        for file in (out, errors):
            file.seek(0)
        if child.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{errors.read().decode(errors='replace')}")
        return Ran(out.read().decode(), seconds, _cpu_of_children() - cpu, peak)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _family(pid: int) -> list[int]:
    """Returns a process and all its descendants."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0  # it has just ended


def peak_bytes(pid: int) -> int:
    """Returns the peak resident memory of a process, from the kernel."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
