"""Runs chunks as tasks on the phones of a cluster's hosts; a local thread follows each phone's tasks."""

import getpass
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bundler import __version__, errors, layout
from bundler.bundle import Bundle
from bundler.bundle.parsing import typed
from bundler.device.blobs import Blob
from bundler.device.chunks import Chunk
from bundler.device.outputs import Logits, keep
from bundler.device.timings import LARGEST_LOG, ChunkTimes, keep_diagnostics, keep_times
from bundler.errors import BundlerError, ClusterUnusable, OutputsInvalid, PhoneLost
from bundler.scheduler.host import PhoneTask, Sent
from bundler.scheduler.hosts import Hosts, RemotePhone
from bundler.scheduler.member import AWAY, Member, Shared, Steady, Wish
from bundler.soc import Soc
from bundler.types import TensorSpec

AHEAD = 2  # chunks that a phone's host has: the next one must be there when one is done
LOOK_S = 0.2
RETURN_S = 60.0
SENDINGS = 3  # of a blob to a host

Json = dict[str, Any]


class Recruits:
    """The phones that a run takes: of this chip and Hexagon version, at most `count` at a time.

    tell: takes messages about phones that are left out
    """

    def __init__(
        self,
        hosts: Hosts,
        bundle: Bundle,
        soc: Soc | None,
        hexagon: int | None,
        count: int | None,
        tell: Callable[[str], None],
    ) -> None:
        self._hosts, self._bundle, self._soc, self._hexagon, self._count = hosts, bundle, soc, hexagon, count
        self._tell = tell
        self._known: set[str] = set()  # phones that were taken or left out, and have been attached since

    def first(self, wish: Wish) -> list[Member[RemotePhone]]:
        """Returns the phones that can do the run now, idle ones first.

        Raises:
            ClusterUnusable: there is none
        """
        found = sorted(self._hosts.phones(), key=lambda phone: (bool(phone.doing), phone.name))
        fit, reasons = self._fitting(found, wish)
        if not fit:
            what = f"has no phone for this run: {'; '.join(reasons) or 'no host offers any'}"
            hint = "`mbqa-bundle phones --cluster` lists them; `mbqa-bundle host` offers a host's phones."
            raise ClusterUnusable(self._hosts.address, what, hint)
        return fit

    def more(self, wish: Wish, at_work: Collection[str]) -> list[Member[RemotePhone]]:
        """Returns suitable phones that were attached since and may join."""
        fresh: set[str] = set()
        try:
            there = self._hosts.attached()
            self._known &= there  # a phone that leaves may come again
            fresh = there - self._known - set(at_work)
            if not fresh or (self._count and len(at_work) >= self._count):
                return []
            found = [phone for phone in self._hosts.phones(fresh) if phone.name in fresh]
        except PhoneLost:  # the working phones get this error too
            return []
        except ClusterUnusable as error:  # a host of another release
            self._known |= fresh
            self._tell(f"left out: {error}")
            return []
        return self._fitting(found, wish, len(at_work))[0]

    def worker(self, member: Member[RemotePhone], shared: Shared) -> "RemoteWorker":
        """Returns the worker for one of the phones."""
        return RemoteWorker(self._hosts, member, shared)

    def _fitting(
        self, phones: Sequence[RemotePhone], wish: Wish, at_work: int = 0
    ) -> tuple[list[Member[RemotePhone]], list[str]]:
        """Returns as many suitable phones as may work, and the reasons against others."""
        fit: list[Member[RemotePhone]] = []
        reasons = []
        for phone in phones:
            if self._count and at_work + len(fit) >= self._count:
                break
            self._known.add(phone.name)
            try:
                fit.append(self._member(phone, wish))
            except BundlerError as error:
                reasons.append(str(error))
                self._tell(f"left out: {error}")
        return fit, reasons

    def _member(self, phone: RemotePhone, wish: Wish) -> Member[RemotePhone]:
        """Raises: BundlerError: the phone is unsuitable for this run"""
        if phone.facts is None or phone.trouble:
            raise BundlerError(phone.trouble or f"phone {phone.name}: it cannot be asked")
        its = phone.facts.soc
        if (self._soc and its != self._soc) or (self._hexagon and (its is None or its.hexagon != self._hexagon)):
            raise BundlerError(f"phone {phone.name} is another one: {phone.facts.soc_model}")
        return Member.fitting(phone, phone.name, phone.facts, self._bundle, wish)


