"""sed: runs its commands over lines."""

import os
import re
import stat
from collections.abc import Iterator, Sequence

from bundler.virtual.shell.tools.base import Context, Failure, Output, Tool, parse
from bundler.virtual.shell.tools.sed_parse import Address, Command, Script, expand_replacement

LONG = {"quiet": "n", "silent": "n", "expression": "e", "regexp-extended": "E", "file": "f", "in-place": "i"}


def sed(argv: Sequence[str], context: Context) -> int:
    """`sed [-nErsz] [-i[SUFFIX]] [-e script] [-f file] [script] [file...]`."""
    arguments, suffix = _in_place(list(argv))
    options = parse(arguments, "nErszi", "ef", long=LONG)
    operands = list(options.operands)
    parts = list(options.values.get("e", []))
    for path in options.values.get("f", []):
        with context.reading(path) as file:
            parts.append(_text(file.read()))
    if not parts:
        if not operands:
            raise Failure('Needs 1 argument (see "sed --help")')
        parts = [operands.pop(0)]
    script = Script("\n".join(parts), extended="E" in options or "r" in options)
    quiet = "n" in options
    if "i" not in options:
        lines = _Lines(_all_lines(operands, context))
        return _Run(script.commands, lines, context.out, quiet=quiet).go() or context.status()
    for path in operands:
        try:
            _edit(path, suffix, script, context, quiet=quiet)
        except OSError as error:
            context.complain(f"{path}: {error.strerror}")
    return context.status()


def _in_place(arguments: list[str]) -> tuple[list[str], str]:
    """Takes the suffix off `-iSUFFIX`."""
    for index, argument in enumerate(arguments):
        match = re.fullmatch(r"-([nErsz]*)i(.*)", argument)
        if argument == "--":
            break
        if match:
            arguments[index] = f"-{match.group(1)}i"
            return arguments, match.group(2)
    return arguments, ""


