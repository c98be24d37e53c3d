"""What is on the disk: ls, stat, du, df."""

import os
import re
import stat
import time
from collections.abc import Sequence

from bundler.virtual.shell.tools.base import Context, Options, Tool, parse

OWNER = "shell"
USER_ID = 2000
KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "FIFO (named pipe)",
    stat.S_IFSOCK: "socket",
}


def human(size: int) -> str:
    """A size as toybox shortens it: 1.5K, 12M."""
    if size < 1024:
        return str(size)
    value, unit = float(size), ""
    for letter in "KMGTP":
        value /= 1024
        unit = letter
        if value < 1024:
            break
    return f"{int(value * 10) / 10}{unit}" if value < 10 else f"{value:.0f}{unit}"


def ls(argv: Sequence[str], context: Context) -> int:
    """`ls [-aAlnd1RhFiSrtpsLgoqk] [path...]`."""
    options = parse(argv, "aAlnd1RhFiSrtpsLgoqkCxmcuUbZ", long={"color": "C", "full-time": "l"})
    paths = options.operands or ["."]
    files: list[str] = []
    folders: list[str] = []
    long = any(letter in options for letter in "lngo")
    for path in paths:
        try:
            status = context.lstat(path)
            follow = stat.S_ISLNK(status.st_mode) and not (long or "F" in options) and context.is_folder(path)
            folder = stat.S_ISDIR(status.st_mode) or follow or (path.endswith("/") and context.is_folder(path))
            (folders if folder and "d" not in options else files).append(path)
        except OSError as error:
            context.complain(f"{path}: {error.strerror}")
    _show(_ordered(files, "", options, context), "", options, context, total=False)
    for index, path in enumerate(_ordered(folders, "", options, context)):
        _show_folder(path, options, context, first=not files and index == 0, named=len(paths) > 1 or "R" in options)
    return context.status()


def _show_folder(path: str, options: Options, context: Context, *, first: bool, named: bool) -> None:
    if named:
        context.out.line(f"{path}:" if first else f"\n{path}:")
    try:
        names = context.names(path)
    except OSError as error:
        context.complain(f"{path}: {error.strerror}")
        return
    if "a" in options:
        names = [".", "..", *names]
    elif "A" not in options:
        names = [name for name in names if not name.startswith(".")]
    folder = path.rstrip("/") + "/"
    names = _ordered(names, folder, options, context)
    _show(names, folder, options, context, total=True)
    if "R" in options:
        for name in names:
            if name not in (".", "..") and stat.S_ISDIR(context.lstat(folder + name).st_mode):
                _show_folder(folder + name, options, context, first=False, named=True)


def _ordered(names: list[str], folder: str, options: Options, context: Context) -> list[str]:
    if "U" in options:
        return names
    ordered = sorted(names, key=os.fsencode)
    if "t" in options:
        ordered.sort(key=lambda name: -context.lstat(folder + name).st_mtime_ns)
    if "S" in options:
        ordered.sort(key=lambda name: -context.lstat(folder + name).st_size)
    return ordered[::-1] if "r" in options else ordered


def _show(names: list[str], folder: str, options: Options, context: Context, *, total: bool) -> None:
    if not any(letter in options for letter in "lngo"):
        shown = [
            f"{_prefix(folder + name, options, context)}{name}{_suffix(folder + name, options, context)}"
            for name in names
        ]
        for line in [", ".join(shown)] if "m" in options and shown else shown:
            context.out.line(line)
        return
    statuses = [context.lstat(folder + name) for name in names]
    if total:
        context.out.line(f"total {sum(status.st_blocks for status in statuses) // 2}")
    rows = [_row(name, folder, status, options, context) for name, status in zip(names, statuses, strict=True)]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(5)]
    for mode, links, owner, group, size, rest in rows:
        columns = [mode, links.rjust(widths[1])]
        columns += [owner.ljust(widths[2])] if "g" not in options else []
        columns += [group.ljust(widths[3])] if "o" not in options else []
        context.out.line(" ".join([*columns, size.rjust(widths[4]), rest]))


