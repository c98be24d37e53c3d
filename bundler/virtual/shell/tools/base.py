"""What every tool of the phone is made with: its context, its options, its output and its complaints."""

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from bundler.virtual import disk
from bundler.virtual.faults import Faults
from bundler.virtual.machine import Process
from bundler.virtual.storage import WRITABLE

CHUNK = 1 << 16
ERROR_STATUS = {"cmp": 2, "diff": 2, "egrep": 2, "expr": 2, "fgrep": 2, "grep": 2, "sort": 2, "timeout": 125}
_missing = Faults()
STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


class Failure(Exception):
    """Ends a tool: its message (printed after the tool's name) and exit code, 0 for the tool's usual one."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class OutputFailed(Exception):
    """Ends a tool: there is no room for its output."""


class Output:
    """A file descriptor that is written in large pieces."""

    def __init__(self, fd: int = 1) -> None:
        self.fd = fd
        self.pieces: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> None:
        self.pieces.append(data)
        self.size += len(data)
        if self.size >= CHUNK:
            self.flush()

    def line(self, text: str) -> None:
        self.write(os.fsencode(text) + b"\n")

    def flush(self) -> None:
        data = b"".join(self.pieces)
        self.pieces, self.size = [], 0
        try:
            disk.write_all(self.fd, data)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise OutputFailed(error.strerror or "") from None
            raise


@dataclass(frozen=True)
class Context(Process):
    """A tool's process: what programs see, its name, its output, and a way to become another program."""

    name: str
    execute: Callable[[Sequence[str], Process], int]
    called: str = ""
    out: Output = field(default_factory=Output)
    failed: list[int] = field(default_factory=list)

    def complain(self, message: str) -> None:
        """Prints an error; the tool goes on, and its exit code is 1 at least."""
        self.failed.append(1)
        self.out.flush()
        complain(self.name, message)

    def status(self) -> int:
        """The exit code after all complaints."""
        return self.error_status if self.failed else 0

    @property
    def error_status(self) -> int:
        """The exit code of this tool's mistakes."""
        return ERROR_STATUS.get(self.called.rpartition("/")[2], 1)

    def host(self, path: str, *, follow: bool = True, write: bool = False) -> Path:
        """The host's path; for a tool's own file operations, never to be shown."""
        if not path:
            raise FileNotFoundError(2, "No such file or directory")
        return self.machine.storage.host(path, self.cwd, follow=follow, write=write)

    def entry(self, path: str) -> Path:
        """The host's path of a directory entry that is to be made, removed or renamed."""
        if not path:
            raise FileNotFoundError(2, "No such file or directory")
        host = self.machine.storage.host(path, self.cwd, follow=False, write=True)
        if host == self.machine.storage.root / WRITABLE[1:]:
            raise PermissionError(13, "Permission denied")
        return host

    def resolve(self, path: str, *, follow: bool = True) -> str:
        return self.machine.storage.resolve(path, self.cwd, follow=follow)

    def lstat(self, path: str) -> os.stat_result:
        return self.host(path, follow=False).lstat()

    def stat(self, path: str) -> os.stat_result:
        return self.host(path).stat()

    def is_folder(self, path: str) -> bool:
        try:
            return self.host(path).is_dir()
        except OSError:
            return False

    def exists(self, path: str) -> bool:
        try:
            self.lstat(path)
        except OSError:
            return False
        return True

    def names(self, path: str) -> list[str]:
        """The names in a folder, sorted by their bytes."""
        return sorted(os.listdir(self.host(path)), key=os.fsencode)  # noqa: PTH208

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        """A file descriptor of a file; `-` is standard input."""
        if path == "-" and flags == os.O_RDONLY:
            return os.dup(0)
        if path in STANDARD:
            return os.dup(STANDARD[path])
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) != 0
        return os.open(self.host(path, write=writes), flags | os.O_NOFOLLOW, mode)

    @contextmanager
    def reading(self, path: str) -> Iterator[BinaryIO]:
        """A file, or standard input for `-`, opened for reading."""
        fd = self.open(path)
        if os.path.isdir(fd):  # noqa: PTH112  (a descriptor, not a path)
            os.close(fd)
            raise IsADirectoryError(21, "Is a directory")
        with open(fd, "rb") as file:  # noqa: PTH123
            yield file

    def inputs(self, paths: Sequence[str]) -> Iterator[tuple[str, BinaryIO]]:
        """The files, standard input where there are none; complains about those that cannot be read."""
        for path in paths or ["-"]:
            try:
                with self.reading(path) as file:
                    yield path, file
            except BrokenPipeError:
                raise
            except OSError as error:
                self.complain(f"{path}: {error.strerror}")

    def spawn(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> int:
        """Starts `argv` in a process of its own and gives its id."""
        self.out.flush()
        pid = os.fork()
        if pid:
            return pid
        status = 125
        try:
            process = Process(self.machine, self.cwd, self.env if env is None else env)
            status = self.run(argv, process)
        finally:
            os._exit(status)

    def run(self, argv: Sequence[str], process: Process) -> int:
        """Becomes `argv`; says so where that cannot be."""
        try:
            return self.execute(argv, process)
        except NotRunnable as error:
            complain(self.name, f"exec {argv[0]}: {error.reason}")
            return error.status


class NotRunnable(Exception):
    """A command that cannot be started: the system's reason, mksh's text and the exit code."""

    def __init__(self, reason: str, text: str, status: int) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.status = status


Tool = Callable[[Sequence[str], Context], int]


def complain(name: str, message: str) -> None:
    """One line on standard error."""
    data = os.fsencode(f"{name}: {message}\n")
    try:
        os.write(2, data)
    except OSError:
        return


def wait(pid: int) -> int:
    """A child's exit code, 128 and the signal's number where one ended it."""
    status = os.waitpid(pid, 0)[1]
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


@dataclass(frozen=True)
class Options:
    """A tool's options: how often each flag was given, each value, and the operands."""

    flags: Mapping[str, int]
    values: Mapping[str, list[str]]
    operands: list[str]

    def __contains__(self, flag: str) -> bool:
        return flag in self.flags

    def value(self, letter: str, default: str = "") -> str:
        """The last value given for an option."""
        return self.values[letter][-1] if letter in self.values else default

    def number(self, letter: str, default: int) -> int:
        """The last value given, as a number with a unit such as k or M."""
        return number(self.values[letter][-1]) if letter in self.values else default


def parse(
    argv: Sequence[str],
    flags: str = "",
    values: str = "",
    *,
    long: Mapping[str, str] | None = None,
    stop: bool = False,
    minimum: int = 0,
    maximum: int | None = None,
) -> Options:
    """Reads options as toybox does. `long` maps long names to letters; `stop` ends the options at the first operand.

    Raises:
        Failure: with toybox's text.
    """
    found: dict[str, int] = {}
    given: dict[str, list[str]] = {}
    operands: list[str] = []
    pending = list(argv[1:])[::-1]
    while pending:
        argument = pending.pop()
        if argument == "--":
            operands.extend(pending[::-1])
            break
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            letter = (long or {}).get(name, "")
            if not letter or not has_option(argv[0], letter):
                raise unknown_option(argv[0], name)
            if letter in values:
                given.setdefault(letter, []).append(value if equals else _next(pending, argv[0], name))
            found[letter] = found.get(letter, 0) + 1
        elif argument.startswith("-") and argument != "-":
            _letters(argument[1:], pending, flags, values, found, given, argv[0])
        elif stop:
            operands = [argument, *pending[::-1]]
            break
        else:
            operands.append(argument)
    if len(operands) < minimum:
        need = "Needs 1 argument" if minimum == 1 else f"Need {minimum} arguments"
        raise Failure(f'{need} (see "{argv[0]} --help")')
    if maximum is not None and len(operands) > maximum:
        raise Failure(f'Max {maximum} argument{"s" * (maximum != 1)} (see "{argv[0]} --help")')
    return Options(found, given, operands)


def _letters(
    letters: str,
    pending: list[str],
    flags: str,
    values: str,
    found: dict[str, int],
    given: dict[str, list[str]],
    name: str,
) -> None:
    while letters:
        letter, letters = letters[0], letters[1:]
        if not has_option(name, letter):
            raise unknown_option(name, letter)
        if letter in values:
            given.setdefault(letter, []).append(letters or _next(pending, name, letter))
            letters = ""
        elif letter not in flags:
            raise unknown_option(name, letter)
        found[letter] = found.get(letter, 0) + 1


def _next(pending: list[str], name: str, option: str) -> str:
    if not pending:
        raise Failure(f'Missing argument to -{option} (see "{name} --help")')
    return pending.pop()


def leave_out(faults: Faults) -> None:
    """Has the tools of this process lack the options that `faults` name."""
    global _missing  # noqa: PLW0603  (a process is of one phone for all its life)
    _missing = faults


def has_option(tool: str, letter: str) -> bool:
    """Whether the phone's tool has the option, if toybox's has it."""
    return not _missing.lacks(tool, letter)


def unknown_option(name: str, option: str) -> Failure:
    return Failure(f"Unknown option '{option}' (see \"{name} --help\")")


UNITS = {"c": 1, "w": 2, "b": 512, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def number(text: str) -> int:
    """A number as toybox reads it: with a unit (k, M, G; kd for 1000), decimal, 0x or octal.

    Raises:
        Failure: if it is none.
    """
    body, scale = text.lower(), 1
    if body.endswith("d") and len(body) > 2 and body[-2] in UNITS and not body.startswith("0x"):
        scale = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}.get(body[-2], 1)
        body = body[:-2]
    elif body and body[-1] in UNITS and not body.startswith("0x"):
        scale, body = UNITS[body[-1]], body[:-1]
    try:
        sign = -1 if body.startswith("-") else 1
        digits = body.lstrip("+-")
        octal = len(digits) > 1 and digits[0] == "0" and digits[1] != "x"
        return sign * int(digits, 8 if octal else 0) * scale
    except ValueError:
        raise Failure(f"not integer: {text}") from None


def copy(source: int, target: Output, limit: int | None = None) -> int:
    """Copies bytes from a file descriptor, at most `limit`; gives their number."""
    total = 0
    while limit is None or total < limit:
        data = os.read(source, CHUNK if limit is None else min(CHUNK, limit - total))
        if not data:
            break
        target.write(data)
        target.flush()
        total += len(data)
    return total
