"""Runs what a cluster asks of this host's phones, in a Dask worker.

The worker's resources tell which phones are attached. Tasks do not wait for these resources: Dask looks at the first
waiting task only, so a busy phone would keep all others of its host idle. Each phone has its own queue instead and does
one chunk at a time, in order of arrival. The cluster exchanges only bytes and JSON of our formats, which are checked
like files.
"""

import hashlib
import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bundler import __version__, layout
from bundler.bundle.parsing import typed
from bundler.device.blobs import Blob
from bundler.device.chunks import Chunk
from bundler.device.job import Settings
from bundler.device.limits import Limit
from bundler.device.outputs import load
from bundler.device.phone import READY, AdbServer
from bundler.device.probe import PhoneFacts, probe
from bundler.device.targets import Target, target_of
from bundler.device.timings import kept_diagnostics, kept_times
from bundler.dlc.cache import cache_folder, cached
from bundler.errors import BundlerError, ClusterUnusable, UnknownPhone
from bundler.runs.owner import owning
from bundler.scheduler.cluster import head_line
from bundler.scheduler.member import Member, Shared
from bundler.scheduler.queue import Board
from bundler.scheduler.supply import PLAIN_NAME, Supply
from bundler.scheduler.worker import Worker
from bundler.types import TensorSpec, silent

PROBES = 8  # at once
LOOK_S = 0.5
SHA256 = re.compile(r"[0-9a-f]{64}")
BUNDLE_ID = re.compile(r"[0-9a-f]{8,64}")
MODES = ("644", "755")

Json = dict[str, Any]


def resource_of(serial: str) -> str:
    """Returns the name of a phone's resource, which is 1 while the phone is attached, else 0."""
    return f"phone {serial}"


@dataclass(frozen=True)
class Sent:
    """A file to send to a phone: its name there, its checksum, size and mode."""

    name: str
    sha256: str
    size: int
    mode: str = "644"

    def __post_init__(self) -> None:
        if not PLAIN_NAME.fullmatch(self.name) or not SHA256.fullmatch(self.sha256) or self.mode not in MODES:
            raise ValueError(f"{self.name!r} is not a file for a phone")


@dataclass(frozen=True)
class PhoneTask:
    """A chunk for a phone, named `name` by its run and sent by `who`. `archive` holds its inputs, `base` all else."""

    version: str
    serial: str
    name: str
    who: str
    bundle_id: str
    outputs: tuple[TensorSpec, ...]
    settings: Settings
    facts: PhoneFacts
    base: tuple[Sent, ...]
    archive: Sent
    chunk: str
    timeout_s: float

    def __post_init__(self) -> None:
        if not BUNDLE_ID.fullmatch(self.bundle_id):
            raise ValueError(f"{self.bundle_id!r} is not a bundle's name")


@dataclass
class Held:
    """A phone of this host. `brought`: the sets of base files pushed since it was attached; `trouble`: why it cannot be
    used; `waiting`: its queue, the current chunk first."""

    target: Target
    facts: PhoneFacts | None = None
    trouble: str = ""
    doing: str = ""
    brought: set[str] = field(default_factory=set)
    waiting: list[object] = field(default_factory=list)
    turn: threading.Condition = field(default_factory=threading.Condition)


class Host:
    """The phones here: the named ones, or all."""

    def __init__(self, name: str, server: AdbServer, devices: Sequence[str]) -> None:
        self.name, self._server = name, server
        self._named = [target_of(device, server) for device in devices]
        self._held: dict[str, Held] = {}
        self._lock = threading.Lock()

    def look(self) -> dict[str, int]:
        """Looks up the attached phones; returns each resource that existed before or exists now."""
        there = {target.name: target for target in self._attached()}
        fresh = [Held(target) for name, target in there.items() if name not in self._held]
        with ThreadPoolExecutor(PROBES) as pool:
            list(pool.map(_probe, fresh))
        with self._lock:
            gone = set(self._held) - set(there)
            self._held = {name: held for name, held in self._held.items() if name in there}
            self._held |= {held.target.name: held for held in fresh}
            usable = {resource_of(name): int(not held.trouble) for name, held in self._held.items()}
        return {resource_of(name): 0 for name in gone} | usable

    def _attached(self) -> list[Target]:
        found = []
        with suppress(BundlerError):
            if not self._named:
                phones = self._server.attached()
                found = [Target(self._server, each.serial, each.serial) for each in phones if each.state == READY]
        for target in self._named:
            with suppress(BundlerError):
                target.find(Limit())
                found.append(target)
        return found

    def offer(self) -> list[Json]:
        """Returns the phones; probes the idle ones again."""
        with self._lock:
            held = list(self._held.values())
        with ThreadPoolExecutor(PROBES) as pool:
            list(pool.map(_probe, (each for each in held if not each.doing)))
        return [
            {
                "serial": each.target.name,
                "facts": asdict(each.facts) if each.facts else None,
                "doing": each.doing,
                "trouble": each.trouble,
            }
            for each in held
        ]

    def held(self, serial: str) -> Held:
        """Raises: UnknownPhone"""
        with self._lock:
            if serial not in self._held:
                raise UnknownPhone(serial, sorted(self._held))
            return self._held[serial]

    @contextmanager
    def having(self, serial: str, is_wanted: Callable[[], bool]) -> Iterator[Held]:
        """Waits for the chunk's turn and provides the phone for it.

        Raises:
            UnknownPhone: it is not attached, or is detached meanwhile; Dropped: the chunk is no longer wanted
        """
        held, ticket = self.held(serial), object()
        with held.turn:
            held.waiting.append(ticket)
        try:
            with held.turn:
                while held.turn.wait_for(lambda: held.waiting[0] is ticket, LOOK_S) is False and is_wanted():
                    if self.held(serial) is not held:
                        raise UnknownPhone(serial, [])
                if not is_wanted():
                    raise Dropped
            yield held
        finally:
            with held.turn:
                held.waiting.remove(ticket)
                held.turn.notify_all()


