"""A stand-in for Qualcomm's snpe-net-run: the real one's arguments, files and error lines, over the DLC it is given.

On the virtual phone the shell calls `program`; on a phone made of genuine parts a wrapper script calls
`python -m bundler.virtual.net_run`, which sees the file system as it is. The CPU runtime computes in float32,
`--use_dsp` in float16 on the HTP simulator of the phone's chip.
"""

import argparse
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from bundler.soc import FIRST_HTP, SIMULATED, find_soc
from bundler.virtual.machine import Process

if TYPE_CHECKING:
    from bundler.dlc.execute import Network

NAME = "snpe-net-run"
RULE = "-" * 79
VERSION = "SNPE v2.51.0.0-mbqa-stand-in"
PERF_PROFILES = (
    "default balanced high_performance sustained_high_performance burst low_power_saver power_saver high_power_saver "
    "extreme_power_saver low_balanced system_settings"
).split()
PROFILING_LEVELS = "off basic moderate detailed linting".split()
IGNORED_FLAGS = ("enable_cpu_fallback", "enable_init_cache", "userbuffer_float", "set_unconsumed_as_output")
IGNORED_OPTIONS = ("platform_options", "storage_dir", "priority_hint", "userlogs")


class NetRunError(Exception):
    """Ends the run with exit code 1, saying this as the real tool does."""


def error_line(code: int, message: str, component: str) -> str:
    """An error in the shape of SNPE's own."""
    thread = threading.get_native_id()
    return f"error_code={code}; error_message={message}; error_component={component}; line_no=0; thread_id={thread}"


@dataclass(frozen=True)
class World:
    """How the program reaches files, and the chip it runs on."""

    read: Callable[[str], Path]
    write: Callable[[str], Path]
    soc_model: Callable[[], str]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise NetRunError(f"{NAME}: {message}")


def _parser() -> _Parser:
    parser = _Parser(NAME, allow_abbrev=False)
    parser.add_argument("--container")
    parser.add_argument("--input_list")
    parser.add_argument("--output_dir", default="output")
    parser.add_argument("--use_dsp", action="store_true")
    parser.add_argument("--set_output_tensors", default="")
    parser.add_argument("--perf_profile", choices=PERF_PROFILES, default="default")
    parser.add_argument("--profiling_level", choices=PROFILING_LEVELS, default="detailed")
    parser.add_argument("--version", action="store_true")
    for flag in IGNORED_FLAGS:
        parser.add_argument(f"--{flag}", action="store_true", help="taken, without effect here")
    for option in IGNORED_OPTIONS:
        parser.add_argument(f"--{option}", help="taken, without effect here")
    return parser


@dataclass(frozen=True)
class InputList:
    """input_list.txt: the outputs that its first line may name, and for each inference its (name, path) entries."""

    outputs: tuple[str, ...]
    inferences: tuple[tuple[tuple[str, str], ...], ...]


def read_input_list(text: str) -> InputList:
    """Entries are `name:=path`, split at the first `:=`; a bare path has the name ''."""
    outputs: tuple[str, ...] = ()
    inferences = []
    for number, line in enumerate(text.splitlines()):
        if number == 0 and line.startswith(("#", "%")):
            outputs = tuple(line[1:].split())
        elif line.strip():
            parts = (entry.partition(":=") for entry in line.split())
            inferences.append(tuple((name, path) if mark else ("", name) for name, mark, path in parts))
    return InputList(outputs, tuple(inferences))


def run(argv: Sequence[str], world: World, out: IO[str]) -> int:
    """Does what the real tool would with `argv`; returns its exit code."""
    try:
        arguments = _parser().parse_args(argv[1:])
        if arguments.version:
            print(VERSION, file=out)
            return 0
        _infer(arguments, world, out)
    except NetRunError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    except OSError as error:
        print(f"Failed to create output directory or to write an output: {error.strerror}", file=sys.stderr, flush=True)
        return 1
    return 0


