"""The builtins `read` and `getopts`."""

import os
import re
from typing import TYPE_CHECKING

from bundler.virtual.shell.state import LONGEST_NUMBER, ShellError

if TYPE_CHECKING:
    from bundler.virtual.shell.interpreter import Interpreter

BLOCK = 4096
DESCRIPTOR = re.compile("[0-9]{1,3}")


def read(shell: "Interpreter", argv: list[str]) -> int:
    """`read [-r] [-u fd] [-d x] [-p text] [name...]`: 1 at the end of the input."""
    raw, fd, delimiter, names = _options(argv)
    try:
        line, whole = _line(fd, raw=raw, delimiter=delimiter)
    except OSError as error:
        shell.complain(f"read: {fd}: {error.strerror}")
        return 2
    values = _split(line, len(names), shell.state.variables.get("IFS", " \t\n"))
    for name, value in zip(names, values, strict=True):
        shell.state.set(name, value)
    return int(not whole)


def _options(argv: list[str]) -> tuple[bool, int, bytes, list[str]]:
    raw, fd, delimiter = False, 0, b"\n"
    arguments = argv[1:]
    while arguments and arguments[0].startswith("-") and len(arguments[0]) > 1:
        option = arguments.pop(0)
        if option == "--":
            break
        for index, letter in enumerate(option[1:], 2):
            if letter == "r":
                raw = True
            elif letter in "udp":
                value = option[index:] or (arguments.pop(0) if arguments else "")
                fd = int(value) if letter == "u" and DESCRIPTOR.fullmatch(value) else fd
                delimiter = os.fsencode(value[:1]) or b"\0" if letter == "d" else delimiter
                break
            else:
                raise ShellError(f"read: -{letter}: unknown option", 2)
    return raw, fd, delimiter, arguments or ["REPLY"]


def _line(fd: int, *, raw: bool, delimiter: bytes) -> tuple[list[tuple[str, bool]], bool]:
    """The characters of a line, each with whether a backslash protects it, and whether the line is whole."""
    data = bytearray()
    marks: list[tuple[bytes, bool]] = []
    whole = False
    escaped = False
    while byte := os.read(fd, 1):
        if byte == delimiter and not escaped:
            whole = True
            break
        if byte == b"\\" and not raw and not escaped:
            escaped = True
            continue
        if escaped and byte == b"\n":
            escaped = False
            continue
        if escaped:
            marks.append((bytes(data), False))
            marks.append((byte, True))
            data.clear()
        else:
            data += byte
        escaped = False
    marks.append((bytes(data), False))
    return [(c, protected) for piece, protected in marks for c in os.fsdecode(piece.replace(b"\0", b""))], whole


def _split(line: list[tuple[str, bool]], count: int, separators: str) -> list[str]:
    """The line cut into `count` values; the last takes the rest."""
    blanks = [c for c in separators if c in " \t\n"]
    values: list[str] = []
    position = _skip(line, 0, blanks)
    while len(values) < count - 1 and position < len(line):
        start = position
        while position < len(line) and (line[position][1] or line[position][0] not in separators):
            position += 1
        values.append("".join(c for c, _ in line[start:position]))
        position = _skip(line, position, blanks)
        if position < len(line) and not line[position][1] and line[position][0] in separators and start < position:
            before = line[position - 1]
            if before[0] not in blanks or before[1] or line[position][0] not in blanks:
                position = _skip(line, position + 1, blanks)
    rest = line[position:]
    while rest and not rest[-1][1] and rest[-1][0] in blanks:
        rest.pop()
    text = "".join(c for c, _ in rest)
    hard = [c for c, protected in rest if not protected and c in separators and c not in blanks]
    if len(hard) == 1 and rest[-1] == (hard[0], False):
        text = text[:-1]
    values.append(text)
    return values + [""] * (count - len(values))


def _skip(line: list[tuple[str, bool]], position: int, blanks: list[str]) -> int:
    while position < len(line) and not line[position][1] and line[position][0] in blanks:
        position += 1
    return position


def getopts(shell: "Interpreter", argv: list[str]) -> int:
    """`getopts letters name [argument...]`."""
    if len(argv) < 3:
        raise ShellError("getopts: missing arguments")
    letters, name = argv[1], argv[2]
    arguments = argv[3:] or shell.state.positional
    state = shell.state
    told = state.get("OPTIND") or ""
    index = max(1, int(told)) if told.isascii() and told.isdigit() and len(told) < LONGEST_NUMBER else 1
    if index == shell.option_index + 1 and shell.option_offset > 1:
        index -= 1  # OPTIND counts a word from its first letter on
    elif index != shell.option_index:
        shell.option_offset = 1
    word = arguments[index - 1] if index <= len(arguments) else ""
    if not word.startswith("-") or word in ("-", "--"):
        state.set("OPTIND", str(index + (word == "--")))
        state.set(name, "?")
        return 1
    if shell.option_offset >= len(word):  # the arguments are others than before
        shell.option_offset = 1
    letter = word[shell.option_offset]
    shell.option_offset += 1
    rest = word[shell.option_offset :]
    place = letters.lstrip(":").find(letter)
    takes = letters.lstrip(":")[place + 1 : place + 2] == ":"
    quiet = letters.startswith(":")
    state.unset("OPTARG")
    result = letter
    if place < 0 or letter == ":":
        result = "?"
        if quiet:
            state.set("OPTARG", letter)
        else:
            shell.complain(f"-{letter}: unknown option")
    elif takes:
        index, result = _argument(shell, arguments, index, letter, rest, quiet=quiet)
        rest = ""
    if not rest:
        index += 1
        shell.option_offset = 1
    shell.option_index = index
    state.set("OPTIND", str(index + (shell.option_offset > 1)))
    state.set(name, result)
    return 0


def _argument(
    shell: "Interpreter", arguments: list[str], index: int, letter: str, rest: str, *, quiet: bool
) -> tuple[int, str]:
    """Sets OPTARG; gives the index of its word and what getopts answers."""
    if rest:
        shell.state.set("OPTARG", rest)
        return index, letter
    if index < len(arguments):
        shell.state.set("OPTARG", arguments[index])
        return index + 1, letter
    if quiet:
        shell.state.set("OPTARG", letter)
        return index, ":"
    shell.complain(f"-{letter}: requires argument")
    return index, "?"