class RemoteWorker(Steady):
    """Does chunks with a phone of a host, each as a task there. Nothing continues without this process: the current
    chunk still ends, and `_attend` drops the others."""

    def __init__(self, hosts: Hosts, member: Member[RemotePhone], shared: Shared) -> None:
        super().__init__(member, shared, RETURN_S)
        self._hosts, self._phone = hosts, member.target
        self._under_way: dict[Chunk, Any] = {}
        self._came = threading.Event()
        self._lacked = 0
        self._base: dict[str, Blob] | None = None
        self._who = f"{getpass.getuser()}@{socket.gethostname()}"

    def _look_again(self) -> None:
        self._hosts.where(self._phone)

    def _attend(self) -> None:
        board, doing = self._board, f"running on {self._hosts.address}"
        try:
            while not board.complete:
                self._hosts.where(self._phone)
                for chunk in board.take(self.name, AHEAD if self._under_way else 1):
                    self._under_way[chunk] = self._start(chunk)
                for chunk, future in list(self._under_way.items()):
                    if not board.wants(chunk):
                        self._under_way.pop(chunk).release()
                    elif future.done():
                        self._take(chunk, self._hosts.reply(self._phone, future))
                self._shared.progress(doing, board.report(self.name, None, 0), board.questions)
                self._came.wait(min(LOOK_S, max(0.0, self._shared.limit.left_s)))
                self._came.clear()
                self._shared.limit.check(doing)
        finally:
            for future in self._under_way.values():
                future.release()  # drops what has not begun
            self._under_way.clear()

    def _start(self, chunk: Chunk) -> Any:
        member = self.member
        if self._base is None:
            self._base = self._supply.base(member.facts, self._settings)
        name, archive = self._supply.chunk(chunk, member.facts)
        task = PhoneTask(
            version=__version__,
            serial=self._phone.serial,
            name=self.name,
            who=self._who,
            bundle_id=self._supply.bundle_id,
            outputs=self._supply.outputs,
            settings=self._settings,
            facts=member.facts,
            base=tuple(Sent(name, each.sha256, each.size, each.mode) for name, each in self._base.items()),
            archive=Sent(name, archive.sha256, archive.size),
            chunk=chunk.name,
            timeout_s=max(1.0, min(self._shared.limit.left_s, 24 * 3600.0)),
        )
        future = self._hosts.start(self._phone, json.dumps(asdict(task)).encode(), archive.path.read_bytes())
        future.add_done_callback(lambda _: self._came.set())
        return future

    def _take(self, chunk: Chunk, reply: bytes) -> None:
        head, _, body = reply.partition(b"\n")
        where = f"phone {self.name}: chunk {chunk.name}"
        told = _read_head(head, where)
        if "lacks" in told:
            self._bring(list(told["lacks"]))
            self._under_way[chunk] = self._start(chunk)
            return
        folder = self._shared.folder
        if "failed" in told:
            (folder / layout.log_of(self.name)).write_bytes(body)
            error = _revived(told, folder)
            if isinstance(error, AWAY):
                raise PhoneLost(self.name, "running a chunk", str(error)) from error
            raise error
        del self._under_way[chunk]
        self._lacked = 0
        logits, times, log = read_reply(told, body, chunk, self._supply.outputs, where)
        keep_diagnostics(log, folder, chunk)
        if self._board.wants(chunk):
            keep_times(times, folder, chunk)
            keep(logits, folder, chunk)
            self._board.finish(chunk)
            self.member.chunks += 1
            self.member.pushed_bytes += told["pushed_bytes"]

    def _bring(self, lacks: Sequence[str]) -> None:
        self._lacked += 1
        if self._lacked > SENDINGS:
            hint = "Look for room in the cache folder of its user (~/.cache/mbqa-bundle)."
            raise ClusterUnusable(self._hosts.address, f"host {self._phone.host} does not keep what it is sent", hint)
        blobs = {each.sha256: each for each in (self._base or {}).values()}
        self._shared.progress(f"sending the bundle to {self._phone.host}", 0, None)
        lacking = [blobs[sha256] for sha256 in lacks if sha256 in blobs]
        self._hosts.bring(self._phone, lacking, again=self._lacked > AHEAD)


def _read_head(head: bytes, where: str) -> Json:
    try:
        told = json.loads(head)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("lacks", []), list):
        raise OutputsInvalid(f"{where}: what came is not a reply of a host")
    return told


def read_reply(
    told: Json, body: bytes, chunk: Chunk, specs: Sequence[TensorSpec], where: str
) -> tuple[Logits, ChunkTimes, bytes]:
    """Returns a chunk's logits, the times of its inferences, and the engine's log of times.

    Raises:
        OutputsInvalid: it is no valid reply of a host
    """
    try:
        times = typed(ChunkTimes, told["times"], "its times")
        size, count = told["logits_bytes"], len(chunk)
        sizes = [4 * count * int(np.prod(spec.shape)) for spec in specs]
        if hashlib.sha256(body).hexdigest() != told["sha256"] or size != sum(sizes) or times.windows != count:
            raise ValueError("it is damaged, or of another chunk")
        if not 0 <= len(body) - size <= LARGEST_LOG or not isinstance(told["pushed_bytes"], int):
            raise ValueError("it holds more than outputs")
        values = np.frombuffer(body[:size], "<f4").astype(np.float32)
        if not np.isfinite(values).all() or not np.isfinite(times.results_s).all():
            raise ValueError("not all of it are finite numbers")
    except (KeyError, TypeError, ValueError) as error:
        raise OutputsInvalid(f"{where}: what came is not a reply of a host: {error}") from error
    ends = np.cumsum(sizes) // 4
    parts = np.split(values, ends[:-1])
    logits = {spec.name: part.reshape(count, *spec.shape) for spec, part in zip(specs, parts, strict=True)}
    return logits, times, body[size:]


def _revived(told: Json, folder: Path) -> BundlerError:
    """Rebuilds the error that a host reported; replaces its folder by ours, which has the run's log."""
    told = {"message": "", "hint": "", "folder": "", **told}
    kind = getattr(errors, str(told["failed"]), BundlerError)
    if not (isinstance(kind, type) and issubclass(kind, BundlerError)):
        kind = BundlerError
    message, hint = (str(told[key]).replace(str(told["folder"]) or "\0", str(folder)) for key in ("message", "hint"))
    error = kind.__new__(kind)
    BundlerError.__init__(error, message, hint or None)
    return error
