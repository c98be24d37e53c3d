"""Tools that run another command: env, timeout, nohup, setsid, nice, time, xargs."""

import os
import re
import signal
import time
from collections.abc import Sequence

from bundler.virtual.machine import Process
from bundler.virtual.shell.control import signal_number
from bundler.virtual.shell.tools.base import Context, Failure, Tool, parse, wait

STATUS_TIMEOUT = 124
POLL_S = 0.01
ARGUMENT_SPACE = 100_000


def env(argv: Sequence[str], context: Context) -> int:
    """`env [-i0] [-u name] [name=value...] [command...]`."""
    options = parse(argv, "i0", "u", stop=True, long={"ignore-environment": "i", "unset": "u", "null": "0"})
    variables = {} if "i" in options else dict(context.env)
    for name in options.values.get("u", []):
        variables.pop(name, None)
    words = options.operands
    while words and "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    if words:
        return context.run(words, Process(context.machine, context.cwd, variables))
    for name, value in variables.items():
        context.out.write(os.fsencode(f"{name}={value}") + (b"\0" if "0" in options else b"\n"))
    return 0


def printenv(argv: Sequence[str], context: Context) -> int:
    """`printenv [-0] [name...]`."""
    options = parse(argv, "0")
    end = b"\0" if "0" in options else b"\n"
    status = 0
    if not options.operands:
        for name, value in context.env.items():
            context.out.write(os.fsencode(f"{name}={value}") + end)
    for name in options.operands:
        if name in context.env:
            context.out.write(os.fsencode(context.env[name]) + end)
        else:
            status = 1
    return status


def seconds(text: str) -> float:
    """A time such as 1.5, 2m or 1h.

    Raises:
        Failure: if it is none.
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]*)([smhd]?)", text)
    if not match or not match.group(1).strip("."):
        raise Failure(f"Not a number '{text}'")
    return float(match.group(1)) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "": 1}[match.group(2)]


def timeout(argv: Sequence[str], context: Context) -> int:
    """`timeout [-k time] [-s signal] [-iv] time command...`: 124 where the time ran out."""
    options = parse(argv, "iv", "ks", long={"foreground": "i", "preserve-status": "i"}, stop=True, minimum=2)
    limit, *command = options.operands
    number = signal_number(options.value("s", "TERM"))
    if number is None:
        raise Failure(f"bad -s: '{options.value('s')}'")
    limit_s = seconds(limit)
    pid = context.spawn(command)
    status = _wait_until(pid, limit_s)
    if status is not None:
        return status
    os.kill(pid, number)
    if "k" in options and _wait_until(pid, seconds(options.value("k"))) is None:
        number = signal.SIGKILL
        os.kill(pid, number)
    elif "k" in options:
        return STATUS_TIMEOUT
    wait(pid)
    return 128 + number if number == signal.SIGKILL else STATUS_TIMEOUT


def _wait_until(pid: int, limit_s: float) -> int | None:
    """The child's exit code, None where it goes on."""
    deadline = time.monotonic() + limit_s if limit_s else None
    pause = 0.001
    while deadline is None or time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        time.sleep(pause if deadline is None else max(min(pause, deadline - time.monotonic()), 0))
        pause = min(pause * 1.5, POLL_S)
    return None


def nohup(argv: Sequence[str], context: Context) -> int:
    """`nohup command...`."""
    options = parse(argv, stop=True, minimum=1)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if os.isatty(1):
        fd = context.open("nohup.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(fd, 1)
    if os.isatty(0):
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
    return context.run(options.operands, context)


def setsid(argv: Sequence[str], context: Context) -> int:
    """`setsid [-cdw] command...`."""
    options = parse(argv, "cdwt", stop=True, minimum=1)
    if "d" in options and os.fork():
        return 0
    try:
        os.setsid()
    except PermissionError:
        pid = os.fork()
        if pid:
            return wait(pid) if "w" in options else 0
        os.setsid()
    return _last(context, options.operands)


def _last(context: Context, words: list[str]) -> int:
    """Ends this process with a command's exit code; for one that may be a child."""
    try:
        os._exit(context.run(words, context))
    finally:
        os._exit(125)


def nice(argv: Sequence[str], context: Context) -> int:
    """`nice [-n priority] command...`."""
    options = parse(argv, "", "n", stop=True, minimum=1)
    os.nice(max(options.number("n", 10), 0))
    return context.run(options.operands, context)


def time_tool(argv: Sequence[str], context: Context) -> int:
    """`time [-p] command...`."""
    options = parse(argv, "pv", stop=True, minimum=1)
    before = time.monotonic()
    status = wait(context.spawn(options.operands))
    elapsed, used = time.monotonic() - before, os.times()
    os.write(2, f"real {elapsed:f}\nuser {used.children_user:f}\nsys {used.children_system:f}\n".encode())
    return status


def xargs(argv: Sequence[str], context: Context) -> int:
    """`xargs [-0rtx] [-n count] [-P processes] [-E text] [command...]`; knows, like toybox's, neither -I nor quotes."""
    options = parse(argv, "0rtxop", "nsPE", long={"null": "0", "no-run-if-empty": "r"}, stop=True)
    command = options.operands or ["echo"]
    words = _input_words(context, zero="0" in options, end=options.value("E"))
    batches = [command + batch for batch in _batches(words, options.number("n", 1 << 30))]
    if not words and "r" not in options:
        batches = [command]
    worst = 0
    running: list[int] = []
    limit = options.number("P", 1) or 1 << 30
    for batch in batches:
        if "t" in options:
            os.write(2, os.fsencode(" ".join(batch) + " \n"))
        running.append(context.spawn(batch))
        if len(running) >= limit:
            worst = max(worst, _told(wait(running.pop(0)), command, context))
        if worst >= 124:
            break
    for pid in running:
        worst = max(worst, _told(wait(pid), command, context))
    return worst


def _told(status: int, command: Sequence[str], context: Context) -> int:
    """What xargs makes of a command's exit code."""
    if status in (126, 127, 0):
        return status
    if status == 255:
        context.complain(f"{command[0]}: exited with status 255; aborting")
        return 124
    return 125 if status > 128 else 123


def _batches(words: list[str], count: int) -> list[list[str]]:
    batches: list[list[str]] = []
    size = 0
    for word in words:
        if not batches or len(batches[-1]) >= count or size + len(word) > ARGUMENT_SPACE:
            batches.append([])
            size = 0
        batches[-1].append(word)
        size += len(word) + 1
    return batches


def _input_words(context: Context, *, zero: bool, end: str) -> list[str]:
    with context.reading("-") as file:
        data = file.read()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if zero:
        return [os.fsdecode(word) for word in data.split(b"\0") if word] if data else []
    words = [os.fsdecode(word) for word in data.split()]
    return words[: words.index(end)] if end and end in words else words


TOOLS: dict[str, Tool] = {
    "env": env,
    "nice": nice,
    "nohup": nohup,
    "printenv": printenv,
    "setsid": setsid,
    "time": time_tool,
    "timeout": timeout,
    "xargs": xargs,
}
