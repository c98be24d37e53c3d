"""Simulates on the workers of a Dask cluster; sends only bytes of our formats, and the DLC once to each worker.

A worker keeps DLCs by their SHA-256 in the user's cache folder. To a chunk whose DLC is missing it replies "lacks";
then the DLC is sent to that worker.
"""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from bundler import __version__
from bundler.dlc.cache import cached, keep_content
from bundler.dlc.child import Logits, Networks, Task
from bundler.dlc.inspect import inspect_dlc
from bundler.errors import BundlerError, ClusterUnusable, DlcInvalid, ExtraMissing, NoConverter, OutputsInvalid
from bundler.files import sha256_of
from bundler.platforms import is_loopback
from bundler.scheduler.ahead import ahead
from bundler.scheduler.simulators import compute
from bundler.soc import Soc
from bundler.types import Progress, TensorSpec

CONNECT_S = 20.0
RECONNECT_S = 60.0
WORKERS_S = 30.0
STORE_S = 600.0
HOST = "host "  # prefix of the names of the workers that `mbqa-bundle host` starts
IDLE_S = 60.0  # a worker ends processes that were not used for this long

Arrays = Mapping[str, npt.NDArray[Any]]
Json = dict[str, Any]


class Cluster:
    """A scheduler's workers, as `Workers`; `width` is their number of threads at the time of connecting.

    tell: takes the address of the dashboard.

    Raises:
        ExtraMissing: Dask is not installed; ClusterUnusable
    """

    def __init__(
        self,
        address: str,
        task: Task,
        sha256: str,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        insecure: bool,
        tell: Callable[[str], None],
    ) -> None:
        check_address(address, insecure=insecure)
        self._address, self._dlc, self._sha256 = address, Path(task.dlc), sha256
        specs = [[[spec.name, spec.dtype, list(spec.shape)] for spec in side] for side in (inputs, outputs)]
        job = {
            "version": __version__,
            "sha256": sha256,
            "task": asdict(replace(task, dlc="", prepared="")),
            "specs": specs,
        }
        self._job = json.dumps(job).encode()
        self._lock = threading.Lock()
        self._closed = False
        self._client = connect(address, CONNECT_S)
        try:
            self.width = self._threads()
        except BaseException:
            self.close()
            raise
        if self._client.dashboard_link:
            tell(f"{self.width} threads at {address}; dashboard: {self._client.dashboard_link}")

    def submit(self, raw: bytes) -> "Future[bytes]":
        """Returns a future. It raises: DlcInvalid, NoConverter: from the worker; ClusterUnusable; OutputsInvalid"""
        return ahead(self._computed, raw)

    def close(self) -> None:
        self._closed = True
        self._client.close(timeout=CONNECT_S)

    def _threads(self) -> int:
        """Returns how many chunks the workers compute at once; waits for the first worker.

        Raises:
            ClusterUnusable: there is no worker, or some are hosts of phones, to which Dask would give chunks too
        """
        deadline = time.monotonic() + WORKERS_S
        told = self._client.sync(self._client.scheduler.identity, n_workers=-1, callback_timeout=CONNECT_S)
        if any(str(worker["name"]).startswith(HOST) for worker in told["workers"].values()):
            raise ClusterUnusable(self._address, "has hosts of phones", "Give simulators a scheduler of their own.")
        while not (threads := int(sum(self._client.nthreads().values()))):
            if time.monotonic() > deadline:
                hint = f"Start some: `dask worker {self._address}` where mbqa-bundle[cluster] is installed."
                raise ClusterUnusable(self._address, "has no worker", hint)
            time.sleep(0.2)
        return threads

    def _computed(self, raw: bytes) -> bytes:
        """Sends one chunk to a worker and returns its outputs."""
        deadline = time.monotonic() + RECONNECT_S
        while True:
            client = self._client
            try:
                reply = client.submit(simulate_on_worker, self._job, raw, pure=False).result()
            except Exception as error:  # Dask's errors have no common base
                self._again(client, error, deadline)
                continue
            head, _, body = reply.partition(b"\n")
            told = json.loads(head)
            if "lacks" in told:
                self._store(told["lacks"])
            elif "sha256" in told:
                if hashlib.sha256(body).hexdigest() != told["sha256"]:
                    raise OutputsInvalid(f"cluster {self._address}: outputs that came back are damaged")
                return bytes(body)
            else:
                raise _refusal(self._address, self._dlc, told)

    def _store(self, worker: str) -> None:
        """Sends the DLC to a worker, once."""
        content = self._client.scatter(self._dlc.read_bytes(), workers=[worker], hash=False)
        kept = self._client.submit(keep_content, self._sha256, content, workers=[worker], pure=False)
        kept.result(STORE_S)

    def _again(self, client: Any, error: Exception, deadline: float) -> None:
        """Reconnects if the scheduler is gone.

        Raises:
            ClusterUnusable: it does not come back, or the error has another cause
        """
        from distributed.scheduler import KilledWorker

        if isinstance(error, KilledWorker):
            hint = "Look at the workers' logs: memory is the usual reason."
            raise ClusterUnusable(self._address, f"workers died on a chunk: {error}", hint) from error
        if isinstance(error, ModuleNotFoundError | AttributeError | ImportError):
            hint = f"Install mbqa-bundle[cluster] {__version__} on every worker."
            raise ClusterUnusable(self._address, f"a worker has another release of it: {error}", hint) from error
        with self._lock:
            if self._closed or time.monotonic() > deadline:
                raise ClusterUnusable(
                    self._address, f"is lost: {error}", "The same command goes on, once the scheduler is there again."
                ) from error
            if self._client is client and client.status != "running":
                client.close(timeout=1)
                self._client = connect(self._address, RECONNECT_S)
        time.sleep(0.5)


