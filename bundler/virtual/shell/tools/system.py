"""What the phone says of itself, and time: getprop, uname, id, nproc, free, date, sleep, usleep, sync, flock."""

import fcntl
import os
import time
from collections.abc import Sequence

from bundler.virtual.shell.tools.base import Context, Failure, Tool, parse
from bundler.virtual.shell.tools.files import parse_time
from bundler.virtual.shell.tools.launching import seconds

KERNEL = {
    "s": "Linux",
    "n": "localhost",
    "r": "6.1.57-android14",
    "v": "#1 SMP PREEMPT",
    "m": "aarch64",
    "o": "Android",
}


def getprop(argv: Sequence[str], context: Context) -> int:
    """`getprop [name [default]]`."""
    operands = parse(argv, "TZ", maximum=2).operands
    properties = context.machine.properties
    if operands:
        context.out.line(properties.get(operands[0]) or (operands[1] if len(operands) > 1 else ""))
    for name in sorted(properties) if not operands else ():
        context.out.line(f"[{name}]: [{properties[name]}]")
    return 0


def uname(argv: Sequence[str], context: Context) -> int:
    """`uname [-asnrvmo]`."""
    options = parse(argv, "asnrvmo", maximum=0)
    letters = "snrvmo" if "a" in options else "".join(letter for letter in "snrvmo" if letter in options) or "s"
    context.out.line(" ".join(KERNEL[letter] for letter in letters))
    return 0


def identity(argv: Sequence[str], context: Context) -> int:
    """`id [-ugnGr]`, `whoami`, `groups`, `logname`: always the user shell."""
    if context.name != "id":
        context.out.line("shell")
        return 0
    options = parse(argv, "ugnGrZ")
    if any(letter in options for letter in "ugG"):
        context.out.line("shell" if "n" in options else "2000")
    else:
        context.out.line("uid=2000(shell) gid=2000(shell) groups=2000(shell)")
    return 0


def nproc(argv: Sequence[str], context: Context) -> int:
    """`nproc [--all]`."""
    parse(argv, "a", long={"all": "a"})
    context.out.line(str(os.cpu_count() or 1))
    return 0


def free(argv: Sequence[str], context: Context) -> int:
    """`free [-bkmg]`: the host's memory, as the phone's."""
    options = parse(argv, "bkmgh")
    unit = 1 << (0 if "b" in options else 20 if "m" in options else 30 if "g" in options else 10)
    page = os.sysconf("SC_PAGE_SIZE")
    total, available = os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    context.out.line("\t\ttotal        used        free      shared     buffers")
    used = total - available
    values = [total, used, available, 0, 0]
    context.out.line(
        "Mem:" + "".join(f"{value // unit:>17}" if not i else f"{value // unit:>12}" for i, value in enumerate(values))
    )
    context.out.line(f"-/+ buffers/cache:{used // unit:>16}{available // unit:>12}")
    context.out.line(f"Swap:{0:>16}{0:>12}{0:>12}")
    return 0


def date(argv: Sequence[str], context: Context) -> int:
    """`date [-u] [-d time] [-r file] [+format]`, with %N for nanoseconds."""
    options = parse(argv, "u", "drD", long={"date": "d", "utc": "u", "reference": "r"}, maximum=1)
    now = time.time_ns() + (context.machine.faults.number("clock") or 0) * 10**9
    if "r" in options:
        now = context.stat(options.value("r")).st_mtime_ns
    elif "d" in options:
        now = parse_time(options.value("d"))
    template = (options.operands or ["+%a %b %e %H:%M:%S %Z %Y"])[0]
    if not template.startswith("+"):
        raise Failure("cannot set date: Operation not permitted")
    fraction = f"{now % 10**9:09d}"
    for name, text in {"%N": fraction, "%3N": fraction[:3], "%6N": fraction[:6], "%9N": fraction}.items():
        template = template.replace(name, text)
    template = template.replace("%s", str(now // 10**9))
    moment = time.gmtime(now // 10**9) if "u" in options else time.localtime(now // 10**9)
    context.out.line(time.strftime(template[1:], moment))
    return 0


def sleep(argv: Sequence[str], _context: Context) -> int:
    """`sleep seconds...`, with fractions and the units s, m, h, d."""
    time.sleep(sum([seconds(word) for word in parse(argv, minimum=1).operands]))
    return 0


def usleep(argv: Sequence[str], _context: Context) -> int:
    """`usleep microseconds`."""
    time.sleep(seconds(parse(argv, minimum=1, maximum=1).operands[0]) / 1e6)
    return 0


def sync(argv: Sequence[str], context: Context) -> int:
    """`sync [-df] [file...]`."""
    for path in parse(argv, "df").operands:
        try:
            fd = context.open(path)
        except OSError:
            continue  # as toybox: silently
        os.fsync(fd)
        os.close(fd)
    return 0


def flock(argv: Sequence[str], _context: Context) -> int:
    """`flock [-sxun] fd`."""
    options = parse(argv, "sxuno", minimum=1, maximum=1)
    operation = fcntl.LOCK_SH if "s" in options else fcntl.LOCK_UN if "u" in options else fcntl.LOCK_EX
    if not options.operands[0].isdigit():
        raise Failure(f"not integer: {options.operands[0]}")
    try:
        fcntl.flock(int(options.operands[0]), operation | (fcntl.LOCK_NB if "n" in options else 0))
    except BlockingIOError:
        return 1
    return 0


TOOLS: dict[str, Tool] = {
    "date": date,
    "flock": flock,
    "free": free,
    "getprop": getprop,
    "groups": identity,
    "id": identity,
    "logname": identity,
    "nproc": nproc,
    "sleep": sleep,
    "sync": sync,
    "uname": uname,
    "usleep": usleep,
    "whoami": identity,
}
