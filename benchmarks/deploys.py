"""Measures whole deploys: the cost of a second one, and the requirements of ten thousand questions."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.ground import Ground
from benchmarks.link import COUNTING, Laid, laid
from benchmarks.loads import bundle_of, made_up, with_stand_in
from benchmarks.race import Shared, Sides
from benchmarks.transfers import phone, usual
from benchmarks.watched import OURS, run
from bundler import layout
from bundler.bundle import Bundle
from bundler.device.phone import Phone

MANY, CHUNK = 10_000, 100
FEW, SMALL_CHUNK = 60, 20
ASK_S = 0.3
MEGABYTE = 1e6
BLOCK = 4096  # bytes that a small file takes on the phone
OWN = "bin/"  # where the stand-in lies


def second_bytes(kind: str) -> Callable[[Ground], Sides]:
    """Compares the megabytes that a second deploy of an unchanged bundle sends with the first one's."""

    def sides(ground: Ground) -> Sides:
        seconds = ground.made(_seconds, kind)
        return Sides(seconds.part(lambda second: second.to_phone), seconds.part(lambda second: second.first))

    return sides


def second_time(kind: str) -> Callable[[Ground], Sides]:
    """Measures the same deploys' seconds without snpe-net-run's, by the phone's clock."""
    return lambda ground: Sides(ground.made(_seconds, kind).part(lambda second: second.seconds))


def many_memory(kind: str, command: str) -> Callable[[Ground], Sides]:
    """Measures the peak memory of a command about many questions, in megabytes."""
    return lambda ground: Sides(ground.made(_large, kind).part(lambda large: large.megabytes[command]))


def many_storage(kind: str) -> Callable[[Ground], Sides]:
    """Measures the peak storage on the phone besides the store's blobs, in units of a chunk's files."""
    return lambda ground: Sides(ground.made(_large, kind).part(lambda large: large.chunks))


@dataclass(frozen=True)
class Second:
    """A second deploy and the first: megabytes to the phone (the first's without the stand-in's), and seconds."""

    first: float
    to_phone: float
    seconds: float


def _seconds(ground: Ground, kind: str) -> Shared[Second]:
    """Deploys once; each measurement is one more deploy."""
    cable, far = ground.opened(_counted, kind)
    bundle = ground.made(usual)
    far.run(["rm", "-rf", str(layout.REMOTE_ROOT)], doing="preparing", timeout_s=60)
    own = sum(entry.size for name, entry in bundle.device_files.items() if name.startswith(OWN))
    first = _deployed(far, cable, bundle)[0] - own / MEGABYTE
    return Shared(lambda: Second(first, *_deployed(far, cable, bundle)))


def _deployed(far: Phone, cable: Laid, bundle: Bundle) -> tuple[float, float]:
    """Returns the megabytes to the phone, and the seconds besides the run."""
    before = cable.crossed[0]
    document, seconds, _ = command(far, bundle, "deploy", "--runtime", "cpu")
    return (cable.crossed[0] - before) / MEGABYTE, seconds - sum(part["seconds"] for part in document["parts"])


@contextmanager
def _counted(ground: Ground, kind: str) -> Iterator[tuple[Laid, Phone]]:
    """Provides a cable that counts bytes, and the phone at its far end."""
    near = ground.opened(phone, kind)
    with laid(COUNTING, near.serial) as cable:
        yield cable, near.server.find(cable.serial)


@dataclass(frozen=True)
class Large:
    """A deploy and a fetch of many questions: memory by command, and storage in units of a chunk's files."""

    megabytes: dict[str, float]
    chunks: float


def _large(ground: Ground, kind: str) -> Shared[Large]:
    count, chunk = ground.size(MANY, FEW), ground.size(CHUNK, SMALL_CHUNK)
    place, near = ground.place("many"), ground.opened(phone, kind)
    bundle = with_stand_in(bundle_of(*made_up(count, place), place), chunk)
    return Shared(lambda: _deploy_many(near, bundle, chunk))


def _deploy_many(near: Phone, bundle: Bundle, chunk: int) -> Large:
    """Deploys and fetches again; samples the phone's storage meanwhile."""
    near.run(["rm", "-rf", str(layout.REMOTE_ROOT)], doing="preparing", timeout_s=60)
    most, ended = 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not ended.wait(ASK_S):
            script = f"du -s -k {layout.remote_bundle(bundle.id)} 2>/dev/null | cut -f 1"
            done = near.run(["sh", "-c", script], doing="looking", timeout_s=60, check=False)
            most = max(most, 1024 * int(done.stdout.strip() or 0))

    watching = threading.Thread(target=look)
    watching.start()
    try:
        peaks = {"deploy": command(near, bundle, "deploy", "--runtime", "cpu", "--chunk", str(chunk))[2]}
    finally:
        ended.set()
        watching.join()
    peaks["fetch-answers"] = command(near, bundle, "fetch-answers")[2]
    tensors = len(bundle.manifest.inputs) + len(bundle.manifest.outputs)
    return Large({name: peak / MEGABYTE for name, peak in peaks.items()}, most / (chunk * tensors * BLOCK))


def command(far: Phone, bundle: Bundle, name: str, *options: str) -> tuple[Any, float, int]:
    """Runs `mbqa-bundle NAME` on the phone; returns its JSON document, its seconds, and its peak memory in bytes.

    Raises:
        RuntimeError: it fails
    """
    argv = [*OURS, name, "--bundle", str(bundle.path), "--device", far.serial, "--json", *options]
    ran = run(argv, {"ANDROID_ADB_SERVER_PORT": str(far.server.port)})
    return json.loads(ran.said), ran.seconds, ran.peak_bytes