def run_on_cluster(
    dlc: Path,
    soc: Soc,
    feeds: Sequence[Arrays],
    progress: Progress,
    *,
    address: str,
    insecure: bool,
    tell: Callable[[str], None],
) -> list[Logits]:
    """Returns the DLC's outputs as the chip's DSP computes them, float32 (1, length) by name, for each feed of int32
    (1, length) arrays. Does the same as `run_on_simulator`, on a scheduler's workers.

    Raises:
        DlcInvalid, NoConverter, ExtraMissing, ClusterUnusable, OutputsInvalid
    """
    report = inspect_dlc(dlc)
    inputs, outputs = ([tensor.spec for tensor in side] for side in (report.inputs, report.outputs))
    found: list[Logits] = []
    task = Task(str(dlc), "dsp", soc.qnn_id)
    with closing(Cluster(address, task, sha256_of(dlc), inputs, outputs, insecure, tell)) as cluster:
        raws = [b"".join(feed[spec.name].astype("<f4").tobytes() for spec in inputs) for feed in feeds]
        for future in [cluster.submit(raw) for raw in raws]:
            progress("running the DLC on the cluster's simulators", len(found), len(feeds))
            rows = np.frombuffer(future.result(), "<f4").reshape(len(outputs), *outputs[0].shape)
            found.append({spec.name: row for spec, row in zip(outputs, rows, strict=True)})
    return found


def check_address(address: str, *, insecure: bool) -> None:
    """Raises ClusterUnusable for an invalid address, or for one on another computer without TLS."""
    parts = urlsplit(address)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if parts.scheme not in ("tcp", "tls") or not host or not port:
        raise ClusterUnusable(address, "is not a scheduler's address", "Give tls://HOST:8786, or tcp://127.0.0.1:8786.")
    if parts.scheme == "tcp" and not insecure and not is_loopback(host):
        hint = "Use tls:// (docs/many-machines.md), or --insecure in a network where you trust everybody."
        raise ClusterUnusable(address, "is on another computer, and without TLS", hint)


