"""A stand-in for Qualcomm's snpe-net-run: the real one's arguments, files and error lines, for a given DLC.

On the virtual phone, and on one made of genuine parts, a script calls `python -m bundler.virtual.net_run`. The CPU
runtime computes in float32, also for a quantized DLC (whose weights may be quantized by axis: SNPE's own CPU runtime
refuses those). `--use_gpu` computes in float16 in both of its modes: the real one's default stores float16 and
calculates in float32, with nearly the same results. `--use_dsp` runs on the HTP simulator of the phone's chip,
quantized DLCs in integers, others in float16.
"""

import argparse
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from bundler.virtual.net_files import Files, NetRunError, Session, World
from bundler.virtual.net_program import (
    InputList,
    NoHtp,
    NoSimulator,
    Parser,
    chip_with_htp,
    infer,
    main,
    open_input_list,
    reported,
    sha256_of,
)
from bundler.virtual.net_timed import TimedSession

if TYPE_CHECKING:
    from bundler.dlc.execute import Network

NAME = "snpe-net-run"
FAILED = "Graph execution failed on the backend. error code=6031"
RULE = "-" * 79
VERSION = "SNPE v2.51.0.0-mbqa-stand-in"
NOT_AVAILABLE = (
    "The selected runtime is not available on this platform. "
    "Continue anyway to observe the failure at network creation time."
)
PROFILING_LEVELS = "off basic moderate detailed linting".split()
IGNORED_FLAGS = ("enable_cpu_fallback", "enable_cpu_fxp", "enable_init_cache", "set_unconsumed_as_output")
IGNORED_OPTIONS = ("platform_options", "storage_dir", "priority_hint", "userlogs")


RUNTIME_ORDER = {
    "cpu": "cpu", "cpu_float32": "cpu", "gpu": "gpu", "gpu_float16": "gpu", "gpu_float32_16_hybrid": "gpu",
    "dsp": "dsp", "dsp_fixed8_tf": "dsp",
}  # fmt: skip
"""The names that --runtime_order takes, of newer and older releases."""


def _parser() -> Parser:
    parser = Parser(NAME, IGNORED_FLAGS, IGNORED_OPTIONS)
    parser.add_argument("--container")
    for runtime in ("dsp", "gpu"):
        parser.add_argument(f"--use_{runtime}", dest="runtimes", action="append_const", const=runtime, default=[])
    parser.add_argument("--runtime_order", default="")
    parser.add_argument("--gpu_mode", choices=("default", "float16"))
    for buffers in ("userbuffer_float", "userbuffer_auto", "userbuffer_tf8"):
        parser.add_argument(f"--{buffers}", dest="buffers", action="append_const", const=buffers, default=[])
    parser.add_argument("--userbuffer_tfN", choices=("8", "16"))
    parser.add_argument("--userbuffer_floatN", choices=("16", "32"))
    parser.add_argument("--set_output_tensors", default="")
    parser.add_argument("--profiling_level", choices=PROFILING_LEVELS)
    return parser


def _runtime(arguments: argparse.Namespace) -> str:
    """Returns cpu, gpu or dsp; the first of several in an order."""
    names = [name for name in arguments.runtime_order.split(",") if name]
    unknown = [name for name in names if name not in RUNTIME_ORDER]
    if unknown:
        raise NetRunError(f"{NAME}: argument --runtime_order: invalid choice: {unknown[0]!r}")
    if names and arguments.runtimes:
        raise NetRunError(f"{NAME}: --runtime_order and --use_{arguments.runtimes[0]} may not be given together")
    chosen = [RUNTIME_ORDER[name] for name in names] or arguments.runtimes
    if len(set(chosen)) < len(chosen) or len(arguments.runtimes) > 1:
        raise NetRunError(f"{NAME}: more than one runtime is given: {', '.join(chosen)}")
    runtime: str = next(iter(chosen), "cpu")
    if arguments.gpu_mode and runtime != "gpu":
        raise NetRunError(f"{NAME}: --gpu_mode is for --use_gpu only")
    return runtime


