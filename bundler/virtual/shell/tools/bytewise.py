"""Bytes: od, xxd, dd, cmp, base64."""

import base64 as encoding
import os
import stat
import time
from collections.abc import Sequence

from bundler.virtual import disk
from bundler.virtual.shell.tools.base import Context, Failure, Tool, number, parse

DD_WORDS = (
    "if",
    "of",
    "bs",
    "ibs",
    "obs",
    "count",
    "skip",
    "seek",
    "conv",
    "status",
    "iflag",
    "oflag",
    "iseek",
    "oseek",
)
NAMES = (
    "nul soh stx etx eot enq ack bel bs ht nl vt ff cr so si "
    "dle dc1 dc2 dc3 dc4 nak syn etb can em sub esc fs gs rs us sp"
)
CHARACTERS = {0: "\\0", 7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r"}
WIDTHS = {"x": {1: 2, 2: 4, 4: 8, 8: 16}, "o": {1: 3, 2: 6, 4: 11, 8: 22}}
WIDTHS |= {"d": {1: 4, 2: 6, 4: 11, 8: 20}, "u": {1: 3, 2: 5, 4: 10, 8: 20}}
NEWLINE = b"\n"
SHORT = {"b": "o1", "o": "o2", "x": "x2", "d": "u2", "c": "c", "s": "d2"}
SIZES = {"C": 1, "S": 2, "I": 4, "L": 8}


def od(argv: Sequence[str], context: Context) -> int:
    """`od [-A base] [-t type] [-j skip] [-N count] [-bcdosxv] [file...]`."""
    options = parse(argv, "bcdosxv", "AtjNw")
    data = b"".join(file.read() for _, file in context.inputs(options.operands))
    data = data[options.number("j", 0) :]
    data = data[: options.number("N", len(data))]
    types = [_type(text) for text in options.values.get("t", [])]
    types += [_type(SHORT[letter]) for letter in "bcdosx" if letter in options]
    types = types or [("o", 2)]
    base = options.value("A", "o")
    row, previous, starred = options.number("w", 16), b"", False
    for start in range(0, len(data), row):
        block = data[start : start + row]
        if block == previous and "v" not in options and len(block) == row:
            if not starred:
                context.out.line("*")
            starred = True
            continue
        previous, starred = block, False
        for index, (kind, size) in enumerate(types):
            head = _address(base, start + options.number("j", 0)) if not index else " " * len(_address(base, 0))
            context.out.line(head + _cells(block, kind, size))
    if base != "n":
        context.out.line(_address(base, len(data) + options.number("j", 0)))
    return context.status()


def _type(text: str) -> tuple[str, int]:
    kind, size = text[:1], text[1:]
    if kind in ("a", "c"):
        return kind, 1
    if kind not in WIDTHS:
        raise Failure(f"bad -t {text}")
    return kind, SIZES.get(size, int(size) if size.isdigit() else 4)


def _address(base: str, value: int) -> str:
    return {"n": "", "x": f"{value:06x}", "d": f"{value:07d}"}.get(base, f"{value:07o}")


def _cell(kind: str, size: int) -> int:
    if kind in "ac":
        return 4
    width = WIDTHS[kind][size]
    return -(-(width + 1) // size) * size  # so that columns of several types stand below one another


def _cells(block: bytes, kind: str, size: int) -> str:
    result = ""
    for start in range(0, len(block), size):
        value = int.from_bytes(block[start : start + size], "little", signed=kind == "d")
        if kind == "c":
            text = CHARACTERS.get(value) or (chr(value) if 32 <= value < 127 else f"{value:03o}")
        elif kind == "a":
            value &= 127
            text = NAMES.split()[value] if value <= 32 else "del" if value == 127 else chr(value)
        else:
            width = WIDTHS[kind][size]
            text = f"{value:0{width}{kind}}" if kind in "xo" else str(value)
        result += text.rjust(_cell(kind, size))
    return result


def xxd(argv: Sequence[str], context: Context) -> int:
    """`xxd [-ipr] [-c columns] [-g group] [-l length] [-s skip] [file]`."""
    options = parse(argv, "ipr", "cglso", maximum=2)
    with context.reading((options.operands or ["-"])[0]) as file:
        data = file.read()
    if "r" in options:
        context.out.write(_unhexed(data, plain="p" in options))
        return 0
    skip = options.number("s", 0)
    data = data[skip : skip + options.number("l", len(data))]
    columns = options.number("c", 30 if "p" in options else 12 if "i" in options else 16)
    group = options.number("g", 2) or columns
    for start in range(0, len(data), columns):
        block = data[start : start + columns]
        if "p" in options:
            context.out.line(block.hex())
        elif "i" in options:
            context.out.line(
                "  " + ", ".join(f"0x{byte:02x}" for byte in block) + ("," if data[start + columns :] else "")
            )
        else:
            cells = "".join(f"{byte:02x}" + " " * ((i + 1) % group == 0) for i, byte in enumerate(block))
            width = columns * 2 + columns // group + 1
            text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in block)
            context.out.line(f"{start + skip:08x}: {cells.ljust(width)}{text}")
    return 0


def _unhexed(data: bytes, *, plain: bool) -> bytes:
    if plain:
        return bytes.fromhex("".join(data.decode("ascii", "ignore").split()))
    result = b""
    for line in data.decode("ascii", "ignore").splitlines():
        cells = line.partition(": ")[2].partition("  ")[0]
        result += bytes.fromhex(cells.replace(" ", ""))
    return result


def dd(argv: Sequence[str], context: Context) -> int:
    """`dd [if=] [of=] [bs=] [count=] [skip=] [seek=] [conv=notrunc,fsync,sync] [status=none|noxfer]`."""
    given: dict[str, str] = {}
    for word in argv[1:]:
        name, equals, value = word.partition("=")
        if not equals or name not in DD_WORDS:
            raise Failure(f"bad arg {word}")
        given[name] = value
    size = number(given.get("bs") or given.get("ibs") or "512")
    try:
        source = context.open(given["if"]) if "if" in given else 0
    except OSError as error:
        raise Failure(f"{given['if']}: {error.strerror}") from None
    target = _target(given, size, context)
    _pass_over(source, number(given.get("skip", given.get("iseek", "0"))) * size)
    began = time.monotonic()
    counts, total = _transfer(source, target, size, number(given["count"]) if "count" in given else None, given)
    if "fsync" in given.get("conv", ""):
        os.fsync(target)
    if given.get("status") != "none":
        report = f"{counts[0]}+{counts[1]} records in\n{counts[0]}+{counts[1]} records out\n"
        if given.get("status") != "noxfer":
            elapsed = max(time.monotonic() - began, 1e-6)
            report += f"{total} bytes ({total} B) copied, {elapsed:.3f} s, {total / elapsed:.0f} B/s\n"
        os.write(2, report.encode())
    return 0


def _target(given: dict[str, str], size: int, context: Context) -> int:
    """The output, cut and positioned."""
    seek = number(given.get("seek", given.get("oseek", "0"))) * size
    if "of" not in given:
        return 1
    target = context.open(given["of"], os.O_RDWR | os.O_CREAT)
    if "notrunc" not in given.get("conv", "") and stat.S_ISREG(os.fstat(target).st_mode):
        os.ftruncate(target, seek)
    if seek:
        os.lseek(target, seek, os.SEEK_SET)
    return target


def _pass_over(source: int, size: int) -> None:
    if not size:
        return
    try:
        os.lseek(source, size, os.SEEK_CUR)
    except OSError:
        while size > 0 and (passed := os.read(source, min(size, 1 << 20))):
            size -= len(passed)


def _transfer(source: int, target: int, size: int, count: int | None, given: dict[str, str]) -> tuple[list[int], int]:
    """Copies blocks; gives the number of full and partial ones, and of bytes."""
    counts, total = [0, 0], 0
    whole = "fullblock" in given.get("iflag", "")
    padded = "sync" in given.get("conv", "").replace("fsync", "").split(",")
    room = memoryview(bytearray(size))  # a new one for each block would cost more than the copying
    while count is None or sum(counts) < count:
        read = os.readv(source, [room])
        while whole and read and read < size and (more := os.readv(source, [room[read:]])):
            read += more
        if not read:
            break
        counts[read < size] += 1
        if padded:
            room[read:] = bytes(size - read)
        block = room if padded else room[:read]
        total += len(block)
        try:
            disk.write_all(target, block)
        except OSError as error:
            raise Failure(f"{given.get('of', 'stdout')}: write error: {error.strerror}") from None
    return counts, total


def cmp(argv: Sequence[str], context: Context) -> int:
    """`cmp [-ls] [-n limit] one [two]`: 1 where they differ, 2 where one cannot be read."""
    options = parse(argv, "lsb", "n", minimum=1, maximum=4)
    contents: list[bytes] = []
    names = [*options.operands, "-"][:2]
    for path in names:
        try:
            with context.reading(path) as file:
                contents.append(file.read())
        except OSError as error:
            context.complain(f"{path}: {error.strerror}")
            return 2
    limit = options.number("n", 1 << 60)
    one, two = (content[:limit] for content in contents)
    if one == two:
        return 0
    shared = min(len(one), len(two))
    places = [i for i in range(shared) if one[i] != two[i]] if one[:shared] != two[:shared] else []
    for place in places if "l" in options else places[:1] if "s" not in options else []:
        if "l" in options:
            context.out.line(f"{place + 1} {one[place]:o} {two[place]:o}")
        else:
            line = one.count(b"\n", 0, place) + 1
            context.out.line(f"{names[0]} {names[1]} differ: char {place + 1}, line {line}")
    if "s" not in options and ("l" in options or not places) and len(one) != len(two):
        where = f"after byte {shared}, line {one.count(NEWLINE, 0, shared)}"
        os.write(2, os.fsencode(f"cmp: EOF on {names[len(one) > len(two)]} {where}\n"))
        return 2
    return 1


def base64(argv: Sequence[str], context: Context) -> int:
    """`base64 [-di] [-w columns] [file...]`."""
    options = parse(argv, "di", "w", long={"decode": "d", "wrap": "w"})
    columns = options.number("w", 76)
    for _, file in context.inputs(options.operands):
        data = file.read()
        if "d" in options:
            context.out.write(encoding.b64decode(data))
            continue
        text = encoding.b64encode(data)
        step = columns or len(text) or 1
        for start in range(0, len(text), step):
            context.out.write(text[start : start + step] + (b"\n" if columns else b""))
    return context.status()


TOOLS: dict[str, Tool] = {"base64": base64, "cmp": cmp, "dd": dd, "od": od, "xxd": xxd}
