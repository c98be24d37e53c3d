"""Lists the hosts of a cluster and their phones, and sends tasks to them."""

import json
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bundler import __version__
from bundler.bundle.parsing import typed
from bundler.device.blobs import Blob
from bundler.device.probe import PhoneFacts
from bundler.dlc.cache import keep_content
from bundler.errors import BundlerError, ClusterUnusable, PhoneLost
from bundler.scheduler.cluster import CONNECT_S, HOST, STORE_S, check_address, connect
from bundler.scheduler.host import compute_on_phone, offer, resource_of

LOOK_S = 0.5
POLL_S = 0.05
SILENT_S = 20.0  # a host without a heartbeat for this long counts as lost
OFFER_S = 30.0

Json = dict[str, Any]


@dataclass(frozen=True)
class RemotePhone:
    """A phone as its host describes it. `facts` None: probing it failed with `trouble`; `doing`: who uses it."""

    host: str
    serial: str
    facts: PhoneFacts | None
    doing: str
    trouble: str

    @property
    def name(self) -> str:
        return f"{self.host}/{self.serial}"


class Hosts:
    """The hosts of a cluster.

    tell: takes the address of the dashboard.

    Raises:
        ExtraMissing: Dask is not installed; ClusterUnusable
    """

    def __init__(self, address: str, tell: Callable[[str], None], *, insecure: bool = False) -> None:
        check_address(address, insecure=insecure)
        self.address = address
        self._lock = threading.Lock()
        self._sending: dict[str, threading.Lock] = {}
        self._sent: set[tuple[str, str]] = set()
        self._words: dict[str, tuple[float, float]] = {}  # by worker: its last heartbeat, and our time when it changed
        self._workers: dict[str, Json] = {}
        self._looked = float("-inf")
        self._client = connect(address, CONNECT_S)
        if self._client.dashboard_link:
            tell(f"connected to {address}; dashboard: {self._client.dashboard_link}")

    def close(self) -> None:
        self._client.close(timeout=CONNECT_S)

    def attached(self) -> set[str]:
        """Returns the names of the attached phones that the scheduler knows, without asking a host.

        Raises:
            PhoneLost: the scheduler does not answer
        """
        with self._reaching("of any host", "looking for hosts"):
            return {
                f"{told['name'].removeprefix(HOST)}/{resource.removeprefix(resource_of(''))}"
                for worker, told in self._look().items()
                if self._speaks(worker)
                for resource, count in told["resources"].items()
                if count
            }

    def phones(self, names: Collection[str] | None = None) -> list[RemotePhone]:
        """Returns all phones of all hosts that answer, by name; with `names`, all phones of the hosts of these phones.

        Raises:
            ClusterUnusable: a host has another release
        """
        asks = {name.partition("/")[0] for name in names or ()}
        with self._reaching("of any host", "looking for hosts"):
            asked = [
                (worker, told["name"].removeprefix(HOST), self._submit(offer, worker))
                for worker, told in self._look().items()
                if self._speaks(worker) and (names is None or told["name"].removeprefix(HOST) in asks)
            ]
        found: list[RemotePhone] = []
        for worker, host, answer in asked:
            try:
                with self._reaching(f"of host {host}", "asking for its phones"):
                    reply = json.loads(self._awaited(answer, worker))
            except PhoneLost:
                continue  # its host was lost meanwhile
            version = reply.get("version") if isinstance(reply, dict) else None
            if version != __version__:
                what = f"host {host} has mbqa-bundle {version}, and this is {__version__}"
                hint = f"Install mbqa-bundle[cluster] {__version__} on every host, and start `mbqa-bundle host` again."
                raise ClusterUnusable(self.address, what, hint)
            found += [typed(RemotePhone, {**each, "host": host}, f"host {host}") for each in reply["phones"]]
        return sorted(found, key=lambda phone: phone.name)

    def where(self, phone: RemotePhone) -> str:
        """Returns the address of the worker that has the phone now.

        Raises:
            PhoneLost: there is none
        """
        with self._reaching(phone.name, "looking for it"):
            workers = self._look()
        named = [worker for worker, told in workers.items() if told["name"] == HOST + phone.host]
        if not any(map(self._speaks, named)):
            raise PhoneLost(phone.name, "looking for it", f"host {phone.host} is gone")
        if not workers[named[0]]["resources"].get(resource_of(phone.serial)):
            raise PhoneLost(phone.name, "looking for it", "it is not attached")
        return named[0]

    def start(self, phone: RemotePhone, job: bytes, archive: bytes) -> Any:
        """Returns the future of a chunk's reply. Raises: PhoneLost"""
        worker = self.where(phone)
        with self._reaching(phone.name, "sending a chunk"):
            return self._submit(compute_on_phone, worker, job, archive)

    def reply(self, phone: RemotePhone, future: Any) -> bytes:
        """Raises: PhoneLost"""
        deadline = time.monotonic() + CONNECT_S
        with self._reaching(phone.name, "running a chunk"):
            while True:
                try:
                    return bytes(future.result(LOOK_S))
                except TimeoutError:  # it is large, or was lost with its host
                    self.where(phone)
                    if time.monotonic() > deadline:
                        raise

    def bring(self, phone: RemotePhone, blobs: Sequence[Blob], *, again: bool) -> None:
        """Sends blobs to the phone's host, once for all its phones.

        Raises:
            PhoneLost
        """
        worker = self.where(phone)
        with self._lock:
            turn = self._sending.setdefault(worker, threading.Lock())
        with turn, self._reaching(phone.name, "sending the bundle to its host"):
            for blob in blobs:
                if again or (worker, blob.sha256) not in self._sent:
                    content = self._client.scatter(
                        b"".join(blob.pieces()), workers=[worker], hash=False, timeout=CONNECT_S
                    )
                    self._submit(keep_content, worker, blob.sha256, content).result(STORE_S)
                    self._sent.add((worker, blob.sha256))

    def _submit(self, function: Callable[..., Any], worker: str, *arguments: Any) -> Any:
        return self._client.submit(function, *arguments, workers=[worker], pure=False)

    def _awaited(self, future: Any, worker: str) -> Any:
        """Returns a short task's result. Raises: TimeoutError: its host is lost, or busy"""
        deadline = time.monotonic() + OFFER_S
        while not future.done():
            if time.monotonic() > deadline or worker not in self._look() or not self._speaks(worker):
                raise TimeoutError("the host does not answer")
            time.sleep(POLL_S)
        return future.result(CONNECT_S)

    def _look(self) -> dict[str, Json]:
        """Returns the hosts among the workers, by address, as the scheduler reported recently."""
        with self._lock:
            if time.monotonic() - self._looked > LOOK_S:
                if self._client.status != "running":
                    self._client.close(timeout=1)
                    try:
                        self._client = connect(self.address, CONNECT_S)
                    except ClusterUnusable as error:  # it may come back
                        raise ConnectionError(str(error)) from error
                told = self._client.sync(self._client.scheduler.identity, n_workers=-1, callback_timeout=CONNECT_S)
                workers = {key: each for key, each in told["workers"].items() if str(each["name"]).startswith(HOST)}
                now = time.monotonic()
                for worker, each in workers.items():
                    if self._words.get(worker, (0.0, 0.0))[0] != each["last_seen"]:
                        self._words[worker] = each["last_seen"], now
                self._workers, self._looked = workers, now
            return self._workers

    def _speaks(self, worker: str) -> bool:
        return worker in self._words and time.monotonic() - self._words[worker][1] < SILENT_S

    @contextmanager
    def _reaching(self, name: str, doing: str) -> Iterator[None]:
        try:
            yield
        except BundlerError:
            raise
        except (ModuleNotFoundError, AttributeError, ImportError) as error:
            hint = f"Install mbqa-bundle[cluster] {__version__} on every host."
            raise ClusterUnusable(self.address, f"{name}: it has another release: {error}", hint) from error
        except Exception as error:  # Dask's errors have no common base
            raise PhoneLost(name, doing, str(error) or type(error).__name__) from error
