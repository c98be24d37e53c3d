"""Phones of a Dask cluster: host, phones."""

import socket
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bundler.commands.options import AdbHost, AdbPort, Devices, Insecure, Json, adb_server, app
from bundler.console import Console

if TYPE_CHECKING:
    from bundler.scheduler.hosts import RemotePhone


@app.command()
def host(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The Dask scheduler, such as tls://HOST:8786.")],
    device: Devices = None,
    name: Annotated[str | None, typer.Option(help="What the host is called. Default: as the computer is.")] = None,
    insecure: Insecure = False,
    adb_host: AdbHost = None,
    adb_port: AdbPort = None,
) -> None:
    """Offer this computer's phones, those given or all, to a Dask cluster, until it is stopped."""
    from bundler.pipeline.host import serve_phones
    from bundler.scheduler.host import Host

    offered = Host(name or socket.gethostname(), adb_server(adb_host, adb_port), device or ())
    serve_phones(address, offered, Console().say, insecure=insecure)


@app.command()
def phones(
    cluster: Annotated[str, typer.Option(help="The Dask scheduler, such as tls://HOST:8786.")],
    insecure: Insecure = False,
    as_json: Json = False,
) -> None:
    """List the phones of a Dask cluster's hosts, and what they do."""
    from bundler.scheduler.hosts import Hosts

    console = Console(as_json=as_json)
    hosts = Hosts(cluster, console.say, insecure=insecure)
    try:
        found = hosts.phones()
    finally:
        hosts.close()
    told = [_phone_json(phone) for phone in found]
    console.table(("host", "phone", "model", "SoC", "Hexagon", "runtimes", "free", "does"), [_row(one) for one in told])
    if not found:
        console.say("no host offers a phone: `mbqa-bundle host` does where phones are attached")
    console.document(told)


def _phone_json(phone: "RemotePhone") -> dict[str, Any]:
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


def _row(told: dict[str, Any]) -> tuple[str, ...]:
    free = "-" if told["free_bytes"] is None else f"{told['free_bytes'] / 1e9:.1f} GB"
    hexagon = f"v{told['hexagon']}" if told["hexagon"] else "-"
    return (
        told["host"], told["serial"], told["model"] or "-", told["soc"] or "-", hexagon,
        ", ".join(told["runtimes"]) or "-", free, told["trouble"] or told["doing"] or "nothing",
    )  # fmt: skip
