"""tar: archives in and out as streams. Nothing an archive names is ever made outside the folder it is unpacked in."""

import errno
import gzip
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from io import BufferedReader, FileIO
from pathlib import Path
from typing import BinaryIO, cast

from bundler.virtual import disk
from bundler.virtual.shell.tools.base import CHUNK, Context, Failure, Options, Tool, has_option, parse

LONG = {
    "create": "c",
    "extract": "x",
    "list": "t",
    "file": "f",
    "gzip": "z",
    "directory": "C",
    "files-from": "T",
    "exclude": "Q",
    "null": "N",
    "transform": "W",
    "xform": "W",
    "verbose": "v",
    "to-stdout": "O",
    "keep-old": "k",
    "strip-components": "S",
    "numeric-owner": "n",
    "owner": "U",
    "group": "G",
    "mode": "M",
    "mtime": "Y",
    "no-recursion": "R",
    "overwrite": "o",
    "dereference": "h",
    "preserve-permissions": "p",
}
FLAGS, VALUES = "cxtzvOkhpomnNRPsaj", "fCTQWSUGMY"


def tar(argv: Sequence[str], context: Context) -> int:
    """`tar c|x|t [-zvOkph] [-f archive] [-C folder] [-T list] [--exclude pattern] [path...]`."""
    if len(argv) > 1 and not argv[1].startswith("-"):
        argv = _bundled(list(argv))
    options = parse(argv, FLAGS, VALUES, long=LONG)
    actions = [letter for letter in "cxt" if letter in options]
    if len(actions) != 1:
        raise Failure('Needs -txc (see "tar --help")')
    archive = options.value("f", "-")
    for folder in options.values.get("C", []):
        if not context.is_folder(folder):
            raise Failure(f"-C {folder}: No such file or directory")
        outside, context = context, replace(context, cwd=context.resolve(folder))
        if archive != "-":
            archive = outside.resolve(archive)
    try:
        return _create(archive, options, context) if actions == ["c"] else _read(archive, options, context)
    except tarfile.ReadError:
        raise Failure("Not tar") from None


def _bundled(argv: list[str]) -> list[str]:
    """`tar xzf FILE` as `tar -x -z -f FILE`: each letter's value is the next word."""
    words: list[str] = []
    rest = argv[2:]
    for letter in argv[1]:
        words.append(f"-{letter}")
        if letter in VALUES and rest:
            words.append(rest.pop(0))
    return [argv[0], *words, *rest]


# Writing


def _create(archive: str, options: Options, context: Context) -> int:
    fd = 1 if archive == "-" else context.open(archive, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    raw = cast("BinaryIO", _Archive(fd))
    output = cast("BinaryIO", gzip.GzipFile("", "wb", fileobj=raw, mtime=0)) if "z" in options else raw
    paths = [*options.operands, *_listed(options, context)]
    if not paths:
        raise Failure("empty archive")
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.GNU_FORMAT, bufsize=10240) as writer:
        linked: Linked = {}
        for path in paths:
            _add(path, writer, options, context, linked)
    if output is not raw:
        output.close()
    if fd != 1:
        os.close(fd)
    return context.status()


class _Archive:
    """An archive that is written, as far as tarfile and gzip ask."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes) -> int:
        try:
            disk.write_all(self._fd, data)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise Failure("short write") from None
            raise
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back."""


def _listed(options: Options, context: Context) -> Iterator[str]:
    for name in options.values.get("T", []):
        with context.reading(name) as file:
            separator = b"\0" if "N" in options else b"\n"
            yield from (os.fsdecode(line) for line in file.read().split(separator) if line)


def _excluded(path: str, options: Options) -> bool:
    return any(
        fnmatchcase(path, pattern) or any(fnmatchcase(part, pattern) for part in path.split("/"))
        for pattern in options.values.get("Q", [])
    )


Linked = dict[tuple[int, int], str]
"""The names under which files with several links are in the archive already."""


def _add(path: str, writer: tarfile.TarFile, options: Options, context: Context, linked: Linked) -> None:
    if _excluded(path, options):
        return
    try:
        status = context.stat(path) if "h" in options else context.lstat(path)
    except OSError as error:
        context.complain(f"{path}: {error.strerror}")
        return
    name = path
    while start := next((each for each in ("/", "../") if name.startswith(each)), ""):
        name = name.removeprefix(start)
        os.write(2, f"removing leading '{start}' from member names\n".encode())
    info = tarfile.TarInfo(_transformed(name, options) or "./")
    info.mode, info.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    info.uid = info.gid = 2000
    info.uname = info.gname = "shell"
    if "v" in options:
        os.write(1 if "f" in options else 2, os.fsencode(info.name + "/" * stat.S_ISDIR(status.st_mode) + "\n"))
    inode = (status.st_dev, status.st_ino)
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1 and inode in linked:
        info.type, info.linkname = tarfile.LNKTYPE, linked[inode]
        writer.addfile(info)
    elif stat.S_ISREG(status.st_mode):
        info.size = status.st_size
        linked[inode] = info.name
        with context.reading(path) as file:
            writer.addfile(info, file)
    elif stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(context.host(path, follow=False))  # noqa: PTH115
        writer.addfile(info)
    elif stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
        writer.addfile(info)
        for child in [] if "R" in options else context.names(path):
            _add(f"{path.rstrip('/')}/{child}", writer, options, context, linked)


def _transformed(name: str, options: Options) -> str:
    """The name after each `--transform s/old/new/flags`."""
    for text in options.values.get("W", []):
        from bundler.virtual.shell.tools.regex import regular_expression
        from bundler.virtual.shell.tools.sed_parse import expand_replacement, parse_substitution

        old, new, flags = parse_substitution(text)
        expression = regular_expression(old, extended="x" in flags, ignore_case="i" in flags)
        name = expression.sub(lambda m, new=new: expand_replacement(new, m), name, count=0 if "g" in flags else 1)
    return name


