"""Implements the commands for the public part of Qualcomm's SDK: sdk get, list, path, remove."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bundler import __version__
from bundler.commands.options import Json, agrees, app, chip_named
from bundler.console import Console
from bundler.errors import SdkNotFetched, UsageError

if TYPE_CHECKING:
    from bundler.sdk.cache import Fetched
    from bundler.types import Progress

sdk_app = typer.Typer(help="The parts of Qualcomm's public SDK that a phone needs.", no_args_is_help=True)
app.add_typer(sdk_app, name="sdk")

Purpose = Literal["run", "convert", "all"]  # repeated here as in options.py
Version = Annotated[
    str | None, typer.Argument(metavar="VERSION", help="Such as 2.50.0.260828. Default: the newest version.")
]


@sdk_app.command("get")
def sdk_get(
    version: Version = None,
    purpose: Annotated[
        Purpose,
        typer.Option("--for", help="run: what a phone needs; convert: the converters for Linux too; all: everything."),
    ] = "run",
    chip: Annotated[
        str | None, typer.Option("--soc", help="Only this chip's DSP libraries. Default: those of every chip.")
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read Qualcomm's AI Stack License and accept it.")
    ] = False,
    mirror: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A copy of Qualcomm's place: URL/VERSION/vVERSION.zip. Default: MBQA_SDK_MIRROR."
        ),
    ] = None,
    archive: Annotated[
        Path | None, typer.Option("--zip", metavar="FILE", help="Take it from an archive that you downloaded.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow a mirror by http, although others could change the data.")
    ] = False,
    user_agent: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The User-Agent to send. Default: mbqa-bundle and its version.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for everything together.", min=1)] = 3600,
    as_json: Json = False,
) -> None:
    """Fetch the needed files of Qualcomm's SDK, a small part of its archive, into a cache folder."""
    from bundler.sdk.cache import cache_folder
    from bundler.sdk.get import GetRequest, get_sdk

    console = Console(as_json=as_json)

    def agree(folder: Path) -> None:
        console.say("Qualcomm's SDK is under the AI Stack License of Qualcomm Technologies, Inc. Its text will be in")
        console.say(f"{folder / 'LICENSE.pdf'}, and the notices of others beside it.")
        if not accept_licence:
            _ask()

    request = GetRequest(
        cache=cache_folder(),
        agree=agree,
        warn=console.warn,
        version=version,
        purpose=purpose,
        soc=chip_named(chip) if chip else None,
        mirror=mirror or os.environ.get("MBQA_SDK_MIRROR"),
        archive=archive,
        insecure=insecure,
        user_agent=user_agent or f"mbqa-bundle/{__version__}",
        timeout_s=timeout,
    )
    with ExitStack() as stack:
        got = get_sdk(request, _later(console, stack))
    cost = f"{got.received / 1e6:.1f} MB in {got.requests} requests" if got.requests else "nothing to fetch"
    console.say(f"SDK {got.sdk.version} is in {got.sdk.root} ({cost}); build and doctor find it there")
    console.document({**_json(got.sdk), "received_bytes": got.received, "requests": got.requests})


def _ask() -> None:
    hint = "Read LICENSE.pdf in the archive, or on Qualcomm's pages, and accept it with --accept-licence."
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal on which you could accept the licence", hint)
    if not agrees("Do you accept it?"):
        raise UsageError("the licence was not accepted, so nothing was fetched", hint)


def _later(console: Console, stack: ExitStack) -> "Progress":
    """Returns a progress that uses the terminal only once there is something to show: after the question."""
    shows: list[Progress] = []

    def show(stage: str, done: int, total: int | None, /) -> None:
        if not shows:
            shows.append(stack.enter_context(console.progress()))
        shows[0](stage, done, total)

    return show


@sdk_app.command("list")
def sdk_list(as_json: Json = False) -> None:
    """List the fetched SDKs, and the known public ones."""
    from bundler.errors import BundlerError
    from bundler.sdk.cache import cache_folder, check, read_fetched, versions_in
    from bundler.sdk.versions import known, known_versions, order

    console, cache = Console(as_json=as_json), cache_folder()
    here = versions_in(cache)
    rows: list[dict[str, Any]] = []
    for version in sorted({*here, *(each.version for each in known_versions())}, key=order, reverse=True):
        facts = known(version)
        row: dict[str, Any] = {"version": version, "archive_bytes": facts.bytes, "source": facts.source, "state": ""}
        if version in here:
            try:
                fetched = read_fetched(cache, version)
                check(fetched)
                row |= {"state": f"for {fetched.purpose}", **_json(fetched)}
            except BundlerError as error:
                row |= {"state": f"damaged: {error}"}
        rows.append(row)
    size = [f"{row['archive_bytes'] / 1e6:.0f} MB" if row["archive_bytes"] else "" for row in rows]
    cells = [(row["version"], row["state"], row.get("path", ""), each) for row, each in zip(rows, size, strict=True)]
    console.table(("version", "fetched", "folder", "archive"), cells)
    console.document(rows)


@sdk_app.command("path")
def sdk_path(version: Version = None, as_json: Json = False) -> None:
    """Print the folder of a fetched SDK, after a check of its files."""
    from bundler.sdk.cache import cache_folder, find
    from bundler.sdk.versions import checked_version

    fetched = find(cache_folder(), checked_version(version) if version else None)
    if fetched is None:
        raise SdkNotFetched
    console = Console(as_json=as_json)
    if not as_json:
        console.say(str(fetched.root))
    console.document(_json(fetched))


@sdk_app.command("remove")
def sdk_remove(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="The version to remove.")], as_json: Json = False
) -> None:
    """Remove a fetched SDK, and the remains of an interrupted `sdk get`."""
    from bundler.sdk.cache import cache_folder, remove
    from bundler.sdk.versions import checked_version

    console, version = Console(as_json=as_json), checked_version(version)
    if not remove(cache_folder(), version):
        raise SdkNotFetched(version)
    console.say(f"removed SDK {version}")
    console.document({"removed": version})


def _json(fetched: "Fetched") -> dict[str, Any]:
    return {
        "version": fetched.version,
        "path": str(fetched.root),
        "for": fetched.purpose,
        "chips": fetched.chips,
        "source": fetched.source,
        "archive_bytes": fetched.archive_bytes,
        "files": len(fetched.files),
        "bytes": sum(size for size, _ in fetched.files.values()),
    }
