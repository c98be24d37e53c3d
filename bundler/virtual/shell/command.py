"""Simple commands: assignments, functions, builtins, and what is started in a process of its own."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bundler.virtual.machine import Process
from bundler.virtual.shell.builtins import BUILTINS, SPECIAL
from bundler.virtual.shell.control import Exit, Return
from bundler.virtual.shell.launch import execute, run_tool
from bundler.virtual.shell.quoting import quoted
from bundler.virtual.shell.redirect import RedirectionError
from bundler.virtual.shell.state import ShellError
from bundler.virtual.shell.syntax import Command, Simple
from bundler.virtual.shell.tools import IN_PROCESS, TOOLS
from bundler.virtual.shell.tools.base import NotRunnable, Tool

if TYPE_CHECKING:
    from bundler.virtual.shell.interpreter import Interpreter

MAX_CALLS = 60


def run_simple(shell: "Interpreter", command: Simple, *, last: bool) -> int:
    """The exit code of a simple command."""
    shell.state.line = command.line
    shell.output_status = 0
    argv = shell.expander.fields(command.words)
    if not argv:
        return _assign_only(shell, command)
    if "xtrace" in shell.state.options:
        _trace(shell, command, argv)
    name = argv[0]
    if name in SPECIAL:
        return _special(shell, command, argv)
    if name in shell.state.functions:
        return _in_shell(shell, command, lambda: call(shell, shell.state.functions[name], argv))
    if name in BUILTINS:
        return _in_shell(shell, command, lambda: BUILTINS[name](shell, argv))
    if name in IN_PROCESS:
        return _in_shell(shell, command, lambda: run_builtin(shell, IN_PROCESS[name], argv))
    return _external(shell, command, argv, last=last)


def process(shell: "Interpreter") -> Process:
    """What a program that this shell starts may see."""
    return Process(shell.state.machine, shell.state.cwd, shell.state.environment())


def _assign_only(shell: "Interpreter", command: Simple) -> int:
    _assign(shell, command)
    if "xtrace" in shell.state.options:
        _trace(shell, command, [])
    try:
        shell.descriptors.restore(shell.descriptors.apply(command.redirections))
    except RedirectionError as error:
        shell.complain(str(error))
        return 1
    return shell.output_status


def _assign(shell: "Interpreter", command: Simple) -> None:
    for name, append, word in command.assignments:
        value = shell.expander.text(word, assignment=True)
        shell.state.set(name, (shell.state.get(name) or "") + value if append else value)


def _special(shell: "Interpreter", command: Simple, argv: list[str]) -> int:
    """A special builtin: its assignments stay, and a bad redirection ends the shell."""
    try:
        undo = shell.descriptors.apply(command.redirections)
    except RedirectionError as error:
        raise ShellError(str(error)) from None
    try:
        with shell.told():
            _assign(shell, command)
            status = SPECIAL[argv[0]](shell, argv)
    except BaseException:
        shell.descriptors.restore(undo)
        raise
    if argv[0] == "exec":
        shell.descriptors.keep(undo)
    else:
        shell.descriptors.restore(undo)
    return status


def _in_shell(shell: "Interpreter", command: Simple, body: Callable[[], int]) -> int:
    """Runs `body` in this process, with the command's redirections and assignments for its time."""
    try:
        undo = shell.descriptors.apply(command.redirections)
    except RedirectionError as error:
        shell.complain(str(error))
        return 1
    try:
        with shell.told(), _assigned(shell, command):
            return body()
    finally:
        shell.descriptors.restore(undo)


@contextmanager
def _assigned(shell: "Interpreter", command: Simple) -> Iterator[None]:
    state = shell.state
    before = {name: (state.variables.get(name), name in state.exported) for name, _, _ in command.assignments}
    _assign(shell, command)
    state.exported.update(before)
    try:
        yield
    finally:
        for name, (value, exported) in before.items():
            if value is None:
                state.variables.pop(name, None)
            else:
                state.variables[name] = value
            if not exported:
                state.exported.discard(name)


def call(shell: "Interpreter", body: Command, argv: list[str]) -> int:
    """Calls a function."""
    state = shell.state
    if shell.calls >= MAX_CALLS:
        raise ShellError(f"{argv[0]}: functions nested too deep")
    positional, loops = state.positional, shell.loops
    state.positional, shell.loops = argv[1:], 0
    state.locals.append({})
    shell.calls += 1
    try:
        return shell.execute(body)
    except Return as error:
        return error.status
    finally:
        shell.calls -= 1
        state.leave_function()
        state.positional, shell.loops = positional, loops


def _external(shell: "Interpreter", command: Simple, argv: list[str], *, last: bool) -> int:
    if last and not shell.state.traps:
        return _replace(shell, command, argv)
    return shell.wait(shell.fork(lambda: _replace(shell, command, argv)))


def _replace(shell: "Interpreter", command: Simple, argv: list[str]) -> int:
    """Makes this process the command."""
    try:
        shell.descriptors.keep(shell.descriptors.apply(command.redirections))
    except RedirectionError as error:
        shell.complain(str(error))
        return 1
    _assign(shell, command)
    shell.state.exported.update(name for name, _, _ in command.assignments)
    raise Exit(become(shell, argv))


def become(shell: "Interpreter", argv: list[str]) -> int:
    """Runs a command in this process; the shell's exit code if it cannot be."""
    if argv[0] == "cat" and not any(word.startswith("-") and word != "-" for word in argv[1:]):
        return run_builtin(shell, TOOLS["cat"], argv)
    try:
        return execute(argv, process(shell))
    except NotRunnable as error:
        shell.complain(error.text)
        return error.status


def run_builtin(shell: "Interpreter", tool: Tool, argv: list[str]) -> int:
    """Runs a tool that is mksh's own, and tells its errors as the shell."""
    return run_tool(tool, argv, process(shell), builtin_of=shell.state.prefix())


def _trace(shell: "Interpreter", command: Simple, argv: list[str]) -> None:
    """Prints the command as `set -x` does."""
    words = [f"{name}={quoted(shell.state.get(name) or '')}" for name, _, _ in command.assignments if not argv]
    words += [quoted(word) for word in argv] if argv else [""]
    os.write(2, os.fsencode((shell.state.get("PS4") or "") + " ".join(words) + "\n"))
