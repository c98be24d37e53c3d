"""Shared parts of both engines' stand-ins: the input list, an inference with its faults, the chip, the program."""

import argparse
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from bundler.soc import Soc, find_soc
from bundler.virtual.faults import parse_faults
from bundler.virtual.life import Life
from bundler.virtual.net_files import NetRunError, Session, World
from bundler.virtual.net_timed import TimedSession
from bundler.virtual.run_faults import RunFaults

PERF_PROFILES = (
    "default balanced high_performance sustained_high_performance burst low_power_saver power_saver high_power_saver "
    "extreme_power_saver low_balanced system_settings"
).split()

Entries = Sequence[tuple[str, str]]
Run = Callable[[Sequence[str], World, IO[str]], int]


class NoHtp(NetRunError):
    """The chip's DSP has no tensor processor; has the message of Qualcomm's library for it."""


class NoSimulator(NetRunError):
    """No simulator here computes like the chip's DSP."""


class Parser(argparse.ArgumentParser):
    """The options of both engines' programs; `flags` and `options` are accepted and ignored."""

    def __init__(self, name: str, flags: Sequence[str], options: Sequence[str]) -> None:
        super().__init__(name, allow_abbrev=False)
        self.add_argument("--input_list")
        self.add_argument("--output_dir", default="output")
        for direction in ("input", "output"):
            self.add_argument(f"--use_native_{direction}_files", action="store_true")
        self.add_argument("--perf_profile", choices=PERF_PROFILES)
        for flag in ("version", *flags):
            self.add_argument(f"--{flag}", action="store_true")
        for option in options:
            self.add_argument(f"--{option}")

    def error(self, message: str) -> NoReturn:
        raise NetRunError(self.complaint(message))

    def complaint(self, message: str) -> str:
        """Returns the program's message about invalid options."""
        return f"{self.prog}: {message}"


@dataclass(frozen=True)
class InputList:
    """The outputs named by the first line of an input list, if any, and the (name, path) entries of each inference."""

    outputs: tuple[str, ...]
    inferences: tuple[tuple[tuple[str, str], ...], ...]


def open_input_list(path: str) -> InputList:
    """Parses entries `name:=path`, split at the first `:=`; a bare path has the name ''. Raises: NetRunError"""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NetRunError(f"Failed to open input list: {path}") from error
    if "\0" in text:
        raise NetRunError(f"Failed to open input list: {path} (a null byte)")
    outputs: tuple[str, ...] = ()
    inferences = []
    for number, line in enumerate(text.splitlines()):
        if number == 0 and line.startswith(("#", "%")):
            outputs = tuple(line[1:].split())
        elif line.strip():
            parts = (entry.partition(":=") for entry in line.split())
            inferences.append(tuple((name, path) if mark else ("", name) for name, mark, path in parts))
    return InputList(outputs, tuple(inferences))


def infer(session: Session | TimedSession, entries: Entries, result: str, world: World) -> None:
    """Runs one inference into the folder `result`, with its faults."""
    if world.faults:
        world.faults.begin()
    files = session.infer(entries, result)
    if world.faults:
        world.faults.finish(files)


def chip_with_htp(model: str) -> Soc:
    """Returns the chip if its DSP can be simulated. Raises: NoHtp, NoSimulator"""
    soc = find_soc(model)
    if soc is None or not soc.has_htp:
        raise NoHtp(
            "DspTransport.createUnsignedPD unsigned PD or DSPRPC_GET_DSP_INFO not supported by DSP\n"
            "DspTransport failed,cannot open session, error 0xffffffff"
        )
    if not soc.simulated:
        raise NoSimulator(f"no simulator for the DSP of {soc.name}")
    return soc


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reported(work: Callable[[], None]) -> int:
    """Does the work; prints errors and returns the program's exit code."""
    try:
        work()
    except NetRunError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    except OSError as error:
        print(f"Failed to create output directory or to write an output: {error.strerror}", file=sys.stderr, flush=True)
        return 1
    return 0


def main(name: str, run: Run, failure: str) -> NoReturn:
    """Runs the program; `failure`: the message for an inference that must fail. Exits without teardown, which would
    take a fifth of a short run."""
    with _own_stdout() as out:
        code = run([name, *sys.argv[1:]], World(_getprop_soc, _faults(failure)), out)
    sys.stderr.flush()
    os._exit(code)


def _own_stdout() -> IO[str]:
    """Returns our standard output, and redirects what native libraries print there to standard error."""
    sys.stdout.flush()
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="surrogateescape")
    os.dup2(2, 1)
    return ours


def _getprop_soc() -> str:
    asked = subprocess.run(["getprop", "ro.soc.model"], capture_output=True, text=True, timeout=10, check=False)
    return asked.stdout.strip()


def _faults(failure: str) -> RunFaults | None:
    """Reads the faults from the virtual phone's script for this program; None on a phone of genuine parts."""
    folder, _, daemon = os.environ.get("MBQA_LIFE", "").rpartition(":")
    if not folder:
        return None
    return RunFaults(parse_faults(os.environ["MBQA_FAULTS"].split()), Life(Path(folder), int(daemon)), failure)
