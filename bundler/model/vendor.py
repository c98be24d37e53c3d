"""Runs the SDK's own tools: ONNX -> float DLC -> quantized DLC -> DLC with a cache for the HTP.

A tool succeeded if its exit code is 0 and its output file exists. Not run against a real SDK: docs/sdk.md.
"""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from bundler.errors import HostStorageFailed, VendorToolFailed, VendorToolUnusable
from bundler.model.graph import Feed
from bundler.model.sdk import HOST, Sdk
from bundler.model.vendor_plan import BITS, Step, VendorJob, needs_output_names, plan
from bundler.platforms import end_session

LIMIT_S = 3600.0  # for one tool; calibration runs every input through the float model
LAST_LINES = 3
CANNOT_START = (126, 127)
WRONG_MACHINE = re.compile(
    r"ModuleNotFoundError|ImportError|error while loading shared libraries|version `GLIBC|bad interpreter"
    r"|Exec format error|cannot execute binary"
)


def convert_with_sdk(sdk: Sdk, job: VendorJob, dlc: Path, log: Path, *, limit_s: float = LIMIT_S) -> tuple[str, ...]:
    """Writes `dlc` and returns the commands that made it; appends the tools' output to `log`.

    Drafts are in a folder beside the log. It is kept after a failure, so that the user can repeat the command.

    Raises:
        VendorToolFailed: a tool refuses the model, or does not end; VendorToolUnusable: one does not run here.
        SdkIncomplete, SdkTooOld: the SDK lacks a tool; SocUnfit: nothing can be prepared for the chip.
    """
    work = log.absolute().with_suffix(".work")
    steps = plan(sdk, job, work, work / "input_list.txt")
    with _told(work):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        entries = ["%" + " ".join(spec.name for spec in job.outputs)] if needs_output_names(steps) else []
        if job.precision in BITS:
            entries += _write_inputs(work, job.feeds)
        (work / "input_list.txt").write_text("".join(f"{line}\n" for line in entries), encoding="utf-8", newline="\n")
    commands = tuple(_run(sdk, step, work, log, limit_s) for step in steps)
    with _told(dlc):
        draft = dlc.with_name(f".{dlc.name}.part")
        shutil.move(steps[-1].output, draft)
        draft.replace(dlc)
        shutil.rmtree(work)
    return commands


def _run(sdk: Sdk, step: Step, work: Path, log: Path, limit_s: float) -> str:
    """Runs one tool to its end and returns its command."""
    words = [str(step.tool), *step.arguments]
    settings = _environment(sdk)
    repeat = " ".join(["env", *(f'{name}={shlex.quote(value)}:"${name}"' for name, value in settings.items())])
    repeat = f"cd {shlex.quote(str(work))} && {repeat} {shlex.join(words)}"
    inherited = {name: f"{value}:{os.environ[name]}" for name, value in settings.items() if os.environ.get(name)}
    environment = {**os.environ, **settings, **inherited, "SNPE_ROOT": str(sdk.root), "QNN_SDK_ROOT": str(sdk.root)}
    with log.open("ab") as file:
        file.write(f"$ {repeat}\n".encode())
        file.flush()
        start = file.tell()
        try:
            code = _to_the_end(words, work, environment, file.fileno(), limit_s)
        except OSError as error:
            said = [f"{step.tool}: {error.strerror or error}"]
            lost = isinstance(error, PermissionError)  # as after unpacking on another system
            hint = (
                f"Make the SDK's tools executable: chmod +x {shlex.quote(str(step.tool.parent))}/*"
                if lost
                else _needs(sdk)
            )
            raise VendorToolUnusable(step.tool.name, said, repeat, hint) from error
    said = log.read_bytes()[start:].decode(errors="replace").splitlines()
    if code is None:
        raise VendorToolFailed(step.tool.name, [*_last(said), f"no end within {limit_s:g} s"], repeat, log)
    if code in CANNOT_START or (code != 0 and any(WRONG_MACHINE.search(line) for line in said)):
        raise VendorToolUnusable(step.tool.name, _last(said), repeat, _needs(sdk))
    if code != 0:
        raise VendorToolFailed(step.tool.name, _last(said) or [f"exit code {code}"], repeat, log)
    if not step.output.is_file() or step.output.stat().st_size == 0:
        missing = f"it ended with exit code 0, but wrote no {step.output.name}"
        raise VendorToolFailed(step.tool.name, [*_last(said), missing], repeat, log)
    return shlex.join(words)


def _to_the_end(words: list[str], work: Path, environment: dict[str, str], output: int, limit_s: float) -> int | None:
    """Returns the exit code; None after a timeout. Leaves no process of the tool behind."""
    tool = subprocess.Popen(
        words,
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return tool.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if tool.returncode is None:
            end_session(tool)
            tool.wait()


def _environment(sdk: Sdk) -> dict[str, str]:
    """Returns what the vendor's bin/envsetup.sh puts in front of the existing values."""
    return {
        "PYTHONPATH": str(sdk.root / "lib/python"),
        "LD_LIBRARY_PATH": str(sdk.root / "lib" / HOST),
        "PATH": str(sdk.root / "bin" / HOST),
    }


def _needs(sdk: Sdk) -> str:
    older = sdk.release <= (2, 10)
    python, check = ("3.6", "dependencies.sh") if older else ("3.8 or 3.10", "check-python-dependency")
    return (
        f"The SDK's tools need Linux on x86-64 and Python {python} with the packages that {sdk.root}/bin/{check} "
        "names; activate that Python's environment first."
    )


def _last(said: list[str]) -> list[str]:
    """Returns the last lines that report an error, or simply the last lines if there are none."""
    spoken = [line.strip() for line in said if line.strip()]
    errors = [line for line in spoken if re.search(r"error|fail|invalid|refuse", line, re.IGNORECASE)]
    return (errors or spoken)[-LAST_LINES:]


def _write_inputs(work: Path, feeds: Sequence[Feed]) -> list[str]:
    """Writes the windows as float32 raw files and returns the lines of the input list. Paths are relative to the tools'
    working folder, because the tools split lines at spaces."""
    lines = []
    for number, feed in enumerate(feeds):
        paths = {name: f"{name}-{number}.raw" for name in feed}
        for name, path in paths.items():
            (work / path).write_bytes(feed[name].astype("<f4").tobytes())
        lines.append(" ".join(f"{name}:={path}" for name, path in paths.items()))
    return lines


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Converts an OSError into HostStorageFailed for this path."""
    try:
        yield
    except OSError as error:
        raise HostStorageFailed(path, error.strerror or str(error)) from error
