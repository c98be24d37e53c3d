"""Represents a phone of a run: its facts, its progress, and the recovery after a lost connection."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bundler import layout
from bundler.bundle import Bundle
from bundler.device.job import Settings
from bundler.device.known_limits import KnownLimit, Use, limits_of
from bundler.device.limits import Limit
from bundler.device.probe import PhoneFacts, probe
from bundler.device.targets import Target
from bundler.device.timings import ChunkTimes
from bundler.engines import ENGINES, EngineChoice, EngineName
from bundler.errors import BundlerError, NoAdb, PhoneLost, PhoneNotReady, PhoneTooSlow, TransferDamaged, UnknownPhone
from bundler.runs.record import Part
from bundler.scheduler.compatibility import check_fitness, choose_engine, choose_runtime
from bundler.scheduler.queue import Board
from bundler.scheduler.supply import Supply
from bundler.types import Progress, Runtime

if TYPE_CHECKING:
    from bundler.scheduler.hosts import RemotePhone

ATTEMPTS = 4  # without any progress in between
TRANSIENT = (PhoneLost, PhoneTooSlow, TransferDamaged, NoAdb)
AWAY = (UnknownPhone, PhoneNotReady, PhoneLost, PhoneTooSlow, NoAdb)

P = TypeVar("P", Target, "RemotePhone")  # a phone at an adb server, or at a host of a cluster


@dataclass(frozen=True)
class Wish:
    """The runtime, engine and fallback that a run asks its phones for."""

    runtime: Runtime
    engine: EngineChoice
    fallback: Runtime | None = None


@dataclass
class Member(Generic[P]):
    """A phone of the run, with its runtime, its engine and its progress."""

    target: P
    facts: PhoneFacts
    runtime: Runtime
    engine: EngineName
    chunks: int = 0
    pushed_bytes: int = 0
    trouble: Exception | None = None

    @staticmethod
    def of(target: Target, bundle: Bundle, wish: Wish, limit: Limit) -> "Member[Target]":
        """Probes a phone and returns it as a member, as `fitting`.

        Raises:
            EngineMissing, PhoneError: it is unsuitable; nothing has been pushed.
        """
        phone = target.find(limit)
        return Member.fitting(target, phone.serial, probe(phone), bundle, wish)

    @staticmethod
    def fitting(target: P, serial: str, facts: PhoneFacts, bundle: Bundle, wish: Wish) -> "Member[P]":
        """Returns the member for a phone with these facts.

        Raises:
            EngineMissing, PhoneError: it is unsuitable
        """
        name = choose_engine(serial, facts, bundle, wish.engine)
        runtime = choose_runtime(serial, facts, bundle, wish.runtime, wish.fallback, ENGINES[name])
        check_fitness(serial, facts, bundle, ENGINES[name])
        return Member(target, facts, runtime, name)

    def known_limits(self, bundle: Bundle) -> list[KnownLimit]:
        """Returns the known limits that concern this run on this phone."""
        soc = self.facts.soc
        prepared = soc is not None and soc.name in map(layout.prepared_for, bundle.device_files)
        use = Use(self.runtime, self.engine, bundle.manifest.model.precision, prepared, bundle.manifest.sdk)
        return limits_of(self.facts, use)

    def part(self, times: Sequence[ChunkTimes]) -> Part:
        """Returns the phone's entry in the run's record; `times` are of all chunks of the run, including those that the
        phone did for an earlier command."""
        own = [chunk for chunk in times if chunk.phone == self.target.name]
        windows: Counter[str] = Counter()
        for chunk in own:
            windows[chunk.runtime] += chunk.windows
        trouble = "" if self.trouble is None else str(self.trouble)
        seconds = round(sum(chunk.seconds for chunk in own), 3)
        return Part(
            self.target.name, self.facts.soc_model, self.facts.model, dict(windows), len(own), seconds,
            self.pushed_bytes, trouble, self.target.host,
        )  # fmt: skip


@dataclass(frozen=True)
class Shared:
    """Everything that the phones of a run share. `settings` are those of its record; `depth`: chunks that a phone takes
    at a time (None: all); `restart`: whether a job that failed before is tried again."""

    supply: Supply
    settings: Settings
    folder: Path
    board: Board
    limit: Limit
    progress: Progress
    spool: Path
    depth: int | None = None
    restart: bool = True


class Steady(ABC):
    """Does chunks with one phone, in its own thread, and resumes after a lost connection."""

    def __init__(self, member: Member[Any], shared: Shared, return_s: float) -> None:
        """return_s: how long a lost phone may stay away"""
        self.member, self._shared, self._board, self._supply = member, shared, shared.board, shared.supply
        self._return_s = return_s
        self.name: str = member.target.name
        self._settings = replace(shared.settings, runtime=member.runtime)  # the runtime may be the fallback
        self._found_bytes = 0  # what the phone had at the last push
        self._careful = False  # whether a connection was lost

    def work(self) -> None:
        """Does chunks until the board is complete.

        Raises:
            PhoneError: the phone stays away, or refuses; RunFailed, OutputsInvalid; Halted, TimeUp
        """
        attempts, far = 0, (0, 0)
        while True:
            try:
                self._attend()
                return
            except TRANSIENT as error:
                came = (self.member.chunks, self._found_bytes)
                attempts, far = (attempts + 1, far) if came <= far else (1, came)
                if attempts >= ATTEMPTS or self._board.complete:
                    raise
                self._board.put_back(self.name)
                self._careful = True
                self._await_return(error)

    def claim(self) -> None:  # noqa: B027
        """Claims the chunks that this phone has computed or begun while the run was unattended."""

    def stop(self) -> None:  # noqa: B027
        """Ends the phone's job. Raises: PhoneError"""

    @abstractmethod
    def _attend(self) -> None:
        """Keeps the phone computing until all chunks are done."""

    def _await_return(self, error: BundlerError) -> None:
        """Waits until the phone answers again.

        Raises:
            PhoneError: it does not, or the other phones have done all chunks meanwhile
        """
        limit, patience = self._shared.limit, Limit(self._return_s)
        self._shared.progress(f"{error}; waiting for the phone", 0, None)
        while True:
            limit.pause(0.5, f"waiting for phone {self.name}")
            try:
                self._look_again()
                return
            except AWAY:
                if patience.left_s <= 0 or self._board.complete:
                    raise error from None

    @abstractmethod
    def _look_again(self) -> None:
        """Raises an error of AWAY if the phone has not come back."""
