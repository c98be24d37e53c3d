"""`test`, `[`, `true`, `false`, `echo` and `printf`: what the shell runs in its own process."""

import os
import re
import stat
from collections.abc import Sequence

from bundler.virtual.shell.arithmetic import wrap
from bundler.virtual.shell.tools.base import Context, Failure, Tool

UNARY = frozenset("-" + letter for letter in "abcdefghknoprstuwxzGHLOS")
BINARY = frozenset(("=", "==", "!=", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-nt", "-ot", "-ef"))
MODES = {"-b": stat.S_ISBLK, "-c": stat.S_ISCHR, "-d": stat.S_ISDIR, "-f": stat.S_ISREG, "-p": stat.S_ISFIFO}
MODES |= {"-S": stat.S_ISSOCK}
BITS = {"-g": stat.S_ISGID, "-k": stat.S_ISVTX, "-u": stat.S_ISUID, "-r": 0o444, "-w": 0o222, "-x": 0o111}
UNEXPECTED = "unexpected operator/operand"


def test(argv: Sequence[str], context: Context) -> int:
    """`test expression` and `[ expression ]`; 2 where it is malformed."""
    words = list(argv[1:])
    if argv[0] == "[" and (not words or words.pop() != "]"):
        raise Failure("missing ]", 2)
    return int(not _test(words, context))


def _test(words: list[str], context: Context) -> bool:
    match words:
        case []:
            return False
        case [word]:
            return word != ""
        case ["!", word]:
            return word == ""
        case [left, operator, right] if operator in BINARY:
            return binary_test(left, operator, right, context)
        case ["!", *rest] if len(rest) < 4:
            return not _test(rest, context)
        case ["(", word, ")"]:
            return word != ""
    parser = _Parser(words, context)
    result = parser.either()
    if parser.words:
        raise Failure(f"{parser.words[0]}: {UNEXPECTED}", 2)
    return result


class _Parser:
    def __init__(self, words: list[str], context: Context) -> None:
        self.words = words
        self.context = context

    def either(self) -> bool:
        result = self.both()
        while self.words[:1] == ["-o"]:
            del self.words[0]
            result = self.both() or result
        return result

    def both(self) -> bool:
        result = self.term()
        while self.words[:1] == ["-a"]:
            del self.words[0]
            result = self.term() and result
        return result

    def term(self) -> bool:
        if not self.words:
            raise Failure("expression expected", 2)
        if len(self.words) > 2 and self.words[1] in BINARY:
            left, operator, right = self.words[:3]
            del self.words[:3]
            return binary_test(left, operator, right, self.context)
        word = self.words.pop(0)
        if word == "!":
            return not self.term()
        if word == "(":
            result = self.either()
            if self.words[:1] != [")"]:
                raise Failure("missing )", 2)
            del self.words[0]
            return result
        if word in UNARY and self.words:
            return unary_test(word, self.words.pop(0), self.context)
        return word != ""


def unary_test(operator: str, operand: str, context: Context) -> bool:
    """Whether `operator operand` holds."""
    if operator == "-n":
        return operand != ""
    if operator == "-z":
        return operand == ""
    if operator == "-t":
        return re.fullmatch("[0-9]{1,3}", operand) is not None and os.isatty(int(operand))
    if operator not in UNARY:
        raise Failure(f"{operator}: {UNEXPECTED}", 2)
    try:
        status = context.lstat(operand) if operator in ("-h", "-L") else context.stat(operand)
    except OSError:
        return False
    if operator in MODES:
        return MODES[operator](status.st_mode)
    if operator in BITS:
        return status.st_mode & BITS[operator] != 0
    if operator in ("-h", "-L"):
        return stat.S_ISLNK(status.st_mode)
    return status.st_size > 0 if operator == "-s" else True


def binary_test(left: str, operator: str, right: str, context: Context) -> bool:
    """Whether `left operator right` holds; numbers have 32 bits, as in mksh."""
    match operator:
        case "=" | "==":
            return left == right
        case "!=":
            return left != right
        case "<":
            return os.fsencode(left) < os.fsencode(right)
        case ">":
            return os.fsencode(left) > os.fsencode(right)
        case "-nt" | "-ot" | "-ef":
            return _compare_files(left, operator, right, context)
    first, second = _integer(left, context), _integer(right, context)
    return {
        "-eq": first == second,
        "-ne": first != second,
        "-lt": first < second,
        "-le": first <= second,
        "-gt": first > second,
        "-ge": first >= second,
    }[operator]


def _integer(text: str, context: Context) -> int:
    """A number, or the value of the variable of that name, as mksh takes it."""
    stripped = text.strip()
    if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", stripped):
        stripped = context.env.get(stripped, "").strip()
    if not re.fullmatch("([-+]?[0-9]+)?", stripped):
        raise Failure(f"{text}: bad number: Invalid argument", 2)
    return wrap(int(stripped or "0"))


def _compare_files(left: str, operator: str, right: str, context: Context) -> bool:
    times: list[os.stat_result | None] = []
    for path in (left, right):
        try:
            times.append(context.stat(path))
        except OSError:
            times.append(None)
    first, second = times
    if operator == "-ef":
        return (
            first is not None and second is not None and (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
        )
    if operator == "-ot":
        first, second = second, first
    return first is not None and (second is None or first.st_mtime_ns > second.st_mtime_ns)


def true(_argv: Sequence[str], _context: Context) -> int:
    """`true`."""
    return 0


def false(_argv: Sequence[str], _context: Context) -> int:
    """`false`."""
    return 1


SIMPLE = {"a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
ESCAPE = re.compile(rb"\\(?:(0[0-7]{0,3})|x([0-9a-fA-F]{1,2})|([1-7][0-7]{0,2})|(.))", re.DOTALL)


def unescaped(text: str, *, octal: bool) -> tuple[bytes, bool]:
    """The text with its escapes replaced, and whether `\\c` ended it. `octal`: `\\123` too, not only `\\0123`."""
    data = os.fsencode(text)
    result, position = b"", 0
    for match in ESCAPE.finditer(data):
        result += data[position : match.start()]
        position = match.end()
        zero, hexadecimal, number, letter = match.groups()
        if letter == b"c":
            return result, True
        if zero is not None or (number is not None and octal):
            digits = zero if zero is not None else number
            if octal and zero is not None:
                position -= len(digits) - 3 if len(digits) > 3 else 0
                digits = digits[:3]
            result += bytes([int(digits, 8) & 0xFF])
        elif hexadecimal:
            result += bytes([int(hexadecimal, 16)])
        elif letter and letter.decode("latin-1") in SIMPLE:
            result += SIMPLE[letter.decode("latin-1")].encode()
        else:
            result += match.group()
    return result + data[position:], False


def echo(argv: Sequence[str], context: Context) -> int:
    """`echo [-n] text...`, as mksh's when it is called sh: no escapes, no other option."""
    words = list(argv[1:])
    newline = True
    while words and re.fullmatch("-n+", words[0]):
        words.pop(0)
        newline = False
    context.out.write(os.fsencode(" ".join(words)) + (b"\n" if newline else b""))
    return 0


WIDEST = 5  # digits of a width
FORMAT = re.compile(rb"%(%|([-+ #0]*)(\*|[0-9]+)?(?:\.(\*|[0-9]*))?([a-zA-Z])?)")


def printf(argv: Sequence[str], context: Context) -> int:
    """`printf format argument...`; the format is used again while arguments are left."""
    if len(argv) < 2:
        raise Failure('Needs 1 argument (see "printf --help")')
    arguments = list(argv[2:])[::-1]
    template, stopped = unescaped(argv[1], octal=True)
    while True:
        before = len(arguments)
        try:
            context.out.write(_formatted(template, arguments, context))
        except _Stop as error:
            context.out.write(error.data)
            break
        if stopped or not arguments or len(arguments) == before:
            break
    return context.status()


class _Stop(Exception):
    """`\\c` in an argument of %b: no more output."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data


def _formatted(template: bytes, arguments: list[str], context: Context) -> bytes:
    result, position = b"", 0
    for match in FORMAT.finditer(template):
        result += template[position : match.start()]
        position = match.end()
        if match.group(1) == b"%":
            result += b"%"
            continue
        flags, kind = match.group(2), match.group(5)
        if not kind or kind not in b"diouxXcsbeEfFgGaA":
            raise Failure(f"bad {os.fsdecode(match.group())}@{match.start() + 2}")
        width, precision = (_number_in(match, group, arguments, context) for group in (3, 4))
        if precision is not None and precision.startswith(b"-"):
            precision = None  # as in C
        specification = b"%" + flags + (width or b"") + (b"" if precision is None else b"." + precision)
        if kind in b"diouxX":
            number = _value(arguments, context)
            if kind in b"ouxX" and number < 0:
                number += 1 << 64
            if kind == b"o" and b"#" in flags:
                specification = specification.replace(b"#", b"")
            result += (specification + kind) % number
        elif kind in b"eEfFgGaA":
            result += (specification + kind) % _real(arguments, context)
        else:
            text = os.fsencode(arguments.pop()) if arguments else b""
            stop = False
            if kind == b"b":
                text, stop = unescaped(os.fsdecode(text), octal=False)
            if kind == b"c":
                text, precision = text[:1] or b"\0", None
            result += (specification + b"s") % text
            if stop:
                raise _Stop(result)
    return result + template[position:]


def _number_in(match: re.Match[bytes], group: int, arguments: list[str], context: Context) -> bytes | None:
    """A width or a precision: as it stands there, or for `*` the next argument."""
    text = match.group(group)
    if text == b"*":
        text = str(_value(arguments, context)).encode()
    if len(text or b"") > WIDEST:
        raise Failure(f"bad {os.fsdecode(match.group())}@{match.start() + 2}")
    return text


def _value(arguments: list[str], context: Context) -> int:
    text = arguments.pop() if arguments else ""
    if text[:1] in ("'", '"'):
        return ord(text[1]) if len(text) > 1 else 0
    stripped = text.strip()
    if not stripped:
        return 0
    match = re.match("([-+]?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))?", stripped)
    assert match
    sign, hexadecimal, octal, decimal = match.groups()
    if match.end() < len(stripped):
        context.complain(f"bad %d {text}")
    value = int(hexadecimal, 16) if hexadecimal else int(octal, 8) if octal else int(decimal or 0)
    return -value if sign == "-" else value


def _real(arguments: list[str], context: Context) -> float:
    text = arguments.pop() if arguments else ""
    try:
        return float(text or "0")
    except ValueError:
        context.complain(f"not float: {text}")
        return 0.0


TOOLS: dict[str, Tool] = {"[": test, "echo": echo, "false": false, "printf": printf, "test": test, "true": true}