def connect(address: str, limit_s: float) -> Any:
    """Returns a client of the scheduler. Raises: ExtraMissing, ClusterUnusable"""
    try:
        from distributed import Client
    except ImportError as error:
        raise ExtraMissing("--cluster", "Dask is not installed", "cluster") from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # our own errors report what matters
    logging.getLogger("asyncio").addFilter(_is_not_of_dask)
    client = Client.__new__(Client)
    try:
        client.__init__(address, timeout=limit_s, set_as_default=False)
        return client
    except (OSError, TimeoutError, ValueError, RuntimeError, TypeError) as error:
        with suppress(Exception):  # Dask's errors have no common base
            client.close(timeout=1)  # left to the garbage collector, it may block the next client
        hint = "Start one: `dask scheduler --host 127.0.0.1`; docs/many-machines.md has the rest."
        raise ClusterUnusable(address, f"cannot be connected to: {error}", hint) from error


def _is_not_of_dask(record: logging.LogRecord) -> bool:
    """Filters out errors of Dask's coroutines that nobody waited for any longer."""
    kind = record.exc_info and record.exc_info[0]
    return not (kind and kind.__module__.startswith("distributed."))


def _refusal(address: str, dlc: Path, told: Json) -> BundlerError:
    """Returns the error for a chunk that a worker refused."""
    kind, what = told["refused"], told["what"]
    if kind == "DlcInvalid":
        return DlcInvalid(dlc, what)
    if kind == "NoConverter":
        return NoConverter(f"worker {told['worker']}: {what}")
    hint = f"Install mbqa-bundle[cluster] {__version__} on every worker."
    return ClusterUnusable(address, f"worker {told['worker']}: {what}", hint)


# The following runs on the workers.


@dataclass
class _Job:
    """A job's processes, the number of chunks in progress, and the time of the last use."""

    networks: Networks
    busy: int = 0
    used: float = 0.0


_jobs: dict[bytes, _Job] = {}
_lock = threading.Lock()


def simulate_on_worker(job: bytes, raw: bytes) -> bytes:
    """Computes a chunk. Replies {"sha256": ...} and outputs, {"lacks": worker}, or {"refused": ..., "what": ...}."""
    from distributed import get_worker

    worker: str = get_worker().address
    told = json.loads(job)
    if told["version"] != __version__:
        what = f"has mbqa-bundle {__version__}, and this is {told['version']}"
        return head_line({"refused": "version", "what": what, "worker": worker})
    path = cached(told["sha256"])
    if path is None:
        return head_line({"lacks": worker})
    task = Task(**{**told["task"], "dlc": str(path)})
    inputs, outputs = ([TensorSpec(n, d, tuple(s)) for n, d, s in side] for side in told["specs"])
    try:
        with _networks(job, task) as networks:
            computed = compute(networks, inputs, outputs, raw)
    except (DlcInvalid, NoConverter) as refused:
        kind, what = ("DlcInvalid", "what") if isinstance(refused, DlcInvalid) else ("NoConverter", "reason")
        return head_line({"refused": kind, "what": refused.data[what], "worker": worker})
    return head_line({"sha256": hashlib.sha256(computed).hexdigest()}) + computed


@contextmanager
def _networks(job: bytes, task: Task) -> Iterator[Networks]:
    """Provides this job's processes, which end when they have not been used for a while."""
    with _lock:
        mine = _jobs.setdefault(job, _Job(Networks(task)))
        mine.busy += 1
    try:
        yield mine.networks
    finally:
        with _lock:
            mine.busy -= 1
            mine.used = time.monotonic()
        timer = threading.Timer(IDLE_S, _end_idle)
        timer.daemon = True
        timer.start()


def _end_idle() -> None:
    with _lock:
        for job, each in list(_jobs.items()):
            if not each.busy and time.monotonic() - each.used >= IDLE_S:
                each.networks.close()
                del _jobs[job]


def head_line(told: Json) -> bytes:
    """Returns the JSON line that a worker's reply begins with."""
    return json.dumps(told).encode() + b"\n"
