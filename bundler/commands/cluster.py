"""Implements the commands for phones of a Dask cluster: host, phones."""

from typing import Annotated, Any

import typer

from bundler.commands.options import AdbHost, AdbPort, Devices, Insecure, Json, adb_server, app
from bundler.console import Console


@app.command()
def host(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The Dask scheduler, such as tls://HOST:8786.")],
    device: Devices = None,
    name: Annotated[str | None, typer.Option(help="The host's name. Default: the computer's name.")] = None,
    insecure: Insecure = False,
    adb_host: AdbHost = None,
    adb_port: AdbPort = None,
) -> None:
    """Offer this computer's phones, the given ones or all, to a Dask cluster, until the command is stopped."""
    import socket

    from bundler.pipeline.host import serve_phones

    server, tell = adb_server(adb_host, adb_port), Console().say
    serve_phones(address, name or socket.gethostname(), server, device or (), tell, insecure=insecure)


@app.command()
def phones(
    cluster: Annotated[str, typer.Option(help="The Dask scheduler, such as tls://HOST:8786.")],
    insecure: Insecure = False,
    as_json: Json = False,
) -> None:
    """List the phones of a Dask cluster's hosts, and what they do."""
    from bundler.pipeline.host import list_phones

    console = Console(as_json=as_json)
    told = list_phones(cluster, console.say, insecure=insecure)
    console.table(("host", "phone", "model", "SoC", "Hexagon", "runtimes", "free", "does"), [_row(one) for one in told])
    if not told:
        console.say("no host offers a phone: `mbqa-bundle host` does where phones are attached")
    console.document(told)


def _row(told: dict[str, Any]) -> tuple[str, ...]:
    free = "-" if told["free_bytes"] is None else f"{told['free_bytes'] / 1e9:.1f} GB"
    hexagon = f"v{told['hexagon']}" if told["hexagon"] else "-"
    return (
        told["host"], told["serial"], told["model"] or "-", told["soc"] or "-", hexagon,
        ", ".join(told["runtimes"]) or "-", free, told["trouble"] or told["doing"] or "nothing",
    )  # fmt: skip
