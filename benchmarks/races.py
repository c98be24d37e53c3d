"""Transfers of ours beside adb's and adbutils' own, in alternating rounds on one phone, directly or over a cable."""

import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import adbutils  # noqa: TID251  (it is the peer here)

from benchmarks.loads import quiet
from bundler import layout
from bundler.bundle import Bundle
from bundler.device.blobs import Blob
from bundler.device.chunks import Archiver, Chunk, chunks_of
from bundler.device.job import PhoneJob
from bundler.device.outputs import keep, most_bytes, read_outputs
from bundler.device.phone import Phone
from bundler.device.store import CHECKING, PUSHING, Store
from bundler.types import RUNTIMES

HOME = "/data/local/tmp"
TREE = f"{HOME}/tree"
CHUNK = 500
WAIT_S = 600.0
Seconds = dict[str, float]  # by part; the whole is under WHOLE
WHOLE = "whole"


@dataclass(frozen=True)
class Race:
    """What both sides took, round by round; `limit` is how many times as fast as the peer ours is to be."""

    about: str
    phone: str
    way: str
    limit: float
    ours: Sequence[Seconds]
    peer: Sequence[float]
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        return sorted(peer / ours[WHOLE] for ours, peer in zip(self.ours, self.peer, strict=True))

    @property
    def row(self) -> str:
        ratios = self.ratios
        held = sum(ratio >= self.limit for ratio in ratios)
        verdict = "holds" if statistics.median(ratios) >= self.limit else "**missed**"
        ours = statistics.median(each[WHOLE] for each in self.ours)
        return (
            f"| {self.about} | {self.phone} | {self.way} | {ours:.3f} s | {statistics.median(self.peer):.2f} s "
            f"| {ratios[0]:.2f} / {statistics.median(ratios):.2f} / {ratios[-1]:.2f} | {self.limit:g} "
            f"| {verdict}, {held} of {len(ratios)} rounds |"
        )

    @property
    def parts(self) -> str:
        """The medians of what ours is made of."""
        names = [name for name in self.ours[0] if name != WHOLE]
        told = (f"{name} {statistics.median(each[name] for each in self.ours):.3f} s" for name in names)
        return f"- {self.about}, {self.phone}, {self.way}: {', '.join(told)}{self.note}"


@dataclass
class Watch:
    """Times what follows what."""

    parts: Seconds = field(default_factory=dict)
    _at: float = field(default_factory=time.perf_counter)

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.parts[name], self._at = now - self._at, now

    def done(self) -> Seconds:
        return {**self.parts, WHOLE: sum(self.parts.values())}


