"""A stand-in for Qualcomm's qnn-net-run: the real one's arguments, files and error lines, for a given DLC.

On the virtual phone a script calls `python -m bundler.virtual.qnn_net_run`. It computes the same as the stand-in for
snpe-net-run: libQnnCpu.so in float32, libQnnGpu.so in float16, libQnnHtp.so on the HTP simulator of the phone's chip.
These libraries, and libQnnModelDlc.so, count as present under their bare names; a name with a folder, or any other
name, must be a file.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bundler.virtual.net_files import Files, NetRunError, Session, World
from bundler.virtual.net_program import (
    NoHtp,
    NoSimulator,
    Parser,
    chip_with_htp,
    infer,
    main,
    open_input_list,
    reported,
)
from bundler.virtual.net_timed import TimedSession

if TYPE_CHECKING:
    from bundler.dlc.execute import Network

NAME = "qnn-net-run"
VERSION = "v2.51.0.0-mbqa-stand-in"
FAILED = "Graph Execution failure"
BACKENDS = {"libQnnCpu.so": "cpu", "libQnnGpu.so": "gpu", "libQnnHtp.so": "dsp"}
MODEL = "libQnnModelDlc.so"
IGNORED_FLAGS = ("synchronous", "asynchronous", "shared_buffer", "use_mmap")
IGNORED_OPTIONS = ("model_prefix", "profiling_option", "max_input_cache_tensor_sets")
HTP_KEYS = {
    "graphs": {"graph_names", "fp16_relaxed_precision", "vtcm_mb", "O", "hvx_threads", "dlbc"},
    "devices": {"device_id", "soc_id", "soc_model", "dsp_arch", "pd_session", "cores"},
    "context": {"weight_sharing_enabled"},
}


class _Parser(Parser):
    def complaint(self, message: str) -> str:
        unknown = message.removeprefix("unrecognized arguments: ")
        told = f"Invalid argument passed: {unknown.split()[0]}" if unknown != message else message
        return f"ERROR: {told}\nPlease check the Arguments section in the description below."


def _parser() -> _Parser:
    parser = _Parser(NAME, IGNORED_FLAGS, IGNORED_OPTIONS)
    for option in ("backend", "model", "dlc_path", "retrieve_context", "config_file"):
        parser.add_argument(f"--{option}", default="")
    parser.add_argument("--profiling_level", choices=("basic", "detailed", "client", "backend"))
    parser.add_argument("--log_level", choices=("error", "warn", "info", "debug", "verbose"), default="error")
    return parser


def run(argv: Sequence[str], world: World, out: IO[str]) -> int:
    """Does what the real tool would with `argv`; returns its exit code."""

    def work() -> None:
        arguments = _parser().parse_args(argv[1:])
        if arguments.version:
            print(f"{NAME} build version: {VERSION}", file=out)
        else:
            _infer(arguments, world, out)

    return reported(work)


def _infer(arguments: argparse.Namespace, world: World, out: IO[str]) -> None:
    _check(arguments)
    level = f"log level is : QNN_LOG_LEVEL_{arguments.log_level.upper()}"
    lines = (f"pid:{os.getpid()}", f"build version: {VERSION}", level)
    print(*(f"{NAME} {line}" for line in lines), sep="\n", file=out, flush=True)
    runtime = _backend(arguments.backend)
    if arguments.config_file:
        _configure(arguments.config_file, out)
    listing = open_input_list(arguments.input_list)
    session = _open(arguments, runtime, world, out)
    print("Executing Graphs", file=out, flush=True)
    for number, entries in enumerate(listing.inferences):
        infer(session, entries, f"{arguments.output_dir}/Result_{number}", world)
    print("Finished Executing Graphs", file=out, flush=True)


def _check(arguments: argparse.Namespace) -> None:
    """Checks the combination of options."""
    if arguments.model and arguments.retrieve_context:
        raise NetRunError("ERROR: both --model and --retrieve_context are specified, only one is taken at a time")
    missing = [name for name in ("backend", "input_list") if not getattr(arguments, name)]
    if not arguments.model and not arguments.retrieve_context:
        missing.insert(0, "model")
    if missing:
        raise NetRunError(f"ERROR: Missing option: --{missing[0]}")
    if arguments.model and not arguments.dlc_path:  # the real one would look for a graph inside the library
        raise NetRunError(f"Could not load model : {arguments.model}!\nInitialization failure")


def _library(path: str, known: Sequence[str], failure: str) -> None:
    """Raises NetRunError if a library is missing."""
    if path in known or ("/" in path and Path(path).is_file()):
        return
    raise NetRunError(f'Unable to load {failure}. dlerror(): dlopen failed: library "{path}" not found')


def _backend(path: str) -> str:
    _library(path, list(BACKENDS), "backend")
    runtime = BACKENDS.get(Path(path).name)
    if runtime is None:
        raise NetRunError(f"Unable to load backend. dlerror(): {path} is not a backend")
    return runtime


def _configure(path: str, out: IO[str]) -> None:
    """Reads the HTP's settings, which do not change the results here."""
    told = _json(path).get("backend_extensions")
    if not isinstance(told, dict) or not {"shared_library_path", "config_file_path"} <= told.keys():
        raise NetRunError(f"Could not parse config file: {path}")
    _library(told["shared_library_path"], (), "backend extensions")
    for section, values in _json(told["config_file_path"]).items():
        keys = {key for value in (values if isinstance(values, list) else [values]) for key in value}
        for key in sorted(keys - HTP_KEYS.get(section, set())):
            print(f"Unknown Key = {section}/{key} passed in config", file=out, flush=True)


