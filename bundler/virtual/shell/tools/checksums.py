"""sha256sum and its kin."""

import hashlib
import re
from collections.abc import Sequence
from typing import BinaryIO

from bundler.virtual.shell.tools.base import Context, Tool, parse

BLOCK = 1 << 20
LINE = re.compile(r"([0-9a-fA-F]+) [ *](.*)")


def digest(file: BinaryIO, algorithm: str) -> str:
    """The checksum of all that is left of a file, in hexadecimal."""
    made = hashlib.new(algorithm)
    while data := file.read(BLOCK):
        made.update(data)
    return made.hexdigest()


def _checksum(argv: Sequence[str], context: Context, algorithm: str) -> int:
    options = parse(argv, "bcs", long={"check": "c", "status": "s", "brief": "b"})
    if "c" in options:
        return _check(options.operands, context, algorithm, silent="s" in options)
    for path, file in context.inputs(options.operands):
        value = digest(file, algorithm)
        context.out.line(value if "b" in options else f"{value}  {path}")
    return context.status()


def _check(lists: list[str], context: Context, algorithm: str, *, silent: bool) -> int:
    """Checks the files named in each list; 1 where one differs or cannot be read."""
    bad = 0
    for path, file in context.inputs(lists) if lists else ():  # toybox reads standard input only where `-` names it
        for number, raw in enumerate(file.read().splitlines(), 1):
            match = LINE.fullmatch(raw.decode(errors="surrogateescape"))
            if not match:
                context.complain(f"{path} line {number}: bad")
                bad += 1
                continue
            expected, name = match.groups()
            try:
                with context.reading(name) as target:
                    same = digest(target, algorithm) == expected.lower()
            except OSError as error:
                context.complain(f"{name}: {error.strerror}")
                same = False
            bad += not same
            if not silent:
                context.out.line(f"{name}: {'OK' if same else 'FAILED'}")
    return int(bad > 0 or bool(context.failed))


def _tool(algorithm: str) -> Tool:
    return lambda argv, context: _checksum(argv, context, algorithm)


TOOLS: dict[str, Tool] = {f"{name}sum": _tool(name) for name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")}
