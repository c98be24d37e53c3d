"""The phone's processes: ps, pidof, pgrep, pkill, kill. Those of the host are neither seen nor reached."""

import os
import re
import signal
import time
from collections.abc import Sequence

from bundler.virtual.proc import belongs, command_line, running
from bundler.virtual.shell.control import SIGNALS, signal_name, signal_number
from bundler.virtual.shell.tools.base import Context, Failure, Tool, parse

COLUMNS = {"USER": 12, "PID": 5, "PPID": 5, "PGID": 5, "SID": 5, "VSZ": 10, "RSS": 6, "WCHAN": 10, "ADDR": 8, "S": 1}


def names(context: Context) -> dict[int, str]:
    """The program that each process runs."""
    root = context.machine.storage.root
    return {process.pid: command_line(root, process.pid)[0].rpartition("/")[2] for process in running(root)}


def ps(argv: Sequence[str], context: Context) -> int:
    """`ps [-AefwT] [-o columns] [-p pids]`."""
    options = parse(argv, "AefwTldna", "opuPtGg")
    chosen = (
        ",".join(options.values.get("o", [])).replace(" ", ",").upper() or "USER,PID,PPID,VSZ,RSS,WCHAN,ADDR,S,NAME"
    )
    columns = [column.partition("=")[0] for column in chosen.split(",") if column]
    wanted = {int(pid) for text in options.values.get("p", []) for pid in re.findall("[0-9]+", text)}
    known = names(context)
    context.out.line(" ".join(title.ljust(COLUMNS.get(title, 0)) for title in columns).rstrip())
    for process in running(context.machine.storage.root):
        if wanted and process.pid not in wanted:
            continue
        values = {
            "USER": "shell",
            "UID": "2000",
            "PID": str(process.pid),
            "PPID": str(process.parent),
            "PGID": str(process.group),
            "SID": str(process.session),
            "VSZ": str(process.memory_kb),
            "RSS": str(process.memory_kb),
            "WCHAN": "0",
            "ADDR": "0",
            "S": process.state,
        }
        values["ARGS"] = values["CMDLINE"] = " ".join(command_line(context.machine.storage.root, process.pid))
        name = known.get(process.pid, "sh")
        cells = [values.get(c, name).rjust(COLUMNS.get(c, 0)) if c != "USER" else "shell".ljust(12) for c in columns]
        context.out.line(" ".join(cells).rstrip())
    return 0


def pidof(argv: Sequence[str], context: Context) -> int:
    """`pidof [-s] name...`."""
    options = parse(argv, "sx", "o", minimum=1)
    found = [pid for pid, name in names(context).items() if name in options.operands and pid != os.getpid()]
    if found:
        context.out.line(" ".join(str(pid) for pid in (found[:1] if "s" in options else found)))
    return int(not found)


def kill(argv: Sequence[str], context: Context) -> int:
    """`kill [-signal | -s signal] pid...`, `kill -l [number...]`; a negative pid is a process group."""
    words = list(argv[1:])
    if words[:1] == ["-l"]:
        _list(words[1:], context)
        return 0
    if words[:1] == ["-n"]:
        raise Failure("-n: unknown option")
    number: int | None = signal.SIGTERM
    if words[:1] == ["-s"] and len(words) > 1:
        name, words = words[1], words[2:]
        number = signal_number(name)
    elif words and re.fullmatch("-[A-Za-z0-9]+", words[0]):
        name, words = words[0][1:], words[1:]
        number = signal_number(name)
    if number is None:
        raise Failure(f"bad signal '{name}'")
    words = words[1:] if words[:1] == ["--"] else words
    if not words:
        raise Failure('Needs 1 argument (see "kill --help")')
    for word in words:
        if not re.fullmatch("-?[0-9]+", word):
            context.complain(f"{word}: arguments must be jobs or process IDs")
            continue
        try:
            _send(int(word), number, context)
        except OSError as error:
            context.complain(f"{word}: {error.strerror}")
    return context.status()


def _list(words: list[str], context: Context) -> None:
    for word in words:
        if word.isdigit():
            context.out.line(signal_name(int(word) & 127))
        else:
            raise Failure(f"bad number: {word}")
    if not words:
        context.out.line(" ".join(SIGNALS))


def _send(pid: int, number: int, context: Context) -> None:
    """Sends a signal to a process of the phone, or to those of a group.

    Raises:
        ProcessLookupError: there is none.
    """
    root = context.machine.storage.root
    if pid > 0:
        pids = [pid] if belongs(pid, root) else []
    else:
        group = -pid or os.getpgrp()
        pids = [each.pid for each in running(root) if each.group == group or pid == -1]
    if not pids:
        raise ProcessLookupError(3, "No such process")
    own = os.getpid()
    for each in sorted(pids, key=lambda each: each == own):
        os.kill(each, number)


def pkill(argv: Sequence[str], context: Context) -> int:
    """`pkill` and `pgrep [-fxl] name`: by the name that ps shows, or the whole command line."""
    options = parse(argv, "fxlnoL9", "s", minimum=1)
    chosen = signal_number(options.value("s", "9" if "9" in options else "TERM")) or signal.SIGTERM
    pattern = re.compile(options.operands[0])
    matched = pattern.fullmatch if "x" in options else pattern.search
    known = names(context)
    if "f" in options:
        known = {pid: " ".join(command_line(context.machine.storage.root, pid)) for pid in known}
    found = [pid for pid, name in known.items() if matched(name) and pid != os.getpid()]
    for pid in found:
        if context.name == "pgrep":
            context.out.line(str(pid))
        else:
            _send(pid, chosen, context)
    return int(not found)


def uptime(argv: Sequence[str], context: Context) -> int:
    """`uptime`."""
    parse(argv, "ps")
    hours, minutes = divmod(int(time.monotonic()) // 60, 60)
    context.out.line(f" {time.strftime('%H:%M:%S')} up {hours}:{minutes:02}, 0 users, load average: 0.00, 0.00, 0.00")
    return 0


TOOLS: dict[str, Tool] = {"kill": kill, "pgrep": pkill, "pidof": pidof, "pkill": pkill, "ps": ps, "uptime": uptime}