def _json(path: str) -> dict[str, Any]:
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise NetRunError(f"Could not parse config file: {path}") from error
    if not isinstance(told, dict):
        raise NetRunError(f"Could not parse config file: {path}")
    return told


def _open(arguments: argparse.Namespace, runtime: str, world: World, out: IO[str]) -> Session | TimedSession:
    if world.faults and world.faults.time_s is not None:
        return TimedSession((), world.faults.time_s)
    context = arguments.retrieve_context
    if context:
        print(f"Creating context from binary file: {context}", file=out, flush=True)
    else:
        _library(arguments.model, [MODEL], "model")
    if not Path(context or arguments.dlc_path).is_file():
        raise NetRunError(f"Failed to open: {context or arguments.dlc_path}\nInitialization failure")
    network = _network(runtime, context, arguments.dlc_path, world)
    native = arguments.use_native_output_files
    files = Files(arguments.use_native_input_files, native, None, "_native.raw" if native else ".raw")
    return Session(network, [spec.name for spec in network.outputs], files, lambda _, message, __: message)


def _network(runtime: str, context: str, dlc: str, world: World) -> "Network":
    from bundler.dlc.execute import CpuNetwork, GpuNetwork, HtpNetwork
    from bundler.errors import BundlerError, DlcInvalid

    try:
        if runtime == "dsp":
            soc = chip_with_htp(world.soc_model())
            return HtpNetwork(Path(context or dlc), soc.qnn_id, Path(context) if context else None)
        if context:
            raise DlcInvalid(context, "it is a context of another backend")
        return CpuNetwork(Path(dlc)) if runtime == "cpu" else GpuNetwork(Path(dlc))
    except (NoHtp, NoSimulator) as error:
        lines = (str(error), "QnnDsp <E> Transport layer setup failed: 14001", "Device Creation failure")
        raise NetRunError("\n".join(lines)) from error
    except BundlerError as error:
        failure = "Create From Binary failure" if context else "ComposeGraphs failure"
        code = "Could not create context from binary for context index = 0 : err 5000\n" if context else ""
        raise NetRunError(f"{code}{error}\n{failure}") from error


if __name__ == "__main__":
    main(NAME, run, FAILED)
