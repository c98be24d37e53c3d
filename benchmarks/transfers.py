"""Races transfers to the phone and back against adb's and adbutils', directly or over a cable of 4 ms and 20 MB/s.

Nothing computes: a stand-in for snpe-net-run unpacks prepared outputs. Each race is for a kind of phone (`virtual`, or
`genuine`: the phone of genuine parts) and a connection to it.
"""

import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import adbutils  # noqa: TID251  (it is the peer here)

from benchmarks.ground import Ground, NotHere
from benchmarks.link import SLOW, laid
from benchmarks.loads import bundle_of, plain_inputs, quiet, random_file, with_stand_in, xquad
from benchmarks.race import Side, Sides
from bundler import layout
from bundler.bundle import Bundle
from bundler.device.blobs import Blob
from bundler.device.chunks import Archiver, Chunk, chunks_of
from bundler.device.job import PhoneJob
from bundler.device.outputs import keep, most_bytes, read_outputs
from bundler.device.phone import Phone
from bundler.device.store import CHECKING, PUSHING, Store
from bundler.pipeline.deploy import DeployRequest, deploy_bundle
from bundler.types import RUNTIMES
from tests.phones import genuine_phone, virtual_phone, why_no_genuine_phone

TREE = "/data/local/tmp/tree"
OURS = str(layout.REMOTE_ROOT)
CHUNK = 500
MODEL_BYTES, SMALL_MODEL_BYTES = 100_000_000, 1_000_000
PULLED = 100  # windows: adb takes 20 s for all of them from the genuine parts, and a minute over a slow link
PUSHED_BY_ADBUTILS = 40  # files: it takes minutes for all of them
TMPFS = "1g"
WAIT_S = 600.0
WAYS = {"near": None, "far": SLOW}

Sided = Callable[[Ground], Sides]


@contextmanager
def phone(ground: Ground, kind: str) -> Iterator[Phone]:
    """Provides a phone of this kind; the genuine one has its storage in memory."""
    if kind == "virtual":
        with virtual_phone(ground.place("phone")) as made:
            yield made
        return
    if why := why_no_genuine_phone():
        raise NotHere(why)
    with genuine_phone(SIZE=TMPFS) as made:
        yield made


def usual(ground: Ground) -> Bundle:
    """Returns XQuAD's questions with the stand-in."""
    return with_stand_in(bundle_of(*xquad(ground), ground.place("usual")), CHUNK)


def inputs(kind: str, way: str, *, plain: bool) -> Sided:
    """Transfers all raw inputs to the phone, against adb's push: of three files for each window in the usual way, or of
    the bundle's own files, which are fewer."""

    def sides(ground: Ground) -> Sides:
        track = ground.made(_track, kind, way)
        tree = ground.made(_plain) if plain else track.bundle.path / layout.DEVICE / layout.INPUTS
        laps = Laps()
        return Sides(
            lambda: track.push_inputs(laps), lambda: track.adb("push", str(tree), TREE), track.clearing(), laps.told
        )

    return sides


def inputs_by_adbutils(kind: str) -> Sided:
    """Does the same against adbutils' sync.push of a sample of the tree."""

    def sides(ground: Ground) -> Sides:
        track, tree = ground.made(_track, kind, "near"), ground.made(_plain)
        names = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.raw"))
        sample = names[: ground.size(PUSHED_BY_ADBUTILS, 2)]
        device = adbutils.AdbClient(track.phone.server.host, track.phone.server.port).device(track.phone.serial)

        def push() -> float:
            begun = time.perf_counter()
            for name in sample:
                device.sync.push(str(tree / name), f"{TREE}/{name}")
            return (time.perf_counter() - begun) * len(names) / len(sample)

        note = f"adbutils pushes {len(sample)} of {len(names):,} files, the rest is reckoned"
        return Sides(lambda: track.push_inputs(Laps()), push, track.clearing(), lambda: note)

    return sides


def model(kind: str) -> Sided:
    """Transfers one large file to the phone: from its first byte until all of it is there, without the checksum."""

    def sides(ground: Ground) -> Sides:
        track, blob, laps = ground.made(_track, kind, "near"), ground.made(_large_blob), Laps()

        def push() -> float:
            seen: dict[str, float] = {}

            def note(stage: str, _done: int, _total: int | None, /) -> None:
                seen.setdefault(stage, time.perf_counter())

            Store(track.phone, note).push([blob], None)
            ended = time.perf_counter()
            laps.add("checksum on the phone, apart", ended - seen[CHECKING])
            return seen[CHECKING] - seen[PUSHING]

        return Sides(push, lambda: track.adb("push", str(blob.path), TREE), track.clearing(), laps.told)

    return sides


def outputs(kind: str, way: str) -> Sided:
    """Returns a finished job's outputs, checked and kept, against adb's pull of the same files."""

    def sides(ground: Ground) -> Sides:
        track = ground.made(_track, kind, way)
        ground.made(_track, kind, "near").finish()
        sample = ground.size(PULLED, 5) if kind == "genuine" or WAYS[way] else None
        note = f"adb pulls {sample} of {len(track.bundle.manifest.windows):,} windows, the rest is reckoned"
        return Sides(track.collect, track.pull(sample), track.clearing(TREE), lambda: note if sample else "")

    return sides


