"""Whole files and their lines: cat, head, tail, wc, tee, tac, nl, rev, yes."""

import os
import time
from collections.abc import Sequence
from typing import BinaryIO

from bundler.virtual.shell.tools.base import CHUNK, Context, Failure, Output, Tool, copy, number, parse

FOLLOW_INTERVAL_S = 0.1


def cat(argv: Sequence[str], context: Context) -> int:
    """`cat [-u] [file...]`."""
    options = parse(argv, "ue")
    for _, file in context.inputs(options.operands):
        while data := os.read(file.fileno(), CHUNK):
            context.out.write(data)
            context.out.flush()
    return context.status()


def head(argv: Sequence[str], context: Context) -> int:
    """`head [-n lines] [-c bytes] [-qv] [file...]`."""
    argv = _dashed_number(argv)
    options = parse(argv, "qv", "nc", long={"lines": "n", "bytes": "c"})
    lines, size = options.number("n", 10), options.number("c", -1)
    if lines < 0 or ("c" in options and size < 0):
        raise Failure(f"-{'n' if lines < 0 else 'c'} < 0")
    for index, (path, file) in enumerate(context.inputs(options.operands)):
        if (len(options.operands) > 1 and "q" not in options) or "v" in options:
            context.out.line(f"{chr(10) * (index > 0)}==> {path} <==")
        if "c" in options:
            copy(file.fileno(), context.out, size)
        else:
            _head_lines(file, lines, context.out)
    return context.status()


def _dashed_number(argv: Sequence[str]) -> list[str]:
    """`-5` as `-n 5`."""
    return [
        f"-n{a[1:]}" if a[:1] == "-" and a[1:].isdigit() and not before_value else a
        for a, before_value in zip(argv, [False, *(a in ("-n", "-c") for a in argv)], strict=False)
    ]


def _head_lines(file: BinaryIO, lines: int, out: Output) -> None:
    """Writes the first lines; a seekable file is left right behind them."""
    position = 0
    while lines > 0 and (data := os.read(file.fileno(), CHUNK)):
        for line in data.splitlines(keepends=True) if b"\r" not in data else _lines(data):
            if lines <= 0:
                break
            out.write(line)
            position += len(line)
            lines -= line.endswith(b"\n")


