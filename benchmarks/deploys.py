"""Whole deploys, as a person types them: what the second one sends and takes, and what ten thousand questions need."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.link import Laid
from bundler import layout
from bundler.bundle import Bundle
from bundler.device.phone import Phone

START = "import sys; from bundler.cli import main; sys.exit(main())"
LOOK_S, ASK_S = 0.01, 0.3
OWN = "bin/"  # where the stand-in lies


@dataclass(frozen=True)
class Ran:
    """A command: its JSON document, how long it took, the most memory it had resident."""

    document: Any
    seconds: float
    peak_bytes: int


def command(phone: Phone, bundle: Bundle, name: str, *options: str) -> Ran:
    """Runs `mbqa-bundle NAME` on the phone.

    Raises:
        RuntimeError: it fails
    """
    argv = [
        sys.executable,
        "-c",
        START,
        name,
        "--bundle",
        str(bundle.path),
        "--device",
        phone.serial,
        "--json",
        *options,
    ]
    environment = {**os.environ, "ANDROID_ADB_SERVER_PORT": str(phone.server.port)}
    begun, peak = time.perf_counter(), 0
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        said: list[bytes] = [b"", b""]
        reading = threading.Thread(target=lambda: said.__setitem__(slice(2), child.communicate()))
        reading.start()
        while reading.is_alive():
            peak = max(peak, _peak_bytes(child.pid))
            reading.join(LOOK_S)
    seconds = time.perf_counter() - begun
    if child.returncode:
        raise RuntimeError(f"{' '.join(argv)} failed:\n{said[1].decode()}")
    return Ran(json.loads(said[0]), seconds, peak)


def _peak_bytes(pid: int) -> int:
    """The most that a process has had resident; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


@dataclass(frozen=True)
class Second:
    """A second deploy of an unchanged bundle beside the first: bytes to the phone (the first's without the stand-in's),
    bytes from it, and seconds without those in which snpe-net-run ran, by the phone's clock."""

    first_to_phone: int
    to_phone: int
    from_phone: int
    seconds: float

    @property
    def share(self) -> float:
        return self.to_phone / self.first_to_phone


def second_deploys(phone: Phone, cable: Laid, bundle: Bundle, rounds: int) -> list[Second]:
    """Deploys once, and then so many times again."""
    own = sum(entry.size for name, entry in bundle.device_files.items() if name.startswith(OWN))
    taken = []
    for _ in range(rounds + 1):
        before = cable.crossed
        ran = command(phone, bundle, "deploy", "--runtime", "cpu")
        after = cable.crossed
        running = sum(part["seconds"] for part in ran.document["parts"])
        taken.append((after[0] - before[0], after[1] - before[1], ran.seconds - running))
    first, *others = taken
    return [Second(first[0] - own, *other) for other in others]


@dataclass(frozen=True)
class Large:
    """A deploy of many questions: the most memory of both commands, the most that lay on the phone beside the store's
    blobs, and how large those are."""

    questions: int
    chunk: int
    deploy_bytes: int
    fetch_bytes: int
    beside_store_bytes: int
    inputs_bytes: int
    seconds: float


def large_deploy(phone: Phone, bundle: Bundle, chunk: int) -> Large:
    """Deploys and fetches; the phone's storage is looked at meanwhile."""
    root, most, ended = layout.REMOTE_ROOT, 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not ended.wait(ASK_S):
            script = f"du -s -k {root}/{bundle.id} 2>/dev/null | cut -f 1"
            done = phone.run(["sh", "-c", script], doing="looking", timeout_s=60, check=False)
            most = max(most, int(done.stdout.strip() or 0))

    watching = threading.Thread(target=look)
    watching.start()
    try:
        deployed = command(phone, bundle, "deploy", "--runtime", "cpu", "--chunk", str(chunk))
    finally:
        ended.set()
        watching.join()
    fetched = command(phone, bundle, "fetch-answers")
    archives = f"cat {root}/{bundle.id}/{layout.INPUTS}/* | wc -c"
    inputs = int(phone.run(["sh", "-c", archives], doing="looking", timeout_s=60).stdout)
    return Large(
        len(bundle.questions), chunk, deployed.peak_bytes, fetched.peak_bytes, 1024 * most, inputs,
        deployed.seconds,
    )  # fmt: skip
