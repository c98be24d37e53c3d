"""Measures runs on phones of a cluster's hosts, which only sleep: the use of the phones, and the memory.

    python -m benchmarks.hosting ADDRESS NAME PHONES SECONDS        starts a host of such phones; Ctrl-C ends it

A host is `mbqa-bundle host` except for the work of adb: it keeps, checks and answers everything as usual.
"""

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.ground import Ground, NotHere
from benchmarks.race import Shared as Once
from benchmarks.race import Sides
from benchmarks.watched import OURS, peak_bytes, run
from bundler.device.outputs import keep
from bundler.device.phone import READY, AdbServer, Attached
from bundler.device.probe import PhoneFacts
from bundler.device.timings import ChunkTimes, keep_times
from bundler.pipeline.host import serve_phones
from bundler.scheduler import host
from bundler.scheduler.hosts import Hosts
from bundler.scheduler.member import Member, Shared
from tests.clusters import DaskCluster, eventually
from tests.finished import built_bundle
from tests.models import LENGTH

HOSTS, FEW_HOSTS = 5, 2
PHONES, FEW_PHONES = 10, 2  # of a host
QUESTIONS, FEW = 100_000, 40
LESS = 100  # times fewer questions, for whether time grows as they do
SLEEP_S = 0.02
MEGABYTE = 1e6
FACTS = PhoneFacts("SM8650", "arm64-v8a", "asleep", "14", 1 << 40, "/bin/snpe-net-run", "QTI", gzip=True)


@dataclass(frozen=True)
class Measured:
    """A run: its seconds and the whole command's, the seconds of its phones, the peak memory in bytes."""

    questions: int
    seconds: float
    whole: float
    ideal: float
    client: int
    scheduler: int


def used(ground: Ground) -> Sides:
    """Returns the seconds of a run besides those that its phones sleep."""
    many = ground.made(_many)
    note = "the whole command took {:.1f} s: it checks the bundle's files first"
    return Sides(
        many.part(lambda told: told.seconds),
        many.part(lambda told: told.ideal),
        note=lambda: note.format(many.made[-1].whole),
    )


def memory(whose: str) -> Callable[[Ground], Sides]:
    """Returns the peak resident memory of the `client` or the `scheduler`, in megabytes."""
    return lambda ground: Sides(ground.made(_many).part(lambda told: getattr(told, whose) / MEGABYTE))


def many_beside_few(ground: Ground) -> Sides:
    """Compares the seconds for a thousand questions in a large run and in one of a hundredth of the size."""
    many, few = ground.made(_many), Once(partial(_measured, ground, ground.size(QUESTIONS // LESS, FEW // 2)))
    return Sides(*(side.part(lambda told: 1000 * told.seconds / told.questions) for side in (many, few)))


def _many(ground: Ground) -> "Once[Measured]":
    return Once(partial(_measured, ground, ground.size(QUESTIONS, FEW)))


def _measured(ground: Ground, count: int) -> Measured:
    cluster, phones = ground.opened(_hosts)
    bundle = built_bundle(ground.place(f"questions-{count}") / "bundle", count, length=LENGTH)
    ran = run((*OURS, "deploy", "--bundle", str(bundle.path), "--cluster", cluster.address, "--json"))
    told = json.loads(ran.said)
    assert len(told["parts"]) == phones
    ideal = len(bundle.manifest.windows) * SLEEP_S / phones
    return Measured(count, told["seconds"], ran.seconds, ideal, ran.peak_bytes, peak_bytes(cluster.scheduler.pid))


@contextmanager
def _hosts(ground: Ground) -> Iterator[tuple[DaskCluster, int]]:
    """Provides a scheduler with hosts, and the number of their phones."""
    if importlib.util.find_spec("distributed") is None:
        raise NotHere("Dask is not installed: mbqa-bundle[cluster]")
    hosts, phones = ground.size((HOSTS, PHONES), (FEW_HOSTS, FEW_PHONES))
    cluster = DaskCluster(ground.place("cluster"))
    try:
        for number in range(hosts):
            cluster.add_module("benchmarks.hosting", cluster.address, f"host-{number}", str(phones), str(SLEEP_S))
        seen = Hosts(cluster.address, lambda _: None)
        eventually(lambda: len(seen.phones()) == hosts * phones)
        seen.close()
        yield cluster, hosts * phones
    finally:
        cluster.stop()


# What follows is a host.


class Asleep(AdbServer):
    """An adb server that lists phones, with none behind it."""

    def __init__(self, name: str, count: int) -> None:
        super().__init__("127.0.0.1", 9)
        self._phones = [Attached(f"{name}-{number}", READY) for number in range(count)]

    def attached(self) -> list[Attached]:
        return self._phones


class Sleeper:
    """Replaces `Worker`. Its phone sleeps for each window of a chunk."""

    def __init__(self, seconds: float, member: Member[Any], shared: Shared) -> None:
        self._seconds, self._member, self._shared = seconds, member, shared

    def work(self) -> None:
        member, shared = self._member, self._shared
        for chunk in shared.board.take(member.target.name, None):
            count = len(chunk)
            time.sleep(count * self._seconds)
            ends = tuple(round(self._seconds * (number + 1), 6) for number in range(count))
            keep_times(ChunkTimes(member.target.name, "cpu", count, ends[-1], ends, True), shared.folder, chunk)
            specs = shared.supply.outputs
            keep({spec.name: np.zeros((count, *spec.shape), np.float32) for spec in specs}, shared.folder, chunk)
            shared.board.finish(chunk)


def main(arguments: Sequence[str]) -> None:
    address, name, phones, seconds = arguments
    with mock.patch.multiple(host, Worker=partial(Sleeper, float(seconds)), probe=lambda _: FACTS):
        serve_phones(address, name, Asleep(name, int(phones)), (), sys.stderr.write)


if __name__ == "__main__":
    main(sys.argv[1:])