def _lines(data: bytes) -> list[bytes]:
    """Lines with their ends, cut at line feeds only."""
    pieces = data.split(b"\n")
    return [piece + b"\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])


def tail(argv: Sequence[str], context: Context) -> int:
    """`tail [-n lines] [-c bytes] [-f] [file...]`; +N counts from the beginning."""
    options = parse(_dashed_number(argv), "fFs", "nc", long={"lines": "n", "bytes": "c"})
    text = options.value("c") or options.value("n", "10")
    amount = abs(number(text))
    from_start = text.startswith("+")
    many = len(options.operands) > 1
    for index, (path, file) in enumerate(context.inputs(options.operands)):
        if many:
            context.out.line(f"{chr(10) * (index > 0)}==> {path} <==")
        if from_start:
            _from(file, amount, context.out, lines="c" not in options)
        else:
            _last(file, amount, context.out, lines="c" not in options)
        context.out.flush()
        if ("f" in options or "F" in options) and path == (options.operands or ["-"])[-1]:
            _follow(file, context.out)
    return context.status()


def _from(file: BinaryIO, amount: int, out: Output, *, lines: bool) -> None:
    skip = max(amount - 1, 0)
    if lines:
        while skip and file.readline():
            skip -= 1
    else:
        file.read(skip)
    while data := file.read(CHUNK):
        out.write(data)


def _last(file: BinaryIO, amount: int, out: Output, *, lines: bool) -> None:
    kept = b""
    if amount == 0:
        file.read()
        return
    while data := file.read(CHUNK):
        kept += data
        if lines:
            pieces = _lines(kept)
            kept = b"".join(pieces[-amount:])
        else:
            kept = kept[-amount:]
    out.write(kept)


def _follow(file: BinaryIO, out: Output) -> None:
    while True:
        data = file.read(CHUNK)
        if data:
            out.write(data)
            out.flush()
        else:
            time.sleep(FOLLOW_INTERVAL_S)
            file.seek(file.tell())


def wc(argv: Sequence[str], context: Context) -> int:
    """`wc [-lwcm] [file...]`."""
    options = parse(argv, "lwcm", long={"lines": "l", "words": "w", "bytes": "c", "chars": "m"})
    chosen = [letter for letter in "lwmc" if letter in options] or ["l", "w", "c"]
    totals = dict.fromkeys(chosen, 0)
    width = 7 if len(options.operands) > 1 or (not options.operands and len(chosen) > 1) else 0
    for path, file in context.inputs(options.operands):
        counts = dict.fromkeys("lwmc", 0)
        in_word = False
        while data := file.read(1 << 20):
            counts["c"] += len(data)
            counts["l"] += data.count(b"\n")
            if "w" in chosen:
                words = len(data.split())
                counts["w"] += words - (in_word and not data[:1].isspace() and words > 0)
                in_word = not data[-1:].isspace()
            if "m" in chosen:
                counts["m"] += sum(byte & 0xC0 != 0x80 for byte in data)
        _show_counts([counts[letter] for letter in chosen], path if options.operands else "", width, context)
        for letter in chosen:
            totals[letter] += counts[letter]
    if len(options.operands) > 1:
        _show_counts(list(totals.values()), "total", width, context)
    return context.status()


def _show_counts(counts: list[int], path: str, width: int, context: Context) -> None:
    text = " ".join(str(count).rjust(width) for count in counts)
    context.out.line(f"{text} {path}" if path and path != "-" else text)


def tee(argv: Sequence[str], context: Context) -> int:
    """`tee [-ai] [file...]`."""
    options = parse(argv, "ai", long={"append": "a"})
    outputs = [context.out]
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if "a" in options else os.O_TRUNC)
    for path in options.operands:
        try:
            outputs.append(Output(context.open(path, flags)))
        except OSError as error:
            context.complain(f"{path}: {error.strerror}")
    while data := os.read(0, CHUNK):
        for output in outputs:
            output.write(data)
            output.flush()
    return context.status()


def tac(argv: Sequence[str], context: Context) -> int:
    """`tac [file...]`."""
    options = parse(argv)
    for _, file in context.inputs(options.operands):
        for line in reversed(_lines(file.read())):
            context.out.write(line)
    return context.status()


def nl(argv: Sequence[str], context: Context) -> int:
    """`nl [-b a|t|n] [-w width] [-s separator] [-v first] [file...]`."""
    options = parse(argv, "E", "bwsvnl")
    count = options.number("v", 1)
    width, separator, style = options.number("w", 6), os.fsencode(options.value("s", "\t")), options.value("b", "t")
    for _, file in context.inputs(options.operands):
        for line in file:
            if style == "a" or (style == "t" and line != b"\n"):
                context.out.write(str(count).rjust(width).encode() + separator + line)
                count += 1
            else:
                context.out.write(b" " * (width + len(separator)) + line)
    return context.status()


def rev(argv: Sequence[str], context: Context) -> int:
    """`rev [file...]`."""
    options = parse(argv)
    for _, file in context.inputs(options.operands):
        for line in file:
            context.out.line(os.fsdecode(line.rstrip(b"\n"))[::-1])
    return context.status()


def yes(argv: Sequence[str], context: Context) -> int:
    """`yes [text...]`."""
    line = os.fsencode(" ".join(argv[1:]) or "y") + b"\n"
    while True:
        context.out.write(line * 1000)


TOOLS: dict[str, Tool] = {
    "cat": cat,
    "head": head,
    "nl": nl,
    "rev": rev,
    "tac": tac,
    "tail": tail,
    "tee": tee,
    "wc": wc,
    "yes": yes,
}
