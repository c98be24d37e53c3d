"""One phone's part of a run: pushes, starts, watches, collects, and comes back after a lost connection."""

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bundler import layout
from bundler.bundle import Bundle
from bundler.device.blobs import Blob
from bundler.device.chunks import Archiver, Chunk
from bundler.device.explain import explain
from bundler.device.htp_settings import htp_settings
from bundler.device.job import PhoneJob, Settings, Status
from bundler.device.known_limits import KnownLimit, Use, limits_of
from bundler.device.limits import Limit
from bundler.device.numbers import whole
from bundler.device.outputs import Unsound, keep, most_bytes, read_outputs
from bundler.device.phone import Phone
from bundler.device.probe import PhoneFacts, probe
from bundler.device.store import NO_SPACE, Store
from bundler.device.targets import Target
from bundler.device.timings import ChunkTimes, chunk_times, keep_diagnostics, keep_times
from bundler.engines import ENGINES
from bundler.errors import (
    BundleInvalid,
    BundlerError,
    NoAdb,
    OutputsInvalid,
    PhoneFull,
    PhoneLost,
    PhoneNotReady,
    PhoneRefused,
    PhoneTooSlow,
    RunFailed,
    TransferDamaged,
    UnknownPhone,
)
from bundler.resources import DEVICE_SCRIPTS
from bundler.runs.record import Part
from bundler.scheduler.compatibility import check_fitness, choose_engine, choose_runtime, files_for
from bundler.scheduler.queue import Board
from bundler.types import Progress

ATTEMPTS = 4  # without any progress in between
TRANSIENT = (PhoneLost, PhoneTooSlow, TransferDamaged, NoAdb)
AWAY = (UnknownPhone, PhoneNotReady, PhoneLost, PhoneTooSlow, NoAdb)
SHORTEST_POLL_S, LONGEST_POLL_S = 0.05, 1.0
EXECUTABLE = "bin/"
PLAIN_NAME = re.compile(r"(?!\.\.?(/|$))[A-Za-z0-9._+][A-Za-z0-9._+-]*(/(?!\.\.?(/|$))[A-Za-z0-9._+][A-Za-z0-9._+-]*)*")
SAME_AGAIN = "It would be so again: try --runtime cpu, or build at another precision, and look at it with --check."
KILLED = 137  # the exit code of what SIGKILL ended
OWN_FAILURES = {"unpack": "unpacking the inputs", "pack": "packing the outputs"}  # of job.sh, not of the engine


@dataclass
class Member:
    """A phone of the run, with the settings that hold for it (its runtime may be the fallback, its engine is one), and
    how far it is."""

    target: Target
    facts: PhoneFacts
    settings: Settings
    chunks: int = 0
    pushed_bytes: int = 0
    trouble: Exception | None = None

    @classmethod
    def of(cls, target: Target, bundle: Bundle, settings: Settings, limit: Limit) -> "Member":
        """A phone that can do the run, with the engine and the runtime that it can do it by.

        Raises:
            EngineMissing, PhoneError: it cannot; nothing has been pushed.
        """
        phone = target.find(limit)
        facts = probe(phone)
        name = choose_engine(phone.serial, facts, bundle, settings.engine)
        runtime = choose_runtime(
            phone.serial, facts, bundle, settings.runtime, settings.fallback or None, ENGINES[name]
        )
        check_fitness(phone, facts, bundle, runtime, ENGINES[name])
        return cls(target, facts, replace(settings, runtime=runtime, engine=name))

    def known_limits(self, bundle: Bundle) -> list[KnownLimit]:
        """What is known not to work of this run on this phone."""
        soc, engine = self.facts.soc, self.settings.by
        prepared = soc is not None and soc.name in map(layout.prepared_for, bundle.device_files)
        use = Use(self.settings.runtime, engine.name, bundle.manifest.model.precision, prepared, bundle.manifest.sdk)
        return limits_of(self.facts, use)

    def part(self, times: Sequence[ChunkTimes]) -> Part:
        """What the run's record says of it; `times` are of all the run's chunks, also of those that it did for an
        earlier command."""
        own = [chunk for chunk in times if chunk.phone == self.target.name]
        windows: Counter[str] = Counter()
        for chunk in own:
            windows[chunk.runtime] += chunk.windows
        trouble = "" if self.trouble is None else str(self.trouble)
        seconds = round(sum(chunk.seconds for chunk in own), 3)
        return Part(
            self.target.name, self.facts.soc_model, self.facts.model, dict(windows), len(own), seconds,
            self.pushed_bytes, trouble,
        )  # fmt: skip


