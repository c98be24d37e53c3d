"""The shell language of the virtual phone: parsed, expanded and run, but for processes and file descriptors."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from unittest import mock

from bundler.virtual.machine import Machine
from bundler.virtual.shell import launch, patterns, reading
from bundler.virtual.shell.arithmetic import evaluate
from bundler.virtual.shell.builtins import BUILTINS, SPECIAL, Builtin
from bundler.virtual.shell.control import Exit
from bundler.virtual.shell.expand import Expander
from bundler.virtual.shell.interpreter import Interpreter
from bundler.virtual.shell.parser import Parser
from bundler.virtual.shell.redirect import Descriptors, Undo, _close
from bundler.virtual.shell.state import ShellError, State
from bundler.virtual.shell.syntax import Background, Command, Pipeline, Redirection, Script
from tests.fuzz.transport import phone_storage

MOST_COMMANDS = 300
MOST_PATTERN = 2000
SAID = "some words*\n [a]"


class _Descriptors(Descriptors):
    """Works redirections out and opens their files, but leaves this process's own descriptors alone."""

    def _one(self, redirection: Redirection, undo: Undo) -> None:
        if redirection.operator in ("<<", "<<<"):
            _close(self._document(redirection))
        elif redirection.operator in ("<&", ">&"):
            self.expander.text(redirection.target)
        else:
            _close(self._open(redirection))


class Dry(Interpreter):
    """Runs subshells in itself, programs not at all, and no more than so many commands."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.expander = Expander(state, self.output_of)
        self.descriptors = _Descriptors(state, self.expander)
        self.left = MOST_COMMANDS

    def fork(self, body: Callable[[], int], *, background: bool = False) -> int:
        return self.guarded(body)

    def wait(self, pid: int) -> int:
        return pid

    def output_of(self, script: Script) -> str:
        self.output_status = self.guarded(lambda: self.execute(script))
        return SAID

    def execute(self, command: Command, *, last: bool = False) -> int:
        self.left -= 1
        if self.left < 0:
            raise Exit(1)
        return super().execute(command, last=last)

    def _pipeline(self, command: Pipeline) -> int:
        statuses = [self.guarded(lambda each=each: self.execute(each)) for each in command.commands]  # type: ignore[misc]
        return int(statuses[-1] == 0) if command.negated else statuses[-1]

    def _background(self, command: Background) -> int:
        self.state.jobs[len(self.state.jobs) + 2] = 0
        return self.guarded(lambda: self.execute(command.command))


def _read(shell: Interpreter, argv: list[str]) -> int:
    """`read` of a line that is always the same."""
    _, _, _, names = reading._options(argv)
    line = [(character, False) for character in SAID]
    for name, value in zip(names, reading._split(line, len(names), shell.state.get("IFS") or ""), strict=True):
        shell.state.set(name, value)
    return 0


def _nothing(_: Interpreter, __: list[str]) -> int:
    return 0


def _told(name: str, message: str) -> None:
    assert "internal error" not in message, f"{name}: {message}"


def _no_program(*_: object) -> None:
    return None


def _unwritten(_: int, data: bytes) -> int:
    return len(data)


DRY: Mapping[str, Builtin] = dict.fromkeys(("kill", "wait", "umask"), _nothing) | {"read": _read}


@contextmanager
def _dry() -> Iterator[None]:
    """No signals, no programs, and a defect of a tool is one of the target."""
    with (
        mock.patch.dict(BUILTINS, DRY),
        mock.patch.dict(SPECIAL, trap=_nothing),
        mock.patch.object(launch, "complain", _told),
        mock.patch.object(launch, "_known", _no_program),
        mock.patch("bundler.virtual.shell.interpreter.complain", _told),
        mock.patch("os.write", _unwritten),
        mock.patch("bundler.virtual.disk.write_all", _unwritten),
    ):
        yield


@cache
def _machine(_: int) -> Machine:
    return Machine(phone_storage(), {"ro.soc.model": "SM8650"})


def _state() -> State:
    phone_storage()
    environment = {"PATH": "/system/bin", "HOME": "/data/local/tmp", "a": "some words", "n": "17"}
    return State.fresh(_machine(os.getpid()), environment, "/data/local/tmp", "sh", ["one", "two words", ""])


def script(data: bytes) -> None:
    """A script."""
    shell = Dry(_state())
    with _dry():
        assert 0 <= shell.guarded(lambda: shell.run_source(Parser(os.fsdecode(data.replace(b"\0", b""))))) <= 255


def arithmetic(data: bytes) -> None:
    """An expression."""
    try:
        value = evaluate(os.fsdecode(data), _state())
    except (ShellError, RecursionError):
        return
    assert -(2**31) <= value < 2**31


def pattern(data: bytes) -> None:
    """A pattern, a null byte, and a text, which is short: to replace takes the square of its length."""
    shape, _, text = (os.fsdecode(part) for part in data[:MOST_PATTERN].partition(b"\0"))
    matched = patterns.matches(shape, text)
    rest = patterns.remove(text, shape, "##")
    assert not matched or rest == ""
    assert text.startswith(patterns.remove(text, shape, "%%"))
    patterns.replace(text, shape, "-", everywhere=True)
    patterns.paths(shape, phone_storage(), "/data/local/tmp")
    assert patterns.matches(patterns.escape(text), text)
