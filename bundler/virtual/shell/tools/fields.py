"""Lines and their fields: sort, uniq, cut, paste, comm, tr, split, fold."""

import os
import re
import string
from collections.abc import Callable, Sequence

from bundler.virtual.shell.tools.base import CHUNK, Context, Failure, Output, Tool, parse

Key = Callable[[bytes], tuple[object, ...]]
NUMBER = re.compile(rb"\s*([-+]?[0-9]*\.?[0-9]+)")
WHOLE = 1 << 30


def sort(argv: Sequence[str], context: Context) -> int:
    """`sort [-bcdfghimnoruVz] [-k key] [-t separator] [-o file] [file...]`."""
    options = parse(argv, "cCbdfghimnruVzsx", "kto", long={"reverse": "r", "unique": "u", "numeric-sort": "n"})
    end = b"\0" if "z" in options else b"\n"
    lines: list[bytes] = []
    for _, file in context.inputs(options.operands):
        data = file.read()
        lines += data.removesuffix(end).split(end) if data else []
    everywhere = "".join(letter for letter in "bdfgnriV" if letter in options)
    separator = os.fsencode(options.value("t")) or None
    keys = [_Key(text, everywhere, separator) for text in options.values.get("k", [])] or [_Key("1", everywhere, None)]
    if "c" in options or "C" in options:
        return _check(lines, keys, context, unique="u" in options, silent="C" in options)
    if "u" not in options and "s" not in options:
        lines.sort(reverse="r" in options)
    for key in reversed(keys):
        lines.sort(key=key.value, reverse=key.reverse)
    if "u" in options:
        lines = [line for i, line in enumerate(lines) if not i or _values(line, keys) != _values(lines[i - 1], keys)]
    out = context.out
    if "o" in options:
        out = Output(context.open(options.value("o"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
    out.write(b"".join(line + end for line in lines))
    out.flush()
    return context.status()


def _values(line: bytes, keys: list["_Key"]) -> list[tuple[object, ...]]:
    return [key.value(line) for key in keys]


def _check(lines: list[bytes], keys: list["_Key"], context: Context, *, unique: bool, silent: bool) -> int:
    for index in range(1, len(lines)):
        for key in keys:
            before, after = key.value(lines[index - 1]), key.value(lines[index])
            if before == after and key is not keys[-1]:
                continue
            if ((before > after) != key.reverse and before != after) or (unique and before == after):
                if not silent:
                    context.complain(f"-: Check line {index + 1}")
                return 1
            if before != after:
                break
    return 0


class _Key:
    """`FIELD[.CHARACTER][,FIELD[.CHARACTER]]` with the letters of its own or of the whole sort."""

    def __init__(self, text: str, letters: str, separator: bytes | None) -> None:
        match = re.fullmatch(r"([0-9]+)(?:\.([0-9]+))?([bdfgnriV]*)(?:,([0-9]+)(?:\.([0-9]+))?([bdfgnriV]*))?", text)
        if not match:  # toybox reads as far as it understands
            match = re.match(r"([0-9]*)()()()()()", text)
            assert match
        self.first, self.last = int(match.group(1) or 1), int(match.group(4) or WHOLE)
        self.begin, self.end = int(match.group(2) or 1), int(match.group(5) or 0)
        self.letters = (match.group(3) + (match.group(6) or "")) or letters
        self.reverse = "r" in self.letters
        self.separator = separator

    def value(self, line: bytes) -> tuple[object, ...]:
        """What the line is ordered by."""
        if self.first == 1 and self.last == WHOLE and self.begin == 1:
            text = line
        else:
            pieces = line.split(self.separator) if self.separator else re.findall(rb"[ \t]*[^ \t]+", line)
            last = min(self.last, len(pieces))
            chosen = list(pieces[self.first - 1 : last])
            if chosen and self.end and last == self.last:
                chosen[-1] = chosen[-1][: self.end]
            text = (self.separator or b"").join(chosen)
            text = (text.lstrip(b" \t") if "b" in self.letters else text)[self.begin - 1 :]
        if "n" in self.letters or "g" in self.letters:
            match = NUMBER.match(text)
            return (float(match.group(1)) if match else 0.0,)
        if "V" in self.letters:
            return tuple((0, int(p), b"") if p.isdigit() else (1, 0, p) for p in re.findall(rb"[0-9]+|[^0-9]+", text))
        text = text.upper() if "f" in self.letters else text
        text = bytes(b for b in text if chr(b).isalnum() or b in b" \t") if "d" in self.letters else text
        return (text.lstrip(b" \t") if "b" in self.letters else text,)


def uniq(argv: Sequence[str], context: Context) -> int:
    """`uniq [-cdiuz] [-f fields] [-s characters] [-w width] [in [out]]`."""
    options = parse(argv, "cdiuz", "fsw", maximum=2)
    end = b"\0" if "z" in options else b"\n"
    out = context.out
    if len(options.operands) > 1:
        out = Output(context.open(options.operands[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
    groups: list[tuple[bytes, int]] = []
    last: bytes | None = None
    for _, file in context.inputs(options.operands[:1]):
        data = file.read()
        for line in data.removesuffix(end).split(end) if data else []:
            key = re.sub(rb"^(\s*\S+){0,%d}" % options.number("f", 0), b"", line)[options.number("s", 0) :]
            key = key[: options.number("w", WHOLE)]
            key = key.upper() if "i" in options else key
            if key == last:
                groups[-1] = (groups[-1][0], groups[-1][1] + 1)
            else:
                groups.append((line, 1))
            last = key
    for line, count in groups:
        if ("d" in options and count < 2) or ("u" in options and count > 1):
            continue
        out.write((b"%7d " % count if "c" in options else b"") + line + end)
    out.flush()
    return context.status()


def ranges(text: str) -> list[tuple[int, int]]:
    """The ranges of a list such as 1,3-5,7-.

    Raises:
        Failure: if it is malformed.
    """
    result: list[tuple[int, int]] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]*)(-?)([0-9]*)", part)
        if not match or not (match.group(1) or match.group(3)):
            raise Failure(f"bad list '{part}'")
        first = int(match.group(1) or 1)
        last = int(match.group(3) or WHOLE) if match.group(2) else first
        if not first or last < first:
            raise Failure(f"bad list '{part}'")
        result.append((first, last))
    return result


def cut(argv: Sequence[str], context: Context) -> int:
    """`cut {-b|-c|-f} list [-d character] [-O text] [-Ds] [file...]`."""
    options = parse(
        argv, "Dsn", "bcfdOF", long={"output-delimiter": "O", "fields": "f", "delimiter": "d", "characters": "c"}
    )
    chosen = next((letter for letter in "bcfF" if letter in options), "")
    if not chosen:
        raise Failure('Needs -fcCF (see "cut --help")')
    wanted = ranges(options.value(chosen))
    wanted = wanted if "D" in options else sorted(wanted)
    delimiter = os.fsencode(options.value("d", "\t"))
    joined = os.fsencode(options.value("O")) if "O" in options else delimiter
    for _, file in context.inputs(options.operands):
        for raw in file:
            line = raw.removesuffix(b"\n")
            if chosen == "b":
                context.out.write(b"".join(line[f - 1 : t] for f, t in _merged(wanted)) + b"\n")
            elif chosen == "c":
                text = line.decode("utf-8", "surrogateescape")
                piece = "".join(text[f - 1 : t] for f, t in _merged(wanted))
                context.out.write(piece.encode("utf-8", "surrogateescape") + b"\n")
            elif delimiter in line:
                fields = line.split(delimiter)
                context.out.write(joined.join(field for f, t in _merged(wanted) for field in fields[f - 1 : t]) + b"\n")
            elif "s" not in options:
                context.out.write(line + b"\n")
    return context.status()


def _merged(wanted: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges without what an earlier one has."""
    result: list[tuple[int, int]] = []
    for first, last in wanted:
        if result and first <= result[-1][1] and first >= result[-1][0]:
            result[-1] = (result[-1][0], max(result[-1][1], last))
        else:
            result.append((first, last))
    return result


def paste(argv: Sequence[str], context: Context) -> int:
    """`paste [-s] [-d characters] [file...]`."""
    options = parse(argv, "s", "d")
    marks = os.fsencode(options.value("d", "\t").replace("\\n", "\n").replace("\\t", "\t").replace("\\0", "")) or b""
    columns = [file.read().removesuffix(b"\n").split(b"\n") for _, file in context.inputs(options.operands)]
    rows = columns
    if "s" not in options:
        rows = [[c[i] if i < len(c) else b"" for c in columns] for i in range(max(map(len, columns), default=0))]
    for row in rows:
        line = row[0]
        for index, field in enumerate(row[1:]):
            place = index % len(marks) if marks else 0
            line += marks[place : place + 1] + field
        context.out.write(line + b"\n")
    return context.status()


def comm(argv: Sequence[str], context: Context) -> int:
    """`comm [-123] one two`."""
    options = parse(argv, "123", minimum=2, maximum=2)
    one, two = ([line.rstrip(b"\n") for line in file] for _, file in context.inputs(options.operands))
    indent = {column: b"\t" * sum(str(c) not in options for c in range(1, column)) for column in (1, 2, 3)}
    left, right = 0, 0
    while left < len(one) or right < len(two):
        if right >= len(two) or (left < len(one) and one[left] < two[right]):
            column, line, left = 1, one[left], left + 1
        elif left >= len(one) or two[right] < one[left]:
            column, line, right = 2, two[right], right + 1
        else:
            column, line, left, right = 3, one[left], left + 1, right + 1
        if str(column) not in options:
            context.out.write(indent[column] + line + b"\n")
    return context.status()


CLASSES = {
    "alpha": string.ascii_uppercase + string.ascii_lowercase,
    "digit": string.digits,
    "alnum": string.digits + string.ascii_uppercase + string.ascii_lowercase,
    "upper": string.ascii_uppercase,
    "lower": string.ascii_lowercase,
    "space": "\t\n\v\f\r ",
    "blank": "\t ",
    "punct": "".join(sorted(string.punctuation)),
    "xdigit": string.digits + "ABCDEFabcdef",
    "cntrl": "".join(map(chr, range(32))) + "\x7f",
    "print": "".join(map(chr, range(32, 127))),
    "graph": "".join(map(chr, range(33, 127))),
}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\\": "\\"}
UNIT = re.compile(r"\[:([a-z]+):\]|\[=(.)=\]|\\([0-7]{1,3})|\\(.)|(.)", re.DOTALL)


def _set(text: str) -> bytes:
    """The bytes that a set of tr's stands for, in order."""
    units: list[str] = []
    single: list[bool] = []
    for match in UNIT.finditer(os.fsencode(text).decode("latin-1")):
        name, same, octal, escape, plain = match.groups()
        if name and name not in CLASSES:
            units.extend(match.group())
            single.extend([False] * len(match.group()))
            continue
        unit = CLASSES[name] if name else same or (chr(int(octal, 8) & 255) if octal else "")
        units.append(unit or (ESCAPES.get(escape, escape) if escape else plain))
        single.append(plain == "-")
    result, index = "", 0
    while index < len(units):
        ranged = 0 < index < len(units) - 1 and single[index] and len(units[index - 1]) == len(units[index + 1]) == 1
        if ranged and result:
            first, last = ord(result[-1]), ord(units[index + 1])
            if last < first:
                raise Failure(f"reversed range {chr(first)}-{chr(last)}")
            result += "".join(map(chr, range(first + 1, last + 1)))
            index += 2
        else:
            result += units[index]
            index += 1
    return result.encode("latin-1")


def tr(argv: Sequence[str], context: Context) -> int:
    """`tr [-cCds] set1 [set2]`."""
    options = parse(
        argv, "cCdst", stop=True, long={"delete": "d", "squeeze-repeats": "s", "complement": "c"}, minimum=1, maximum=2
    )
    first = _set(options.operands[0])
    second = _set(options.operands[1]) if len(options.operands) > 1 else b""
    if "c" in options or "C" in options:
        first = bytes(b for b in range(256) if b not in first)
    translating = "d" not in options and bool(second)
    if translating:
        target = (second + second[-1:] * max(len(first) - len(second), 0))[: len(first)]
        table = bytearray(range(256))
        for before, after in zip(first, target, strict=True):
            table[before] = after
    squeezed = second or first
    last = -1
    while data := os.read(0, CHUNK):
        if translating:
            data = data.translate(bytes(table))
        elif "d" in options:
            data = data.translate(None, first)
        if "s" in options:
            kept = bytearray()
            for byte in data:
                if byte != last or byte not in squeezed:
                    kept.append(byte)
                last = byte
            data = bytes(kept)
        context.out.write(data)
        context.out.flush()
    return 0


def split(argv: Sequence[str], context: Context) -> int:
    """`split [-a length] [-b bytes] [-l lines] [file [prefix]]`."""
    options = parse(argv, "", "abl", long={"bytes": "b", "lines": "l", "suffix-length": "a"}, maximum=2)
    prefix = options.operands[1] if len(options.operands) > 1 else "x"
    length, index = options.number("a", 2), 0
    with context.reading(options.operands[0] if options.operands else "-") as file:
        while True:
            if "b" in options:
                piece = file.read(options.number("b", 0))
            else:
                piece = b"".join(line for _, line in zip(range(options.number("l", 1000)), file, strict=False))
            if not piece:
                return context.status()
            name, rest = "", index
            for _ in range(length):
                rest, digit = divmod(rest, 26)
                name = string.ascii_lowercase[digit] + name
            if rest:
                raise Failure("out of suffixes")
            out = Output(context.open(prefix + name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
            out.write(piece)
            out.flush()
            os.close(out.fd)
            index += 1


def fold(argv: Sequence[str], context: Context) -> int:
    """`fold [-bs] [-w width] [file...]`."""
    options = parse(argv, "bsu", "w")
    width = options.number("w", 80)
    for _, file in context.inputs(options.operands):
        for raw in file:
            line, end = raw.removesuffix(b"\n"), b"\n" if raw.endswith(b"\n") else b""
            while len(line) > width:
                place = line.rfind(b" ", 0, width) + 1 if "s" in options else 0
                context.out.write(line[: place or width] + b"\n")
                line = line[place or width :]
            context.out.write(line + end)
    return context.status()


TOOLS: dict[str, Tool] = {
    "comm": comm,
    "cut": cut,
    "paste": paste,
    "sort": sort,
    "split": split,
    "tr": tr,
    "uniq": uniq,
}
