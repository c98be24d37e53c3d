"""The shell as a program: a session of adb's, and `sh` among the phone's tools."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from bundler.virtual import disk, proc
from bundler.virtual.machine import Machine, Process
from bundler.virtual.shell.interpreter import Interpreter
from bundler.virtual.shell.launch import BIN, SHELL
from bundler.virtual.shell.parser import Parser
from bundler.virtual.shell.state import OPTIONS, OTHER_OPTIONS, State
from bundler.virtual.shell.tools.base import Context, Failure, complain, leave_out

DEFAULTS = {"PATH": BIN, "HOME": "/data/local/tmp", "TMPDIR": "/data/local/tmp"}


def run(command: str | None, machine: Machine, env: Mapping[str, str]) -> int:
    """Runs an adb shell session in this process, which is one of its own and ends afterwards; gives the exit code.

    Takes file descriptors 0, 1 and 2 and closes all others; `command` None stands for a script on standard input.
    """
    _settle(machine)
    argv = ["sh"] if command is None else ["sh", "-c", command]
    process = Process(machine, "/", DEFAULTS | dict(env))
    proc.sweep(machine.storage.root)
    proc.note(machine.storage.root, [SHELL, *argv[1:]])
    try:
        return _shell(argv, process, SHELL) & 0xFF
    except Exception as error:
        complain("sh", f"internal error: {type(error).__name__}: {error}")
        return 125
    finally:
        proc.forget(machine.storage.root)


def _settle(machine: Machine) -> None:
    """Makes this process one of the phone's: nothing of the daemon is left but its code."""
    leave_out(machine.faults)
    disk.use(machine.disk)
    os.umask(0)
    os.chdir(machine.storage.root)
    for entry in Path("/dev/fd").iterdir():
        if int(entry.name) > 2:
            try:
                os.close(int(entry.name))
            except OSError:
                continue
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def shell_tool(argv: Sequence[str], process: Context) -> int:
    """`sh [-eux] [-o option] [-c command [name]] [-s] [file] [argument...]`."""
    return _shell(argv, process, process.called)


def _shell(argv: Sequence[str], process: Process, name: str) -> int:
    options, kind, operands = _arguments(list(argv[1:]))
    state = State.fresh(process.machine, process.env, process.cwd, name, operands)
    state.options |= options
    shell = Interpreter(state)
    if kind == "c":
        if not operands:
            raise Failure("-c requires an argument")
        state.name = operands[1] if len(operands) > 1 else name
        state.positional = operands[2:]
        parser = Parser(operands[0])
        return shell.guarded(lambda: shell.run_source(parser, last=True))
    if kind == "s" or not operands:
        parser = Parser("", more=_standard_input_line)
        return shell.guarded(lambda: shell.run_source(parser))
    state.name, state.positional, state.script = operands[0], operands[1:], True
    try:
        text = _script_text(operands[0], process)
    except OSError as error:
        state.script = False
        complain(name, f"{operands[0]}: {error.strerror}")
        return 127
    return shell.guarded(lambda: shell.run_source(Parser(text)))


def _script_text(path: str, process: Process) -> str:
    host = process.machine.storage.host(path, process.cwd)
    if host.is_dir():
        raise IsADirectoryError(21, "Is a directory")
    return os.fsdecode(host.read_bytes())


def _standard_input_line() -> str:
    """The next line, read byte by byte: what follows it is for the commands of the script."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return os.fsdecode(line)


def _arguments(arguments: list[str]) -> tuple[set[str], str, list[str]]:
    """The options that are set, where commands come from (c, s or a file), and the rest."""
    options: set[str] = set()
    kind = ""
    while arguments and arguments[0][:1] in ("-", "+") and len(arguments[0]) > 1:
        argument = arguments.pop(0)
        if argument == "--":
            break
        for letter in argument[1:]:
            if letter in "cs":
                kind = letter
            elif letter == "o" and arguments:
                option = arguments.pop(0)
                if option not in (*OPTIONS.values(), *OTHER_OPTIONS):
                    raise Failure(f"{option}: unknown option")
                options.add(option)
            elif letter in OPTIONS and argument[0] == "-":
                options.add(OPTIONS[letter])
            elif letter not in OPTIONS and letter not in "il":
                raise Failure(f"-{letter}: unknown option")
    return options, kind, arguments
