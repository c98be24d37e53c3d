"""Records when a chunk's inferences ended, by the phone's clock; keeps a file for each chunk in the run's folder.

An inference's outputs are written when it ends, so the times of these files show how long each took.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

from bundler import layout
from bundler.bundle.parsing import typed
from bundler.device.chunks import Chunk
from bundler.device.job import Announced
from bundler.device.numbers import whole
from bundler.errors import OutputsInvalid
from bundler.files import writing

NANOSECONDS = 10**15  # clock values above this are nanoseconds, below it seconds
COARSE = 20_000_000  # nanoseconds that the time of a file may lag behind the clock
RESULT = re.compile(r"Result_(\d{1,9})/")
LARGEST_LOG = 16 << 20  # bytes of an engine's log of times


@dataclass(frozen=True)
class ChunkTimes:
    """The times of one chunk on one phone. `seconds`: from before the program's start to after its end; `results_s`:
    when each inference's last output was written, after `begin` if `from_begin`, else after the first one's. It is
    empty if `find` reports no times of files, or impossible ones. `peak_kb`: the largest observed memory use, if the
    phone reports it."""

    phone: str
    runtime: str
    windows: int
    seconds: float
    results_s: tuple[float, ...]
    from_begin: bool
    peak_kb: int | None = None


def chunk_times(announced: Announced, chunk: Chunk, phone: str) -> ChunkTimes:
    """Returns a chunk's times from the phone's announcement."""
    ends = _ends(announced.times, len(chunk))
    begin = whole(announced.begin)
    exact = begin is not None and begin > NANOSECONDS
    zero = begin if begin is not None and exact else min(ends, default=0)
    if exact and not all(zero - COARSE <= end <= (whole(announced.end) or 0) + COARSE for end in ends):
        ends = []  # the clock was set meanwhile, or the files were written before
    results = tuple(round(max(0, end - zero) / 1e9, 6) for end in ends)
    seconds = seconds_between(announced.begin, announced.end)
    return ChunkTimes(phone, announced.runtime, len(chunk), round(seconds, 6), results, exact, announced.peak_kb)


def keep_times(times: ChunkTimes, run_folder: Path, chunk: Chunk) -> None:
    """Raises: HostStorageFailed"""
    with writing(run_folder / layout.TIMES / f"{chunk.name}.json") as draft:
        draft.write_text(json.dumps(asdict(times), allow_nan=False) + "\n", encoding="utf-8", newline="\n")


def kept_times(run_folder: Path) -> list[ChunkTimes]:
    """Returns the times of all chunks that have any, in the order of the input list.

    Raises:
        OutputsInvalid: `keep_times` did not write such a file
    """
    found = []
    for path in sorted((run_folder / layout.TIMES).glob("[0-9]*.json")):
        try:
            times = typed(ChunkTimes, json.loads(path.read_text(encoding="utf-8")), "the record")
            if times.windows != len(Chunk.named(path.stem)) or not all(map(isfinite, times.results_s)):
                raise ValueError("it is of another chunk, or a time is not a number")
            found.append(times)
        except (OSError, ValueError, RecursionError) as error:
            raise OutputsInvalid(f"{path}: cannot be read: {error}") from error
    return found


def keep_diagnostics(log: bytes, run_folder: Path, chunk: Chunk) -> None:
    """Keeps the engine's log of times, which a program of the SDK reads; an empty log is not kept.

    Raises:
        HostStorageFailed
    """
    if log:
        with writing(run_folder / layout.DIAGNOSTICS / f"{chunk.name}.log") as draft:
            draft.write_bytes(log)


def kept_diagnostics(run_folder: Path) -> list[Path]:
    return sorted((run_folder / layout.DIAGNOSTICS).glob("[0-9]*.log"))


def seconds_between(begin: str, end: str) -> float:
    """Returns the time between two readings of the phone's clock, each in nanoseconds or seconds."""
    first, last = whole(begin), whole(end)
    if first is None or last is None:
        return 0.0
    unit = 1e9 if first > NANOSECONDS else 1.0
    return max(0.0, (last - first) / unit)


def _ends(times: Mapping[str, int], windows: int) -> list[int]:
    """Returns the time of each inference's last output, in order; empty if one is missing."""
    ends: dict[int, int] = {}
    for path, time in times.items():
        if (found := RESULT.match(path)) and int(found[1]) < windows:
            ends[int(found[1])] = max(time, ends.get(int(found[1]), 0))
    return [ends[number] for number in sorted(ends)] if len(ends) == windows else []
