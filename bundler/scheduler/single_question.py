"""Computes the windows of one question, on a phone that has the bundle or in simulator processes here."""

import os
import secrets
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bundler.bundle import Bundle
from bundler.device.chunks import Archiver, Chunk, chunks_of
from bundler.device.job import PhoneJob, Settings
from bundler.device.limits import Limit
from bundler.device.outputs import Unsound, keep, most_bytes, read_outputs
from bundler.device.phone import Phone
from bundler.device.store import Store
from bundler.device.targets import Target
from bundler.device.timings import ChunkTimes, chunk_times, keep_times
from bundler.errors import BundlerError, OutputsInvalid, RunFailed
from bundler.runs.reference import window_inputs
from bundler.scheduler.member import TRANSIENT, Member, Shared
from bundler.scheduler.queue import Board, ends_of
from bundler.scheduler.supply import base_files, supply_of
from bundler.scheduler.worker import Worker
from bundler.types import Progress, Runtime, silent

if TYPE_CHECKING:
    from bundler.dlc.child import Child

CHUNK = 500  # windows
AT_ONCE = 32  # windows at most for one command that waits for their outputs; larger questions show progress
LEAVE_S = 10.0


class OnPhone:
    """A phone; `brought_bytes` is what it lacked of the bundle, `pushed_bytes` all that was pushed to it."""

    def __init__(self, bundle: Bundle, member: Member[Target], perf_profile: str, folder: Path) -> None:
        self.bundle, self.member, self._perf_profile, self._folder = bundle, member, perf_profile, folder
        self.id, self.brought_bytes = f"ask-{secrets.token_hex(8)}", 0
        self.name, self.soc, self.model = member.target.name, member.facts.soc_model, member.facts.model
        self.engine = member.engine

    @property
    def pushed_bytes(self) -> int:
        return self.member.pushed_bytes

    def bring(self, limit: Limit, progress: Progress) -> None:
        """Pushes what the phone lacks of the bundle's base files, and links them for this session.

        Raises:
            PhoneError
        """
        files = base_files(self.bundle, self.member.facts, self._settings(), self._folder)
        store = Store(self._phone(limit), progress)
        store.push(list(files.values()), self.member.facts.free_bytes)
        self.brought_bytes = store.pushed_bytes
        store.link(self.id, files)

    def stop(self) -> None:
        """Ends what may still run on the phone, if it answers."""
        with suppress(BundlerError):
            self._job(Limit(LEAVE_S)).stop()

    def leave(self) -> None:
        """Removes the session's folder on the phone, if it answers."""
        with suppress(BundlerError):
            Store(self._phone(Limit(LEAVE_S)), silent).unlink(self.id)

    def _phone(self, limit: Limit) -> Phone:
        return Phone(self.member.target.server, self.member.target.serial, limit)

    def _settings(self) -> Settings:
        """Returns the settings for one question."""
        run_id, profile, member = secrets.token_hex(8), self._perf_profile, self.member
        return Settings(run_id, member.runtime, profile, chunk=CHUNK, engine=member.engine)

    def _job(self, limit: Limit) -> PhoneJob:
        return PhoneJob(self._phone(limit), self.id, self.member.runtime)

    def run(self, asked: Bundle, folder: Path, limit: Limit, progress: Progress) -> None:
        """Computes all windows; keeps their outputs and times in the folder. If one command is not enough, uses a
        worker, which recovers from a lost connection and explains why a run failed."""
        settings, windows, spool = self._settings(), asked.manifest.windows, folder / "spool"
        spool.mkdir()
        if len(windows) <= AT_ONCE:
            progress(f"running on the {self.member.runtime.upper()}", 0, None)
            with suppress(*TRANSIENT, OutputsInvalid, Unsound):
                self._run_at_once(asked, settings, Chunk(0, len(windows)), folder, limit)
                return
        board = Board(chunks_of(len(windows), CHUNK), (), ends_of(windows))
        supply = supply_of(asked, spool, self.bundle)
        shared = Shared(supply, settings, folder, board, limit, progress, spool, restart=False)
        try:
            Worker(self.member, shared).work()
        except RunFailed as error:
            handle, kept = tempfile.mkstemp(prefix="mbqa-ask-", suffix=".log")
            os.close(handle)
            shutil.copyfile(error.data["log"], kept)
            raise RunFailed(**{**error.data, "log": Path(kept)}) from error

    def _run_at_once(self, asked: Bundle, settings: Settings, chunk: Chunk, folder: Path, limit: Limit) -> None:
        """Raises: PhoneError, OutputsInvalid, Unsound, TimeUp"""
        member, specs = self.member, asked.manifest.outputs
        _, blob = Archiver(asked, folder / "spool").archive(chunk, compressed=bool(member.facts.gzip))
        with tempfile.TemporaryFile(dir=folder) as archive:
            announced = self._job(limit).answer(settings, chunk, blob, archive, most_bytes(chunk, specs))
            member.pushed_bytes += blob.size
            archive.seek(0)
            logits, _ = read_outputs(archive, announced, chunk, specs, f"phone {member.target.name}")
        keep_times(chunk_times(announced, chunk, member.target.name), folder, chunk)
        keep(logits, folder, chunk)


class OnSimulator:
    """A process on this computer that keeps the DLC ready and computes as the bundle's chip would."""

    brought_bytes = pushed_bytes = 0

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        from bundler.scheduler.simulators import SIMULATES, simulator_of  # not needed for a phone

        self.bundle, self._runtime = bundle, runtime
        self.id, self.engine = f"ask-{secrets.token_hex(8)}", "qnn"
        soc, self._task = simulator_of(bundle, runtime, None)
        self.name, self.soc, self.model = "simulator", soc.name, SIMULATES[runtime]
        self._child: Child | None = None

    def bring(self, _limit: Limit, progress: Progress) -> None:
        """Starts the process.

        Raises:
            DlcInvalid, NoConverter
        """
        from bundler.dlc.child import Child

        progress("compiling the DLC", 0, None)
        self._child = Child(self._task)

    def stop(self) -> None:
        self.leave()

    def leave(self) -> None:
        """Ends the process."""
        if self._child is not None:
            self._child.close()

    def run(self, asked: Bundle, folder: Path, limit: Limit, progress: Progress) -> None:
        """Computes all windows; keeps their outputs and times in the folder.

        Raises:
            DlcInvalid; TimeUp
        """
        assert self._child is not None
        windows, done = asked.manifest.windows, 0
        for chunk in chunks_of(len(windows), CHUNK):
            began, rows, ends = time.monotonic(), [], []
            for window in windows[chunk.start : chunk.stop]:
                limit.check("answering")
                progress("simulating", done, len(windows))
                rows.append(self._child.execute(window_inputs(asked, window)))
                ends.append(round(time.monotonic() - began, 6))
                done += 1
            keep(
                {spec.name: np.stack([row[spec.name] for row in rows]) for spec in asked.manifest.outputs},
                folder,
                chunk,
            )
            keep_times(ChunkTimes(self.name, self._runtime, len(chunk), ends[-1], tuple(ends), True), folder, chunk)