def _infer(arguments: argparse.Namespace, world: World, out: IO[str]) -> None:
    for option in ("container", "input_list"):
        if not getattr(arguments, option):
            raise NetRunError(f"Missing option: --{option}")
    print(RULE, "Model String: N/A", VERSION, RULE, sep="\n", file=out, flush=True)
    try:
        listing = read_input_list(world.read(arguments.input_list).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise NetRunError(f"Failed to open input list: {arguments.input_list}") from error
    session = _open(arguments, world, listing)
    for number, entries in enumerate(listing.inferences):
        print("Processing DNN input(s):", *(path for _, path in entries), sep="\n", file=out, flush=True)
        session.infer(entries, f"{arguments.output_dir}/Result_{number}")


def _open(arguments: argparse.Namespace, world: World, listing: InputList) -> "_Session":
    from bundler.dlc.execute import CpuNetwork, HtpNetwork
    from bundler.errors import DlcInvalid, NoConverter

    container = world.read(arguments.container)
    if not container.is_file():
        raise NetRunError(f"Failed to open container: {arguments.container}")
    try:
        network = HtpNetwork(container, _htp(world.soc_model())) if arguments.use_dsp else CpuNetwork(container)
    except DlcInvalid as error:
        if "HTP refuses" in str(error):
            line = error_line(1002, f"Layer parameter value is invalid. {error}", "Model Validation")
        else:
            line = error_line(311, f"Dlc container is bad. {error}", "Dl Container")
        raise NetRunError(line) from error
    except NoConverter as error:
        raise NetRunError(error_line(500, f"Host runtime target is not available. {error}", "Host Runtime")) from error
    available = [spec.name for spec in network.outputs]
    wanted = [name for name in arguments.set_output_tensors.split(",") if name] or list(listing.outputs)
    unknown = [name for name in wanted if name not in available]
    if unknown:
        raise NetRunError(error_line(108, f"Output tensor {unknown[0]} is not in the network", "Dl Config"))
    return _Session(network, wanted or available[-1:], world)  # without a choice, the last one only


def _htp(model: str) -> int:
    """QNN's id of the chip, where its DSP can be simulated."""
    soc = find_soc(model)
    if soc is None or soc.hexagon < FIRST_HTP:
        raise NetRunError(
            "DspTransport.createUnsignedPD unsigned PD or DSPRPC_GET_DSP_INFO not supported by DSP\n"
            "DspTransport failed,cannot open session, error 0xffffffff\n"
            "The selected runtime is not available on this platform. "
            "Continue anyway to observe the failure at network creation time."
        )
    if soc.name not in SIMULATED:
        raise NetRunError(error_line(900, f"no simulator for the DSP of {soc.name}", "Dsp Runtime"))
    return soc.qnn_id


class _Session:
    """A network with the outputs chosen, fed from files."""

    def __init__(self, network: "Network", outputs: Sequence[str], world: World) -> None:
        self._network, self._outputs, self._world = network, outputs, world

    def infer(self, entries: Sequence[tuple[str, str]], result: str) -> None:
        import numpy as np

        specs = {spec.name: spec for spec in self._network.inputs}
        feed = {}
        for position, (given, path) in enumerate(entries):
            name = given or (list(specs)[position] if position < len(specs) else path)
            if name not in specs:
                raise NetRunError(error_line(206, f"Input tensor {name} is not in the network", "Dl System"))
            try:
                raw = self._world.read(path).read_bytes()
            except OSError as error:
                raise NetRunError(f"Failed to open input file: {path}") from error
            count = int(np.prod(specs[name].shape))
            if len(raw) != 4 * count:
                raise NetRunError(f"Failed to read the contents of: {path} ({len(raw)} bytes, {4 * count} expected)")
            values = np.frombuffer(raw, "<f4")
            if not np.isfinite(values).all():
                raise NetRunError(f"Failed to read the contents of: {path} (not finite)")
            feed[name] = values.reshape(specs[name].shape).astype(specs[name].dtype)
        missing = [name for name in specs if name not in feed]
        if missing:
            raise NetRunError(error_line(206, f"Input tensor {missing[0]} has no file in the input list", "Dl System"))
        outputs = self._network.execute(feed)
        for name in self._outputs:
            target = self._world.write(f"{result}/{name}.raw")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(outputs[name].astype("<f4").tobytes())


def _own_stdout() -> IO[str]:
    """Our standard output; what native libraries print there goes to standard error from now on."""
    sys.stdout.flush()
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="surrogateescape")
    os.dup2(2, 1)
    return ours


def program(argv: Sequence[str], process: Process) -> int:
    """snpe-net-run as a program of the virtual phone."""
    machine = process.machine
    world = World(
        read=lambda path: machine.storage.host(path, process.cwd),
        write=lambda path: machine.storage.host(path, process.cwd, write=True),
        soc_model=lambda: machine.properties.get("ro.soc.model", ""),
    )
    with _own_stdout() as out:
        return run(argv, world, out)


def _getprop_soc() -> str:
    asked = subprocess.run(["getprop", "ro.soc.model"], capture_output=True, text=True, timeout=10, check=False)
    return asked.stdout.strip()


if __name__ == "__main__":
    with _own_stdout() as out:
        sys.exit(run([NAME, *sys.argv[1:]], World(Path, Path, _getprop_soc), out))
