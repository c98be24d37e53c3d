"""diff: whether and where files differ, in the unified form that toybox prints."""

import difflib
import os
import re
import stat
from collections.abc import Sequence

from bundler.virtual.shell.tools.base import Context, Options, Tool, parse
from bundler.virtual.shell.tools.listing import date


def diff(argv: Sequence[str], context: Context) -> int:
    """`diff [-quraNbBiw] [-U lines] one two`: 1 where they differ, 2 where one cannot be read."""
    options = parse(argv, "quraNTbBdiswt", "ULS", long={"brief": "q", "recursive": "r"}, minimum=2, maximum=2)
    one, two = options.operands
    try:
        one_folder, two_folder = (path != "-" and stat.S_ISDIR(context.stat(path).st_mode) for path in (one, two))
        if one_folder != two_folder:
            context.complain("can't compare directory to non-directory")
            return 2
        if one_folder:
            return _folders(one, two, options, context)
        return _files(one, two, options, context)
    except OSError as error:
        missing = next((p for p in (one, two) if p != "-" and not context.exists(p)), one)
        context.complain(f"Can't stat {missing}: {error.strerror}")
        return 2


def _content(path: str, options: Options, context: Context, *, below: bool) -> bytes:
    if below and "N" in options and not context.exists(path):
        return b""
    with context.reading(path) as file:
        return file.read()


def _files(one: str, two: str, options: Options, context: Context, *, below: bool = False) -> int:
    """`below`: both lie in folders that are compared, and with -N one of them need not be there."""
    first, second = (_content(path, options, context, below=below) for path in (one, two))
    left, right = _lines(first, options), _lines(second, options)
    keys = [[_key(line, options) for line in lines] for lines in (left, right)]
    if keys[0] == keys[1]:
        if "s" in options:
            context.out.line(f"Files {one} and {two} are identical")
        return 0
    if "q" in options or b"\0" in first[:8192] + second[:8192]:
        kind = "Files" if "q" in options else "Binary files"
        context.out.line(f"{kind} {one} and {two} differ")
        return 1
    for mark, path in (("---", one), ("+++", two)):
        time = "" if path == "-" or not context.exists(path) else f"\t{date(context.stat(path).st_mtime_ns)}"
        context.out.line(f"{mark} {path}{time}")
    for group in difflib.SequenceMatcher(None, a=keys[0], b=keys[1]).get_grouped_opcodes(options.number("U", 3)):
        (_, top, _, upper, _), (_, _, bottom, _, lower) = group[0], group[-1]
        context.out.line(f"@@ -{_span(top, bottom)} +{_span(upper, lower)} @@")
        for tag, begin, end, start, stop in group:
            if tag == "equal":
                _show(b" ", left[begin:end], context)
            else:
                _show(b"-", left[begin:end], context)
                _show(b"+", right[start:stop], context)
    return 1


def _show(mark: bytes, lines: Sequence[bytes], context: Context) -> None:
    for line in lines:
        context.out.write(mark + line + (b"" if line.endswith(b"\n") else b"\n\\ No newline at end of file\n"))


def _span(begin: int, end: int) -> str:
    """Lines as a hunk's head counts them: the first and, unless it is 1, how many."""
    count = end - begin
    first = begin + 1 if count else begin
    return str(first) if count == 1 else f"{first},{count}"


def _lines(data: bytes, options: Options) -> list[bytes]:
    lines = re.findall(rb"[^\n]*\n|[^\n]+", data)
    return [line for line in lines if line.strip() or "B" not in options]


def _key(line: bytes, options: Options) -> bytes:
    """What of a line counts."""
    line = line.lower() if "i" in options else line
    if "w" in options:
        return b"".join(line.split())
    return b" ".join(line.split()) if "b" in options else line


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
            status = max(status, _files(first, second, options, context, below=True))
    return status


TOOLS: dict[str, Tool] = {"diff": diff}