def _files(arguments: argparse.Namespace) -> Files:
    numbered = [f"userbuffer_{kind}N" for kind in ("tf", "float") if getattr(arguments, f"userbuffer_{kind}N")]
    buffers = [*arguments.buffers, *numbered]
    if len(buffers) > 1:
        raise NetRunError(f"{NAME}: more than one kind of user buffer is given: {', '.join(buffers)}")
    for direction in ("input", "output"):
        if getattr(arguments, f"use_native_{direction}_files") and not buffers:
            raise NetRunError(f"{NAME}: --use_native_{direction}_files needs a --userbuffer option")
    bits = 8 if "userbuffer_tf8" in buffers else arguments.userbuffer_tfN
    return Files(arguments.use_native_input_files, arguments.use_native_output_files, int(bits) if bits else None)


def error_line(code: int, message: str, component: str) -> str:
    """Formats an error like SNPE's own."""
    thread = threading.get_native_id()
    return f"error_code={code}; error_message={message}; error_component={component}; line_no=0; thread_id={thread}"


def run(argv: Sequence[str], world: World, out: IO[str]) -> int:
    """Does what the real tool would with `argv`; returns its exit code."""

    def work() -> None:
        arguments = _parser().parse_args(argv[1:])
        if arguments.version:
            print(VERSION, file=out)
        else:
            _infer(arguments, world, out)

    return reported(work)


def _infer(arguments: argparse.Namespace, world: World, out: IO[str]) -> None:
    for option in ("container", "input_list"):
        if not getattr(arguments, option):
            raise NetRunError(f"Missing option: --{option}")
    print(RULE, "Model String: N/A", VERSION, RULE, sep="\n", file=out, flush=True)
    listing = open_input_list(arguments.input_list)
    session = _open(arguments, world, listing, out)
    for number, entries in enumerate(listing.inferences):
        print("Processing DNN input(s):", *(path for _, path in entries), sep="\n", file=out, flush=True)
        infer(session, entries, f"{arguments.output_dir}/Result_{number}", world)


def _open(arguments: argparse.Namespace, world: World, listing: InputList, out: IO[str]) -> Session | TimedSession:
    from bundler.errors import DlcInvalid, NoConverter

    runtime, files = _runtime(arguments), _files(arguments)
    if not Path(arguments.container).is_file():
        raise NetRunError(f"Failed to open container: {arguments.container}")
    wanted = [name for name in arguments.set_output_tensors.split(",") if name] or list(listing.outputs)
    if world.faults and world.faults.time_s is not None:
        return TimedSession(wanted, world.faults.time_s)
    try:
        network = _network(runtime, arguments.container, world, out)
    except DlcInvalid as error:
        if "HTP refuses" in str(error):
            line = error_line(1002, f"Layer parameter value is invalid. {error}", "Model Validation")
        else:
            line = error_line(311, f"Dlc container is bad. {error}", "Dl Container")
        raise NetRunError(line) from error
    except NoConverter as error:
        raise NetRunError(error_line(500, f"Host runtime target is not available. {error}", "Host Runtime")) from error
    available = [spec.name for spec in network.outputs]
    unknown = [name for name in wanted if name not in available]
    if unknown:
        raise NetRunError(error_line(108, f"Output tensor {unknown[0]} is not in the network", "Dl Config"))
    return Session(network, wanted or available[-1:], files, error_line)  # without a choice, the last one only


def _network(runtime: str, container: str, world: World, out: IO[str]) -> "Network":
    from bundler.dlc.execute import CpuNetwork, GpuNetwork, HtpNetwork, context_name
    from bundler.errors import BundlerError

    path = Path(container)
    if runtime == "cpu":
        return CpuNetwork(path)
    if runtime == "gpu":
        return GpuNetwork(path)
    try:
        soc = chip_with_htp(world.soc_model())
    except NoHtp as error:
        raise NetRunError(f"{error}\n{NOT_AVAILABLE}") from error
    except NoSimulator as error:
        raise NetRunError(error_line(900, str(error), "Dsp Runtime")) from error
    name = context_name(soc.name, sha256_of(path))
    prepared = path.parent / name
    if prepared.is_file():
        try:
            network = HtpNetwork(path, soc.qnn_id, prepared)
        except BundlerError as error:
            print(f"offline prepared cache {name} does not load, preparing online: {error}", file=sys.stderr)
        else:
            print(f"using offline prepared cache {name}", file=out, flush=True)
            return network
    return HtpNetwork(path, soc.qnn_id)


if __name__ == "__main__":
    main(NAME, run, error_line(402, FAILED, "Dsp Runtime"))
