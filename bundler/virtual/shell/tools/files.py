"""Making, removing and changing directory entries: mkdir, rmdir, rm, ln, touch, chmod, chown, mktemp, truncate."""

import os
import random
import re
import shutil
import stat
import string
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bundler.virtual.shell.tools.base import Context, Failure, Tool, number, parse

ALNUM = string.ascii_letters + string.digits


def mkdir(argv: Sequence[str], context: Context) -> int:
    """`mkdir [-pv] [-m mode] folder...`."""
    options = parse(argv, "pv", "m", long={"parents": "p", "mode": "m"}, minimum=1)
    for path in options.operands:
        try:
            _make_folder(path, context, parents="p" in options)
            if "m" in options:
                context.entry(path).chmod(new_mode(options.value("m"), 0o777, folder=True))
        except OSError as error:
            context.complain(f"'{path}': {error.strerror}")
    return context.status()


def _make_folder(path: str, context: Context, *, parents: bool) -> None:
    if not parents:
        host = context.host(path, follow=False)
        if host.exists() or host.is_symlink():
            raise FileExistsError(17, "File exists")
        context.entry(path).mkdir()
        return
    current = "/" if path.startswith("/") else "."
    parts = [part for part in path.split("/") if part]
    for index, part in enumerate(parts):
        current, last = f"{current}/{part}", index == len(parts) - 1
        host = context.host(current)
        if host.is_dir():
            continue
        if host.exists():
            raise FileExistsError(17, "File exists") if last else NotADirectoryError(20, "Not a directory")
        context.host(current, write=True).mkdir()


def rmdir(argv: Sequence[str], context: Context) -> int:
    """`rmdir [-p] folder...`."""
    options = parse(argv, "p", long={"parents": "p", "ignore-fail-on-non-empty": "p"}, minimum=1)
    for path in options.operands:
        current = path
        try:
            while True:
                context.entry(current).rmdir()
                current = current.rstrip("/").rpartition("/")[0]
                if "p" not in options or not current:
                    break
        except OSError as error:
            context.complain(f"{current}: {error.strerror}")
    return context.status()


def rm(argv: Sequence[str], context: Context) -> int:
    """`rm [-rRfv] path...`."""
    options = parse(argv, "rRfiv", long={"force": "f", "recursive": "r"})
    if not options.operands and "f" not in options:
        raise Failure('Needs 1 argument (see "rm --help")')
    for path in options.operands:
        if path.rstrip("/").rpartition("/")[2] in (".", ".."):
            context.complain(f"bad path {path}")
            continue
        try:
            status = context.lstat(path)
            if stat.S_ISDIR(status.st_mode) and not ("r" in options or "R" in options):
                raise IsADirectoryError(21, "Is a directory")
            remove(path, context)
        except FileNotFoundError as error:
            if "f" not in options:
                context.complain(f"{path}: {error.strerror}")
        except OSError as error:
            context.complain(f"{path}: {error.strerror}")
    return context.status()


def remove(path: str, context: Context) -> None:
    """Removes a file, a link or a whole folder."""
    host = context.entry(path)
    if host.is_dir() and not host.is_symlink():
        shutil.rmtree(host)
    else:
        host.unlink()


def ln(argv: Sequence[str], context: Context) -> int:
    """`ln [-sfnrtv] target... [link or folder]`."""
    options = parse(argv, "sfnrvT", "t", long={"symbolic": "s", "force": "f"}, minimum=1)
    operands = options.operands
    destination = options.value("t") or (operands.pop() if len(operands) > 1 else operands[0].rpartition("/")[2])
    into = context.is_folder(destination) and "T" not in options
    if "n" in options and stat.S_ISLNK(_mode(destination, context)):
        into = False
    if len(operands) > 1 and not into:
        raise Failure(f"'{destination}' not a directory")
    for target in operands:
        link = f"{destination}/{target.rstrip('/').rpartition('/')[2]}" if into else destination
        try:
            _link(target, link, context, symbolic="s" in options, force="f" in options)
        except OSError as error:
            kind = "symbolic" if "s" in options else "hard"
            context.complain(f"cannot create {kind} link from '{target}' to '{link}': {error.strerror}")
    return context.status()


