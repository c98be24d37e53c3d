"""cp and mv."""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from bundler.virtual import disk
from bundler.virtual.shell.tools.base import Context, Failure, Options, Tool, parse


def cp(argv: Sequence[str], context: Context) -> int:
    """`cp [-rRpfaLPdnuv] [-t folder] source... destination`."""
    options = parse(argv, "rRpfaLPdHnuvTilsF", "t", long={"preserve": "p", "recursive": "r", "archive": "a"})
    for source, target in _pairs(options, context):
        try:
            _copy(source, target, options, context, top=True)
        except OSError as error:
            context.complain(f"{target}: {error.strerror}")
    return context.status()


def mv(argv: Sequence[str], context: Context) -> int:
    """`mv [-fnvT] [-t folder] source... destination`."""
    options = parse(argv, "fnvTi", "t", long={"force": "f", "no-clobber": "n"})
    for source, target in _pairs(options, context):
        try:
            _move(source, target, options, context)
        except OSError as error:
            context.complain(f"bad '{source}': {error.strerror}")
    return context.status()


def _pairs(options: Options, context: Context) -> list[tuple[str, str]]:
    """Each source with the path it goes to."""
    operands = options.operands
    if "t" not in options and len(operands) < 2:
        raise Failure("Needs 2 arguments" if operands else f'Needs 1 argument (see "{context.name} --help")')
    destination = options.value("t") or operands.pop()
    into = ("t" in options or context.is_folder(destination)) and "T" not in options
    if len(operands) > 1 and not into:
        raise Failure(f"'{destination}' not directory")
    return [
        (s, f"{destination.rstrip('/')}/{s.rstrip('/').rpartition('/')[2]}" if into else destination) for s in operands
    ]


def _copy(source: str, target: str, options: Options, context: Context, *, top: bool) -> None:
    recursive = any(letter in options for letter in "rRa")
    keep_links = any(letter in options for letter in "Pda") or (recursive and not (top and "H" in options))
    keep_links = keep_links and "L" not in options
    try:
        status = context.lstat(source) if keep_links else context.stat(source)
    except FileNotFoundError:
        context.complain(f"bad '{source}': No such file or directory")
        return
    if "n" in options and context.exists(target):
        return
    if "v" in options:
        context.out.line(f"cp '{source}'")
    if stat.S_ISDIR(status.st_mode):
        if not recursive:
            context.complain(f"Skipped dir '{target}': No such file or directory")
            return
        _copy_folder(source, target, options, context)
    elif stat.S_ISLNK(status.st_mode):
        if context.exists(target):
            context.entry(target).unlink()
        context.entry(target).symlink_to(os.readlink(context.host(source, follow=False)))  # noqa: PTH115
        return
    else:
        _copy_file(source, target, status, options, context)
    if "p" in options or "a" in options:
        host = context.host(target, write=True)
        host.chmod(stat.S_IMODE(status.st_mode))
        os.utime(host, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_folder(source: str, target: str, options: Options, context: Context) -> None:
    if (context.resolve(target) + "/").startswith(context.resolve(source) + "/"):
        context.complain(f"'{target}': recursive copy")
        return
    if not context.is_folder(target):
        context.entry(target).mkdir()
    for name in context.names(source):
        _copy(f"{source.rstrip('/')}/{name}", f"{target.rstrip('/')}/{name}", options, context, top=False)


def _copy_file(source: str, target: str, status: os.stat_result, options: Options, context: Context) -> None:
    origin = context.host(source)
    if context.exists(target) and os.path.samestat(status, context.stat(target)):
        context.complain(f"'{source}' is '{target}'")
        return
    if "f" in options and context.exists(target):
        context.entry(target).unlink()
    fd = context.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, stat.S_IMODE(status.st_mode) & 0o777)
    try:
        with origin.open("rb") as input_:
            while data := input_.read(1 << 20):
                disk.write_all(fd, data)
    except OSError as error:
        if error.errno != errno.ENOSPC:  # toybox's cp says nothing of a full disk, and succeeds
            raise
    finally:
        os.close(fd)


def _move(source: str, target: str, options: Options, context: Context) -> None:
    origin = context.host(source, follow=False)
    origin.lstat()
    origin = context.entry(source)
    if "n" in options and context.exists(target):
        return
    place: Path = context.entry(target)
    if origin == place:
        context.complain(f"'{source}' is '{target}'")
        return
    if (context.resolve(target, follow=False) + "/").startswith(context.resolve(source, follow=False) + "/"):
        raise OSError(22, "Invalid argument")
    if (
        origin.is_dir()
        and not origin.is_symlink()
        and place.is_dir()
        and not place.is_symlink()
        and not any(place.iterdir())
    ):
        place.rmdir()
    origin.rename(place)


TOOLS: dict[str, Tool] = {"cp": cp, "mv": mv}
