"""Offers this computer's phones to a Dask cluster until a signal arrives, and lists a cluster's phones."""

import asyncio
import logging
import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Any

from bundler.device.phone import AdbServer
from bundler.errors import ClusterUnusable, ExtraMissing
from bundler.scheduler.cluster import CONNECT_S, HOST, check_address
from bundler.scheduler.host import Host, open_house
from bundler.scheduler.hosts import Hosts, RemotePhone

THREADS = 512  # chunks that are computed or wait for their phones
WATCH_S = 1.0
CLOSE_S = 10.0


def serve_phones(
    address: str,
    name: str,
    server: AdbServer,
    devices: Sequence[str],
    tell: Callable[[str], None],
    *,
    insecure: bool = False,
) -> None:
    """Joins the cluster as a worker whose resources are the attached phones: those in `devices`, or all.

    tell: takes messages for the user

    Raises:
        ExtraMissing: Dask is not installed; ClusterUnusable: the cluster cannot be joined, or is lost
    """
    check_address(address, insecure=insecure)
    try:
        import dask
        import distributed  # noqa: F401
    except ImportError as error:
        raise ExtraMissing("host", "Dask is not installed", "cluster") from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # `tell` reports what matters
    dask.config.set({"distributed.worker.profile.enabled": False})  # it samples each thread 100 times a second
    host = Host(name, server, devices)
    open_house(host)
    with tempfile.TemporaryDirectory(prefix="mbqa-host-") as folder:
        asyncio.run(_serve(address, host, tell, folder))


async def _serve(address: str, host: Host, tell: Callable[[str], None], folder: str) -> None:
    from distributed import Worker

    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        worker = await Worker(
            address, name=HOST + host.name, nthreads=THREADS, memory_limit=0, local_directory=folder,
            death_timeout=CONNECT_S, dashboard=False,
        )  # fmt: skip
    except Exception as error:  # Dask's errors have no common base
        hint = "Start a scheduler, or give this host another --name; docs/many-machines.md has the rest."
        raise ClusterUnusable(address, f"cannot be joined: {error.__cause__ or error}", hint) from error
    tell(f"host {host.name} joined {address}")
    try:
        await _watch(worker, host, tell, ended)
    finally:
        with suppress(TimeoutError, OSError):
            await asyncio.wait_for(worker.close(timeout=CLOSE_S / 2, executor_wait=False), CLOSE_S)
    if not ended.is_set():
        raise ClusterUnusable(address, "is lost", "Start `mbqa-bundle host` again, as systemd does.")


async def _watch(worker: Any, host: Host, tell: Callable[[str], None], ended: asyncio.Event) -> None:
    """Reports the attached phones to the cluster, until the cluster is lost or `ended` is set."""
    shown: dict[str, int] = {}
    while not ended.is_set() and worker.status.name == "running":
        phones = await asyncio.to_thread(host.look)
        if phones != shown:
            try:
                await worker.set_resources(**phones)
            except OSError:
                return
            for name, count in phones.items():
                if count != shown.get(name, 0):
                    tell(f"{name} is {'there' if count else 'gone'}")
            shown = phones
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), WATCH_S)


def list_phones(address: str, tell: Callable[[str], None], *, insecure: bool = False) -> list[dict[str, Any]]:
    """Lists the phones of a cluster's hosts: their properties and their users.

    tell: takes the address of the dashboard

    Raises:
        ExtraMissing, ClusterUnusable
    """
    with closing(Hosts(address, tell, insecure=insecure)) as hosts:
        return [_shown(phone) for phone in hosts.phones()]


def _shown(phone: RemotePhone) -> dict[str, Any]:
    facts = phone.facts
    soc = facts.soc if facts else None
    runtimes = ["cpu", *(["gpu"] if facts and facts.is_qualcomm else []), *(["dsp"] if soc and soc.has_htp else [])]
    return {
        "host": phone.host,
        "serial": phone.serial,
        "model": facts.model if facts else None,
        "soc": facts.soc_model if facts else None,
        "hexagon": soc.hexagon if soc else None,
        "runtimes": runtimes if facts else [],
        "free_bytes": facts.free_bytes if facts else None,
        "doing": phone.doing,
        "trouble": phone.trouble,
    }