def _link(target: str, link: str, context: Context, *, symbolic: bool, force: bool) -> None:
    """Makes a link; with `force` beside its place first, so that the name always stands for something."""
    place = context.entry(link)
    if force and place.is_dir() and not place.is_symlink():
        raise IsADirectoryError(21, "Is a directory")
    made = place.with_name(f".{place.name[:200]}.{os.getpid()}") if force else place
    if symbolic:
        made.symlink_to(target)
    else:
        os.link(context.host(target, follow=False, write=True), made, follow_symlinks=False)
    if force:
        made.replace(place)


def _mode(path: str, context: Context) -> int:
    try:
        return context.lstat(path).st_mode
    except OSError:
        return 0


def touch(argv: Sequence[str], context: Context) -> int:
    """`touch [-acmh] [-d time] [-t time] [-r file] path...`."""
    options = parse(argv, "acmhf", "dtr", long={"date": "d", "reference": "r", "no-create": "c"}, minimum=1)
    now = time.time_ns()
    if "r" in options:
        now = context.stat(options.value("r")).st_mtime_ns
    elif "d" in options or "t" in options:
        now = parse_time(options.value("d") or options.value("t"))
    for path in options.operands:
        try:
            host = context.host(path, write=True)
            if not host.exists():
                if "c" in options:
                    continue
                os.close(context.open(path, os.O_WRONLY | os.O_CREAT))
            before = host.stat()
            accessed = before.st_atime_ns if "m" in options and "a" not in options else now
            modified = before.st_mtime_ns if "a" in options and "m" not in options else now
            os.utime(host, ns=(accessed, modified))
        except OSError as error:
            context.complain(f"'{path}': {error.strerror}")
    return context.status()


def parse_time(text: str) -> int:
    """Nanoseconds of a time as touch and date take it: @seconds, YYYY-MM-DD[ T]hh:mm[:ss] or [[CC]YY]MMDDhhmm[.ss]."""
    if match := re.fullmatch(r"@(-?[0-9]+)(?:\.([0-9]{1,9}))?", text):
        return int(match.group(1)) * 10**9 + int((match.group(2) or "0").ljust(9, "0"))
    utc = text.endswith("Z")
    for pattern in ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%d"):
        try:
            parsed = time.strptime(text.rstrip("Z").partition(".")[0], pattern)
        except ValueError:
            continue
        import calendar

        return (calendar.timegm(parsed) if utc else int(time.mktime(parsed))) * 10**9
    match = re.fullmatch(r"((?:[0-9]{2})?[0-9]{2})?([0-9]{8})(?:\.([0-9]{2}))?", text)
    if not match:
        raise Failure(f"bad date '{text}'")
    year = match.group(1) or str(time.localtime().tm_year)
    year = year if len(year) == 4 else ("19" if int(year) > 68 else "20") + year
    return int(time.mktime(time.strptime(year + match.group(2) + (match.group(3) or "00"), "%Y%m%d%H%M%S"))) * 10**9


SYMBOLIC = re.compile(r"([ugoa]*)([-+=][rwxXstugo]*)+")
SHIFTS = {"u": 6, "g": 3, "o": 0}


def new_mode(text: str, before: int, *, folder: bool = False) -> int:
    """The mode that `text`, octal or symbolic, makes of `before`.

    Raises:
        Failure: if it is neither.
    """
    if re.fullmatch("[0-7]{1,4}", text):
        return int(text, 8)
    mode = before
    for clause in text.split(","):
        match = SYMBOLIC.fullmatch(clause)
        if not match:
            raise Failure(f"bad mode '{text}'")
        who = match.group(1).replace("a", "ugo") or "ugo"
        for action in re.findall("[-+=][rwxXstugo]*", clause):
            mode = _changed(mode, who, action[0], action[1:], folder=folder)
    return mode


def _changed(mode: int, who: str, operator: str, letters: str, *, folder: bool) -> int:
    bits = 0
    for letter in letters:
        if letter in SHIFTS:
            bits |= (mode >> SHIFTS[letter]) & 7
        elif letter == "X":
            bits |= 1 if folder or mode & 0o111 else 0
        else:
            bits |= {"r": 4, "w": 2, "x": 1}.get(letter, 0)
    mask = sum(7 << SHIFTS[w] for w in set(who))
    wanted = sum(bits << SHIFTS[w] for w in set(who))
    if "s" in letters:
        wanted |= (0o4000 if "u" in who else 0) | (0o2000 if "g" in who else 0)
    if "t" in letters:
        wanted |= 0o1000
    if operator == "+":
        return mode | wanted
    return mode & ~wanted if operator == "-" else (mode & ~mask) | wanted


