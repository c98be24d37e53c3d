"""Runs the phones of a run together, each in a thread, until every chunk's outputs are in the run's folder."""

import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bundler.bundle import Bundle
from bundler.device.chunks import chunks_of
from bundler.device.limits import Limit
from bundler.device.outputs import kept_chunks
from bundler.device.timings import kept_times
from bundler.errors import HostStorageFailed, Interrupted, TimeUp
from bundler.runs.record import Run
from bundler.scheduler.member import Member, Shared, Steady
from bundler.scheduler.queue import Board, ends_of
from bundler.scheduler.supply import supply_of
from bundler.scheduler.worker import Worker
from bundler.types import Progress

AHEAD = 2  # chunks that each of several phones holds: it has work while the next chunk is pushed
JOIN_S = 0.2
LAST_WORD_S = 30.0

WhenInterrupted = Literal["leave", "stop"]


@dataclass(frozen=True)
class Work:
    """A run with its phones, and the worker class for each. `restart`: whether a job that failed before is tried again;
    `look` is called regularly while the phones work; so is `more`, with the names of the working phones: it returns
    phones that have joined since."""

    bundle: Bundle
    run: Run
    members: Sequence[Member[Any]]
    limit: Limit
    progress: Progress
    restart: bool = True
    when_interrupted: WhenInterrupted = "leave"
    look: Callable[[], None] = lambda: None
    worker: Callable[[Member[Any], Shared], Steady] = Worker
    more: Callable[[Collection[str]], Sequence[Member[Any]]] = lambda _: ()


def carry_on(work: Work) -> Run:
    """Does the remaining chunks; returns the finished run, whose record is saved.

    Raises:
        PhoneError, RunFailed, OutputsInvalid: all phones failed; it is the last phone's error; TimeUp,
        Interrupted; HostStorageFailed
    """
    begun = time.monotonic()
    members = {member.target.name: member for member in work.members}
    threads: dict[threading.Thread, Steady] = {}
    with _shared(work) as shared:
        board = shared.board

        def start(come: Iterable[Member[Any]]) -> None:
            workers = [work.worker(member, shared) for member in come]
            claimed = threading.Barrier(max(1, len(workers)))
            for worker in workers:
                thread = threading.Thread(target=_work, args=(worker, board, claimed), daemon=True)
                threads[thread] = worker
                thread.start()

        try:
            start(members.values())
            while alive := {worker.name: thread for thread, worker in threads.items() if thread.is_alive()}:
                next(iter(alive.values())).join(JOIN_S)
                work.look()
                for member in work.more(alive):
                    before = members.get(member.target.name)  # it was lost, and is back
                    member.pushed_bytes += before.pushed_bytes if before else 0
                    members[member.target.name] = member
                    start([member])
        except KeyboardInterrupt:
            _halt(work, threads)
            if work.when_interrupted == "stop":
                for worker in threads.values():
                    worker.stop()
            raise Interrupted(work.run.phones, stopped=work.when_interrupted == "stop") from None
        except SystemExit:  # a signal: threads must not write after the removal of temporary files
            _halt(work, threads)
            raise
    if not board.complete:
        troubles = [member.trouble for member in members.values() if member.trouble]
        raise next((trouble for trouble in troubles if isinstance(trouble, TimeUp)), troubles[-1])
    times = kept_times(work.run.folder(work.bundle.path))
    parts = [member.part(times) for member in members.values()]
    done = work.run.ended(parts, work.run.seconds + time.monotonic() - begun)
    done.save(work.bundle.path)
    return done


def launch(work: Work) -> None:
    """Distributes the chunks to the phones and starts their jobs, without waiting for the end.

    Raises:
        PhoneError, HostStorageFailed
    """
    with _shared(work) as shared:
        left = shared.board.free
        for number, member in enumerate(work.members):
            Worker(member, shared).launch(left[number :: len(work.members)])


@contextmanager
def _shared(work: Work) -> Iterator[Shared]:
    folder, windows = work.run.folder(work.bundle.path), work.bundle.manifest.windows
    board = Board(chunks_of(len(windows), work.run.settings.chunk), kept_chunks(folder), ends_of(windows))
    try:
        with tempfile.TemporaryDirectory(prefix=".spool-", dir=folder) as spool:
            yield Shared(
                supply_of(work.bundle, Path(spool)),
                work.run.settings,
                folder,
                board,
                work.limit,
                work.progress,
                Path(spool),
                depth=AHEAD if len(work.members) > 1 else None,
                restart=work.restart,
            )
    except OSError as error:
        raise HostStorageFailed(error.filename or folder, error.strerror or str(error)) from error


def _work(worker: Steady, board: Board, claimed: threading.Barrier) -> None:
    """Runs a phone's thread. Keeps any error, also of a bug of ours, and gives the phone's chunks back.

    No phone takes a chunk until every phone has claimed the chunks that it computed while the run was unattended.
    """
    try:
        if claimed.parties > 1:
            try:
                worker.claim()
            finally:
                claimed.wait()
        worker.work()
    except Exception as error:
        worker.member.trouble = error
    finally:
        board.put_back(worker.name)


def _halt(work: Work, threads: Iterable[threading.Thread]) -> None:
    """Ends all waiting, and waits for the threads to end."""
    work.limit.halt.set()
    for thread in threads:
        thread.join(LAST_WORD_S)
