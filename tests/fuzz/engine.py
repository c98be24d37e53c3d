"""Fuzzes one target in this process; called by __main__.py:

    python -m tests.fuzz.engine TARGET SECONDS FOLDER [--plain] [--seed N]

FOLDER/corpus gets inputs that reach new code, FOLDER/findings failing ones, FOLDER/executions their number.
"""

import argparse
import faulthandler
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType

HANG_S = 15
MEMORY_BYTES = 2 << 30


class Hang(BaseException):
    """The target does not end."""


@contextmanager
def watched(seconds: float) -> Iterator[None]:
    """Raises Hang in the block, which runs in the main thread, after this time."""

    def end(_: int, __: FrameType | None) -> None:
        raise Hang(f"no end after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fuzz_guided(name: str, seconds: int, folder: Path, seed: int) -> None:
    """Fuzzes guided by coverage, with atheris; ends the process."""
    import atheris

    _make(folder)
    with atheris.instrument_imports(include=["bundler"]):
        from tests.fuzz.targets import CORPUS, TARGETS, check

    random, mutate = Random(0), TARGETS[name].mutate

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        random.seed(seed)
        if random.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        return mutate(data, random)[:most]

    count = 0

    def one(data: bytes) -> None:
        nonlocal count
        count += 1
        if count % 64 == 0:
            _note(folder, count)
        try:
            with watched(HANG_S):
                check(name, data)
        except BaseException:
            _note(folder, count)
            raise

    options = [
        f"-max_total_time={seconds}", f"-timeout={20 * HANG_S}", f"-rss_limit_mb={MEMORY_BYTES >> 20}",
        "-max_len=65536", f"-artifact_prefix={folder / 'findings'}/", "-print_final_stats=1", f"-seed={seed}",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(folder / "corpus"), str(CORPUS / name)], one, custom_mutator=mutated)
    atheris.Fuzz()


def fuzz_plain(name: str, seconds: int, folder: Path, seed: int) -> None:
    """Fuzzes by mutations of the existing inputs, without coverage; ends at the first finding.

    Raises:
        Exception: the finding
    """
    from tests.fuzz.targets import TARGETS, check, corpus

    _make(folder)
    random, count, deadline = Random(seed), 0, time.monotonic() + seconds
    pool = [path.read_bytes() for path in corpus(name)]
    current = folder / "findings" / "current"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # a peak, maybe of earlier tests in this process
    most = max(MEMORY_BYTES, before)
    while time.monotonic() < deadline:
        data = random.choice(pool)
        data = pool[count] if count < len(pool) else TARGETS[name].mutate(data, random)
        current.write_bytes(data)
        count += 1
        if count % 16 == 1:
            _note(folder, count)
        faulthandler.dump_traceback_later(2 * HANG_S, exit=True)  # where a native function does not end
        try:
            with watched(HANG_S):
                check(name, data)
        finally:
            faulthandler.cancel_dump_traceback_later()
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        assert used <= most, f"{used >> 20} MiB of memory"
    _note(folder, count)
    current.unlink()


def _make(folder: Path) -> None:
    for part in ("corpus", "findings"):
        (folder / part).mkdir(parents=True, exist_ok=True)


def _note(folder: Path, count: int) -> None:
    (folder / "executions").write_text(str(count), encoding="ascii")


def main() -> None:
    """Runs the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("seconds", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    asked = parser.parse_args()
    (fuzz_plain if asked.plain else fuzz_guided)(asked.target, asked.seconds, asked.folder, asked.seed)


if __name__ == "__main__":
    main()