@dataclass(frozen=True)
class Shared:
    """What all phones of a run share. `depth`: chunks that a phone takes ahead (None: all); `restart`: whether a job
    that failed before is to be tried again; `base`: the bundle that has the files besides the inputs (None: the same
    one)."""

    bundle: Bundle
    folder: Path
    board: Board
    limit: Limit
    progress: Progress
    spool: Path
    depth: int | None = None
    restart: bool = True
    base: Bundle | None = None


class Worker:
    """Does chunks on one phone, in a thread of its own."""

    def __init__(self, member: Member, shared: Shared) -> None:
        self.member, self._shared, self._board = member, shared, shared.board
        self.name = member.target.name
        compressed = bool(member.facts.gzip)
        self._archiver = Archiver(shared.bundle, shared.spool, compressed=compressed)
        self._restart = shared.restart
        self._vain = 0  # ends of the job without a chunk done in between
        self._unsound: set[Chunk] = set()
        self._careful = False  # a connection was lost
        self._found_bytes = 0  # what the phone had when something was last pushed

    def work(self) -> None:
        """Does chunks until the board is complete.

        Raises:
            PhoneError: the phone stays away, or refuses; RunFailed, OutputsInvalid; Halted, TimeUp
        """
        attempts, far = 0, (0, 0)
        while True:
            try:
                self._attend(self._arrive())
                return
            except TRANSIENT as error:
                came = (self.member.chunks, self._found_bytes)
                attempts, far = (attempts + 1, far) if came <= far else (1, came)
                if attempts >= ATTEMPTS or self._board.complete:
                    raise
                self._board.put_back(self.name)
                self._careful = True
                self._await_return(error)

    def claim(self) -> None:
        """Keeps the other phones from what this one has computed or begun, in a run that was left alone."""
        with suppress(*TRANSIENT, *AWAY):  # `work` meets it again, and tells it or waits
            status = self._job(self._arrive()).status()
            if status.settings == self.member.settings:
                self._board.claim(self.name, [*status.done, *([status.current] if status.current else [])])

    def launch(self, chunks: Sequence[Chunk]) -> None:
        """Starts the phone's job on these chunks, and leaves it alone.

        Raises:
            PhoneError
        """
        phone = self._arrive()
        self._push(phone, chunks, base=True)
        self._job(phone).start(self.member.settings, chunks)

    def stop(self) -> None:
        """Ends the phone's job. Raises: PhoneError"""
        self._job(self.member.target.find(Limit())).stop()

    def _arrive(self) -> Phone:
        return self.member.target.find(self._shared.limit)

    def _job(self, phone: Phone) -> PhoneJob:
        return PhoneJob(phone, self._shared.bundle.id, self.member.settings.runtime)

    def _await_return(self, error: BundlerError) -> None:
        """Waits until the phone answers again.

        Raises:
            PhoneError: it does not
        """
        limit, target = self._shared.limit, self.member.target
        self._shared.progress(f"{error}; waiting for the phone", 0, None)
        patience = Limit(target.server.patience.return_s)
        while True:
            limit.pause(0.5, f"waiting for phone {self.name}")
            try:
                target.server.reconnect(target.serial)
                self.member.facts = probe(target.find(limit))
                return
            except AWAY:
                if patience.left_s <= 0:
                    raise error from None

    def _attend(self, phone: Phone) -> None:
        """Hands the phone chunks, sees to it that its job runs, and collects what is done, until all is."""
        job, board, member = self._job(phone), self._board, self.member
        poll_s, seen = SHORTEST_POLL_S, None
        pushed = False
        while True:
            status = job.status()
            ours = status.settings == member.settings
            if ours:
                for chunk in status.done:
                    self._collect(job, chunk)
            if board.complete:
                if ours and status.alive:
                    job.stop()  # what it is at, another phone has done
                return
            if ours and not status.alive:
                self._look_at_the_end(job, status)
            fresh = board.take(self.name, self._shared.depth)
            todo = board.held(self.name)
            if todo and not (ours and status.alive and set(todo) <= set(status.queued)):
                self._push(phone, fresh if pushed else todo, base=not pushed)
                pushed = True
                job.start(member.settings, todo)
                self._restart, seen = False, None
            self._report(status if ours else None)
            poll_s = (
                SHORTEST_POLL_S if (now := (status.done, status.begun)) != seen else min(2 * poll_s, LONGEST_POLL_S)
            )
            seen = now
            self._shared.limit.pause(poll_s, self._doing)

    @property
    def _doing(self) -> str:
        return f"running on the {self.member.settings.runtime.upper()}"

    def _report(self, status: Status | None) -> None:
        current = status.current if status and status.alive else None
        done = self._board.report(self.name, current, status.begun if status else 0)
        self._shared.progress(self._doing, done, self._board.questions)

    def _push(self, phone: Phone, chunks: Sequence[Chunk], *, base: bool) -> None:
        """Brings what the phone lacks: the bundle's own files and scripts where `base`, and the chunks' inputs."""
        names = dict(self._archiver.archive(chunk) for chunk in chunks)
        if base:
            bundle, member = self._shared.base or self._shared.bundle, self.member
            names |= base_files(bundle, member.facts, member.settings, self._shared.spool)
        store = Store(phone, self._shared.progress, careful=self._careful)
        try:
            store.push(list(names.values()), self.member.facts.free_bytes)
            store.link(self._shared.bundle.id, names)
        finally:
            self.member.pushed_bytes += store.pushed_bytes
            self._found_bytes = max(self._found_bytes, store.found_bytes)

    def _look_at_the_end(self, job: PhoneJob, status: Status) -> None:
        """Lets a job that ended be started again: one that was killed, whose phone was restarted, or that failed before
        we came.

        Raises:
            RunFailed, PhoneFull, PhoneRefused: it failed, or ends again and again without having done anything
        """
        self._vain += 1
        if self._vain > ATTEMPTS or (status.state == "failed" and not self._restart):
            raise self._failure(job, status)

    def _failure(self, job: PhoneJob, status: Status) -> BundlerError:
        log = self.save_log(job)
        text = log.read_text(encoding="utf-8", errors="replace")
        if status.disk_full or NO_SPACE.decode() in text:
            return PhoneFull(self.name, most_bytes(status.current or Chunk(0, 1), self._shared.bundle.manifest.outputs))
        lines = text.strip().splitlines()
        if status.exit in OWN_FAILURES:
            return PhoneRefused(self.name, OWN_FAILURES[status.exit], lines[-1] if lines else "no message")
        program, code = self.member.settings.by.program, whole(status.exit)
        exit_status = KILLED if code is None else code
        why = explain(lines, exit_status)
        known = {"line": why.line, "cause": why.cause, "remedy": why.remedy} if why else {}
        return RunFailed(self.name, exit_status, lines, log, program=program, **known)

    def save_log(self, job: PhoneJob) -> Path:
        """What the run said on the phone, in the run's folder."""
        path = self._shared.folder / layout.log_of(self.name)
        path.write_bytes(job.log())
        return path

    def _collect(self, job: PhoneJob, chunk: Chunk) -> None:
        """Brings a finished chunk's outputs into the run's folder, unless they are there already.

        Raises:
            OutputsInvalid: they are damaged, also when they are pulled again, or no use, also when they are made again
        """
        specs, where = self._shared.bundle.manifest.outputs, f"phone {self.name}"
        for attempt in range(1, ATTEMPTS):
            if not self._board.wants(chunk):
                break
            try:
                with tempfile.TemporaryFile(dir=self._shared.spool) as archive:
                    announced = job.give(chunk, archive, most_bytes(chunk, specs))
                    archive.seek(0)
                    logits = read_outputs(archive, announced, chunk, specs, where)
                    keep_diagnostics(archive, announced, self._shared.folder, chunk, self.member.settings.by)
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
            keep(logits, self._shared.folder, chunk)
            self._board.finish(chunk)
            self.member.chunks += 1
            self._vain = 0
        job.forget(chunk)