class Laps:
    """Seconds by what they were spent on."""

    def __init__(self) -> None:
        self._of: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, name: str, seconds: float) -> None:
        self._of[name].append(seconds)

    def told(self) -> str:
        """Returns their medians."""
        return ", ".join(f"{name} {statistics.median(each):.3f} s" for name, each in self._of.items())


class Track:
    """A phone, the connection to it, and the transferred data."""

    def __init__(self, phone: Phone, bundle: Bundle) -> None:
        self.phone, self.bundle = phone, bundle
        self._chunks = chunks_of(len(bundle.manifest.windows), CHUNK)

    def sh(self, script: str) -> str:
        return self.phone.run(["sh", "-c", script], doing="preparing", timeout_s=WAIT_S).stdout.decode()

    def clearing(self, *paths: str) -> Callable[[], object]:
        """Removes these files from the phone, or everything that transfers leave there."""
        return lambda: self.sh(f"rm -rf {' '.join(paths or (OURS, TREE))}")

    def adb(self, *arguments: str) -> float:
        """Measures how long the adb program takes."""
        command = [adbutils.adb_path(), "-P", str(self.phone.server.port), "-s", self.phone.serial, *arguments]
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, timeout=WAIT_S)
        return time.perf_counter() - begun

    def push_inputs(self, laps: Laps) -> float:
        with tempfile.TemporaryDirectory() as folder:
            times = [time.perf_counter()]
            archiver = Archiver(self.bundle, Path(folder))
            names = dict(archiver.archive(chunk, compressed=True) for chunk in self._chunks)
            times.append(time.perf_counter())
            store = Store(self.phone, quiet)
            store.push(list(names.values()), None)
            times.append(time.perf_counter())
            store.link("race", names)
            times.append(time.perf_counter())
        for name, begun, ended in zip(
            ("archives made", "pushed and checked", "linked"), times, times[1:], strict=False
        ):
            laps.add(name, ended - begun)
        return times[-1] - times[0]

    def pull(self, sample: int | None) -> Side:
        """Measures adb's pull of the job's outputs, or of some windows only, and extrapolates."""
        done = f"{layout.remote_bundle(self.bundle.id)}/jobs/{RUNTIMES[0]}/done"
        names = " ".join(f"./Result_{line}" for line in range(sample or 0))
        unpack = "mkdir -p {0} && gzip -dc <{1}.tgz | tar -x -C {0} -f - {2}"
        chunks = self._chunks[:1] if sample else self._chunks
        script = " && ".join(unpack.format(f"{TREE}/{chunk.name}", f"{done}/{chunk.name}", names) for chunk in chunks)

        def pull() -> float:
            self.sh(script)
            with tempfile.TemporaryDirectory() as folder:
                return self.adb("pull", TREE, folder) * (len(self.bundle.manifest.windows) / sample if sample else 1)

        return pull

    def collect(self) -> float:
        job = PhoneJob(self.phone, self.bundle.id, RUNTIMES[0])
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            for chunk in self._chunks:
                self._collect(job, chunk, Path(folder))
            return time.perf_counter() - begun

    def _collect(self, job: PhoneJob, chunk: Chunk, folder: Path) -> None:
        specs = self.bundle.manifest.outputs
        with tempfile.TemporaryFile() as archive:
            announced = job.give(chunk, archive, most_bytes(chunk, specs))
            archive.seek(0)
            keep(read_outputs(archive, announced, chunk, specs, self.phone.serial)[0], folder, chunk)

    def finish(self) -> None:
        """Runs a job whose outputs stay on the phone."""
        request = DeployRequest(
            runtime=RUNTIMES[0], devices=[self.phone.serial], chunk=CHUNK, detach=True, restart=True
        )
        deploy_bundle(self.bundle.path, self.phone.server, request, quiet)
        job, deadline = PhoneJob(self.phone, self.bundle.id, RUNTIMES[0]), time.monotonic() + WAIT_S
        while (status := job.status()).done != self._chunks:
            if status.state == "failed" or time.monotonic() > deadline:
                raise RuntimeError(f"the stand-in's run did not end well: {status}\n{job.log().decode()}")
            time.sleep(0.1)


def _track(ground: Ground, kind: str, way: str) -> Track:
    found, bundle = ground.opened(phone, kind), ground.made(usual)
    return Track(ground.opened(_over, kind, way) if WAYS[way] else found, bundle)


@contextmanager
def _over(ground: Ground, kind: str, way: str) -> Iterator[Phone]:
    """Provides the phone at the far end of a cable."""
    near, cable = ground.opened(phone, kind), WAYS[way]
    assert cable is not None
    with laid(cable, near.serial) as link:
        yield near.server.find(link.serial)


def _plain(ground: Ground) -> Path:
    return plain_inputs(ground.made(usual), ground.place("plain"))


def _large_blob(ground: Ground) -> Blob:
    return Blob.of(random_file(ground.folder / "model", ground.size(MODEL_BYTES, SMALL_MODEL_BYTES)))
