"""Implements the commands for virtual phones: phone start, stop, list."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bundler import soc
from bundler.commands.options import Json, SocOption, app, chip_named
from bundler.console import Console
from bundler.virtual import faults

if TYPE_CHECKING:
    from bundler.virtual.phones import VirtualPhone

phone_app = typer.Typer(help="Virtual phones, for any adb client.", no_args_is_help=True)
app.add_typer(phone_app, name="phone")


@phone_app.command("start", epilog=faults.as_text())
def phone_start(
    chip: SocOption = soc.DEFAULT,
    port: Annotated[int, typer.Option(help="Port that it listens on; 0 takes a free one.", min=0, max=65535)] = 5555,
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="This computer's IPv4 address to listen on.")
    ] = "127.0.0.1",
    allow_remote: Annotated[
        bool,
        typer.Option("--allow-remote", help="Let --listen be an address that other computers reach."),
    ] = False,
    open_to_all: Annotated[
        bool, typer.Option("--open", help="Take every adb client, not only those with this user's key.")
    ] = False,
    fault: Annotated[
        list[str] | None,
        typer.Option(metavar="SPEC", help="A fault of the phone; repeatable. They are listed below."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a virtual phone in the background."""
    import tempfile

    from bundler.device.server import user_key
    from bundler.virtual import landlock
    from bundler.virtual.phones import HOST, default_state_root, is_remote, start_phone

    console, root = Console(as_json=as_json), default_state_root()
    remote = is_remote(listen, allowed=allow_remote)
    root.mkdir(parents=True, exist_ok=True)
    name = str(port) if listen == HOST else f"{listen}-{port}"
    state = root / name if port else Path(tempfile.mkdtemp(prefix="free-", dir=root))
    if not open_to_all:
        user_key()
    phone = start_phone(
        chip_named(chip), port, state,
        faults=fault or (), address=listen, allow_remote=allow_remote, open_to_all=open_to_all,
    )  # fmt: skip
    if not landlock.version():
        console.warn("this kernel has no Landlock: what runs on the virtual phone can reach your files")
    if remote:
        console.warn(
            f"{listen}:{phone.port} can be reached from other computers; it takes adb clients with your key only"
        )
    console.say(f"virtual {phone.soc} is up: mbqa-bundle deploy --device {phone.serial}")
    console.document(_phone_json(phone))


@phone_app.command("stop")
def phone_stop(
    port: Annotated[int | None, typer.Option(help="Port of the phone. Default: all phones.", min=1, max=65535)] = None,
    wipe: Annotated[bool, typer.Option("--wipe", help="Delete its storage too.")] = False,
    as_json: Json = False,
) -> None:
    """Stop virtual phones."""
    from bundler.errors import VirtualPhoneFailed
    from bundler.virtual.phones import default_state_root, list_phones, stop_phone

    phones = [phone for phone in list_phones(default_state_root()) if port in (None, phone.port)]
    if not phones:
        which = f"on port {port}" if port else "at all"
        raise VirtualPhoneFailed(f"none is running {which}", "See `mbqa-bundle phone list`.")
    console = Console(as_json=as_json)
    for phone in phones:
        stop_phone(phone, wipe=wipe)
        console.say(f"stopped {phone.serial}")
    console.document([_phone_json(phone) for phone in phones])


@phone_app.command("list")
def phone_list(as_json: Json = False) -> None:
    """List the running virtual phones."""
    from bundler.virtual.phones import default_state_root, list_phones

    console = Console(as_json=as_json)
    phones = list_phones(default_state_root())
    console.table(
        ("serial", "SoC", "pid", "state folder"), [(p.serial, p.soc, str(p.pid), str(p.state)) for p in phones]
    )
    console.document([_phone_json(phone) for phone in phones])


def _phone_json(phone: "VirtualPhone") -> dict[str, Any]:
    return {
        "serial": phone.serial,
        "address": phone.address,
        "port": phone.port,
        "soc": phone.soc,
        "pid": phone.pid,
        "state": str(phone.state),
    }
