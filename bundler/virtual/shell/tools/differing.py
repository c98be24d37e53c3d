"""diff: whether and where files differ, in the unified form that toybox prints."""

import difflib
import os
import stat
from collections.abc import Sequence

from bundler.virtual.shell.tools.base import Context, Options, Tool, parse


def diff(argv: Sequence[str], context: Context) -> int:
    """`diff [-quraNbBiw] [-U lines] one two`: 1 where they differ, 2 where one cannot be read."""
    options = parse(argv, "quraNTbBdiswt", "ULS", long={"brief": "q", "recursive": "r"}, minimum=2, maximum=2)
    one, two = options.operands
    try:
        one_folder, two_folder = (path != "-" and stat.S_ISDIR(context.stat(path).st_mode) for path in (one, two))
        if one_folder != two_folder:
            one, two = (f"{one}/{_name(two)}", two) if one_folder else (one, f"{two}/{_name(one)}")
        elif one_folder:
            return _folders(one, two, options, context)
        return _files(one, two, options, context)
    except OSError as error:
        missing = next((p for p in (one, two) if p != "-" and not context.exists(p)), one)
        context.complain(f"Can't stat {missing}: {error.strerror}")
        return 2


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _content(path: str, options: Options, context: Context) -> bytes:
    if "N" in options and path != "-" and not context.exists(path):
        return b""
    with context.reading(path) as file:
        return file.read()


def _files(one: str, two: str, options: Options, context: Context, *, told: bool = False) -> int:
    first, second = _content(one, options, context), _content(two, options, context)
    same = first == second
    if not same and any(letter in options for letter in "biwB"):
        same = _plain(first, options) == _plain(second, options)
    if same:
        if "s" in options:
            context.out.line(f"Files {one} and {two} are identical")
        return 0
    if "q" in options or b"\0" in first[:8192] + second[:8192]:
        kind = "Files" if "q" in options else "Binary files"
        context.out.line(f"{kind} {one} and {two} differ")
        return 1
    if told:
        context.out.line(f"diff {one} {two}")
    lines = options.number("U", 3)
    for line in difflib.diff_bytes(
        difflib.unified_diff, _lines(first), _lines(second), os.fsencode(one), os.fsencode(two), n=lines
    ):
        context.out.write(line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n")
    return 1


def _lines(data: bytes) -> list[bytes]:
    pieces = data.split(b"\n")
    return [piece + b"\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])


def _plain(data: bytes, options: Options) -> list[bytes]:
    lines = [line.lower() if "i" in options else line for line in _lines(data)]
    if "w" in options:
        lines = [b"".join(line.split()) for line in lines]
    elif "b" in options:
        lines = [b" ".join(line.split()) for line in lines]
    return [line for line in lines if line.strip()] if "B" in options else lines


def _folders(one: str, two: str, options: Options, context: Context) -> int:
    status = 0
    left, right = context.names(one), context.names(two)
    for name in sorted({*left, *right}, key=os.fsencode):
        first, second = f"{one.rstrip('/')}/{name}", f"{two.rstrip('/')}/{name}"
        if (name not in left or name not in right) and "N" not in options:
            context.out.line(f"Only in {one if name in left else two}: {name}")
            status = 1
        elif context.is_folder(first) and context.is_folder(second):
            if "r" in options:
                status = max(status, _folders(first, second, options, context))
            else:
                context.out.line(f"Common subdirectories: {first} and {second}")
        else:
            status = max(status, _files(first, second, options, context, told=True))
    return status


TOOLS: dict[str, Tool] = {"diff": diff}