# Reading


def _read(archive: str, options: Options, context: Context) -> int:
    fd = os.dup(0) if archive == "-" else context.open(archive)
    source = BufferedReader(FileIO(fd), CHUNK)
    stream: BinaryIO = source
    if "z" in options or (source.peek(2)[:2] == b"\x1f\x8b" and has_option("tar", "z")):
        stream = cast("BinaryIO", gzip.GzipFile(fileobj=source, mode="rb"))
    if not source.peek(1):
        raise Failure("Not tar")
    wanted = options.operands
    seen: set[str] = set()
    folders: list[tuple[str, tarfile.TarInfo]] = []
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=10240, errors="surrogateescape") as reader:
            for member in reader:
                chosen = [w for w in wanted if (member.name + "/").startswith(w.rstrip("/") + "/")]
                seen.update(chosen)
                if (wanted and not chosen) or _excluded(member.name, options):
                    continue
                _member(member, reader, options, context, folders)
        while source.read(CHUNK):
            pass
    except (EOFError, gzip.BadGzipFile, tarfile.StreamError) as error:
        context.complain(str(error))
    for path, member in reversed(folders):
        host = context.host(path, write=True)
        host.chmod(member.mode & 0o777)
        os.utime(host, (member.mtime, member.mtime))
    for path in wanted if seen else ():  # toybox misses none where there was nothing at all
        if path not in seen:
            context.complain(f"'{path}' not in archive")
    if context.failed:
        context.complain("had errors")
    return context.status()


def _member(
    member: tarfile.TarInfo,
    reader: tarfile.TarFile,
    options: Options,
    context: Context,
    folders: list[tuple[str, tarfile.TarInfo]],
) -> None:
    name = _transformed(member.name, options)
    parts = name.split("/")
    strip = options.number("S", 0)
    if len(parts) > strip:
        name = "/".join(parts[strip:])
    if "t" in options:
        context.out.line(_long_line(member, name) if "v" in options else _short_line(member, name))
        return
    if "v" in options:
        context.out.line(name + "/" * (member.isdir()))
    if "O" in options:
        file = reader.extractfile(member) if member.isreg() else None
        while file and (data := file.read(CHUNK)):
            context.out.write(data)
        return
    name = name.lstrip("/")
    if ".." in name.split("/"):
        context.complain(f"'{name}' not under '{context.cwd}'")
        return
    try:
        _extract(member, name or ".", reader, context, keep="k" in options)
    except OSError as error:
        context.complain(f"{name}: {error.strerror}" if error.errno != errno.ENOSPC else f"{error.strerror}")
        return
    if member.isdir() and not context.host(name or ".", follow=False).is_symlink():  # a link's target may lie elsewhere
        folders.append((name or ".", member))


def _short_line(member: tarfile.TarInfo, name: str) -> str:
    link = f" -> {member.linkname}" if member.issym() else f" link to {member.linkname}" if member.islnk() else ""
    return f"{name}{'/' * member.isdir()}{link}"


def _long_line(member: tarfile.TarInfo, name: str) -> str:
    import time

    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(member.mtime))
    kind = "d" if member.isdir() else "l" if member.issym() else "-"
    mode = kind + stat.filemode(member.mode)[1:]
    owner = f"{member.uname or member.uid}/{member.gname or member.gid}"
    return f"{mode} {owner} {member.size:>9}  {when} {_short_line(member, name)}"


def _inside(path: str, context: Context) -> bool:
    """Whether the folder of `path`, with links followed, lies below the one that is unpacked in."""
    parent = context.resolve(path.rpartition("/")[0] or ".") + "/"
    return parent.startswith(context.cwd.rstrip("/") + "/")


def _remove_empty(name: str, folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        raise Failure(f"can't remove: {name}: Is a directory") from None


def _extract(member: tarfile.TarInfo, name: str, reader: tarfile.TarFile, context: Context, *, keep: bool) -> None:
    name = re.sub("/+", "/", name).rstrip("/")
    if not _inside(name, context):
        context.complain(f"'{name}' not under '{context.cwd}'")
        return
    _make_parents(name, context)
    place = context.host(name, follow=member.isdir(), write=True)
    if member.isdir():
        if not place.is_dir():
            place.mkdir()
        return
    if context.exists(name):
        if keep:
            return
        if place.is_dir() and not place.is_symlink():
            _remove_empty(name, place)
        else:
            place.unlink()
    if member.issym():
        place.symlink_to(member.linkname)
    elif member.islnk():
        _link(member.linkname, name, place, context)
    elif member.isreg():
        _write(member, reader, place)


def _make_parents(name: str, context: Context) -> None:
    parents = name.split("/")[:-1]
    for index in range(len(parents)):
        folder = "/".join(parents[: index + 1])
        if not context.exists(folder):
            context.entry(folder).mkdir()


def _link(linkname: str, name: str, place: Path, context: Context) -> None:
    target = linkname.lstrip("/")
    if ".." in target.split("/") or not _inside(target, context):
        context.complain(f"can't link '{name}' -> '{linkname}'")
        return
    os.link(context.host(target, follow=False, write=True), place, follow_symlinks=False)


def _write(member: tarfile.TarInfo, reader: tarfile.TarFile, place: Path) -> None:
    file = reader.extractfile(member)
    fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        while file and (data := file.read(CHUNK)):
            disk.write_all(fd, data)
    finally:
        os.close(fd)
    place.chmod(member.mode & 0o777)
    os.utime(place, (member.mtime, member.mtime))


TOOLS: dict[str, Tool] = {"tar": tar}