def _prefix(path: str, options: Options, context: Context) -> str:
    if "i" not in options and "s" not in options:
        return ""
    status = context.lstat(path)
    return f"{status.st_ino} " * ("i" in options) + f"{status.st_blocks // 2} " * ("s" in options)


def _suffix(path: str, options: Options, context: Context) -> str:
    if "F" not in options and "p" not in options:
        return ""
    mode = context.lstat(path).st_mode
    if stat.S_ISDIR(mode):
        return "/"
    if "F" not in options:
        return ""
    return "@" if stat.S_ISLNK(mode) else "*" if stat.S_ISREG(mode) and mode & 0o111 else ""


def _row(name: str, folder: str, status: os.stat_result, options: Options, context: Context) -> tuple[str, ...]:
    owner = str(USER_ID) if "n" in options else OWNER
    size = human(status.st_size) if "h" in options else str(status.st_size)
    shown = name + _suffix(folder + name, options, context)
    if stat.S_ISLNK(status.st_mode):
        shown += f" -> {os.readlink(context.host(folder + name, follow=False))}"  # noqa: PTH115
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(status.st_mtime))
    mode = stat.filemode(status.st_mode)
    return mode, str(status.st_nlink), owner, owner, size, f"{when} {shown}"


FORMAT = re.compile(r"%(-?[0-9]*)(.)")


def stat_tool(argv: Sequence[str], context: Context) -> int:
    """`stat [-Lft] [-c format] path...`."""
    options = parse(argv, "Lft", "c", long={"format": "c"}, minimum=1)
    for path in options.operands:
        try:
            if "f" in options:
                _show_file_system(path, context)
                continue
            status = context.stat(path) if "L" in options else context.lstat(path)
        except OSError as error:
            context.complain(f"'{path}': {error.strerror}")
            continue
        if "c" in options:
            context.out.line(_formatted(options.value("c"), path, status, context))
        else:
            _show_status(path, status, context)
    return context.status()


def _formatted(template: str, path: str, status: os.stat_result, context: Context) -> str:
    """`template` with each %letter replaced."""

    def field(match: re.Match[str]) -> str:
        return _padded(_field(match[2], path, status, context), match[1])

    return FORMAT.sub(field, template)


def _padded(text: str, width: str) -> str:
    return f"%{width}s" % text if width else text


