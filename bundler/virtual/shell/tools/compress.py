"""gzip, gunzip and zcat."""

import os
import stat
import zlib
from collections.abc import Sequence

from bundler.virtual.shell.tools.base import CHUNK, Context, Failure, Output, OutputFailed, Tool, parse

GZIP_WINDOW = 31
SUFFIX = ".gz"


def gzip(argv: Sequence[str], context: Context) -> int:
    """`gzip [-dcfkt] [-1..9] [file...]`; -c writes to standard output and keeps the files."""
    options = parse(argv, "dcfkn123456789", long={"decompress": "d", "stdout": "c", "force": "f", "keep": "k"})
    level = next((int(letter) for letter in "987654321" if letter in options), 6)
    unpack = "d" in options or context.name in ("gunzip", "zcat")
    stdout = "c" in options or context.name == "zcat"
    for path in options.operands or ["-"]:
        try:
            if path == "-" or stdout:
                fd = context.open(path)
                _convert(fd, context.out, level=level, unpack=unpack)
                os.close(fd)
            else:
                _in_place(path, context, level=level, unpack=unpack, force="f" in options, keep="k" in options)
        except OSError as error:
            context.complain(f"{path}: {error.strerror}")
        except _Damaged as error:
            context.out.flush()
            context.complain(f"{path}: {error}")
    return context.status()


class _Damaged(Exception):
    """Not gzip data, or not all of it."""


def _in_place(path: str, context: Context, *, level: int, unpack: bool, force: bool, keep: bool) -> None:
    """Replaces a file by its packed or unpacked self."""
    if unpack and not path.endswith(SUFFIX):
        raise Failure(f"no {SUFFIX}: {path}")
    target = path.removesuffix(SUFFIX) if unpack else path + SUFFIX
    if context.exists(target) and not force:
        raise Failure(f"{target}: File exists")
    source = context.open(path)
    status = os.fstat(source)
    fd = context.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        _convert(source, Output(fd), level=level, unpack=unpack)
    except (OSError, OutputFailed, _Damaged):
        context.entry(target).unlink()
        raise
    finally:
        os.close(source)
        os.close(fd)
    host = context.host(target, write=True)
    host.chmod(stat.S_IMODE(status.st_mode))
    os.utime(host, ns=(status.st_atime_ns, status.st_mtime_ns))
    if not keep:
        context.entry(path).unlink()


def _convert(source: int, out: Output, *, level: int, unpack: bool) -> None:
    if unpack:
        _unpack(source, out)
    else:
        packer = zlib.compressobj(level, wbits=GZIP_WINDOW)
        while data := os.read(source, CHUNK):
            out.write(packer.compress(data))
        out.write(packer.flush())
    out.flush()


def _unpack(source: int, out: Output) -> None:
    """Unpacks one or several gzip members."""
    unpacker = zlib.decompressobj(GZIP_WINDOW)
    begun = False
    while data := os.read(source, CHUNK):
        while data:
            begun = True
            try:
                out.write(unpacker.decompress(data))
            except zlib.error as error:
                raise _Damaged(str(error).rpartition(": ")[2]) from None
            data = unpacker.unused_data
            if unpacker.eof:
                unpacker = zlib.decompressobj(GZIP_WINDOW)
                begun = False
    if begun:
        raise _Damaged("unexpected EOF")


TOOLS: dict[str, Tool] = {"gunzip": gzip, "gzip": gzip, "zcat": gzip}
