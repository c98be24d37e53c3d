"""From a command's name to what runs: a tool, one of the phone's programs or a script. Runs it in this process."""

import io
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bundler.virtual import proc
from bundler.virtual.machine import Machine, Process, Program
from bundler.virtual.shell.tools import TOOLS
from bundler.virtual.shell.tools.base import Context, Failure, NotRunnable, OutputFailed, Tool, complain

SHELLS = ("sh", "mksh")
BIN = "/system/bin"
BINS = (BIN, "/bin", "/vendor/bin")  # where an interpreter may be: the same folder, or its shells
SHELL = f"{BIN}/sh"
ELF = b"\x7fELF"
INTERNAL_ERROR = 125
XWRITE = ("cat", "date", "seq", "sort", "split")
SILENT = {"sed": 0, "tee": 1}
"""Tools that say nothing when there is no room for their output, with their exit codes; and those that say `xwrite`."""
MISSING = "No such file or directory"


@dataclass(frozen=True)
class Script:
    """A file that a shell is to interpret, by the name it was called."""

    path: str


Found = Tool | Program | Script


def names(machine: Machine) -> list[str]:
    """All commands of /system/bin."""
    return sorted(name for name in {*TOOLS, *SHELLS, *machine.programs} if not machine.faults.lacks(name))


def find(name: str, process: Process) -> tuple[Found, str]:
    """What `name` stands for on the process's PATH, and its path.

    Raises:
        NotRunnable: 127 if there is nothing of that name, 126 if it is nothing to run.
    """
    if "/" in name:
        return _at(name, process), name
    denied: NotRunnable | None = None
    for folder in process.env.get("PATH", BIN).split(":"):
        path = f"{folder or '.'}/{name}"
        try:
            return _at(path, process), path
        except NotRunnable as error:
            denied = denied or (error if error.status == 126 and error.reason != "Is a directory" else None)
    if denied:
        raise denied
    raise NotRunnable(MISSING, f"{name}: inaccessible or not found", 127)


def _at(path: str, process: Process) -> Found:
    """What the file at `path` is."""
    storage = process.machine.storage
    try:
        resolved = storage.resolve(path, process.cwd)
        folder, _, name = resolved.rpartition("/")
        known = _known(name, process.machine) if folder == BIN else None
        if known:
            return known
        host = storage.host(path, process.cwd)
        status = host.stat()
    except OSError as error:
        raise NotRunnable(error.strerror or MISSING, f"{path}: inaccessible or not found", 127) from None
    if stat.S_ISDIR(status.st_mode):
        raise NotRunnable("Is a directory", f"{path}: can't execute: Is a directory", 126)
    if not status.st_mode & 0o111:
        raise NotRunnable("Permission denied", f"{path}: can't execute: Permission denied", 126)
    try:
        with host.open("rb") as file:
            return _kind(file.read(256), path, process.machine)
    except OSError as error:
        raise NotRunnable(str(error.strerror), f"{path}: can't execute: {error.strerror}", 126) from None


def _known(name: str, machine: Machine) -> Found | None:
    if machine.faults.lacks(name):
        return None
    if name in machine.programs:
        return machine.programs[name]
    if name in SHELLS:
        from bundler.virtual.shell.main import shell_tool

        return shell_tool
    return TOOLS.get(name)


def _kind(head: bytes, path: str, machine: Machine) -> Found:
    """What a file that begins with `head` runs as."""
    if head.startswith(ELF):
        program = machine.programs.get(path.rpartition("/")[2])
        if program:
            return program
        bits = "32" if head[4:5] == b"\x01" else "64"
        raise NotRunnable("Exec format error", f"{path}: not executable: {bits}-bit ELF file", 126)
    if head.startswith(b"#!"):
        words = os.fsdecode(head[2:].split(b"\n", 1)[0]).split()
        folder, _, interpreter = (words or [""])[0].rpartition("/")
        if interpreter == "env":
            interpreter = (words[1:] or [""])[0]
        if interpreter not in SHELLS or folder not in BINS:
            raise NotRunnable(MISSING, f"{path}: no file to execute", 126)
    elif b"\0" in head:
        raise NotRunnable("Exec format error", f"{path}: not executable: unknown format", 126)
    return Script(path)


def execute(argv: Sequence[str], process: Process) -> int:
    """Runs a command in this process, for good as far as the process is concerned.

    Raises:
        NotRunnable: if there is nothing to run.
    """
    found, path = find(argv[0], process)
    proc.note(process.machine.storage.root, [SHELL, path, *argv[1:]] if isinstance(found, Script) else argv)
    try:
        return _execute(found, path, argv, process)
    finally:
        proc.forget(process.machine.storage.root)


def _execute(found: Found, path: str, argv: Sequence[str], process: Process) -> int:
    if isinstance(found, Script):
        from bundler.virtual.shell.main import shell_tool

        return run_tool(shell_tool, [argv[0], path, *argv[1:]], process)
    if path.rpartition("/")[2] in process.machine.programs:
        return _run_program(found, argv, process)
    return run_tool(found, argv, process)


def run_tool(tool: Tool | Program, argv: Sequence[str], process: Process, *, builtin_of: str = "") -> int:
    """A tool's exit code, with its output written and its errors told; by the shell `builtin_of` if it is its own."""
    called = argv[0].rpartition("/")[2]
    name = f"{builtin_of}: {called}" if builtin_of else called
    context = Context(process.machine, process.cwd, process.env, name, execute, called=argv[0])
    try:
        status = tool([called, *argv[1:]], context)
        context.out.flush()
    except Failure as error:
        _flush(context)
        complain(name, error.message)
        return error.status or context.error_status
    except OutputFailed as error:
        if called not in SILENT:
            complain(name, f"{'xwrite' if called in XWRITE and not builtin_of else 'write'}: {error}")
        return SILENT.get(called, context.error_status)
    except OSError as error:
        complain(name, error.strerror or str(error))
        return context.error_status
    except Exception as error:
        _flush(context)
        complain(name, f"internal error: {type(error).__name__}: {error}")
        return INTERNAL_ERROR
    return status


def _flush(context: Context) -> None:
    try:
        context.out.flush()
    except (OSError, OutputFailed):
        return


def _run_program(program: Program | Tool, argv: Sequence[str], process: Process) -> int:
    """Runs a program of the machine, which may print as any Python program does."""
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), errors="surrogateescape")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), errors="surrogateescape")
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)), errors="backslashreplace", line_buffering=True
    )
    try:
        status = program(argv, process)  # type: ignore[arg-type]
        sys.stdout.flush()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        sys.stdout.flush()
    except Exception as error:
        complain(argv[0], f"internal error: {type(error).__name__}: {error}")
        return INTERNAL_ERROR
    return status