def chmod(argv: Sequence[str], context: Context) -> int:
    """`chmod [-Rvf] mode path...`."""
    arguments = [f"./{a}" if re.match("-[rwxst]", a) and i == 1 else a for i, a in enumerate(argv)]
    options = parse(arguments, "Rvf", minimum=2)
    text, *operands = options.operands
    text = text.removeprefix("./")
    for path in operands:
        try:
            for each in tree(path, context) if "R" in options else [path]:
                status = context.stat(each)
                mode = new_mode(text, stat.S_IMODE(status.st_mode), folder=stat.S_ISDIR(status.st_mode))
                context.host(each, write=True).chmod(mode)
        except OSError as error:
            context.complain(f"{path}: {error.strerror}")
    return context.status()


def tree(path: str, context: Context) -> Iterator[str]:
    """The path and all that is below it, without following links."""
    yield path
    status = context.lstat(path)
    if stat.S_ISDIR(status.st_mode):
        for name in context.names(path):
            child = f"{path.rstrip('/')}/{name}"
            if not stat.S_ISLNK(context.lstat(child).st_mode):
                yield from tree(child, context)


def chown(argv: Sequence[str], context: Context) -> int:
    """`chown` and `chgrp`: everything belongs to the user shell, and stays so."""
    options = parse(argv, "hRHLPvf", minimum=2)
    for path in options.operands[1:]:
        try:
            context.lstat(path)
        except OSError as error:
            context.complain(f"'{path}': {error.strerror}")
    return context.status()


def mktemp(argv: Sequence[str], context: Context) -> int:
    """`mktemp [-dqtu] [-p folder] [template]`."""
    options = parse(argv, "dqtu", "p", long={"directory": "d", "dry-run": "u", "tmpdir": "t"}, maximum=1)
    template = options.operands[0] if options.operands else "tmp.XXXXXXXXXX"
    folder = options.value("p") or context.env.get("TMPDIR") or "/data/local/tmp"
    if not template.endswith("XX"):
        raise Failure("need XX at end")
    if ("p" in options or "t" in options or not options.operands) and not template.startswith("/"):
        template = f"{folder.rstrip('/')}/{template}"
    stem = template.rstrip("X")
    for _ in range(100):
        path = stem + "".join(random.choices(ALNUM, k=len(template) - len(stem)))
        try:
            if "u" not in options:
                _make_private(path, context, folder="d" in options)
        except FileExistsError:
            continue
        except OSError as error:
            kind = "directory" if "d" in options else "file"
            if "q" in options:
                return 1
            raise Failure(f"Failed to create {kind} {template}: {error.strerror}") from None
        context.out.line(path)
        return 0
    raise Failure(f"Failed to create {template}: File exists")


def _make_private(path: str, context: Context, *, folder: bool) -> None:
    if folder:
        context.entry(path).mkdir(mode=0o700)
    else:
        os.close(context.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def truncate(argv: Sequence[str], context: Context) -> int:
    """`truncate -s SIZE file...`; SIZE may begin with + - < > / %."""
    options = parse(argv, "c", "s", long={"size": "s", "no-create": "c"}, minimum=1)
    text = options.value("s")
    if not text:
        raise Failure('Needs -s (see "truncate --help")')
    how = text[0] if text[0] in "+-<>/%" else ""
    amount = number(text[len(how) :])
    for path in options.operands:
        try:
            host: Path = context.host(path, write=True)
            if not host.exists() and "c" in options:
                continue
            fd = context.open(path, os.O_WRONLY | os.O_CREAT)
            try:
                os.ftruncate(fd, _size(how, os.fstat(fd).st_size, amount))
            finally:
                os.close(fd)
        except OSError as error:
            context.complain(f"{path}: {error.strerror}")
    return context.status()


def _size(how: str, before: int, amount: int) -> int:
    match how:
        case "+":
            return before + amount
        case "-":
            return max(before - amount, 0)
        case "<":
            return min(before, amount)
        case ">":
            return max(before, amount)
        case "/":
            return before // amount * amount
        case "%":
            return -(-before // amount) * amount
    return amount


TOOLS: dict[str, Tool] = {
    "chgrp": chown,
    "chmod": chmod,
    "chown": chown,
    "ln": ln,
    "mkdir": mkdir,
    "mktemp": mktemp,
    "rm": rm,
    "rmdir": rmdir,
    "touch": touch,
    "truncate": truncate,
}