def _edit(path: str, suffix: str, script: Script, context: Context, *, quiet: bool) -> None:
    """Edits a file beside its place and puts the result there."""
    with context.reading(path) as file:
        lines = _Lines(iter(_split(file.read())))
    host = context.host(path, write=True)
    mode = host.stat().st_mode
    draft = host.with_name(f".{host.name[:200]}.{os.getpid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    out = Output(fd)
    for command in script.commands:
        command.active, command.active_until = False, None
    try:
        _Run(script.commands, lines, out, quiet=quiet).go()
        out.flush()
        os.fchmod(fd, stat.S_IMODE(mode))
        if suffix:
            host.rename(host.with_name(host.name + suffix))
        draft.rename(host)
    except BaseException:
        draft.unlink()
        raise
    finally:
        os.close(fd)


def _split(data: bytes) -> list[bytes]:
    pieces = data.split(b"\n")
    return [piece + b"\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])


def _all_lines(paths: Sequence[str], context: Context) -> Iterator[bytes]:
    for _, file in context.inputs(paths):
        yield from file


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class _Lines:
    """Lines with a look ahead, for `$`."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self.source = source
        self.following = next(source, None)
        self.number = 0

    def take(self) -> bytes | None:
        line = self.following
        if line is not None:
            self.number += 1
            self.following = next(self.source, None)
        return line

    @property
    def last(self) -> bool:
        return self.following is None


class _End(Exception):
    """The script ends for this line; `again` starts it over without reading, `leave` ends sed."""

    def __init__(self, *, show: bool = True, again: bool = False, leave: bool = False) -> None:
        super().__init__()
        self.show = show
        self.again = again
        self.leave = leave


class _Run:
    def __init__(self, commands: list[Command], lines: _Lines, out: Output, *, quiet: bool) -> None:
        self.commands = commands
        self.lines = lines
        self.out = out
        self.quiet = quiet
        self.space = ""
        self.hold = ""
        self.ending = b"\n"
        self.appended: list[str] = []
        self.replaced = False
        self.status = 0
        self.labels = {command.text: index for index, command in enumerate(commands) if command.name == ":"}

    def go(self) -> int:
        again = False
        while again or self._read():
            again = False
            try:
                self._script()
                end = _End()
            except _End as error:
                end = error
            if end.show and not self.quiet:
                self._print(self.space, self.ending)
            self._flush_appended()
            if end.leave:
                break
            again = end.again
        return self.status

    def _read(self) -> bool:
        raw = self.lines.take()
        if raw is None:
            return False
        self.ending = b"\n" if raw.endswith(b"\n") else b""
        self.space = _text(raw.removesuffix(b"\n"))
        self.replaced = False
        return True

    def _print(self, text: str, ending: bytes = b"\n") -> None:
        self.out.write(text.encode("utf-8", "surrogateescape") + ending)

    def _flush_appended(self) -> None:
        for text in self.appended:
            self._print(text)
        self.appended = []

    def _script(self) -> None:
        index = 0
        while index < len(self.commands):
            command = self.commands[index]
            index += 1
            if command.name in "#:}":
                continue
            if self._selected(command) == command.negated:
                index = command.end if command.name == "{" else index
                continue
            if command.name in "btT":
                jump = command.name == "b" or self.replaced == (command.name == "t")
                if command.name != "b":
                    self.replaced = False
                if jump:
                    if command.text and command.text not in self.labels:
                        raise Failure(f"no label '{command.text}'")
                    index = self.labels[command.text] if command.text else len(self.commands)
            elif command.name != "{":
                self._run(command)

    def _selected(self, command: Command) -> bool:
        if command.first is None:
            return True
        if command.last is None:
            return self._matches(command.first)
        number = self.lines.number
        if command.active:
            if isinstance(command.last, int) or command.active_until is not None:
                limit = command.active_until if command.active_until is not None else command.last
                assert isinstance(limit, int)
                command.active = number < limit
                return number <= limit or not isinstance(command.last, int) or self._matches(command.first)
            command.active = not self._matches(command.last)
            return True
        if not self._matches(command.first):
            return False
        if isinstance(command.last, str) and command.last.startswith("+"):
            command.active_until = number + int(command.last)
            command.active = command.active_until > number
        elif isinstance(command.last, int):
            command.active = command.last > number
        else:
            command.active = not (command.last == "$" and self.lines.last)
        return True

    def _matches(self, address: Address) -> bool:
        if isinstance(address, int):
            return self.lines.number == address
        if isinstance(address, str):
            return self.lines.last
        return address.search(self.space) is not None

    def _run(self, command: Command) -> None:
        if command.name == "s":
            self._substitute(command)
        elif command.name == "y":
            self.space = self.space.translate(str.maketrans(command.text, command.replacement))
        elif command.name in "aic":
            self._insert(command)
        elif command.name in "dDqQ":
            self._leave(command)
        elif command.name in "nN":
            self._next(command)
        elif command.name in "gGhHx":
            self._swap(command.name)
        elif command.name == "p":
            self._print(self.space)
        elif command.name == "P":
            self._print(self.space.partition("\n")[0])
        elif command.name == "=":
            self._print(str(self.lines.number))
        elif command.name == "l":
            self._print(self.space.encode("unicode_escape").decode() + "$")
        else:
            raise Failure(f"bad command '{command.name}'")

    def _insert(self, command: Command) -> None:
        if command.name == "a":
            self.appended.append(command.text)
        elif command.name == "i":
            self._print(command.text)
        else:
            if not command.active or command.negated:
                self._print(command.text)
            raise _End(show=False)

    def _leave(self, command: Command) -> None:
        if command.name in "qQ":
            self.status = int(command.text or "0") & 0xFF
            raise _End(show=command.name == "q", leave=True)
        if command.name == "D" and "\n" in self.space:
            self.space = self.space.partition("\n")[2]
            raise _End(show=False, again=True)
        raise _End(show=False)

    def _next(self, command: Command) -> None:
        if self.lines.last:
            raise _End(leave=True)
        if command.name == "n":
            if not self.quiet:
                self._print(self.space)
            self._flush_appended()
            self._read()
        else:
            before = self.space
            self._flush_appended()
            self._read()
            self.space = f"{before}\n{self.space}"

    def _swap(self, name: str) -> None:
        match name:
            case "g":
                self.space = self.hold
            case "G":
                self.space += "\n" + self.hold
            case "h":
                self.hold = self.space
            case "H":
                self.hold += "\n" + self.space
            case "x":
                self.space, self.hold = self.hold, self.space

    def _substitute(self, command: Command) -> None:
        assert command.pattern is not None
        wanted = int("".join(c for c in command.flags if c.isdigit()) or "1")
        seen = 0
        changed = False

        def replaced(match: re.Match[str]) -> str:
            nonlocal seen, changed
            seen += 1
            if seen < wanted or (seen > wanted and "g" not in command.flags):
                return match.group()
            changed = True
            return expand_replacement(command.replacement, match)

        self.space = command.pattern.sub(replaced, self.space)
        if changed:
            self.replaced = True
            if "p" in command.flags:
                self._print(self.space)


TOOLS: dict[str, Tool] = {"sed": sed}
