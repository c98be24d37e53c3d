"""The builtins about other processes and signals: trap, wait, kill, jobs."""

import os
import re
import signal
from typing import TYPE_CHECKING

from bundler.virtual.shell.control import Interrupted, signal_name, signal_number
from bundler.virtual.shell.quoting import quoted
from bundler.virtual.shell.tools import IN_PROCESS

if TYPE_CHECKING:
    from bundler.virtual.shell.interpreter import Interpreter

NUMBER = re.compile("[0-9]{1,18}")


def trap(shell: "Interpreter", argv: list[str]) -> int:
    traps = shell.state.traps
    arguments = argv[2:] if argv[1:2] == ["--"] else argv[1:]
    if not arguments:
        for number in sorted(traps):
            os.write(1, os.fsencode(f"trap -- {quoted(traps[number])} {signal_name(number) if number else 'EXIT'}\n"))
        return 0
    action = arguments[0]
    reset = action == "-" or (len(arguments) == 1 and signal_number(action) is not None)
    status = 0
    for name in arguments if reset and action != "-" else arguments[1:]:
        chosen = signal_number(name)
        if chosen is None:
            shell.complain(f"trap: bad signal '{name}'")
            status = 1
        else:
            _set_trap(shell, chosen, None if reset else action)
    return status


def _set_trap(shell: "Interpreter", number: int, action: str | None) -> None:
    if action is None:
        shell.state.traps.pop(number, None)
    else:
        shell.state.traps[number] = action
    if number in (0, signal.SIGKILL, signal.SIGSTOP):
        return
    if action is None:
        signal.signal(number, signal.SIG_DFL)
    else:
        signal.signal(number, shell.caught if action else signal.SIG_IGN)


def wait(shell: "Interpreter", argv: list[str]) -> int:
    try:
        return _wait_for(shell, argv)
    except Interrupted as error:
        return 128 + error.number
    finally:
        shell.waiting = False


def _wait_for(shell: "Interpreter", argv: list[str]) -> int:
    jobs = shell.state.jobs
    if len(argv) == 1:
        for pid in list(jobs):
            _reap(shell, pid)
        return 0
    status = 0
    for argument in argv[1:]:
        pid = job_id(shell, argument)
        status = 127 if pid not in jobs else _reap(shell, pid)
    return status


def job_id(shell: "Interpreter", argument: str) -> int:
    """The process of `%n` or of a number; -1 for anything else."""
    jobs = list(shell.state.jobs)
    if argument in ("%%", "%+", "%"):
        return jobs[-1] if jobs else -1
    if argument.startswith("%") and NUMBER.fullmatch(argument, 1):
        index = int(argument[1:])
        return jobs[index - 1] if 0 < index <= len(jobs) else -1
    return int(argument) if NUMBER.fullmatch(argument) else -1


def _reap(shell: "Interpreter", pid: int) -> int:
    """Waits for a background job and forgets it."""
    known = shell.state.jobs[pid]
    if known is None:
        if shell.pending:
            raise Interrupted(shell.pending[0])
        shell.waiting = True
        known = shell.wait(pid)
    del shell.state.jobs[pid]
    return known


def poll_jobs(shell: "Interpreter") -> None:
    """Collects background jobs that have ended, so that their ids are gone."""
    for pid, status in list(shell.state.jobs.items()):
        if status is None:
            try:
                ended, code = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended, code = pid, 0
            if ended:
                shell.state.jobs[pid] = 128 + os.WTERMSIG(code) if os.WIFSIGNALED(code) else os.WEXITSTATUS(code)


def kill(shell: "Interpreter", argv: list[str]) -> int:
    from bundler.virtual.shell.command import run_builtin

    poll_jobs(shell)
    argv = [str(job_id(shell, word)) if word.startswith("%") else word for word in argv]
    return run_builtin(shell, IN_PROCESS["kill"], argv)


def jobs(shell: "Interpreter", _argv: list[str]) -> int:
    poll_jobs(shell)
    for index, (pid, status) in enumerate(shell.state.jobs.items(), 1):
        os.write(1, f"[{index}] {'Running' if status is None else 'Done'} {pid}\n".encode())
    return 0
