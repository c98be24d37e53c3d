"""Contains what several commands share: the application, common options, and their conversion to objects."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bundler import layout, soc
from bundler.console import NO_ANSWER
from bundler.engines import EngineChoice
from bundler.errors import UsageError
from bundler.types import Runtime

if TYPE_CHECKING:
    from bundler.device.phone import AdbServer
    from bundler.types import Answer

app = typer.Typer(
    name="mbqa-bundle",
    help="MobileBERT question answering on Snapdragon phones: build a bundle, run it there, fetch the answers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout; all else goes to stderr.")]
BundleName = Annotated[Path | None, typer.Argument(metavar="BUNDLE", help="The bundle's folder. Default: bundle.")]
BundlePath = Annotated[Path | None, typer.Option("--bundle", help="The same as the argument BUNDLE.")]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        help="Serial of a phone; repeatable. adb connects to HOST:PORT; HOST:PORT/SERIAL is at another adb server. "
        "Default: ANDROID_SERIAL, or the only phone.",
    ),
]
OnInterrupt = Annotated[
    Literal["leave", "stop"], typer.Option(help="What Ctrl-C does to the run on the phone; it can continue later.")
]
Timeout = Annotated[float, typer.Option(help="Seconds for everything together; the phone's run goes on.", min=1)]
AdbHost = Annotated[str | None, typer.Option("--adb-host", help="Host of the adb server.")]
AdbPort = Annotated[int | None, typer.Option("--adb-port", help="Port of the adb server.", min=1, max=65535)]
Insecure = Annotated[bool, typer.Option("--insecure", help="Take a scheduler on another computer without TLS.")]
RuntimeOption = Annotated[Runtime | None, typer.Option("--runtime", help="The runtime of the run to fetch.")]
SocOption = Annotated[str, typer.Option("--soc", help="The chip, such as SM8650.")]

EngineOption = Annotated[
    EngineChoice,
    typer.Option(
        "--engine",
        help="Qualcomm's program that runs the model: snpe-net-run or qnn-net-run. auto: qnn if QNN's writer made the "
        "DLC and qnn-net-run is there, else snpe.",
    ),
]

# repeated here, so that `--help` need not import the modules that use them; a test compares
Precision = Literal["fp32", "fp16", "w8a16", "w16a16", "w8a8", "auto"]
Method = Literal["min-max", "entropy", "percentile"]
Converter = Literal["built-in", "sdk"]
PerfProfile = Literal[
    "default", "balanced", "low_balanced", "high_performance", "sustained_high_performance", "burst", "low_power_saver",
    "power_saver", "high_power_saver", "extreme_power_saver", "system_settings",
]  # fmt: skip
OnOff = Literal["on", "off"]

DEFAULT_BUNDLE = Path(layout.DEFAULT_BUNDLE)


def bundle_named(argument: Path | None, option: Path | None) -> Path:
    """Returns the bundle that a command line names.

    Raises:
        UsageError: it names two.
    """
    if argument is not None and option is not None and argument != option:
        raise UsageError(f"{argument} and --bundle {option} are two bundles", "Name one of them.")
    return argument or option or DEFAULT_BUNDLE


def shown(answer: "Answer") -> str:
    return answer.text or NO_ANSWER


def adb_server(host: str | None, port: int | None) -> "AdbServer":
    from bundler.device.phone import AdbServer

    return AdbServer.at(host, port)


def agrees(question: str) -> bool:
    """Returns whether a person at the terminal says yes; an abort means no."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        return False


def chip_named(name: str) -> soc.Soc:
    found = soc.find_soc(name)
    if found is None:
        raise UsageError(f"--soc {name}: not a chip that this release knows", f"Known: {', '.join(soc.known_socs())}.")
    return found
