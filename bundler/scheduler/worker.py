"""Does one phone's part of a run: pushes, starts, watches, collects, and recovers from a lost connection."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from bundler import layout
from bundler.device.blobs import Blob
from bundler.device.chunks import Chunk
from bundler.device.explain import explain
from bundler.device.job import PhoneJob, Status
from bundler.device.limits import Limit
from bundler.device.numbers import whole
from bundler.device.outputs import Unsound, keep, most_bytes, read_outputs
from bundler.device.phone import Phone
from bundler.device.probe import probe
from bundler.device.store import NO_SPACE, Store
from bundler.device.targets import Target
from bundler.device.timings import chunk_times, keep_diagnostics, keep_times
from bundler.errors import BundlerError, OutputsInvalid, PhoneFull, PhoneRefused, RunFailed
from bundler.scheduler.member import ATTEMPTS, AWAY, TRANSIENT, Member, Shared, Steady

SHORTEST_POLL_S, LONGEST_POLL_S = 0.05, 1.0
SAME_AGAIN = "It would be so again: try --runtime cpu, or build at another precision, and look at it with --check."
KILLED = 137  # the exit code after SIGKILL
OWN_FAILURES = {"unpack": "unpacking the inputs", "pack": "packing the outputs"}  # of job.sh, not of the engine


class Worker(Steady):
    """Does chunks with a phone that this computer's adb reaches."""

    member: Member[Target]

    def __init__(self, member: Member[Target], shared: Shared) -> None:
        super().__init__(member, shared, member.target.server.patience.return_s)
        self._restart = shared.restart
        self._vain = 0  # ends of the job without a chunk done in between
        self._unsound: set[Chunk] = set()

    def claim(self) -> None:
        with suppress(*TRANSIENT, *AWAY):  # `work` meets the error again, and reports it or waits
            status = self._job(self._arrive()).status()
            if status.settings == self._settings:
                self._board.claim(self.name, [*status.done, *([status.current] if status.current else [])])

    def launch(self, chunks: Sequence[Chunk]) -> None:
        """Starts the phone's job on these chunks, and returns at once. Raises: PhoneError"""
        phone = self._arrive()
        self._push(phone, chunks, base=True)
        self._job(phone).start(self._settings, chunks)

    def stop(self) -> None:
        self._job(self.member.target.find(Limit())).stop()

    def _arrive(self) -> Phone:
        return self.member.target.find(self._shared.limit)

    def _job(self, phone: Phone) -> PhoneJob:
        return PhoneJob(phone, self._supply.bundle_id, self._settings.runtime)

    def _look_again(self) -> None:
        target = self.member.target
        target.server.reconnect(target.serial)
        self.member.facts = probe(target.find(self._shared.limit))

    def _attend(self) -> None:
        """Gives the phone chunks, keeps its job running, and collects finished chunks, until all are done."""
        phone = self._arrive()
        job, board = self._job(phone), self._board
        poll_s, pushed, seen, before = SHORTEST_POLL_S, False, "", None
        while True:
            asked = time.monotonic()
            status = job.status(seen)
            seen = status.seen
            ours = status.settings == self._settings
            if ours:
                for chunk in status.done:
                    if chunk in board:
                        self._collect(job, chunk)
            if board.complete:
                at = {chunk for chunk in (*status.queued, status.current) if chunk in board}
                if ours and status.alive and at - {*status.done}:
                    job.stop()  # another phone has done its chunks
                return
            fresh = board.take(self.name, self._shared.depth)
            todo = board.held(self.name)
            if todo and not (ours and status.alive and set(todo) <= set(status.queued)):
                if ours and not status.alive:
                    self._look_at_the_end(job, status)
                self._push(phone, fresh if pushed else todo, base=not pushed)
                pushed = True
                seen = job.start(self._settings, todo)
                self._restart = False
            self._report(status if ours else None)
            changed = (now := (status.seen, status.begun)) != before
            poll_s, before = SHORTEST_POLL_S if changed else min(2 * poll_s, LONGEST_POLL_S), now
            left_s = asked + poll_s - time.monotonic()  # usually negative: the phone has waited
            self._shared.limit.pause(max(0.0, left_s), self._doing)

    @property
    def _doing(self) -> str:
        return f"running on the {self._settings.runtime.upper()}"

    def _report(self, status: Status | None) -> None:
        current = status.current if status and status.alive else None
        done = self._board.report(self.name, current, status.begun if status else 0)
        self._shared.progress(self._doing, done, self._board.questions)

    def _push(self, phone: Phone, chunks: Sequence[Chunk], *, base: bool) -> None:
        """Pushes what the phone lacks: the base files and scripts if `base`, and the chunks' inputs."""
        facts = self.member.facts
        names = self._supply.base(facts, self._settings) if base else {}

        def archives() -> Iterator[Blob]:
            for chunk in chunks:
                name, names[name] = self._supply.chunk(chunk, facts)
                yield names[name]

        store = Store(phone, self._shared.progress, careful=self._careful)
        try:
            store.push(list(names.values()), facts.free_bytes, archives())
            store.link(self._supply.bundle_id, names)
        finally:
            self.member.pushed_bytes += store.pushed_bytes
            self._found_bytes = max(self._found_bytes, store.found_bytes)

    def _look_at_the_end(self, job: PhoneJob, status: Status) -> None:
        """Allows a job that ended to be started again if it was killed, if its phone was restarted, or if it failed
        before this command.

        Raises:
            RunFailed, PhoneFull, PhoneRefused: it failed, or ended several times without having done anything
        """
        self._vain += 1
        if self._vain > ATTEMPTS or (status.state == "failed" and not self._restart):
            raise self._failure(job, status)

    def _failure(self, job: PhoneJob, status: Status) -> BundlerError:
        log = self._shared.folder / layout.log_of(self.name)
        log.write_bytes(job.log())
        text = log.read_text(encoding="utf-8", errors="replace")
        if status.disk_full or NO_SPACE.decode() in text:
            return PhoneFull(self.name, most_bytes(status.current or Chunk(0, 1), self._supply.outputs))
        lines = text.strip().splitlines()
        if status.exit in OWN_FAILURES:
            return PhoneRefused(self.name, OWN_FAILURES[status.exit], lines[-1] if lines else "no message")
        program, code = self._settings.by.program, whole(status.exit)
        exit_status = KILLED if code is None else code
        why = explain(lines, exit_status)
        known = {"line": why.line, "cause": why.cause, "remedy": why.remedy} if why else {}
        return RunFailed(self.name, exit_status, lines, log, program=program, **known)

    def _collect(self, job: PhoneJob, chunk: Chunk) -> None:
        """Collects a finished chunk's outputs in the run's folder, unless they are already there.

        Raises:
            OutputsInvalid: they are damaged after repeated pulls, or unusable after a second run of the chunk
        """
        specs, where = self._supply.outputs, f"phone {self.name}"
        for attempt in range(1, ATTEMPTS):
            if not self._board.wants(chunk):
                break
            try:
                with tempfile.TemporaryFile(dir=self._shared.spool) as archive:
                    announced = job.give(chunk, archive, most_bytes(chunk, specs))
                    archive.seek(0)
                    logits, log = read_outputs(archive, announced, chunk, specs, where, self._settings.by.time_log)
            except OutputsInvalid:
                if attempt + 1 == ATTEMPTS:
                    raise
                continue
            except Unsound as error:
                if chunk in self._unsound:
                    raise OutputsInvalid(f"{where}: {error}, twice", SAME_AGAIN) from error
                self._unsound.add(chunk)
                break
            keep_times(chunk_times(announced, chunk, self.name), self._shared.folder, chunk)
            keep_diagnostics(log, self._shared.folder, chunk)
            keep(logits, self._shared.folder, chunk)
            self._board.finish(chunk)
            self.member.chunks += 1
        self._vain = 0
        job.forget(chunk)