def base_files(bundle: Bundle, facts: PhoneFacts, settings: Settings, folder: Path) -> dict[str, Blob]:
    """What a phone needs of a bundle beside the inputs, the job's script, and what is to be set on its DSP, which is
    written into `folder`.

    Raises:
        BundleInvalid: a file has a name that the phone's scripts and the engines would not take
    """
    device = bundle.path / layout.DEVICE
    odd = next((name for name in bundle.device_files if not PLAIN_NAME.fullmatch(name)), None)
    if odd is not None:
        raise BundleInvalid(bundle.path, f"its file {odd!r} has a name that cannot go to a phone")
    files = {
        name: Blob(device / name, entry.sha256, entry.size, "755" if name.startswith(EXECUTABLE) else "644")
        for name, entry in files_for(bundle, facts, settings.by).items()
        if not name.startswith(f"{layout.INPUTS}/") and name != layout.INPUT_LIST
    }
    files[layout.JOB] = Blob.of(DEVICE_SCRIPTS / layout.JOB)
    if settings.by.dsp_settings and settings.runtime == "dsp":
        graph = bundle.manifest.model.graph
        name, text = htp_settings(settings.by.dsp_settings, graph, facts.soc, settings)
        written = folder / "htp.json"
        written.write_text(text, encoding="utf-8", newline="\n")
        files[name] = Blob.of(written)
    return files