def _show_file_system(path: str, context: Context) -> None:
    system = os.statvfs(context.host(path))
    blocks, left, available = (size // system.f_frsize for size in context.machine.disk.room(context.host(path)))
    context.out.line(f'  File: "{path}"\n    ID: 0 Namelen: {system.f_namemax}    Type: f2fs')
    context.out.line(f"Block Size: {system.f_bsize}    Fundamental block size: {system.f_frsize}")
    context.out.line(f"Blocks: Total: {blocks}\tFree: {left}\tAvailable: {available}")
    context.out.line(f"Inodes: Total: {system.f_files}\tFree: {system.f_ffree}")


def _show_status(path: str, status: os.stat_result, context: Context) -> None:
    field = {letter: _field(letter, path, status, context) for letter in "NsbBFihaAxyz"}
    context.out.line(f"  File: {field['N']}")
    context.out.line(f"  Size: {field['s']}\t Blocks: {field['b']}\t IO Blocks: {field['B']}\t {field['F']}")
    context.out.line(f"Device: {status.st_dev:x}h/{status.st_dev}d\t Inode: {field['i']}\t Links: {field['h']}")
    context.out.line(f"Access: (0{field['a']}/{field['A']})\tUid: (2000/   shell)\tGid: (2000/   shell)")
    context.out.line(f"Access: {field['x']}\nModify: {field['y']}\nChange: {field['z']}")


def _field(letter: str, path: str, status: os.stat_result, context: Context) -> str:
    if letter == "N":
        link = ""
        if stat.S_ISLNK(status.st_mode):
            link = f" -> '{os.readlink(context.host(path, follow=False))}'"  # noqa: PTH115
        return f"{path}{link}"
    if letter == "F":
        kind = KINDS.get(stat.S_IFMT(status.st_mode))
        return kind or ("regular file" if status.st_size else "regular empty file")
    values: dict[str, object] = {
        "a": f"{stat.S_IMODE(status.st_mode):o}",
        "A": stat.filemode(status.st_mode),
        "b": status.st_blocks,
        "B": 512,
        "d": f"{status.st_dev}d",
        "D": f"{status.st_dev:x}h",
        "f": f"{status.st_mode:x}",
        "g": USER_ID,
        "G": OWNER,
        "h": status.st_nlink,
        "i": status.st_ino,
        "n": path,
        "o": status.st_blksize,
        "s": status.st_size,
        "u": USER_ID,
        "U": OWNER,
        "x": date(status.st_atime_ns),
        "X": int(status.st_atime),
        "y": date(status.st_mtime_ns),
        "Y": int(status.st_mtime),
        "z": date(status.st_ctime_ns),
        "Z": int(status.st_ctime),
        "%": "%",
    }
    return str(values.get(letter, letter))


def date(nanoseconds: int) -> str:
    """A time as stat and diff print it."""
    local = time.localtime(nanoseconds // 10**9)
    return time.strftime("%Y-%m-%d %H:%M:%S", local) + f".{nanoseconds % 10**9:09} " + time.strftime("%z", local)


def du(argv: Sequence[str], context: Context) -> int:
    """`du [-skmhbacx] [-d depth] [path...]`."""
    options = parse(argv, "skKmhHLlacxb", "d", long={"max-depth": "d"})
    total = 0
    for path in options.operands or ["."]:
        try:
            size = _usage(path, 0, options, context)
        except OSError as error:
            context.complain(f"{path}: {error.strerror}")
            continue
        total += size
    if "c" in options:
        _show_usage(total, "total", options, context)
    return context.status()


def _usage(path: str, depth: int, options: Options, context: Context) -> int:
    """The bytes below a path; prints the lines that the options ask for."""
    status = context.lstat(path)
    size = status.st_size if "b" in options else status.st_blocks * 512
    folder = stat.S_ISDIR(status.st_mode)
    if folder:
        for name in context.names(path):
            size += _usage(f"{path.rstrip('/')}/{name}", depth + 1, options, context)
    limit = 0 if "s" in options else options.number("d", 1 << 30)
    if depth == 0 or (depth <= limit and (folder or "a" in options)):
        _show_usage(size, path, options, context)
    return size


def _show_usage(size: int, path: str, options: Options, context: Context) -> None:
    if "h" in options:
        text = human(size)
    elif "b" in options:
        text = str(size)
    else:
        unit = 1 << 20 if "m" in options else 1 << 10
        text = str(-(-size // unit))
    context.out.line(f"{text}\t{path}")


def df(argv: Sequence[str], context: Context) -> int:
    """`df [-kmhPHai] [path...]`: the host's disk, as the phone's /data."""
    options = parse(argv, "kmhPHaiS", "t")
    rows: list[tuple[str, ...]] = []
    unit, title = (1 << 20, "1M-blocks") if "m" in options else (1 << 10, "1K-blocks")
    scaled = "h" in options or "H" in options
    for path in options.operands or ["/data"]:
        try:
            total, left, free = context.machine.disk.room(context.host(path))
        except OSError as error:
            context.complain(f"'{path}': {error.strerror}")
            continue
        used = total - left
        percent = -(-used * 100 // (used + free)) if used + free else 0
        sizes = [human(s) if scaled else str(s // unit) for s in (total, used, free)]
        rows.append(("/dev/block/dm-50", *sizes, f"{percent}%", "/data"))
    size = "Size" if scaled else "1024-blocks" if "P" in options else title
    available, percentage = "Avail" if scaled else "Available", "Capacity" if "P" in options else "Use%"
    table = [("Filesystem", size, "Used", available, percentage, "Mounted on"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(6)]
    for row in table:
        middle = " ".join(text.rjust(width) for text, width in zip(row[1:5], widths[1:5], strict=True))
        context.out.line(f"{row[0].ljust(widths[0])} {middle} {row[5]}")
    return context.status()


TOOLS: dict[str, Tool] = {"df": df, "du": du, "ls": ls, "stat": stat_tool}