class Track:
    """A phone, the way to it, and what is carried."""

    def __init__(self, phone: Phone, name: str, way: str, bundle: Bundle, rounds: int) -> None:
        self.phone, self.name, self.way, self.bundle, self.rounds = phone, name, way, bundle, rounds
        self._chunks = chunks_of(len(bundle.manifest.windows), CHUNK)

    def sh(self, script: str) -> str:
        return self.phone.run(["sh", "-c", script], doing="preparing", timeout_s=WAIT_S).stdout.decode()

    def adb(self, *arguments: str) -> float:
        """How long the adb program takes for it."""
        command = [adbutils.adb_path(), "-P", str(self.phone.server.port), "-s", self.phone.serial, *arguments]
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, timeout=WAIT_S)
        return time.perf_counter() - begun

    def race(
        self, about: str, limit: float, ours: Callable[[], Seconds], peer: Callable[[], float], note: str = "",
        cleared: str = f"{layout.REMOTE_ROOT} {TREE}",
    ) -> Race:  # fmt: skip
        """Each side's turns; before each one, `cleared` is removed from the phone."""
        times: dict[str, list[Seconds]] = defaultdict(list)
        for number in range(self.rounds):
            first, second = (ours, peer) if number % 2 else (peer, ours)
            for each in (first, second):
                self.sh(f"rm -rf {cleared}")
                taken = each()
                times["ours" if each is ours else "peer"].append(taken if isinstance(taken, dict) else {WHOLE: taken})
        return Race(about, self.name, self.way, limit, times["ours"], [each[WHOLE] for each in times["peer"]], note)

    def inputs(self, limit: float, tree: Path, about: str) -> Race:
        """All raw inputs onto the phone, beside those in `tree`."""
        return self.race(about, limit, self._push_inputs, lambda: self.adb("push", str(tree), TREE))

    def adbutils_inputs(self, limit: float, tree: Path, sample: int) -> Race:
        """The same beside adbutils' sync.push, of which only a sample of the tree is waited for."""
        names = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.raw"))
        client = adbutils.AdbClient(self.phone.server.host, self.phone.server.port)
        device = client.device(serial=self.phone.serial)

        def push() -> float:
            begun = time.perf_counter()
            for name in names[:sample]:
                device.sync.push(str(tree / name), f"{TREE}/{name}")
            return (time.perf_counter() - begun) * len(names) / sample

        note = f"; adbutils: {sample} of {len(names):,} files, the rest reckoned"
        return self.race("the first inputs: adbutils' `sync.push`", limit, self._push_inputs, push, note)

    def _push_inputs(self) -> Seconds:
        with tempfile.TemporaryDirectory() as folder:
            watch = Watch()
            archiver = Archiver(self.bundle, Path(folder), compressed=True)
            names = dict(archiver.archive(chunk) for chunk in self._chunks)
            watch.lap("archives made")
            store = Store(self.phone, quiet)
            store.push(list(names.values()), None)
            watch.lap("pushed and checked")
            store.link("race", names)
            watch.lap("linked")
            return watch.done()

    def model(self, limit: float, blob: Blob) -> Race:
        """One large file onto the phone: from its first byte until all of it is there, the checksum apart."""
        apart: list[float] = []
        whole: list[float] = []

        def push() -> Seconds:
            seen: dict[str, float] = {}

            def note(stage: str, _done: int, _total: int | None, /) -> None:
                seen.setdefault(stage, time.perf_counter())

            begun = time.perf_counter()
            Store(self.phone, note).push([blob], None)
            ended = time.perf_counter()
            apart.append(ended - seen[CHECKING])
            whole.append(ended - begun)
            return {WHOLE: seen[CHECKING] - seen[PUSHING]}

        about = f"a model of {blob.size / 1e6:.0f} MB: `adb push`"
        race = self.race(about, limit, push, lambda: self.adb("push", str(blob.path), TREE))
        for taken, checksum, push_s in zip(race.ours, apart, whole, strict=True):
            taken.update({"transfer": taken[WHOLE], "checksum on the phone": checksum, "the push in all": push_s})
        return race

    def outputs(self, limit: float, sample: int | None) -> Race:
        """A finished job's outputs back, checked and kept; `adb pull` may have to do with a sample of the windows. The
        job must have been started."""
        job, windows = self._finished(), len(self.bundle.manifest.windows)
        done = f"{layout.remote_bundle(self.bundle.id)}/jobs/cpu/done"
        pulled = [f"Result_{line}" for line in range(sample or 0)]
        lists = " ".join(f"./{name}" for name in pulled)
        unpack = "mkdir -p {0} && gzip -dc <{1}.tgz | tar -x -C {0} -f - {2}"
        chunks = self._chunks[:1] if sample else self._chunks
        many = [unpack.format(f"{TREE}/{chunk.name}", f"{done}/{chunk.name}", lists) for chunk in chunks]

        def pull() -> float:
            self.sh(" && ".join(many))
            with tempfile.TemporaryDirectory() as folder:
                return self.adb("pull", TREE, folder) * (windows / sample if sample else 1)

        def collect() -> Seconds:
            with tempfile.TemporaryDirectory() as folder:
                watch = Watch()
                for chunk in self._chunks:
                    self._collect(job, chunk, Path(folder))
                watch.lap("given, checked and kept")
                return watch.done()

        note = f"; adb pull: {sample} of {windows:,} windows, the rest reckoned" if sample else ""
        return self.race("outputs: `adb pull`", limit, collect, pull, note, TREE)

    def _finished(self) -> PhoneJob:
        """The job, all of whose chunks wait on the phone."""
        job, deadline = PhoneJob(self.phone, self.bundle.id, RUNTIMES[0]), time.monotonic() + WAIT_S
        while (status := job.status()).done != self._chunks:
            if status.state == "failed" or time.monotonic() > deadline:
                raise RuntimeError(f"the stand-in's run did not end well: {status}\n{job.log().decode()}")
            time.sleep(0.5)
        return job

    def _collect(self, job: PhoneJob, chunk: Chunk, folder: Path) -> None:
        specs = self.bundle.manifest.outputs
        with tempfile.TemporaryFile() as archive:
            announced = job.give(chunk, archive, most_bytes(chunk, specs))
            archive.seek(0)
            keep(read_outputs(archive, announced, chunk, specs, self.name), folder, chunk)