class Dropped(Exception):
    """Nobody waits for the chunk any longer."""


def _probe(held: Held) -> None:
    try:
        held.facts, held.trouble = probe(held.target.find(Limit())), ""
    except BundlerError as error:
        held.trouble = str(error)


_host: Host | None = None  # global, because Dask calls functions by their names


def open_house(host: Host) -> None:
    """Makes the host's phones available in this process."""
    global _host  # noqa: PLW0603
    _host = host


# The cluster calls the following.


def offer() -> bytes:
    """Returns this host's phones, as JSON."""
    phones = _host.offer() if _host else []
    return json.dumps({"version": __version__, "phones": phones}).encode()


def compute_on_phone(job: bytes, archive: bytes) -> bytes:
    """Returns a JSON line, a chunk's logits, float32 (outputs, windows, *shape), and the engine's log of times; or
    {"lacks": checksums}; or {"failed": ..., "message": ..., "hint": ..., "folder": ...} and then the log of the run."""
    with tempfile.TemporaryDirectory(prefix="mbqa-host-") as folder:
        try:
            told = json.loads(job)
            if told["version"] != __version__:
                what = f"has mbqa-bundle {__version__}, and this is {told['version']}"
                raise ClusterUnusable(
                    f"host of {told['name']}", what, f"Install mbqa-bundle[cluster] {told['version']} on every host."
                )
            return _computed(typed(PhoneTask, told), archive, Path(folder), _is_wanted())
        except Dropped:
            return head_line({"lacks": []})
        except BundlerError as error:
            logs = b"".join(path.read_bytes() for path in Path(folder).glob("log-*"))
            failed = {"failed": type(error).__name__, "message": str(error), "hint": error.hint, "folder": folder}
            return head_line(failed) + logs
        except Exception as error:  # a bug; the exception must not be pickled
            return head_line(
                {"failed": "BundlerError", "message": f"internal error: {error!r}", "hint": "", "folder": ""}
            )


def _is_wanted() -> Callable[[], bool]:
    """Returns a function that tells whether anybody still waits for this thread's task."""
    from distributed import get_worker

    worker = get_worker()
    key, tasks = worker.get_current_task(), worker.state.tasks
    return lambda: key in tasks and tasks[key].state == "executing"


def _computed(task: PhoneTask, archive: bytes, folder: Path, is_wanted: Callable[[], bool]) -> bytes:
    if _host is None:
        raise UnknownPhone(task.serial, [])
    with _host.having(task.serial, is_wanted) as held:
        return _computed_on(held, task, archive, folder)


def _computed_on(held: Held, task: PhoneTask, archive: bytes, folder: Path) -> bytes:
    inputs = folder / "inputs"
    inputs.write_bytes(archive)
    blob = Blob.of(inputs)
    if blob.sha256 != task.archive.sha256:
        raise ValueError("the inputs came damaged")
    basis = hashlib.sha256(json.dumps([task.bundle_id, *map(asdict, task.base)]).encode()).hexdigest()
    base = {} if basis in held.brought else {each.name: _kept(each) for each in task.base}
    if lacks := sorted({each.sha256 for each in task.base if base.get(each.name, blob) is None}):
        return head_line({"lacks": lacks})
    chunk = Chunk.named(task.chunk)
    files = {name: each for name, each in base.items() if each}
    supply = Supply(task.bundle_id, task.outputs, lambda *_: (task.archive.name, blob), lambda *_: files)
    limit = Limit(task.timeout_s)
    board = Board([chunk], (), range(chunk.stop + 1))
    (folder / "spool").mkdir()
    shared = Shared(supply, task.settings, folder, board, limit, silent, folder / "spool", depth=1)
    target = Target(held.target.server, held.target.serial, task.name)
    member = Member(target, task.facts, task.settings.runtime, task.settings.engine)
    lease = cache_folder().with_name("phones") / layout.file_safe(task.serial)
    with owning(lease, "host", limit):  # another host of this computer, of this or another cluster, may use the phone
        held.doing = f"{task.who}, windows {chunk.start + 1} to {chunk.stop} on the {task.settings.runtime}"
        try:
            Worker(member, shared).work()
            held.brought.add(basis)
        except BaseException:
            held.brought.discard(basis)
            raise
        finally:
            held.doing = ""
    logits = load(folder, chunk, task.outputs)
    body = b"".join(logits[spec.name].astype("<f4").tobytes() for spec in task.outputs)
    log = b"".join(path.read_bytes() for path in kept_diagnostics(folder))
    (times,) = kept_times(folder)
    told = {"times": asdict(times), "pushed_bytes": member.pushed_bytes, "logits_bytes": len(body)}
    return head_line({"sha256": hashlib.sha256(body + log).hexdigest(), **told}) + body + log


def _kept(sent: Sent) -> Blob | None:
    path = cached(sent.sha256, sent.sha256)
    return Blob(path, sent.sha256, sent.size, sent.mode) if path else None
